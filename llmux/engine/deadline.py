"""A deadline that is moved for every request, at the price of an assignment."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


def nobody() -> None:
    """Be called instead of somebody who is to be called no more."""


class Deadline:
    """
    Calls somebody at a time that may be put off, brought forward or given up at any moment.

    Timers are dear where there are thousands of connections.  So there is one that is left as it
    is as long as it is not too late: when it goes off too early, it is set again for what is left.

    :param clock: tells the time.
    :param expired: called when the time has come.
    """

    def __init__(self, clock: IReactorTime, expired: Callable[[], object]) -> None:
        self._clock = clock
        self._expired = expired
        self._due: float | None = None
        self._timer: IDelayedCall | None = None
        self._set_for = 0.0  # when the timer goes off

    def set(self, seconds: float | None) -> None:
        """
        Have another deadline.

        :param seconds: from now; ``None``: there is none.
        """
        if seconds is None:
            self._due = None
            return
        self._due = due = self._clock.seconds() + seconds
        if self._timer is None:
            self._start(seconds)
        elif due < self._set_for:
            self._timer.cancel()
            self._start(seconds)

    def stop(self) -> None:
        """
        Leave nothing behind, and call nobody any more.

        Who would be called holds the deadline, most often: if each went on holding the other, both
        would stay until Python's collector comes by.
        """
        self._due = None
        self._expired = nobody
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, seconds: float) -> None:
        self._set_for = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        left = self._due - self._clock.seconds()
        if left > 0:
            self._start(left)
        else:
            self._due = None
            self._expired()
