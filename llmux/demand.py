"""How often something is asked for: what came lately counts more than what came long ago."""

from __future__ import annotations

import math

import attrs

MEMORY_SECS = 600.0
"""Seconds after which an arrival counts for a third (1/e) of what it counted for at first."""


@attrs.define
class RecentArrivals:
    """Counts arrivals, and forgets them little by little; it needs neither a timer nor a list."""

    _count: float = 0.0
    _at: float = 0.0

    def came(self, now: float) -> None:
        """
        Count one more.

        :param now: the clock's seconds, no less than before.
        """
        self._count = self.count(now) + 1.0
        self._at = now

    def count(self, now: float) -> float:
        """Say how many there were lately."""
        return self._count * math.exp((self._at - now) / MEMORY_SECS) if self._count else 0.0
