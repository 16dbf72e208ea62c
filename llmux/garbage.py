"""How seldom Python's garbage collector comes by: for programs, not for the library."""

from __future__ import annotations

import gc

_MIDDLE_ONES = 50  # collections of the middle generation, at least, from one of all to the next


def keep_collector_away() -> None:
    """
    Have the collector go through as little as may be, and through everything but seldom.

    Nobody is served meanwhile.  What the program consists of, some eighty thousand objects, is left
    out for good: that is 26 ms.  The rest grows with the clients: beside 1,000 streams it takes 40
    to 180 ms, and would be gone through every few seconds when there is much to do.  Little depends
    on it: what serves a request is given back when the last reference to it goes.  It cannot go for
    good: TLS connections that are broken off, and Twisted's own HTTP parser, leave cycles.

    An incremental collector (Python 3.14.0) has no such third threshold, and ignores it.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _MIDDLE_ONES)
