"""How long something that has failed is left alone before it is tried again."""

from __future__ import annotations

import attrs

SHORTEST = 2.0
"""Seconds after the first failure."""

LONGEST = 60.0
"""Seconds after many failures in a row, if nothing else is said."""


@attrs.define
class BackOff:
    """
    Doubles with each failure in a row.

    :ivar longest: seconds after many failures in a row.
    :ivar failures: how many there were in a row.
    :ivar until: when it may be tried again, in the clock's seconds.
    """

    longest: float = LONGEST
    failures: int = 0
    until: float = 0.0

    def fail(self, now: float) -> None:
        """Take in one more failure."""
        self.failures += 1
        doubled = SHORTEST * 2.0 ** min(self.failures - 1, 10)
        self.until = now + min(self.longest, doubled)

    def reset(self) -> None:
        """Forget all failures."""
        self.failures = 0
        self.until = 0.0

    def left(self, now: float) -> float:
        """Say how many seconds are left."""
        return max(0.0, self.until - now)
