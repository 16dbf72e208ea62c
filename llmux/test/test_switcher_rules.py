"""
The core's rules, held against random events on the virtual clock.

The rules are those of the architecture page of the documentation; :mod:`llmux.test.world` holds
them, after every event or at the moment when the thing that they are about happens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from llmux import room
from llmux.admission import Admission
from llmux.agenda import Agenda, Proposal
from llmux.backoff import BackOff
from llmux.conductor import Conductor
from llmux.health import HealthCheck as AliveCheck
from llmux.hookruns import Occasion
from llmux.lifecycle import Model
from llmux.preparing import Preparing
from llmux.recovery import Recovery
from llmux.room import Standing
from llmux.roster import Roster
from llmux.sleeping import Sleeping
from llmux.states import State
from llmux.switcher import Switcher
from llmux.switching import Course, Switch
from llmux.test.planting import Fault, add_tests
from llmux.test.random_events import all_goes_well, drive, happen, make_world
from llmux.waiting import Waiter, WaitingRoom

_Item = TypeVar("_Item")
_STEPS = 100  # of one world of the machine
_EXAMPLES = 120  # worlds: twelve thousand steps


class Drawn:
    """
    Choices that Hypothesis makes, so that it can look for the shortest way to a breach.

    :param data: where they come from.
    """

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def choice(self, options: Sequence[_Item], /) -> _Item:
        """Choose one of some things."""
        return self._data.draw(st.sampled_from(options))


class SwitcherMachine(RuleBasedStateMachine):
    """Everything that can happen to a switcher, in any order."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Start with all models asleep."""
        self.world = make_world(Drawn(data))

    @rule(data=st.data())
    def anything(self, data: st.DataObject) -> None:
        """Something happens."""
        happen(self.world, Drawn(data))
        self.world.check()

    def teardown(self) -> None:
        """When all goes well from now on, whoever waits is served, and each model can be woken."""
        if hasattr(self, "world"):
            all_goes_well(self.world)


class RulesTests(SynchronousTestCase):
    def test_no_sequence_of_events_breaks_a_rule(self) -> None:
        """Whatever happens in whatever order, the core's rules hold."""
        bounded = settings(
            max_examples=_EXAMPLES,
            stateful_step_count=_STEPS,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        run_state_machine_as_test(SwitcherMachine, settings=bounded)

    def test_a_long_run(self) -> None:
        """Ten thousand events with a fixed seed break no rule, either."""
        self.assertEqual(drive(10_000, seed=1), 10_000)


def _forget(*_: object) -> None:
    """Do nothing."""


async def _neglect(*_: object) -> None:
    """Do nothing, when somebody waits for it."""


def _take_last(room: WaitingRoom, most: int = sys.maxsize) -> list[Waiter]:
    """Let those go first who have come last."""
    taken = room._order[::-1][:most]
    for waiter in taken:
        room._remove(waiter)
    return taken


async def _skip_clean_up(course: Course, model: Model, occasion: Occasion) -> None:
    """Take a model for asleep that could not be woken."""
    model.enter(State.SLEEPING, course._hooks.clock.seconds())
    model.enter(State.ASLEEP, course._hooks.clock.seconds())


def _go_on_for_nobody(conductor: Conductor, switch: Switch) -> None:
    """Drain without ever asking whether anybody still wants it."""
    now = conductor._clock.seconds()
    switch.cut(now)
    if switch.drained(now):
        if all(conductor._is_left_alone(victim) for victim in switch.victims):
            conductor._commit(switch)
    else:
        conductor._alarm.note(switch.due_at(now))


FAULTS: dict[str, Fault] = {
    "who waits is admitted to a model that sleeps": (
        "rule 1|has a free place",
        Model,
        "admitting",
        property(lambda self: self.state in (State.AWAKE, State.SLEEPING)),
    ),
    "nobody waits for requests in flight": ("rule 2", Switch, "drained", lambda self, now: True),
    "engines are not left to settle": (
        "rule 2",
        Model,
        "quiet",
        lambda self, now: not self.config.drain_before_switch or not self.held,
    ),
    "what is held is not counted": (
        "rule 3",
        Standing,
        "holds",
        property(lambda self: {}),
    ),
    "a sleep that failed counts as done": (
        "rule 3|does not sleep",
        Sleeping,
        "_look",
        lambda self, *_: _answer((True, False)),
    ),
    "memory need not be free": ("rule 3", Sleeping, "_is_held", _neglect),
    "a restart looks at nothing": ("rule 3", Recovery, "look", _neglect),
    "a restart waits for no hook": ("two hooks", Recovery, "await_leftovers", _neglect),
    "the last one is first": ("rule 4: a later", WaitingRoom, "take", _take_last),
    "refused waiters are not told": (
        "rule 4",
        Admission,
        "refuse",
        lambda self, model, error: model.waiting.take(),
    ),
    "a switch goes on for nobody": ("rule 5", Conductor, "_go_on", _go_on_for_nobody),
    "an answer's end is missed": ("a free place|rule 6", Switcher, "_changed", _forget),
    "a drain has no deadline": ("rule 6", Switch, "cut", _forget),
    "nobody looks at a backend that refuses": ("rule 6", AliveCheck, "refused", _forget),
    "waiting has no end": ("rule 7", WaitingRoom, "_set_timer", _forget),
    "a failed model is tried at once": ("woken again at once", BackOff, "fail", _forget),
    "a cool-down does not count": (
        "cool-down",
        room,
        "evictable_at",
        lambda model: model.sleep_backoff.until,
    ),
    "removed models stay": ("rule 6", Roster, "settle", _forget),
    "health is asked beside other hooks": (
        "two hooks",
        AliveCheck,
        "leave_alone",
        lambda self, model: True,
    ),
    "a wake does not wait for what prepares": ("two hooks", Preparing, "end", _neglect),
    "several are prepared": (
        "two are prepared",
        Preparing,
        "_current",
        property(lambda self: None, _forget),
    ),
    "a model that is down is let be": (
        "rule 6",
        Agenda,
        "next",
        lambda self, now: Proposal(),
    ),
    "a failed wake is not cleaned up": ("rule 3", Course, "clean_up", _skip_clean_up),
}
"""What breaks when a fault is planted."""


async def _answer(value: object) -> object:
    return value


class PlantedFaultTests(SynchronousTestCase):
    """Each rule is held by a check that can fail."""


add_tests(PlantedFaultTests, FAULTS, lambda: drive(20_000, 7))
