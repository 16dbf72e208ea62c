"""The requests that wait for one model, in order of arrival."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llmux.errors import RequestTimedOut
from llmux.lease import Lease
from llmux.policy.contract import INTERACTIVE, WaitingView

_ROUNDING = 1e-6  # seconds: a timer may fire a rounding error before the deadline it was set for


@attrs.define(eq=False)
class Waiter:
    """
    One request that waits.

    :ivar arrived: when it came, in the clock's seconds.
    :ivar number: its place among all arrivals for all models.
    :ivar lease: becomes its lease; cancelling it takes the request out of the queue.
    """

    arrived: float
    number: int
    lease: Deferred[Lease]


@attrs.define(eq=False)
class _Sums:
    """Running sums over the arrivals of those who wait now."""

    count: int = 0
    arrivals: float = 0.0
    squares: float = 0.0

    def add(self, arrived: float, sign: int) -> None:
        self.count += sign
        if not self.count:  # nobody left: begin anew, so that rounding errors do not pile up
            self.arrivals = self.squares = 0.0
            return
        self.arrivals += sign * arrived
        self.squares += sign * arrived * arrived


class WaitingRoom:
    """
    The queue of one model.

    A waiter leaves it exactly once: with a lease (:meth:`take_all`), refused by the same way, timed
    out, or because its client has gone.

    :param clock: gives the time and the one timer that the queue needs.
    :param timeout: how long anybody may wait here, in seconds, or ``None``: for ever.
    :param left: called with each waiter that leaves without having been taken, and whether it had
        timed out.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float | None,
        left: Callable[[Waiter, bool], None],
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._left = left
        self._waiters: dict[Waiter, None] = {}  # in order of arrival, each found at once
        self._sums = _Sums()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, number: int) -> Waiter:
        """
        Queue one more request; its waiter's Deferred tells how the waiting ended.

        :param number: its place among all arrivals for all models.
        """
        waiter = Waiter(
            arrived=self._clock.seconds(),
            number=number,
            lease=Deferred(lambda _: self._client_left(waiter)),
        )
        self._waiters[waiter] = None
        self._sums.add(waiter.arrived, +1)
        self._set_timer()
        return waiter

    def take_all(self) -> list[Waiter]:
        """Empty the queue and give all that waited, in order; the caller fires their Deferreds."""
        taken = list(self._waiters)
        self._waiters.clear()
        self._sums = _Sums()
        self._set_timer()
        return taken

    def views(self) -> Mapping[str, WaitingView]:
        """Say who waits, by class, as running sums; see :class:`WaitingView`."""
        if not self._waiters:
            return {}
        sums = self._sums
        oldest = next(iter(self._waiters))
        view = WaitingView(
            count=sums.count,
            oldest=oldest.arrived,
            first=oldest.number,
            arrivals=sums.arrivals,
            squares=sums.squares,
        )
        return {INTERACTIVE: view}

    def _client_left(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._remove(waiter)
            self._left(waiter, False)

    def _remove(self, waiter: Waiter) -> None:
        del self._waiters[waiter]
        self._sums.add(waiter.arrived, -1)
        self._set_timer()

    def _set_timer(self) -> None:
        """Keep one timer, for whoever came first: all wait equally long, so the order is theirs."""
        if self._timeout is None:
            return
        if not self._waiters:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            due = next(iter(self._waiters)).arrived + self._timeout
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        assert self._timeout is not None
        arrived_before = self._clock.seconds() - self._timeout + _ROUNDING
        expired = []
        for waiter in self._waiters:
            if waiter.arrived > arrived_before:
                break
            expired.append(waiter)
        for waiter in expired:
            if waiter in self._waiters:  # a callback of one before it may have taken it away
                self._remove(waiter)
                self._left(waiter, True)
                waiter.lease.errback(RequestTimedOut())
        self._set_timer()
