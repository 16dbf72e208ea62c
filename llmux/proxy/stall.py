"""Clients that take nothing, while another model waits for them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llmux.engine.deadline import nobody
from llmux.server.request import RelayRequest
from llmux.server.tcp import bytes_taken


class StalledClient:
    """
    Watches a client for which there is more than it takes, and gives it up if it blocks a switch.

    The time counts while it takes nothing at all and its model is wanted to go; a client that is
    merely slow is left alone, and so is one in whose way nobody is.

    :param request: the client's.
    :param clock: tells the time.
    :param seconds: how long it may block a switch.
    :param leaving_since: tells since when the model is wanted to go, in the clock's seconds;
        ``None`` while it may stay.
    :param stalled: called when the client is to be cut.
    """

    def __init__(
        self,
        request: RelayRequest,
        clock: IReactorTime,
        seconds: float,
        leaving_since: Callable[[], float | None],
        stalled: Callable[[], None],
    ) -> None:
        self._request = request
        self._clock = clock
        self._seconds = seconds
        self._leaving_since = leaving_since
        self._stalled = stalled
        self._since = 0.0
        self._taken: int | None = None
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        """Watch: more has been written than the client has taken."""
        self.end()
        self._since = self._clock.seconds()
        self._taken = bytes_taken(self._request.transport)
        self._timer = self._clock.callLater(self._seconds, self._look)

    def end(self) -> None:
        """Stop watching: it has taken everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Be done, and call nobody any more; see :meth:`Deadline.stop`."""
        self.end()
        self._stalled = nobody

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        taken = bytes_taken(self._request.transport)
        leaving = self._leaving_since()
        if taken != self._taken:
            self._taken = taken
            self._since = now
        since = now if leaving is None else max(self._since, leaving)
        if now - since >= self._seconds:
            self._stalled()
        else:
            self._timer = self._clock.callLater(since + self._seconds - now, self._look)
