"""How many files the process may have open, and how many clients that is enough for."""

from __future__ import annotations

import math
import resource

PER_CLIENT = 2.25
"""
Open files that a client needs: its connection, the backend's, and, for one client in four at a
time, the spool of a body that does not fit into memory.  If there are more of these at once, they
are refused one by one.
"""

RESERVE = 128
"""Open files for all else: the log, hooks, idle connections, libraries."""


def raise_limit(clients: int) -> int:
    """
    Raise the limit on open files as far as so many clients need it and the system lets us.

    No further: what hooks start inherits it, and some programs go through all numbers that a file
    could have.

    :param clients: how many may be connected at once.
    :returns: the limit that holds from now on; -1 if there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = RESERVE + math.ceil(PER_CLIENT * clients)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return soft
    wanted = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has a limit of its own that it does not tell
        return soft
    return wanted


def room_for_clients(limit: int) -> int:
    """
    Say how many clients can be connected at once.

    :param limit: how many files may be open; -1 if there is no limit.
    :returns: at least 1.
    """
    if limit == resource.RLIM_INFINITY:
        limit = 2**31
    return max(1, int((limit - RESERVE) / PER_CLIENT))
