"""How many files the process may have open, and how many clients that is enough for."""

from __future__ import annotations

import resource

PER_CLIENT = 3
"""Open files that a client can need: its connection, the backend's, and a large body's spool."""

RESERVE = 128
"""Open files for all else: the log, hooks, idle connections, libraries."""


def raise_limit() -> int:
    """
    Raise the limit on open files as far as the system lets us.

    :returns: the limit that holds from now on.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS has a limit of its own that it does not tell
        return soft
    return hard


def room_for_clients(limit: int) -> int:
    """
    Say how many clients can be connected at once.

    :param limit: how many files may be open; -1 if there is no limit.
    :returns: at least 1.
    """
    if limit == resource.RLIM_INFINITY:
        limit = 2**31
    return max(1, (limit - RESERVE) // PER_CLIENT)
