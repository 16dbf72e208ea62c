"""A deadline that is moved often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.engine.deadline import Deadline


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have one."""
        self.clock = VirtualClock()
        self.expired: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.expired.append(self.clock.seconds()))

    def test_expires_once(self) -> None:
        """It expires when it is due, once."""
        self.deadline.set(5)
        self.clock.advance(4)
        self.assertEqual(self.expired, [])
        self.clock.advance(100)
        self.assertEqual(self.expired, [5])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_put_off(self) -> None:
        """It is put off without its timer being touched."""
        self.deadline.set(5)
        timers = self.clock.getDelayedCalls()
        self.clock.advance(3)
        self.deadline.set(5)
        self.assertEqual(self.clock.getDelayedCalls(), timers)
        self.clock.advance(100)
        self.assertEqual(self.expired, [8])

    def test_brought_forward(self) -> None:
        """It is brought forward."""
        self.deadline.set(50)
        self.deadline.set(2)
        self.clock.advance(100)
        self.assertEqual(self.expired, [2])

    def test_given_up(self) -> None:
        """One that is given up does not expire, and leaves nothing behind in the end."""
        self.deadline.set(5)
        self.deadline.set(None)
        self.clock.advance(100)
        self.assertEqual((self.expired, self.clock.getDelayedCalls()), ([], []))
        self.deadline.set(5)
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(1, 9)), max_size=20))
    def test_any_moves(self, moves: list[tuple[int, int | None]]) -> None:
        """However it is moved, it expires just when a timer of its own would have."""
        clock = VirtualClock()
        expired: list[float] = []
        expected: list[float] = []
        deadline = Deadline(clock, lambda: expired.append(clock.seconds()))
        due: float | None = None
        for wait, seconds in [*moves, (99, None)]:
            if due is not None and due <= clock.seconds() + wait:
                expected.append(due)
                due = None
            clock.advance(wait)
            deadline.set(seconds)
            due = None if seconds is None else clock.seconds() + seconds
        self.assertEqual(expired, expected)
