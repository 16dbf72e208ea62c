"""Tests of what a model is worth: :mod:`llmux.worth` and :mod:`llmux.demand`."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.costs import SwitchCosts
from llmux.demand import MEMORY_SECS, RecentArrivals
from llmux.lifecycle import Model
from llmux.sharing import SharedRoom
from llmux.states import State
from llmux.test.fakes import lease_out, make_model
from llmux.waiting import WaitingRoom
from llmux.worth import UNLEARNT, Worth

GAPS = st.lists(st.floats(0.0, 5000.0), max_size=30)
SECONDS = st.floats(0.0, 600.0)
COUNTS = st.integers(0, 5)


class RecentArrivalsTests(SynchronousTestCase):
    """What came lately counts more than what came long ago."""

    def test_none(self) -> None:
        """Where nothing ever came, nothing came lately."""
        self.assertEqual(RecentArrivals().count(1e9), 0.0)

    def test_at_once(self) -> None:
        """Whatever came at this very moment counts in full."""
        arrivals = RecentArrivals()
        for _ in range(3):
            arrivals.came(50.0)
        self.assertEqual(arrivals.count(50.0), 3.0)

    def test_forgotten(self) -> None:
        """An arrival counts for a third after ten minutes, and for hardly anything in a day."""
        arrivals = RecentArrivals()
        arrivals.came(50.0)
        self.assertAlmostEqual(arrivals.count(50.0 + 600.0), 0.3679, 4)
        self.assertLess(arrivals.count(50.0 + 86400.0), 1e-9)

    @given(gaps=GAPS, after=st.floats(0.0, 5000.0))
    def test_sum(self, gaps: list[float], after: float) -> None:
        """Arrivals count for themselves: together they are what each would be alone."""
        now = 0.0
        together, alone = RecentArrivals(), []
        for gap in gaps:
            now += gap
            together.came(now)
            alone.append(RecentArrivals())
            alone[-1].came(now)
        now += after
        expected = sum(arrivals.count(now) for arrivals in alone)
        self.assertAlmostEqual(together.count(now), expected, 6)

    @given(looks=st.lists(st.floats(0.0, 5000.0), min_size=2))
    def test_looking(self, looks: list[float]) -> None:
        """To look changes nothing, and what is seen only becomes less while nothing comes."""
        arrivals = RecentArrivals()
        arrivals.came(50.0)
        seen = [arrivals.count(50.0 + later) for later in sorted(looks)]
        self.assertTrue(all(a >= b for a, b in pairwise(seen)), seen)
        self.assertEqual(arrivals.count(50.0), 1.0)


class WorthTests(SynchronousTestCase):
    """Seconds that those who want a model would have to wait."""

    def setUp(self) -> None:
        """Make a model that is awake, of whose hooks something was learnt."""
        self.clock = VirtualClock()
        self.costs = SwitchCosts(sleep={"a": 3.0}, wake={"a": 20.0})
        self.worth = Worth(self.costs)
        self.model = self.make()

    def make(self, name: str = "a", state: State = State.AWAKE) -> Model:
        """Make a model that takes memory while it is asleep."""
        model = make_model(self.clock, name, asleep_needs={"ram": 40.0}, stop="stop")
        model.state = state
        return model

    def test_nobody_wants_it(self) -> None:
        """Somebody will want it some day, and wait until it has gone and is back."""
        self.assertEqual(self.worth.of_awake(self.model, 0.0), 23.0)

    def test_nothing_learnt(self) -> None:
        """A hook that never ran is taken to last ten seconds."""
        other = self.make("b")
        self.assertEqual(self.worth.of_awake(other, 0.0), 2 * UNLEARNT)
        self.costs.slept("b", 1.0)
        self.assertEqual(self.worth.of_awake(other, 0.0), 1.0 + UNLEARNT)

    def test_who_wants_it(self) -> None:
        """Who is served, who waits and who came just now wait as long as whoever comes some day."""
        lease_out(self.model, 2)
        self.assertEqual(self.worth.of_awake(self.model, 0.0), 23.0 * 3)
        for number in range(4):
            self.model.waiting.add(number)
        self.assertEqual(self.worth.of_awake(self.model, 0.0), 23.0 * 7)
        self.model.recent.came(0.0)
        self.assertEqual(self.worth.of_awake(self.model, 0.0), 23.0 * 8)
        long_ago = self.worth.of_awake(self.model, 20 * MEMORY_SECS)
        self.assertAlmostEqual(long_ago, 23.0 * 7, 6)

    def test_shared_name(self) -> None:
        """Who waits for any of several models counts for one that can serve."""
        room = WaitingRoom(self.clock, None, lambda waiter, timed_out: None, lambda: 1)
        shared: SharedRoom[Model] = SharedRoom("any", room, self.clock)
        shared.members = (self.model,)
        self.model.shared = (shared,)
        room.add(1)
        self.assertEqual(self.worth.of_awake(self.model, 0.0), 23.0 * 2)

    def test_unknown(self) -> None:
        """Of a model of which nobody knows whether it serves nothing is lost."""
        self.model.state = State.UNKNOWN
        lease_out(self.model, 3)
        self.assertEqual(self.worth.of_awake(self.model, 0.0), 0.0)

    def test_stopped(self) -> None:
        """By a stop as many lose as want it, and each what a cold start takes longer."""
        self.costs.woke("a", 50.0, stopped=True)
        sleeper = self.make(state=State.ASLEEP)
        self.assertEqual(self.worth.of_asleep(sleeper, 0.0), 30.0)
        sleeper.waiting.add(1)
        sleeper.recent.came(0.0)
        self.assertEqual(self.worth.of_asleep(sleeper, 0.0), 30.0 * 3)

    def test_cold_start_not_learnt(self) -> None:
        """A cold start that never was is taken to last twice as long as another wake."""
        self.assertEqual(self.worth.colder(self.model), 20.0)
        self.assertEqual(self.worth.colder(self.make("b")), UNLEARNT)

    def test_cold_start_is_no_slower(self) -> None:
        """A stop loses a second at least: nobody is stopped for nothing."""
        self.costs.woke("a", 4.0, stopped=True)
        self.assertEqual(self.worth.colder(self.model), 1.0)

    @given(sleep=SECONDS, wake=SECONDS, cold=SECONDS, wanted=st.tuples(COUNTS, COUNTS, COUNTS))
    def test_never_less(
        self, sleep: float, wake: float, cold: float, wanted: tuple[int, int, int]
    ) -> None:
        """The more want it, the more is lost; nothing that is lost is less than nothing."""
        worth = Worth(SwitchCosts(sleep={"a": sleep}, wake={"a": wake}, cold={"a": cold}))

        def losses(leases: int, waiting: int, recent: int) -> tuple[float, float]:
            model = self.make()
            lease_out(model, leases)
            for number in range(waiting):
                model.waiting.add(number)
            for _ in range(recent):
                model.recent.came(0.0)
            return worth.of_awake(model, 0.0), worth.of_asleep(model, 0.0)

        awake, asleep = losses(*wanted)
        self.assertGreaterEqual(awake, 0.0)
        self.assertGreaterEqual(asleep, 1.0)
        for index in range(3):
            more = [count + (index == at) for at, count in enumerate(wanted)]
            awake_more, asleep_more = losses(*more)
            if sleep + wake > 0:
                self.assertGreater(awake_more, awake)
            if index == 0:  # leases: who is served by it cannot be asleep
                self.assertEqual(asleep_more, asleep)
            else:
                self.assertGreater(asleep_more, asleep)
