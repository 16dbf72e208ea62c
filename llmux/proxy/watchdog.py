"""A deadline that is put off by whatever happens, at the price of an assignment."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llmux.engine.deadline import nobody


class Watchdog:
    """
    Calls somebody when nothing has happened for a while.

    It is fed for every piece of a stream, so it does not move its timer each time: when the timer
    fires too early, it is set again for what is left.

    :param clock: tells the time.
    :param seconds: how long nothing may happen; ``None``: for ever.
    :param expired: called, once, when nothing has.
    :ivar fed_at: when it was last fed, or made, in the clock's seconds.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float | None, expired: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self.fed_at = self._counts_from = clock.seconds()
        self._timer: IDelayedCall | None = None
        self.resume()

    def feed(self) -> None:
        """Tell it that something has happened."""
        self.fed_at = self._clock.seconds()

    def put_off(self) -> None:
        """Count from now on, though nothing has happened."""
        self._counts_from = self._clock.seconds()

    def pause(self) -> None:
        """Let any time pass."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Count again, from now on."""
        self.put_off()
        if self._timer is None and self._seconds is not None:
            self._timer = self._clock.callLater(self._seconds, self._look)

    def stop(self) -> None:
        """Call nobody any more; see :meth:`Deadline.stop`."""
        self.pause()
        self._expired = nobody

    def _look(self) -> None:
        self._timer = None
        assert self._seconds is not None
        left = max(self.fed_at, self._counts_from) + self._seconds - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._expired()
