"""Tests of :mod:`llmux.room`: who has to go so that something else fits."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.amounts import Amounts, add, fits, minus
from llmux.budget import Placement
from llmux.clock import VirtualClock
from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.room import Plan, Room, Standing, evictable_at
from llmux.states import State
from llmux.test.fakes import lease_out, make_model
from llmux.worth import Worth

NOW = 100.0
CAPACITY = {"gpu0": 24.0, "gpu1": 24.0, "ram": 100.0}


def names(models: Sequence[Model]) -> list[str]:
    """Give the models' names."""
    return [model.name for model in models]


class Case(SynchronousTestCase):
    """Makes models, and situations of all that were made."""

    def setUp(self) -> None:
        """Begin without any."""
        self.clock = VirtualClock()
        self.models: list[Model] = []
        self.costs = SwitchCosts()

    def make(
        self,
        name: str,
        *needs: Amounts,
        state: State = State.AWAKE,
        away: float = 20.0,
        cold: float = 15.0,
        place: int | None = None,
        **more: object,
    ) -> Model:
        """
        Make a model.

        :param needs: in each of its places.
        :param away: what is lost when it goes, in seconds, if nobody wants it.
        :param cold: what is lost, besides, when it is stopped.
        :param place: in which of its places it is.
        """
        model = make_model(self.clock, name, needs=needs, **more)
        model.state = state
        if place is not None:
            model.placement = Placement(needs[place])
        self.costs.sleep[name], self.costs.wake[name] = 0.0, away
        self.costs.cold[name] = away + cold
        self.models.append(model)
        return model

    def room(self, capacity: Amounts = CAPACITY, busy: Sequence[str] = ()) -> Room:
        """Look at the situation."""
        standings = [Standing.of(model) for model in self.models]
        free = minus(capacity, add(*(each.holds for each in standings)))
        return Room(free, standings, Worth(self.costs), frozenset(busy), NOW)

    def target(self, *needs: Amounts, **more: object) -> Model:
        """Make a model that is to be woken."""
        return self.make("target", *needs, state=State.ASLEEP, **more)  # type: ignore[arg-type]  # as make()

    def check(
        self, plan: Plan | None, victims: str, stops: str = "", needs: Amounts | None = None
    ) -> Plan:
        """
        Check who has to go.

        :param victims: their names, in order.
        :param stops: the same of those that are stopped.
        :param needs: what is taken at the place that was chosen, if that is to be checked.
        """
        assert plan is not None
        self.assertEqual([names(plan.victims), names(plan.stops)], [victims.split(), stops.split()])
        if needs is not None:
            self.assertEqual(plan.placement.needs, needs)
        return plan


class PlaceTests(Case):
    """Where a model is woken."""

    def test_free(self) -> None:
        """The first place with room for it is taken, before one that costs nothing to make."""
        self.make("a", {"gpu0": 20.0}, state=State.UNKNOWN)
        target = self.target({"gpu0": 20.0}, {"gpu1": 20.0}, {"ram": 1.0})
        plan = self.check(self.room().plan(target), "", needs={"gpu1": 20.0})
        self.assertEqual((plan.loss, plan.possible_at, plan.leaving), (0.0, 0.0, ()))

    def test_least_loss(self) -> None:
        """Where somebody has to go it is the place where least is lost, or else the first."""
        a = self.make("a", {"gpu0": 20.0}, away=30.0)
        self.make("b", {"gpu1": 20.0}, away=30.0)
        target = self.target({"gpu0": 20.0}, {"gpu1": 20.0})
        self.check(self.room().plan(target), "a", needs={"gpu0": 20.0})
        lease_out(a, 1)
        plan = self.check(self.room().plan(target), "b", needs={"gpu1": 20.0})
        self.assertEqual(plan.loss, 30.0)

    def test_several_resources(self) -> None:
        """Room is made in each resource that it takes, for what it takes asleep as well."""
        for name, resource in (("a", "gpu0"), ("b", "gpu1"), ("c", "ram"), ("d", "disk")):
            self.make(name, {resource: 20.0})
        room = {**CAPACITY, "disk": 24.0, "ram": 24.0}
        target = self.target({"gpu0": 20.0, "gpu1": 5.0}, asleep_needs={"ram": 10.0})
        target.state = State.STOPPED
        self.check(self.room(room).plan(target), "a b c")

    def test_what_it_holds_itself(self) -> None:
        """What it holds already is enough for it."""
        target = self.target({"gpu0": 20.0}, asleep_needs={"ram": 90.0})
        self.make("a", {"ram": 10.0})
        self.check(self.room().plan(target), "")
        target.state = State.UNKNOWN
        self.check(self.room().plan(target), "")

    def test_overdrawn(self) -> None:
        """Of what it takes nothing of there may be too little."""
        self.make("a", {"gpu0": 30.0})
        target = self.target({"gpu0": 0.0, "gpu1": 1.0})
        self.check(self.room().plan(target), "")

    def test_already_somewhere(self) -> None:
        """While it may be somewhere it can be woken only there."""
        self.make("a", {"gpu0": 20.0}, away=90.0)
        target = self.target({"gpu0": 20.0}, {"gpu1": 20.0}, place=0)
        target.state = State.UNKNOWN
        self.check(self.room().plan(target), "a", needs={"gpu0": 20.0})
        target.state = State.ASLEEP
        self.check(self.room().plan(target), "", needs={"gpu1": 20.0})

    def test_nowhere(self) -> None:
        """Where there would be no room even without all others, nobody has to go."""
        self.make("a", {"gpu0": 20.0})
        target = self.target({"gpu0": 25.0}, {"gpu1": 25.0})
        self.assertIsNone(self.room().plan(target))
        self.check(self.room({"gpu0": 25.0}).plan(target), "a")

    def test_moving(self) -> None:
        """A model that has no part in a situation is being moved already."""
        target = self.target({"gpu0": 1.0})
        self.models.remove(target)
        self.assertIsNone(self.room().plan(target))


class WhoTests(Case):
    """Who goes."""

    def test_pinned(self) -> None:
        """A pinned model stays whatever else is lost, and if nothing else is enough, too."""
        a = self.make("a", {"gpu0": 12.0}, away=0.0, pinned=True)
        self.make("b", {"gpu0": 12.0}, away=900.0)
        target = self.target({"gpu0": 12.0})
        for a.state in (State.AWAKE, State.DRAINING):
            self.check(self.room().plan(target), "b")
            self.check(self.room().plan(target, ("a",)), "b")
            self.check(self.room().make({"gpu0": 12.0}), "b")
            self.assertIsNone(self.room().make({"gpu0": 13.0}))
        self.check(self.room({"gpu0": 23.0}).relief(), "b")

    def test_pinned_but_of_no_use(self) -> None:
        """One that is down, or of which nobody knows whether it serves, is not kept by its pin."""
        a = self.make("a", {"gpu0": 20.0}, pinned=True)
        a.health.down = True
        self.check(self.room().make({"gpu0": 20.0}), "a")
        a.health.down, a.state = False, State.UNKNOWN
        self.check(self.room().make({"gpu0": 20.0}), "a")

    def test_pinned_at_run_time(self) -> None:
        """What an operator has said counts, and not the configuration."""
        self.make("a", {"gpu0": 20.0}, pinned=True).pin = False
        self.make("b", {"gpu1": 20.0}).pin = True
        target = self.target({"gpu1": 20.0}, {"gpu0": 20.0})
        self.check(self.room().plan(target), "a")

    def test_unknown(self) -> None:
        """One that may be in any of its places gives room in all of them, at no loss."""
        self.make("a", {"gpu0": 20.0}, {"gpu1": 20.0}, state=State.UNKNOWN, away=900.0)
        self.make("b", {"ram": 90.0})
        target = self.target({"gpu0": 24.0, "gpu1": 24.0})
        plan = self.check(self.room().plan(target), "a")
        self.assertEqual(plan.loss, 0.0)

    def test_known_place(self) -> None:
        """One of which it is known where it is gives room there and nowhere else."""
        self.make("a", {"gpu0": 20.0}, {"gpu1": 20.0}, place=0, away=0.0)
        self.make("b", {"gpu1": 20.0}, away=900.0)
        self.check(self.room().make({"gpu1": 20.0}), "b")

    def test_order(self) -> None:
        """Of those of whom the same is lost, those go that stand first."""
        for name in "abc":
            self.make(name, {"gpu0": 8.0})
        self.check(self.room().make({"gpu0": 10.0}), "a b")
        self.models.reverse()
        self.check(self.room().make({"gpu0": 10.0}), "c b")

    def test_asked_twice(self) -> None:
        """What a policy names makes no difference to whoever asks without naming anybody."""
        self.make("a", {"gpu0": 12.0}, away=10.0)
        self.make("b", {"gpu0": 12.0}, away=20.0)
        target = self.target({"gpu0": 12.0})
        room = self.room()
        self.check(room.plan(target, ("b",)), "b")
        self.check(room.plan(target), "a")
        self.check(room.plan(target, ("b",)), "b")
        self.check(room.plan(target), "a")


class NamedTests(Case):
    """Whom a policy names."""

    def setUp(self) -> None:
        """Make three models; the first one costs least."""
        super().setUp()
        self.a = self.make("a", {"gpu0": 8.0}, away=10.0)
        self.b = self.make("b", {"gpu0": 8.0}, away=20.0)
        self.c = self.make("c", {"gpu0": 8.0}, away=30.0)
        self.wanting = self.target({"gpu0": 8.0})

    def test_taken(self) -> None:
        """It goes although another one would cost less, or could go sooner."""
        self.check(self.room().plan(self.wanting, ("c",)), "c")
        self.c.sleep_backoff.until = NOW + 5.0
        plan = self.check(self.room().plan(self.wanting, ("c",)), "c")
        self.assertEqual(plan.possible_at, NOW + 5.0)

    def test_no_more_than_needed(self) -> None:
        """Of several it is the one whose loss costs least."""
        self.check(self.room().plan(self.wanting, ("c", "b")), "b")

    def test_no_help(self) -> None:
        """Where that makes no room, those go that cost least of all."""
        self.check(self.room({"gpu0": 16.0}).plan(self.wanting, ("c",)), "a b")
        self.check(self.room().plan(self.wanting, ()), "a")
        self.check(self.room().plan(self.wanting, ("target", "x")), "a")


class TimeTests(Case):
    """Who may go, and when."""

    def setUp(self) -> None:
        """Make a model that costs little and may not go yet, and one that costs much."""
        super().setUp()
        self.a = self.make("a", {"gpu0": 12.0}, away=1.0, min_active_secs=60.0)
        self.a.awake_since = NOW - 20.0
        self.b = self.make("b", {"gpu0": 12.0}, away=900.0)

    def test_cool_down(self) -> None:
        """It stays as long as its cool-down lasts if another one can go, and not a moment more."""
        target = self.target({"gpu0": 12.0})
        self.check(self.room().plan(target), "b")
        self.a.awake_since = NOW - 60.0
        self.check(self.room().plan(target), "a")

    def test_back_off(self) -> None:
        """It is the same while its sleep hook is not to be tried again."""
        self.a.awake_since, self.a.sleep_backoff.until = 0.0, NOW + 1.0
        target = self.target({"gpu0": 12.0})
        self.check(self.room().plan(target), "b")
        self.a.sleep_backoff.until = NOW
        self.check(self.room().plan(target), "a")

    def test_has_to_be(self) -> None:
        """It is chosen if it has to be, and the plan says when that will be possible."""
        target = self.target({"gpu0": 20.0})
        plan = self.check(self.room().plan(target), "a b")
        self.assertEqual(plan.possible_at, NOW + 40.0)

    def test_soonest(self) -> None:
        """Where nobody may go yet, those are chosen who may soonest, though they cost more."""
        self.b.sleep_backoff.until = NOW + 30.0
        target = self.target({"gpu0": 12.0})
        plan = self.check(self.room().plan(target), "b")
        self.assertEqual(plan.possible_at, NOW + 30.0)
        self.b.sleep_backoff.until = NOW + 40.0  # as long as the other one's cool-down
        self.check(self.room().plan(target), "a")

    def test_soonest_of_several(self) -> None:
        """Of those who may by then, those go whose loss costs least."""
        self.make("c", {"gpu0": 12.0}, away=5.0, min_active_secs=90.0).awake_since = NOW
        self.make("d", {"gpu0": 12.0}, away=3.0).sleep_backoff.until = NOW + 40.0
        room = self.room({"gpu0": 48.0})
        plan = self.check(room.make({"gpu0": 24.0}), "a d")  # b may at once, but is not enough
        self.assertEqual(plan.possible_at, NOW + 40.0)

    def test_place(self) -> None:
        """A model is woken where it can be soonest, and among such places where least is lost."""
        c = self.make("c", {"gpu1": 20.0}, away=950.0)
        target = self.target({"gpu0": 20.0}, {"gpu1": 20.0})
        self.check(self.room().plan(target), "c", needs={"gpu1": 20.0})
        c.sleep_backoff.until = NOW + 39.0
        self.check(self.room().plan(target), "c", needs={"gpu1": 20.0})
        c.sleep_backoff.until = NOW + 41.0
        self.check(self.room().plan(target), "a b", needs={"gpu0": 20.0})

    def test_long_since(self) -> None:
        """Whether somebody may go just now or long since makes no difference."""
        self.a.awake_since = NOW - 60.0
        self.make("c", {"gpu1": 12.0}, away=5.0)
        target = self.target({"gpu1": 20.0}, {"gpu0": 12.0})
        self.check(self.room().plan(target), "a")

    def test_asleep(self) -> None:
        """The cool-down of a model that has been put to sleep is over, but not its back-off."""
        self.a.state = State.ASLEEP
        self.assertEqual(evictable_at(self.a), 0.0)
        self.a.sleep_backoff.until = NOW + 7.0
        self.assertEqual(evictable_at(self.a), NOW + 7.0)


class SleeperTests(Case):
    """What models take while they are asleep."""

    def sleeper(self, name: str, **more: object) -> Model:
        """Make a model that keeps 40 of the host's memory, and can be stopped."""
        more = {"asleep_needs": {"ram": 40.0}, "stop": f"stop {name}", **more}
        return self.make(name, {"gpu0": 20.0}, **more)  # type: ignore[arg-type]  # as make()

    def test_sleep_is_enough(self) -> None:
        """Nobody is stopped who need only sleep."""
        self.sleeper("a")
        self.check(self.room().make({"gpu0": 20.0}), "a")

    def test_stopped_after_its_sleep(self) -> None:
        """One that has to give back what it takes asleep goes to sleep, and is stopped then."""
        self.sleeper("a")
        plan = self.check(self.room().make({"gpu0": 20.0, "ram": 70.0}), "a", "a")
        self.assertEqual((names(plan.leaving), plan.loss), (["a"], 20.0 + 15.0))

    def test_stopped_without_a_sleep(self) -> None:
        """One that is asleep is only stopped, and that costs how much longer a cold start takes."""
        self.sleeper("a", state=State.ASLEEP)
        plan = self.check(self.room().make({"ram": 70.0}), "", "a")
        self.assertEqual((names(plan.leaving), plan.loss), (["a"], 15.0))

    def test_both(self) -> None:
        """One is put to sleep and another one stopped if that costs least."""
        self.sleeper("a")
        self.sleeper("b", state=State.ASLEEP, cold=14.0)
        plan = self.check(self.room().make({"gpu0": 20.0, "ram": 60.0}), "a", "b")
        self.assertEqual(names(plan.leaving), ["a", "b"])

    def test_cheapest_stop(self) -> None:
        """Of those that are asleep the one is stopped whose cold start costs least."""
        for name, cold in (("a", 30.0), ("b", 3.0)):
            self.sleeper(name, state=State.ASLEEP, cold=cold)
        self.check(self.room().make({"ram": 60.0}), "", "b")

    def test_cannot_be_stopped(self) -> None:
        """Without a stop hook it keeps what it takes asleep, and so does a pinned one awake."""
        self.sleeper("a", stop=None)
        self.assertIsNone(self.room().make({"ram": 70.0}))
        self.sleeper("b", state=State.ASLEEP, stop=None)
        self.assertIsNone(self.room().make({"ram": 30.0}))
        self.models.clear()
        self.sleeper("c", pinned=True)
        self.assertIsNone(self.room().make({"ram": 70.0}))

    def test_pinned_asleep(self) -> None:
        """A pin does not keep what a model takes asleep: it stays once it is awake."""
        self.sleeper("a", pinned=True, state=State.ASLEEP)
        self.check(self.room().make({"ram": 70.0}), "", "a")

    def test_stopped_already(self) -> None:
        """From one that is stopped nothing can be had, and it takes nothing."""
        self.sleeper("a", state=State.STOPPED)
        self.check(self.room().make({"ram": 100.0}), "")
        self.assertIsNone(self.room().make({"ram": 101.0}))


class BusyTests(Case):
    """Resources that are on their way from one model to another, or kept for somebody."""

    def test_nobody_comes(self) -> None:
        """Nobody is woken there, and no room made; elsewhere both can be done."""
        target = self.target({"gpu0": 1.0}, {"gpu1": 1.0})
        self.check(self.room(busy=["gpu0"]).plan(target), "", needs={"gpu1": 1.0})
        self.assertIsNone(self.room(busy=["gpu0", "gpu1"]).plan(target))
        self.assertIsNone(self.room(busy=["gpu0"]).make({"gpu0": 1.0, "ram": 1.0}))
        self.check(self.room(busy=["gpu0"]).make({"gpu0": 0.0, "ram": 1.0}), "")

    def test_nobody_goes(self) -> None:
        """Who takes anything there stays, also for what it takes elsewhere."""
        self.make("a", {"gpu0": 4.0, "gpu1": 12.0}, away=1.0)
        self.make("b", {"gpu1": 12.0}, away=90.0)
        target = self.target({"gpu1": 12.0})
        self.check(self.room().plan(target), "a")
        self.check(self.room(busy=["gpu0"]).plan(target), "b")
        self.check(self.room(busy=["gpu0"]).plan(target, ("a",)), "b")


class ReliefTests(Case):
    """More is held than there is."""

    def test_enough(self) -> None:
        """Nobody has to go where there is just enough, but for a rounding."""
        for name in "abc":
            self.make(name, {"gpu0": 0.1})
        self.assertIsNone(self.room({"gpu0": 0.3}).relief())

    def test_too_much(self) -> None:
        """Those go whose loss costs least, in each resource of which there is too little."""
        self.make("a", {"gpu0": 20.0}, away=9.0)
        self.make("b", {"gpu0": 20.0}, away=5.0)
        self.make("c", {"gpu1": 20.0}, away=1.0)
        self.check(self.room().relief(), "b", needs={})
        self.check(self.room({"gpu0": 24.0, "gpu1": 12.0}).relief(), "b c")

    def test_sleepers(self) -> None:
        """What is taken asleep counts, and is given back by a stop."""
        for name in "ab":
            sleeping = {"asleep_needs": {"ram": 60.0}, "stop": f"stop {name}"}
            self.make(name, {"gpu0": 20.0}, state=State.ASLEEP, **sleeping)  # type: ignore[arg-type]  # as make()
        self.check(self.room().relief(), "", "a")

    def test_nobody_left(self) -> None:
        """If nobody can go it stays as it is."""
        self.make("a", {"gpu0": 30.0}, pinned=True)
        self.assertIsNone(self.room().relief())


VECTORS = st.dictionaries(
    st.sampled_from(("gpu0", "gpu1", "ram")), st.integers(1, 20).map(float), min_size=1
)


@attrs.frozen
class Kind:
    """What a made-up model is like."""

    needs: tuple[Amounts, ...]
    state: State
    more: dict[str, object]
    away: float
    leases: int
    until: float


KINDS = st.builds(
    Kind,
    needs=st.lists(VECTORS, min_size=1, max_size=3).map(tuple),
    state=st.sampled_from((State.AWAKE, State.AWAKE, State.ASLEEP, State.STOPPED, State.UNKNOWN)),
    more=st.fixed_dictionaries(
        {
            "pinned": st.booleans(),
            "asleep_needs": st.just({}) | st.fixed_dictionaries({"ram": st.just(9.0)}),
            "stop": st.sampled_from((None, "stop")),
            "min_active_secs": st.sampled_from((0.0, NOW + 10.0, NOW + 20.0)),
        }
    ),
    away=st.sampled_from((0.0, 5.0, 10.0, 30.0)),
    leases=st.integers(0, 2),
    until=st.sampled_from((0.0, NOW + 15.0)),
)


class RuleTests(Case):
    """What holds in every situation."""

    @settings(max_examples=300)
    @given(
        kinds=st.lists(KINDS, max_size=6),
        wanting=st.lists(VECTORS, min_size=1, max_size=3),
        capacity=st.integers(10, 60).map(float),
        busy=st.sampled_from(((), ("gpu0",), ("ram",))),
    )
    def test_plan(
        self,
        kinds: list[Kind],
        wanting: list[Amounts],
        capacity: float,
        busy: tuple[str, ...],
    ) -> None:
        """A plan makes room as soon as can be, by those who can go; or all of them cannot."""
        self.models.clear()
        for number, kind in enumerate(kinds):
            name = f"m{number}"
            made = self.make(name, *kind.needs, state=kind.state, away=kind.away, **kind.more)  # type: ignore[arg-type]  # as make()
            made.sleep_backoff.until = kind.until
            lease_out(made, kind.leases)
        target = self.target(*wanting)
        there_is = dict.fromkeys(CAPACITY, capacity)
        free = minus(there_is, add(*(each.holds for each in map(Standing.of, self.models))))
        could_give = {
            model: could_be_had(model, busy) for model in self.models if model is not target
        }
        open_places = [each for each in target.placements if not each.resources & set(busy)]
        plan = self.room(there_is, busy).plan(target)
        if plan is None:
            most = add(free, *could_give.values())
            self.assertFalse(any(fits(place.needs, most) for place in open_places))
            return
        self.assertIn(plan.placement, open_places)
        given = []
        for model in plan.leaving:
            stopped = {} if model in plan.stops else model.config.asleep_needs
            given.append(minus(model.holds, stopped))
            self.assertTrue(fits(given[-1], could_give[model]), model.name)
        self.assertTrue(fits(plan.placement.needs, add(free, *given)))
        self.assertTrue(all(model.state.holds for model in plan.victims))
        if plan.possible_at > NOW:  # sooner it could not be done anywhere
            soon = [
                gives
                for model, gives in could_give.items()
                if evictable_at(model) < plan.possible_at
            ]
            sooner = add(free, *soon)
            self.assertFalse(any(fits(place.needs, sooner) for place in open_places))


def could_be_had(model: Model, busy: Sequence[str]) -> Amounts:
    """Say how much a model could give back at most."""
    stoppable = model.config.stop is not None
    if model.state is State.ASLEEP:
        return model.config.asleep_needs if stoppable else {}
    if model.state is State.STOPPED or model.place.resources & set(busy):
        return {}
    if model.pinned and model.state is not State.UNKNOWN:
        return {}
    return model.holds if stoppable else model.place.needs
