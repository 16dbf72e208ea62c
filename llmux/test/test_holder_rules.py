"""The core's rules, held against random events where others give leases, too."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from llmux import granting
from llmux.grant import Grant
from llmux.granting import Granting
from llmux.holder import Holder
from llmux.lifecycle import Model
from llmux.switching import Switch
from llmux.test.planting import Fault, add_tests
from llmux.test.random_events import drive, make_world
from llmux.test.test_switcher_rules import Drawn, SwitcherMachine
from llmux.workers.local import LocalLeases

_STEPS = 100  # of one world of the machine
_EXAMPLES = 60


class HoldersMachine(SwitcherMachine):
    """Everything that can happen to a switcher and to holders of grants, in any order."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Start with all models asleep."""
        self.world = make_world(Drawn(data), holders=True)


class HolderRulesTests(SynchronousTestCase):
    def test_no_sequence_of_events_breaks_a_rule(self) -> None:
        """Whatever happens in whatever order, the core's rules hold for all holders together."""
        bounded = settings(
            max_examples=_EXAMPLES,
            stateful_step_count=_STEPS,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        run_state_machine_as_test(HoldersMachine, settings=bounded)

    def test_a_long_run(self) -> None:
        """Ten thousand events with a fixed seed break no rule, either."""
        self.assertEqual(drive(10_000, seed=1, holders=True), 10_000)

    def test_a_late_lease(self) -> None:
        """A lease that was given before a reload may be heard of behind it, as in this run."""
        self.assertEqual(drive(3000, seed=205, holders=True), 3000)


def _forget(*_: object) -> None:
    """Do nothing."""


def _recall_later(granting: Granting, model: Model) -> None:
    """Take grants for given back without having heard so."""
    for holder in tuple(model.grants):
        holder.recall(model.name)
        granting.returned(holder, model)


def _go_on_giving(leases: LocalLeases, model: str) -> None:
    """Say that no leases are given any more, and give them."""
    leases.flush()
    leases._link.returned(model)


def _return_at_once(leases: LocalLeases, model: str) -> None:
    """Say so before it is told what was given."""
    leases._grants.pop(model, None)
    leases._link.returned(model)


FAULTS: dict[str, Fault] = {
    "a drain does not wait for grants": (
        "rule 1|rule 2",
        Model,
        "quiet",
        lambda self, now: (
            not self.config.drain_before_switch or (not self.held and now >= self.settles_at)
        ),
    ),
    "a drain's deadline does not wait for grants": (
        "rule 1|rule 2",
        Switch,
        "drained",
        lambda self, now: all(
            victim.quiet(now) or now >= max(victim.since + 5, victim.settles_at)
            for victim in self.victims
        ),
    ),
    "grants are not recalled": ("rule 1|rule 2|rule 6", Granting, "_recall", _forget),
    "nobody waits for the answer to a recall": (
        "rule 1|rule 2",
        Granting,
        "_recall",
        _recall_later,
    ),
    "a holder that hangs is left alone": ("rule 6|rule 2|rule 7", Granting, "_give_up", _forget),
    "granted places are not counted": (
        "places",
        Grant,
        "unused",
        property(lambda self: 0),
    ),
    "what is open to nobody is granted": (
        "rule 1|rule 2|rule 6",
        granting,
        "_is_open",
        lambda model: True,
    ),
    "a recalled grant goes on being used": ("rule 1|rule 2", LocalLeases, "recall", _go_on_giving),
    "a grant is returned before what was given by it is told": (
        "rule 1|rule 2",
        LocalLeases,
        "recall",
        _return_at_once,
    ),
    "a dead holder keeps what it had": ("rule 6|leases, and|queued", Holder, "lost", _forget),
    "a dead holder keeps its grants": (
        "rule 6",
        Granting,
        "gone",
        lambda self, holder: self.holders.remove(holder),
    ),
    "a dead holder keeps its leases": ("rule 6|leases, and", Holder, "_release", _forget),
    "what ends is not told": ("rule 6|leases, and", LocalLeases, "_happened", _forget),
}
"""What breaks when a fault is planted."""


class PlantedFaultTests(SynchronousTestCase):
    """Each rule is held by a check that can fail."""


add_tests(PlantedFaultTests, FAULTS, lambda: drive(20_000, 7, holders=True))
