"""The same switcher on a virtual clock: what a policy would do with a trace of requests."""
