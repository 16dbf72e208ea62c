"""Tests of :mod:`llmux.waiting`."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.errors import RequestTimedOut
from llmux.policy import INTERACTIVE
from llmux.waiting import Waiter, WaitingRoom

UPTIME = 1_000_000.0  # seconds: a machine's clock is not near 0, where sums are easy
TIMEOUT = 4.0
RETRY_AFTER = 7

Step = tuple[str, Any]
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 3)),
        st.tuples(st.just("advance"), st.integers(0, 20).map(lambda quarters: quarters / 4)),
        st.tuples(st.just("leave"), st.integers(0, 10)),
        st.tuples(st.just("take"), st.sampled_from((1, 2, 100))),
    ),
    max_size=30,
)


@attrs.define(eq=False)
class Request:
    """A request as a plain list knows it, and how its waiting ended."""

    number: int
    arrived: float
    waiter: Waiter
    endings: list[object]


class Bench:
    """A waiting room on a virtual clock, beside a plain list of who should be in it."""

    def __init__(self, timeout: float | None = TIMEOUT, uptime: float = UPTIME) -> None:
        self.clock = VirtualClock()
        self.clock.advance(uptime)
        self.timeout = timeout
        self.left: list[tuple[Waiter, bool]] = []
        self.lengths: list[int] = []  # of the room, each time that somebody had left
        self.room = WaitingRoom(self.clock, timeout, self._left, lambda: RETRY_AFTER)
        self.inside: list[Request] = []
        self.occupied_since = 0.0
        self.all: list[Request] = []

    def _left(self, waiter: Waiter, timed_out: bool) -> None:
        self.left.append((waiter, timed_out))
        self.lengths.append(len(self.room))

    def add(self) -> Request:
        """Let a request come."""
        number = len(self.all) * 3  # there are other models
        if not self.inside:
            self.occupied_since = self.clock.seconds()
        request = Request(number, self.clock.seconds(), self.room.add(number), [])

        def ended(failure: Failure) -> None:
            request.endings.append(type(failure.value))
            if isinstance(failure.value, RequestTimedOut):
                assert failure.value.retry_after == RETRY_AFTER

        request.waiter.lease.addErrback(ended)
        self.inside.append(request)
        self.all.append(request)
        return request

    def follow(self, step: Step) -> None:
        """Do a step, to the room and to the list."""
        kind, value = step
        gone: list[Request] = []
        told: list[tuple[Waiter, bool]] = []
        if kind == "add":
            for _ in range(value):
                self.add()
        elif kind == "advance":
            self.clock.advance(value)
            if self.timeout is not None:
                latest = self.clock.seconds() - self.timeout
                gone = [request for request in self.inside if request.arrived <= latest]
            told = [(request.waiter, True) for request in gone]
            assert all(request.endings == [RequestTimedOut] for request in gone)
        elif kind == "leave" and self.inside:
            gone = [self.inside[value % len(self.inside)]]
            gone[0].waiter.lease.cancel()
            told = [(gone[0].waiter, False)]
            assert gone[0].endings == [CancelledError]
        elif kind == "take":
            gone = self.inside[:value]
            assert self.room.take(value) == [request.waiter for request in gone]
            assert not any(request.endings for request in gone)
        self.inside = [request for request in self.inside if request not in gone]
        assert self.left == told, (self.left, told)
        self.left.clear()

    def compare(self) -> None:
        """Compare the room with the list."""
        inside = self.inside
        assert len(self.room) == len(inside)
        assert not any(request.endings for request in inside)
        for request in self.all:
            place = inside.index(request) if request in inside else None
            assert self.room.place(request.waiter.lease) == place
        assert all(len(request.endings) <= 1 for request in self.all)
        pending = self.clock.getDelayedCalls()
        if not inside:
            assert self.room.views() == {}
            assert not pending, "a timer is left for nobody"
            return
        assert len(pending) == (self.timeout is not None), "one timer, whoever waits"
        assert self.room.occupied_since == self.occupied_since
        ((kind, view),) = self.room.views().items()
        assert (kind, view.count) == (INTERACTIVE, len(inside))
        assert (view.oldest, view.first) == (inside[0].arrived, inside[0].number)
        now = self.clock.seconds()
        waited = [now - request.arrived for request in inside]
        # what a policy makes of the sums, whose squares are some 1e12 and round accordingly
        total = view.count * now - view.arrivals
        squares = view.count * now * now - 2 * now * view.arrivals + view.squares
        assert abs(total - sum(waited)) < 1e-6
        assert abs(squares - sum(wait * wait for wait in waited)) < 0.1


class WaitingRoomTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(steps, st.sampled_from([TIMEOUT, None, 0.0]))
    def test_agrees_with_a_list(self, program: list[Step], timeout: float | None) -> None:
        """Whoever comes, leaves, times out or is taken, a plain list would say the same."""
        bench = Bench(timeout)
        for step in program:
            bench.follow(step)
            if timeout == 0.0:
                bench.follow(("advance", 0))
            bench.compare()

    def test_for_ever(self) -> None:
        """Without a time-out a request waits as long as it takes."""
        bench = Bench(timeout=None)
        request = bench.add()
        bench.clock.advance(1e6)
        self.assertEqual((len(bench.room), request.endings), (1, []))

    def test_no_longer(self) -> None:
        """A request is told at its time-out, not earlier and not later, whoever came before."""
        bench = Bench()
        first = bench.add()
        bench.clock.advance(1)
        second = bench.add()
        first.waiter.lease.cancel()
        bench.clock.advance(TIMEOUT - 0.25)
        self.assertEqual(second.endings, [])
        bench.clock.advance(0.25)
        self.assertEqual(second.endings, [RequestTimedOut])

    def test_clock_that_rounds(self) -> None:
        """A timer that rings a rounding error too early is late enough."""
        arrived, timeout = 0.3, 0.4
        self.assertLess(arrived + timeout - timeout, arrived)
        bench = Bench(timeout, uptime=arrived)
        request = bench.add()
        bench.clock.run_next()
        self.assertEqual((request.endings, bench.clock.next_due()), ([RequestTimedOut], None))

    def test_counted_out_before_it_is_told(self) -> None:
        """When a request learns that its wait is over, it is no longer counted."""
        bench = Bench()
        told: list[tuple[int, int]] = []
        for _ in range(3):
            bench.add().waiter.lease.addErrback(lambda _: None).addCallback(
                lambda _: told.append((len(bench.room), len(bench.left)))
            )
        bench.clock.advance(TIMEOUT)
        self.assertEqual((told, bench.lengths), ([(2, 1), (1, 2), (0, 3)], [2, 1, 0]))
        self.assertEqual([timed_out for _, timed_out in bench.left], [True] * 3)

    def test_comes_back(self) -> None:
        """A client that asks anew when its wait is over waits anew."""
        bench = Bench()
        again: list[Request] = []
        bench.add().waiter.lease.addErrback(lambda _: None).addCallback(
            lambda _: again.append(bench.add())
        )
        bench.clock.advance(TIMEOUT)
        self.assertEqual((len(bench.room), again[0].endings), (1, []))
        bench.clock.advance(TIMEOUT)
        self.assertEqual((len(bench.room), again[0].endings), (0, [RequestTimedOut]))

    def test_leaves_together(self) -> None:
        """A client that takes others with it as its wait ends leaves each of them told once."""
        bench = Bench()
        requests = [bench.add() for _ in range(3)]
        requests[0].waiter.lease.addErrback(lambda _: None).addCallback(
            lambda _: requests[2].waiter.lease.cancel()
        )
        bench.clock.advance(TIMEOUT)
        endings = [request.endings for request in requests]
        self.assertEqual(endings, [[RequestTimedOut], [RequestTimedOut], [CancelledError]])
        self.assertEqual((len(bench.room), len(bench.left)), (0, 3))

    def test_taken_meanwhile(self) -> None:
        """Those who are taken while another one times out do not time out."""
        bench = Bench()
        requests = [bench.add() for _ in range(3)]
        taken: list[Waiter] = []
        requests[0].waiter.lease.addErrback(lambda _: None).addCallback(
            lambda _: taken.extend(bench.room.take())
        )
        bench.clock.advance(TIMEOUT)
        self.assertEqual(taken, [request.waiter for request in requests[1:]])
        self.assertEqual([request.endings for request in requests[1:]], [[], []])

    def test_the_first_ones(self) -> None:
        """Where there is room for some of them, those go who have waited longest."""
        bench = Bench()
        requests = [bench.add() for _ in range(5)]
        requests[1].waiter.lease.cancel()
        self.assertEqual(bench.room.take(2), [requests[0].waiter, requests[2].waiter])
        self.assertEqual(bench.room.take(0), [])
        places = [bench.room.place(request.waiter.lease) for request in requests]
        self.assertEqual(places, [None, None, None, 0, 1])

    def test_taken_is_out(self) -> None:
        """A request that was taken can leave as it likes: the room has nothing to do with it."""
        bench = Bench()
        request = bench.add()
        bench.room.take()
        request.waiter.lease.cancel()
        bench.clock.advance(TIMEOUT * 2)
        self.assertEqual((bench.left, request.endings), ([], [CancelledError]))

    def test_numbers(self) -> None:
        """The number that a request has among all arrivals is kept."""
        bench = Bench()
        waiters = [bench.room.add(number) for number in (7, 9)]
        self.assertEqual([waiter.number for waiter in waiters], [7, 9])
        self.assertEqual(bench.room.views()[INTERACTIVE].first, 7)
        waiters[0].lease.addErrback(lambda _: None).cancel()
        self.assertEqual(bench.room.views()[INTERACTIVE].first, 9)

    def test_no_drift(self) -> None:
        """After much coming and going, the sums of a room begin anew when it is empty."""
        bench = Bench()
        for seconds in (0.1, 0.7, 0.3) * 50:
            requests = [bench.add()]
            bench.clock.advance(seconds)
            requests.append(bench.add())
            for request in requests:
                request.waiter.lease.cancel()
        request = bench.add()
        view = bench.room.views()[INTERACTIVE]
        self.assertEqual((view.count, view.arrivals), (1, request.arrived))
        self.assertEqual(view.squares, request.arrived**2)
