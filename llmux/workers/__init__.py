"""Several processes that relay, and one that decides: each worker gives leases as far as it may."""
