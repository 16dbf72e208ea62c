"""Tests of :mod:`llmux.clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.base import ReactorBase
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from llmux.clock import VirtualClock, make_monotonic

# Quarters of a second add up without rounding; few of them, so that calls often meet.
delays = st.integers(0, 8).map(lambda quarters: quarters / 4)
shifts = st.integers(-6, 6).map(lambda quarters: quarters / 4)
numbers = st.integers(0, 30)


@attrs.frozen
class Later:
    """Schedule a call that does some steps itself when it runs."""

    delay: float
    steps: list[Step]


@attrs.frozen
class Cancel:
    """Cancel a pending call."""

    number: int


@attrs.frozen
class Reset:
    """Let a pending call run so many seconds from now."""

    number: int
    seconds: float


@attrs.frozen
class Delay:
    """Let a pending call run later, or sooner, than it would."""

    number: int
    seconds: float


Step = Later | Cancel | Reset | Delay

later: st.SearchStrategy[Later] = st.deferred(lambda: st.builds(Later, delays, steps))
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        later,
        later,
        st.builds(Cancel, numbers),
        st.builds(Reset, numbers, delays),
        st.builds(Delay, numbers, shifts),
    ),
    max_size=4,
)
moves = st.one_of(st.none(), delays)  # to the next call, or by so many seconds


@attrs.define
class Entry:
    """What a plain list knows of a pending call."""

    call: IDelayedCall
    due: float
    moved: bool = False


class Model:
    """A virtual clock beside a list of what has to happen, compared at every call."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.pending: dict[int, Entry] = {}
        self.scheduled = 0
        self.ran = 0

    def follow(self, steps: list[Step]) -> None:
        """Do some steps, to the clock and to the list."""
        now = self.clock.seconds()
        for step in steps:
            if isinstance(step, Later):
                number = self.scheduled
                self.scheduled += 1
                call = self.clock.callLater(step.delay, self.run, number, steps=step.steps)
                self.pending[number] = Entry(call, now + step.delay)
            elif self.pending:
                numbers = list(self.pending)
                number = numbers[step.number % len(numbers)]
                entry = self.pending[number]
                entry.moved = True
                if isinstance(step, Cancel):
                    entry.call.cancel()
                    del self.pending[number]
                elif isinstance(step, Reset):
                    entry.call.reset(step.seconds)
                    entry.due = now + step.seconds
                else:
                    entry.call.delay(step.seconds)
                    entry.due += step.seconds
            self.compare()

    def run(self, number: int, steps: list[Step]) -> None:
        """Be a scheduled call: check that it is its turn, then do its steps."""
        entry = self.pending.pop(number)
        assert self.clock.seconds() >= entry.due
        for other, waiting in self.pending.items():
            assert waiting.due >= entry.due, "a call that was due before has not run"
            if waiting.due == entry.due and not waiting.moved and not entry.moved:
                assert other > number, "calls of the same time ran out of order"
        self.ran += 1
        self.follow(steps)

    def move(self, seconds: float | None) -> None:
        """Move on, and compare where that leads to."""
        before, ran = self.clock.seconds(), self.ran
        first = min((entry.due for entry in self.pending.values()), default=None)
        if seconds is None:
            assert self.clock.run_next() is (first is not None)
            assert self.ran - ran == (first is not None)
            assert self.clock.seconds() == max(before, before if first is None else first)
        else:
            self.clock.advance(seconds)
            assert self.clock.seconds() == before + seconds
            assert all(entry.due > self.clock.seconds() for entry in self.pending.values())
        self.compare()

    def compare(self) -> None:
        """Compare what is pending."""
        entries = list(self.pending.values())
        assert set(self.clock.getDelayedCalls()) == {entry.call for entry in entries}
        assert len(self.clock.getDelayedCalls()) == len(entries)
        assert self.clock.next_due() == min((entry.due for entry in entries), default=None)


class VirtualClockTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(st.lists(st.tuples(steps, moves), max_size=6))
    def test_agrees_with_a_list(self, program: list[tuple[list[Step], float | None]]) -> None:
        """Whatever is scheduled, cancelled and moved, each call runs once, at its time."""
        model = Model()
        for steps, seconds in program:
            model.follow(steps)
            model.move(seconds)

    def test_is_a_clock(self) -> None:
        """It can be used wherever a reactor is asked for the time."""
        self.assertTrue(verifyObject(IReactorTime, VirtualClock()))

    def test_stands_still(self) -> None:
        """No time passes by itself."""
        clock = VirtualClock()
        clock.callLater(0, self.fail)
        self.assertEqual((clock.seconds(), clock.next_due()), (0.0, 0.0))

    def test_arguments(self) -> None:
        """A call gets the arguments that it was scheduled with."""
        clock = VirtualClock()
        got: list[object] = []
        clock.callLater(1, lambda *args, **kwargs: got.append((args, kwargs)), 1, two=2)
        clock.advance(1)
        self.assertEqual(got, [((1,), {"two": 2})])

    def test_a_call_sees_its_own_time(self) -> None:
        """A call that is due on the way of a long step is told the time at which it was due."""
        clock = VirtualClock()
        seen: list[float] = []
        clock.callLater(3, lambda: seen.append(clock.seconds()))
        clock.advance(10)
        self.assertEqual((seen, clock.seconds()), ([3.0], 10.0))

    def test_the_same_time(self) -> None:
        """Calls that are due at the same time run in the order in which they were scheduled."""
        clock = VirtualClock()
        ran: list[int] = []
        clock.callLater(2, ran.append, 1)
        clock.advance(1)
        for number in (2, 3, 4):
            clock.callLater(1, ran.append, number)
        clock.advance(1)
        self.assertEqual(ran, [1, 2, 3, 4])

    def test_advance_by_nothing(self) -> None:
        """Advancing by 0 runs what is due now, and what that schedules for now."""
        clock = VirtualClock()
        ran: list[str] = []
        clock.callLater(0, clock.callLater, 0, ran.append, "second")
        clock.callLater(0.25, ran.append, "later")
        clock.advance(0)
        self.assertEqual(ran, ["second"])

    def test_the_past(self) -> None:
        """Nothing can be scheduled for the past."""
        self.assertRaises(AssertionError, VirtualClock().callLater, -1, self.fail)

    def test_over(self) -> None:
        """A call that has run, or was cancelled, can be neither cancelled nor moved."""
        clock = VirtualClock()
        ran = clock.callLater(1, int)
        cancelled = clock.callLater(1, self.fail)
        cancelled.cancel()
        clock.advance(1)
        self.assertFalse(ran.active() or cancelled.active())
        self.assertRaises(AlreadyCalled, ran.cancel)
        self.assertRaises(AlreadyCancelled, cancelled.cancel)
        self.assertRaises(AlreadyCancelled, cancelled.reset, 5)

    def test_a_call_that_fails(self) -> None:
        """An error in a call reaches whoever moves the clock, and the rest can still run."""
        clock = VirtualClock()
        ran: list[str] = []
        clock.callLater(1, int, "x")
        clock.callLater(2, ran.append, "rest")
        self.assertRaises(ValueError, clock.advance, 5)
        clock.advance(1)
        self.assertEqual((ran, clock.seconds()), (["rest"], 2.0))


class Timers(ReactorBase):
    """A reactor of which only the timers work; its clock is set by hand until it is monotonic."""

    def __init__(self) -> None:
        self.wall = 1e9
        super().__init__()
        self.seconds: Callable[[], float] = lambda: self.wall

    def installWaker(self) -> None:  # noqa: N802  # Twisted's
        """Install nothing: no other thread will wake it."""

    def due_in(self) -> float:
        """Say how long this reactor would sleep."""
        seconds: Any = self.timeout()
        assert seconds is not None
        return float(seconds)


class MakeMonotonicTests(SynchronousTestCase):
    def test_clock(self) -> None:
        """The reactor then tells the time that cannot be set."""
        reactor = Timers()
        make_monotonic(reactor)
        before = time.monotonic()
        told = reactor.seconds()
        self.assertTrue(before <= told <= time.monotonic())

    def test_pending_timers(self) -> None:
        """Timers that are pending keep the time that was left to them, in their order."""
        reactor = Timers()
        reactor.callLater(300, int)
        second = reactor.callLater(200, int)
        reactor.runUntilCurrent()
        first = reactor.callLater(100, int)
        reactor.wall += 40
        make_monotonic(reactor)
        self.assertApproximates(reactor.due_in(), 60, 5)
        first.cancel()
        reactor.runUntilCurrent()
        second.reset(30)
        self.assertApproximates(reactor.due_in(), 30, 5)

    def test_a_due_timer_runs(self) -> None:
        """A timer that was due before runs at the reactor's next turn."""
        reactor = Timers()
        ran: list[str] = []
        reactor.callLater(10, ran.append, "due")
        reactor.callLater(3600, ran.append, "not due")
        reactor.wall += 11
        make_monotonic(reactor)
        reactor.runUntilCurrent()
        self.assertEqual(ran, ["due"])

    def test_a_cancelled_timer_holds_up_nobody(self) -> None:
        """A timer that was cancelled before does not keep the others from running."""
        reactor = Timers()
        cancelled = reactor.callLater(1, self.fail)
        reactor.callLater(2, int)
        reactor.runUntilCurrent()
        cancelled.cancel()
        make_monotonic(reactor)
        self.assertLess(reactor.due_in(), 5)

    def test_twice(self) -> None:
        """Asking for it twice moves no timer twice."""
        reactor = Timers()
        reactor.callLater(100, int)
        make_monotonic(reactor)
        make_monotonic(reactor)
        self.assertApproximates(reactor.due_in(), 100, 5)
