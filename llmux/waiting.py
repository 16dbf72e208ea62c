"""The requests that wait for one model, in the order in which they get its places."""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from operator import attrgetter

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llmux.errors import RequestTimedOut
from llmux.lease import Lease
from llmux.policy.contract import WaitingView
from llmux.urgency import CLASSES, ORDINARY, Urgency

Place = tuple[float, int]  # when a request counts as having come, and its number

_ROUNDING = 1e-6  # seconds: a timer may fire a rounding error before the deadline it was set for


@attrs.define(eq=False)
class Waiter:
    """
    One request that waits.

    :ivar arrived: when it came, in the clock's seconds.
    :ivar number: its place among all arrivals for all models.
    :ivar lease: becomes its lease; cancelling it takes the request out of the queue.
    :ivar urgency: how much of a hurry it is in.
    """

    arrived: float
    number: int
    lease: Deferred[Lease]
    urgency: Urgency = ORDINARY

    @property
    def place(self) -> Place:
        """What orders those who wait for the same model; the least goes first."""
        return self.arrived + self.urgency.delay, self.number


_place, _number = attrgetter("place"), attrgetter("number")


@attrs.define(eq=False)
class _Line:
    """
    Those of one class, in order of arrival, and running sums over when they came.

    :ivar waiters: by what their clients hold, so that each is found at once.
    """

    waiters: dict[Deferred[Lease], Waiter] = attrs.Factory(dict)
    arrivals: float = 0.0
    squares: float = 0.0

    @property
    def first(self) -> Waiter:
        """Whoever came first; somebody has to be there."""
        return next(iter(self.waiters.values()))

    def add(self, waiter: Waiter) -> None:
        """Let one more wait, behind all who came earlier."""
        later = []
        for other in reversed(self.waiters.values()):
            if other.number < waiter.number:
                break
            later.append(other)
        for other in later:
            del self.waiters[other.lease]
        for each in (waiter, *reversed(later)):
            self.waiters[each.lease] = each
        self.arrivals += waiter.arrived
        self.squares += waiter.arrived**2

    def remove(self, waiter: Waiter) -> None:
        """Let one go."""
        del self.waiters[waiter.lease]
        self.arrivals -= waiter.arrived
        self.squares -= waiter.arrived**2
        if not self.waiters:  # begin anew, so that rounding errors do not pile up
            self.arrivals = self.squares = 0.0

    def view(self) -> WaitingView:
        """Say who waits; see :class:`WaitingView`."""
        first = self.first
        return WaitingView(
            count=len(self.waiters),
            oldest=first.arrived,
            first=first.number,
            arrivals=self.arrivals,
            squares=self.squares,
        )


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
        self._lines = {kind: _Line() for kind in CLASSES}
        self._order: list[Waiter] = []  # all of them, whoever goes first in front
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._order)

    def add(self, number: int, urgency: Urgency = ORDINARY, arrived: float | None = None) -> Waiter:
        """
        Queue one more request; its waiter's Deferred tells how the waiting ended.

        :param number: its place among all arrivals for all models.
        :param urgency: how much of a hurry it is in.
        :param arrived: when it came, in the clock's seconds, if it has had a lease before: its time
            counts from then, and its place is what it was.  ``None``: it comes now.
        """
        now = self._clock.seconds()
        waiter = Waiter(
            arrived=now if arrived is None else arrived,
            number=number,
            lease=Deferred(lambda _: self._client_left(waiter)),
            urgency=urgency,
        )
        if not self._order:
            self.occupied_since = now
        self._lines[urgency.kind].add(waiter)
        insort(self._order, waiter, key=_place)
        if arrived is None:
            self._set_timer()
        else:
            self._reset_timer()
        return waiter

    def limit(self, timeout: float | None) -> None:
        """Let everybody wait for so long from now on, those who wait already too."""
        self._timeout = timeout
        self._reset_timer()

    @property
    def first_place(self) -> Place:
        """The place of whoever goes first; somebody has to wait."""
        return self._order[0].place

    def take(self, most: int = sys.maxsize) -> list[Waiter]:
        """
        Take those who go first out of the queue; the caller fires their Deferreds.

        :param most: how many at most.
        :returns: who was taken, in order.
        """
        taken = self._order[:most]
        del self._order[:most]
        for waiter in taken:
            self._lines[waiter.urgency.kind].remove(waiter)
        self._set_timer()
        return taken

    def place(self, lease: Deferred[Lease]) -> int | None:
        """
        Say how many go before a request; it may be asked often, however many wait.

        :param lease: the Deferred of its waiter.
        :returns: ``None`` if it does not wait here.
        """
        waiter = self._find(lease)
        return None if waiter is None else bisect_left(self._order, waiter.place, key=_place)

    def arrivals(self) -> list[float]:
        """Say when each of those who wait has come, the earliest first, in the clock's seconds."""
        return sorted(waiter.arrived for waiter in self._order)

    def oldest_secs(self, now: float) -> float:
        """Say for how long the first has waited; 0 if nobody waits."""
        return max(0.0, now - self._first().arrived) if self._order else 0.0

    def views(self) -> Mapping[str, WaitingView]:
        """Say who waits, by class, as running sums; see :class:`WaitingView`."""
        return {kind: line.view() for kind, line in self._lines.items() if line.waiters}

    def _client_left(self, waiter: Waiter) -> None:
        if self._find(waiter.lease) is not None:
            self._remove(waiter)
            self._left(waiter, False)

    def _find(self, lease: Deferred[Lease]) -> Waiter | None:
        found = (line.waiters.get(lease) for line in self._lines.values())
        return next((waiter for waiter in found if waiter is not None), None)

    def _first(self) -> Waiter:
        """Give whoever came first; somebody has to wait."""
        return min((line.first for line in self._lines.values() if line.waiters), key=_number)

    def _remove(self, waiter: Waiter) -> None:
        self._lines[waiter.urgency.kind].remove(waiter)
        del self._order[bisect_left(self._order, waiter.place, key=_place)]
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
        if not self._order:
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
        for line in self._lines.values():
            for waiter in line.waiters.values():
                if waiter.arrived > arrived_before:
                    break
                expired.append(waiter)
        for waiter in sorted(expired, key=_number):
            if self._find(waiter.lease) is not None:  # a callback may have taken it away
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
