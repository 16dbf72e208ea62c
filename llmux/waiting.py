"""The requests that wait for one model, in order of arrival."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import islice

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

    A waiter leaves it exactly once: with a lease (:meth:`take`), refused by the same way, timed
    out, or because its client has gone.

    :param clock: gives the time and the one timer that the queue needs.
    :param timeout: how long anybody may wait here, in seconds, or ``None``: for ever.
    :param left: called with each waiter that leaves without having been taken, and whether it had
        timed out.
    :param retry_after: gives the seconds after which one that timed out may try again.
    :ivar occupied_since: since when somebody waits here, in the clock's seconds; meaningless while
        nobody does.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float | None,
        left: Callable[[Waiter, bool], None],
        retry_after: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._left = left
        self._retry_after = retry_after
        self.occupied_since = 0.0
        # in order of arrival; each found at once by what its client holds
        self._waiters: dict[Deferred[Lease], Waiter] = {}
        self._numbers: list[int] = []  # theirs, in the same order: whose index is a waiter's place
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
        if not self._waiters:
            self.occupied_since = waiter.arrived
        self._waiters[waiter.lease] = waiter
        self._numbers.append(number)
        self._sums.add(waiter.arrived, +1)
        self._set_timer()
        return waiter

    def add_again(self, number: int, arrived: float) -> Waiter:
        """
        Queue a request at the place that it had before it was given a lease.

        :param number: its place among all arrivals for all models.
        :param arrived: when it came, in the clock's seconds; its time counts from then.
        """
        waiter = Waiter(
            arrived=arrived, number=number, lease=Deferred(lambda _: self._client_left(waiter))
        )
        if not self._waiters:
            self.occupied_since = self._clock.seconds()
        place = bisect_left(self._numbers, number)
        later = list(self._waiters.items())[place:]
        for lease, _ in later:
            del self._waiters[lease]
        self._waiters[waiter.lease] = waiter
        self._waiters.update(later)
        self._numbers.insert(place, number)
        self._sums.add(arrived, +1)
        self._reset_timer()
        return waiter

    def limit(self, timeout: float | None) -> None:
        """Let everybody wait for so long from now on, those who wait already too."""
        self._timeout = timeout
        self._reset_timer()

    @property
    def first_number(self) -> int:
        """The number of whoever has waited longest; somebody has to wait."""
        return self._numbers[0]

    def take(self, most: int = sys.maxsize) -> list[Waiter]:
        """
        Take those who have waited longest out of the queue; the caller fires their Deferreds.

        :param most: how many at most.
        :returns: who was taken, in order.
        """
        taken = list(islice(self._waiters.values(), most))
        for waiter in taken:
            del self._waiters[waiter.lease]
            self._sums.add(waiter.arrived, -1)
        del self._numbers[: len(taken)]
        self._set_timer()
        return taken

    def place(self, lease: Deferred[Lease]) -> int | None:
        """
        Say how many wait before a request; it may be asked often, however many wait.

        :param lease: the Deferred of its waiter.
        :returns: ``None`` if it does not wait here.
        """
        waiter = self._waiters.get(lease)
        return None if waiter is None else bisect_left(self._numbers, waiter.number)

    def arrivals(self) -> list[float]:
        """Say when each of those who wait has come, in their order, in the clock's seconds."""
        return [waiter.arrived for waiter in self._waiters.values()]

    def oldest_secs(self, now: float) -> float:
        """Say for how long the first has waited; 0 if nobody waits."""
        return max(0.0, now - self._first().arrived) if self._waiters else 0.0

    def views(self) -> Mapping[str, WaitingView]:
        """Say who waits, by class, as running sums; see :class:`WaitingView`."""
        if not self._waiters:
            return {}
        sums = self._sums
        oldest = self._first()
        view = WaitingView(
            count=sums.count,
            oldest=oldest.arrived,
            first=oldest.number,
            arrivals=sums.arrivals,
            squares=sums.squares,
        )
        return {INTERACTIVE: view}

    def _client_left(self, waiter: Waiter) -> None:
        if waiter.lease in self._waiters:
            self._remove(waiter)
            self._left(waiter, False)

    def _first(self) -> Waiter:
        return next(iter(self._waiters.values()))

    def _remove(self, waiter: Waiter) -> None:
        del self._waiters[waiter.lease]
        del self._numbers[bisect_left(self._numbers, waiter.number)]
        self._sums.add(waiter.arrived, -1)
        self._set_timer()

    def _reset_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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
            due = self._first().arrived + self._timeout
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        assert self._timeout is not None
        arrived_before = self._clock.seconds() - self._timeout + _ROUNDING
        expired = []
        for waiter in self._waiters.values():
            if waiter.arrived > arrived_before:
                break
            expired.append(waiter)
        for waiter in expired:
            if waiter.lease in self._waiters:  # a callback of one before it may have taken it away
                self._remove(waiter)
                self._left(waiter, True)
                waiter.lease.errback(RequestTimedOut(self._retry_after()))
        self._set_timer()


def merged(
    views: Mapping[str, WaitingView], more: Mapping[str, WaitingView], rank: int
) -> Mapping[str, WaitingView]:
    """
    Put together who waits in two rooms before one door, by class.

    :param more: those of the second room, and
    :param rank: how many other models they would rather have.
    """
    together = dict(views)
    for name, view in more.items():
        view = attrs.evolve(view, rank=rank)
        own = together.get(name)
        if own is not None:
            earlier = min(own, view, key=lambda each: each.first)
            view = WaitingView(
                count=own.count + view.count,
                oldest=earlier.oldest,
                first=earlier.first,
                arrivals=own.arrivals + view.arrivals,
                squares=own.squares + view.squares,
                rank=earlier.rank,
            )
        together[name] = view
    return together
