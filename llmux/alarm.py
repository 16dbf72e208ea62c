"""One alarm for all that falls due: it rings at the first of the times that were noted."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_MOMENT = 0.05
"""Seconds: the shortest alarm, so that whoever wants to be asked in the past cannot spin."""

_LONGEST = 86_400.0
"""Seconds: the longest alarm, for an operating system cannot wait for ever; it may ring early."""


class Alarm:
    """
    Notes times and is set to the first of them.

    :param clock: gives the time and the timer.
    :param ring: called when it is due.
    """

    def __init__(self, clock: IReactorTime, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._due_at: float | None = None
        self._timer: IDelayedCall | None = None

    def forget(self) -> None:
        """Know of no time any more; what it was set to stays until :meth:`set`."""
        self._due_at = None

    def note(self, time: float | None) -> None:
        """
        Take in that something is due.

        :param time: when, in the clock's seconds; ``None`` is never.
        """
        if time is not None:
            self._due_at = time if self._due_at is None else min(time, self._due_at)

    def set(self) -> None:
        """Ring at the first of the times that were noted, and at no other."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due_at is not None:
            delay = max(_MOMENT, min(self._due_at - self._clock.seconds(), _LONGEST))
            self._timer = self._clock.callLater(delay, self._rings)

    def _rings(self) -> None:
        self._timer = None
        self._ring()
