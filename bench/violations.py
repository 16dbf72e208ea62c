"""What must not be, and was: with its time and what happened right before."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import attrs

from bench.report import say

_MOST = 200  # a fault that comes with every request need not fill the disk


@attrs.define
class Violations:
    """Takes them down."""

    found: list[dict[str, Any]] = attrs.Factory(list)
    count: int = 0
    _began: float = attrs.Factory(time.monotonic)
    _notes: deque[str] = attrs.Factory(lambda: deque(maxlen=12))

    def note(self, what: str) -> None:
        """Remember something that may be why."""
        self._notes.append(f"{time.monotonic() - self._began:.1f} s: {what}")

    def add(self, what: str, **context: Any) -> None:
        """
        Take one down.

        :param what: what is wrong.
        :param context: whatever helps to find out why; it has to be JSON.
        """
        self.count += 1
        at = round(time.monotonic() - self._began, 2)
        say(f"VIOLATION at {at} s: {what}")
        if len(self.found) < _MOST:
            self.found.append(
                {
                    "at_secs": at,
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "what": what,
                    "before": list(self._notes),
                    **context,
                }
            )
