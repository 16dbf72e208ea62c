"""Tests of :mod:`llmux.states` and :mod:`llmux.lifecycle`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.lifecycle import ImpossibleTransition, Model
from llmux.states import TRANSITIONS, State
from llmux.test import fakes

# Every step there is; all others are refused.
STEPS = """\
asleep    waking unknown stopped
stopped   waking unknown asleep
waking    awake sleeping
awake     draining
draining  awake sleeping
sleeping  asleep awake unknown stopped
unknown   sleeping waking awake
"""


def table() -> set[tuple[State, State]]:
    """Read the steps."""
    found = set()
    for line in STEPS.splitlines():
        start, *ends = line.split()
        found |= {(State(start), State(end)) for end in ends}
    return found


def make_model(state: State = State.ASLEEP, *, max_concurrency: int | None = None) -> Model:
    """Make a model that is in a state."""
    model = fakes.make_model(VirtualClock(), max_concurrency=max_concurrency)
    model.state = state
    return model


class StateTests(SynchronousTestCase):
    def test_holds(self) -> None:
        """A model takes what it needs in every state but asleep and stopped."""
        resting = {State.ASLEEP, State.STOPPED}
        self.assertEqual({state for state in State if not state.holds}, resting)

    def test_names(self) -> None:
        """The states are called as in the documentation."""
        names = {"asleep", "stopped", "waking", "awake", "draining", "sleeping", "unknown"}
        self.assertEqual({state.value for state in State}, names)

    def test_transitions(self) -> None:
        """The steps from one state to another are those of the table, for every state."""
        self.assertEqual(set(TRANSITIONS), set(State))
        pairs = {(start, end) for start, ends in TRANSITIONS.items() for end in ends}
        self.assertEqual(pairs, table())

    def test_no_dead_end(self) -> None:
        """From every state a model can be awake again, and asleep again."""
        for goal in (State.AWAKE, State.ASLEEP):
            reaches = {goal}
            for _ in State:
                reaches |= {state for state, ends in TRANSITIONS.items() if ends & reaches}
            self.assertEqual(reaches, set(State))


class ModelTests(SynchronousTestCase):
    def test_beginning(self) -> None:
        """A model is asleep, closed, and called as in the configuration."""
        model = make_model()
        self.assertEqual((model.name, model.state, model.admitting), ("a", State.ASLEEP, False))
        self.assertEqual((model.leases, len(model.waiting)), (0, 0))

    def test_every_step(self) -> None:
        """Each step of the table is taken, and each other one refused, leaving all as it was."""
        for start in State:
            for end in State:
                model = make_model(start)
                if (start, end) in table():
                    model.enter(end, 5.0)
                    self.assertEqual((model.state, model.since), (end, 5.0))
                else:
                    error = self.assertRaises(ImpossibleTransition, model.enter, end, 5.0)
                    self.assertEqual(str(error), f"a is {start.value}, not {end.value} next")
                    self.assertEqual((model.state, model.since), (start, 0.0))

    def test_admitting(self) -> None:
        """A model is open to new requests when it gets awake, and closed when it leaves that."""
        for start, end in table():
            model = make_model(start)
            model.kept_open = start is State.DRAINING  # a policy may have opened it meanwhile
            model.enter(end, 1.0)
            self.assertEqual(model.admitting, end is State.AWAKE, (start, end))

    def test_a_drain_that_is_called_off(self) -> None:
        """A model that was not put to sleep in the end has been awake all the time."""
        model = make_model()
        for now, state in enumerate((State.WAKING, State.AWAKE, State.DRAINING, State.AWAKE), 1):
            model.enter(state, float(now))
        self.assertEqual((model.awake_since, model.since), (2.0, 4.0))

    def test_a_sleep_that_failed(self) -> None:
        """A model that did not go to sleep has been awake all the time."""
        model = make_model()
        way = (State.WAKING, State.AWAKE, State.DRAINING, State.SLEEPING, State.AWAKE)
        for now, state in enumerate(way, 1):
            model.enter(state, float(now))
        self.assertEqual((model.awake_since, model.since), (2.0, 5.0))

    @given(st.lists(st.sampled_from(State), max_size=30))
    def test_any_way(self, way: list[State]) -> None:
        """Whatever is tried, a model knows since when it is in its state and when it was woken."""
        model = make_model()
        since = woken = 0.0
        leaving: float | None = None
        for now, state in enumerate(way, 1):
            before = model.state
            try:
                model.enter(state, float(now))
            except ImpossibleTransition:
                continue
            since = float(now)
            if state is State.AWAKE and before in (State.WAKING, State.UNKNOWN):
                woken = float(now)
            if state in (State.WAKING, State.AWAKE):
                leaving = None
            elif leaving is None:
                leaving = float(now)
            self.assertEqual(model.leaving_since, leaving)
            self.assertEqual((model.since, model.awake_since), (since, woken))
            self.assertEqual(model.admitting, model.state is State.AWAKE)

    def test_places(self) -> None:
        """A model has as many places as the configuration says, or no end of them."""
        model = make_model(max_concurrency=2)
        self.assertEqual(model.free_places, 2)
        fakes.lease_out(model, 1)
        self.assertEqual(model.free_places, 1)
        fakes.lease_out(model, 3)  # the configuration may have been another one before
        self.assertEqual(model.free_places, 0)
        self.assertGreater(make_model().free_places, 10**9)

    def test_identity(self) -> None:
        """Two models are two, however alike they are."""
        one, other = make_model(), make_model()
        self.assertNotEqual(one, other)
        self.assertEqual(len({one, other}), 2)
