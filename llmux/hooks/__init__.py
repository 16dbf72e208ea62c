"""Scripts as processes: the only room in which something is spawned."""
