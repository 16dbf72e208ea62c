"""What models did over the last hours."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.states import State
from llmux.test.switching import Bench
from llmux.timeline import KEPT, RESOLUTION, Timeline


def lanes_of(timeline: Timeline) -> dict[str, dict[str, Any]]:
    """Give what it tells, by name."""
    lanes = cast(list[dict[str, Any]], timeline.as_json()["lanes"])
    return {lane["name"]: lane for lane in lanes}


def states_of(timeline: Timeline, name: str) -> list[tuple[str, float]]:
    """Give a model's states, and how long ago each began."""
    return [(each["state"], each["began_secs_ago"]) for each in lanes_of(timeline)[name]["states"]]


def waiting_of(timeline: Timeline, name: str) -> list[tuple[int, float]]:
    """Give how many waited, and how long ago that began."""
    return [(each["count"], each["began_secs_ago"]) for each in lanes_of(timeline)[name]["waiting"]]


class TimelineTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin one."""
        self.clock = VirtualClock()
        self.timeline = Timeline(self.clock)

    def test_nothing(self) -> None:
        """Of what nothing was heard, nothing is told."""
        self.assertEqual(self.timeline.as_json(), {"kept_secs": KEPT, "lanes": []})

    def test_states(self) -> None:
        """Each state is told with the time since it began, the oldest first."""
        self.timeline.entered("a", State.WAKING)
        self.clock.advance(5)
        self.timeline.entered("a", State.AWAKE)
        self.clock.advance(2.5)
        self.assertEqual(states_of(self.timeline, "a"), [("waking", 7.5), ("awake", 2.5)])
        self.assertEqual(waiting_of(self.timeline, "a"), [])

    def test_kept(self) -> None:
        """What ended earlier is forgotten; what goes on from then began then."""
        self.timeline.entered("a", State.WAKING)
        self.clock.advance(10)
        self.timeline.entered("a", State.AWAKE)
        self.clock.advance(KEPT + 100)
        self.assertEqual(states_of(self.timeline, "a"), [("awake", KEPT)])

    def test_forgotten(self) -> None:
        """A model that held nothing and for which nobody waited in that time is left out."""
        self.timeline.entered("a", State.ASLEEP)
        self.timeline.waiting("shared", +1)
        self.timeline.waiting("shared", -1)
        self.clock.advance(KEPT + 100)
        self.assertEqual(lanes_of(self.timeline), {})
        self.timeline.waiting("shared", +1)
        self.assertEqual(waiting_of(self.timeline, "shared"), [(1, 0.0)])

    def test_most_within_a_second(self) -> None:
        """Of how many wait, the most within a second is told, and what is left after it."""
        for more in (+1, +1, +1, -1, -1):
            self.timeline.waiting("a", more)
            self.clock.advance(RESOLUTION / 10)
        self.clock.advance(2)
        self.assertEqual(waiting_of(self.timeline, "a"), [(3, 2.5), (1, 1.5)])

    def test_what_was_left(self) -> None:
        """What was left after a second is told, also if more come later."""
        for more in (+1, +1, -1):
            self.timeline.waiting("a", more)
        self.clock.advance(5)
        self.timeline.waiting("a", +2)
        self.assertEqual(waiting_of(self.timeline, "a"), [(2, 5.0), (1, 4.0), (3, 0.0)])

    @given(st.lists(st.tuples(st.integers(0, 24), st.integers(-2, 3)), max_size=60))
    def test_counts(self, steps: list[tuple[int, int]]) -> None:
        """What is told is never less than what waited at any time, and at last it is right."""
        clock = VirtualClock()
        timeline = Timeline(clock)
        truth: list[tuple[float, int]] = []
        count = 0
        for eighths, more in steps:  # of a second: what is told, to the millisecond, is exact then
            clock.advance(eighths / 8)
            more = max(more, -count)
            count += more
            if more:
                timeline.waiting("a", more)
                truth.append((clock.seconds(), count))
        clock.advance(RESOLUTION)
        if not truth:
            self.assertEqual(lanes_of(timeline), {})
            return
        now = clock.seconds()
        told = [(now - ago, number) for number, ago in waiting_of(timeline, "a")]
        self.assertEqual(told[-1][1], count)
        for began, number in truth:
            last = [many for since, many in told if since <= began][-1]
            self.assertGreaterEqual(last, number)


class SwitcherTests(SynchronousTestCase):
    def test_switch(self) -> None:
        """The switcher notes each state of each model, and who waits for it."""
        bench = Bench()
        bench.wake("a")
        bench.clock.advance(2)
        bench.request("b")
        states = [state for state, _ in states_of(bench.switcher.timeline, "a")]
        self.assertEqual(states, ["asleep", "waking", "awake", "draining"])
        self.assertEqual([count for count, _ in waiting_of(bench.switcher.timeline, "b")], [1])
