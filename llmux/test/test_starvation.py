"""Nobody waits for longer than the documentation says, whoever comes and whatever fails."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import ONE_SLOT
from llmux.conductor import Conductor
from llmux.policy import (
    Phase,
    PolicyContext,
    PolicyDecision,
    WaitingView,
    balanced,
    contenders,
    fifo,
    quantum,
)
from llmux.switching import Switch
from llmux.test.crowds import ENDLESS, Crowd, Siege, make_siege, stand
from llmux.test.fakes import model_config
from llmux.test.switching import Bench
from llmux.test.test_switcher_rules import Drawn
from llmux.urgency import BATCH, Urgency

_EXAMPLES = 40  # sieges of each policy

_crowds = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_CALM = Urgency()
_BUSY = Crowd("a", _CALM, gap=0.3)


def a_siege(policy: str, *crowds: Crowd, **differently: object) -> Siege:
    """Make one of three models with one slot, where nothing fails."""
    siege = Siege(
        policy=policy,
        names="abc",
        resources=None,
        needs=[(ONE_SLOT,)] * 3,
        hooks=[0.5],
        steady=True,
        failing=[0],
        answers=[1.0],
        cool_down=0.0,
        drain_timeout=None,
        crowds=crowds,
    )
    return attrs.evolve(siege, **differently)  # type: ignore[arg-type]  # the test's own


class BoundTests(SynchronousTestCase):
    @_crowds
    @given(st.data())
    def test_fifo(self, data: st.DataObject) -> None:
        """Where first come is first served, nobody waits for more than everybody's turn."""
        stand(make_siege(Drawn(data), ["fifo"]))

    @_crowds
    @given(st.data())
    def test_quantum(self, data: st.DataObject) -> None:
        """Under quantum, nobody waits for more than three tours and everybody's turn."""
        stand(make_siege(Drawn(data), ["quantum"]))

    @_crowds
    @given(st.data())
    def test_balanced(self, data: st.DataObject) -> None:
        """Under balanced, likewise."""
        stand(make_siege(Drawn(data), ["balanced"]))

    def test_endless_answers(self) -> None:
        """Answers that never end, and are cut when their model has to go, make no wait longer."""
        crowds = [Crowd(name, _CALM) for name in "aabc"]
        for policy in ("fifo", "quantum", "balanced"):
            stand(a_siege(policy, *crowds, answers=[ENDLESS, 1.0], drain_timeout=3.0))


class MendedTests(SynchronousTestCase):
    def test_cut_answers_teach_nothing(self) -> None:
        """How long an answer was let before it was cut says nothing about how long others take."""
        bench = Bench([model_config("a", drain_timeout_secs=4.0, settle_secs=0.0), "b"])
        running = bench.wake("a")
        bench.clock.advance(1000)
        bench.request("b")
        bench.clock.advance(4)
        running.finish()
        self.assertEqual(bench.costs.lease, {})


def _newest(waiting: Mapping[str, WaitingView]) -> tuple[int, int] | None:
    """Give the place of a model's first request as if whoever is newer came first."""
    places = ((-each.first, each.rank) for each in waiting.values() if each.count)
    return min(places, default=None)


def _only_open(conductor: Conductor, switch: Switch, admit: bool) -> None:
    """Open those that are being drained, and never close them again."""
    for victim in switch.victims:
        victim.kept_open = victim.kept_open or admit
    conductor._changed = conductor._changed or admit


def _newest_first(policy: quantum.QuantumPolicy, context: PolicyContext) -> PolicyDecision:
    """Decide as if whoever is newer came first, and nobody were overdue."""
    waiting = contenders.contenders(context)
    if not waiting or context.phase is not Phase.SETTLED:
        return PolicyDecision(target=context.target if waiting else None)
    leave_at = policy._leave_at(waiting[-1], context)
    if leave_at > context.now:
        return PolicyDecision(ask_at=leave_at)
    return PolicyDecision(target=waiting[-1].name)


def _nobody(*_: object) -> None:
    """Find nobody overdue."""


_STEADY = Crowd("b", _CALM)
_BATCH = Crowd("b", Urgency(BATCH))
_DRAINED = a_siege(
    "balanced",
    *(Crowd(name, _CALM, gap=0.5) for name in "abcd"),
    Crowd("e", _CALM),
    names="abcde",
    needs=[(ONE_SLOT,)] * 5,
    hooks=[1.0],
    answers=[0.5] * 7 + [4.0],
)

FAULTS: dict[str, tuple[Siege, object, str, object]] = {
    "the newest goes first": (
        a_siege("fifo", _BUSY, Crowd("b", _CALM, gap=0.7), Crowd("c", _CALM)),
        fifo,
        "_first",
        _newest,
    ),
    "balanced has no guard": (a_siege("balanced", _BUSY, _STEADY), balanced, "whose_turn", _nobody),
    "quantum lets the newest come first": (
        a_siege("quantum", _BUSY, Crowd("b", _CALM, gap=0.7), Crowd("c", _CALM)),
        quantum.QuantumPolicy,
        "decide",
        _newest_first,
    ),
    "a drain that was open stays so": (_DRAINED, Conductor, "_keep_open", _only_open),
    "batch requests have no bound under balanced": (
        a_siege("balanced", attrs.evolve(_BUSY, gap=0.9), _BATCH),
        contenders,
        "BATCH_SECS",
        1e6,
    ),
    "batch requests have no bound under fifo": (
        a_siege("fifo", attrs.evolve(_BUSY, gap=0.9), _BATCH),
        contenders,
        "BATCH_SECS",
        1e6,
    ),
    "batch requests have no bound under quantum": (
        a_siege("quantum", attrs.evolve(_BUSY, gap=0.9), _BATCH),
        contenders,
        "BATCH_SECS",
        1e6,
    ),
}
"""What is noticed, by which siege; whose it is, its name, the fault."""


class PlantedFaultTests(SynchronousTestCase):
    """Each bound is held by a policy's rule, and its breach is noticed."""


def _add(name: str, siege: Siege, owner: object, attribute: str, fault: object) -> None:
    """Make the test of one planted fault."""

    def test(self: PlantedFaultTests) -> None:
        stand(siege)
        self.patch(owner, attribute, fault)
        error = self.assertRaises(AssertionError, stand, siege)
        self.assertIn("somebody waited for", str(error))

    test.__doc__ = f"It is noticed when {name}."
    setattr(PlantedFaultTests, f"test_{name.replace(' ', '_')}", test)


for _name, (_siege, _owner, _attribute, _fault) in FAULTS.items():
    _add(_name, _siege, _owner, _attribute, _fault)
