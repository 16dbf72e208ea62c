"""Tests of :mod:`llmux.policy.balanced`, and of what holds for every policy of llmux's own."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.policy import (
    BATCH,
    POLICIES,
    ISwitchPolicy,
    ModelView,
    Phase,
    PolicyContext,
    PolicyDecision,
)
from llmux.policy.balanced import BalancedPolicy
from llmux.policy.contenders import contenders, tour
from llmux.test.views import NOW, asleep, awake, contexts, shown

_NAMES = st.sampled_from("abcd")
_OBSERVATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("arrived"), _NAMES, st.just(())),
        st.tuples(st.just("left"), _NAMES, st.just(())),
        st.tuples(st.just("completed"), _NAMES, st.tuples(st.floats(0, 100))),
        st.tuples(st.just("switched"), _NAMES, st.just(None)),
    ),
    max_size=30,
)


def observe(policy: ISwitchPolicy, observations: list[tuple[str, str, Any]]) -> None:
    """Let a policy observe this and that, a second apart, until :data:`NOW`."""
    for number, (what, model, more) in enumerate(observations):
        now = NOW - len(observations) + number
        if what == "switched":
            policy.switched(model, (), now, True)
        else:
            getattr(policy, what)(model, now, *more)


class EveryPolicyTests(SynchronousTestCase):
    """What is asked of every policy."""

    @given(_OBSERVATIONS, contexts())
    def test_deterministic(
        self, observations: list[tuple[str, str, Any]], context: PolicyContext
    ) -> None:
        """The same observations and the same context lead to the same decision."""
        for plugin in POLICIES.values():
            decisions = []
            for policy in (plugin.make({}), plugin.make({})):
                observe(policy, observations)
                decisions.append(policy.decide(context))
            self.assertEqual(decisions[0], decisions[1])

    @given(_OBSERVATIONS, contexts())
    def test_memory(self, observations: list[tuple[str, str, Any]], context: PolicyContext) -> None:
        """Whoever takes back what was learnt decides alike, after however many restarts."""
        for plugin in POLICIES.values():
            policy = plugin.make({})
            observe(policy, observations)
            policy.decide(context)
            memory, decisions = policy.as_json(), []
            for _ in range(3):
                policy = plugin.make({})
                policy.learn(json.loads(json.dumps(memory)))
                memory = policy.as_json()
                decisions.append(policy.decide(context))
            self.assertEqual(decisions, decisions[:1] * 3)

    @given(_OBSERVATIONS, contexts())
    def test_sense(self, observations: list[tuple[str, str, Any]], context: PolicyContext) -> None:
        """It names what somebody waits for and what can come, and asks for a time to come."""
        for name, plugin in POLICIES.items():
            policy = plugin.make({})
            observe(policy, observations)
            decision = policy.decide(context)
            if decision.target not in (None, context.target):
                model = context.models[decision.target]
                self.assertTrue(model.waiting, name)
                self.assertIsNotNone(model.evicts, name)
            if decision.ask_at is not None:
                self.assertGreater(decision.ask_at, context.now, name)


class BalancedTests(SynchronousTestCase):
    def settled(self, policy: BalancedPolicy | None = None, **models: ModelView) -> Any:
        """Ask one; a switch takes 10 seconds and an answer 2."""
        return (policy or BalancedPolicy()).decide(shown(models))

    def popular(self) -> BalancedPolicy:
        """Make one that has seen ten requests a second for a model, until now."""
        policy = BalancedPolicy()
        for number in range(20):
            policy.arrived("a", NOW - 2 + number / 10)
            policy.completed("a", NOW - 2 + number / 10, 0.1)
        return policy

    def test_nobody_has_to_go(self) -> None:
        """Where there is room, nothing is waited for."""
        self.assertEqual(self.settled(a=awake(3), b=asleep(0.0, evicts=())).target, "b")

    def test_idle(self) -> None:
        """A model that nobody asks for is left at once."""
        self.assertEqual(self.settled(a=awake(), b=asleep(0.0)).target, "b")

    def test_idle_for_a_moment(self) -> None:
        """One that many ask for is kept, though it is idle, but for no more than half a switch."""
        policy = self.popular()
        models = {"a": awake(), "b": asleep(0.0)}
        decision = self.settled(policy, **models)
        self.assertIsNone(decision.target)
        self.assertTrue(NOW < decision.ask_at <= NOW + 5)
        later = PolicyContext(NOW + 5, Phase.SETTLED, models, None, shown(models).costs)
        self.assertEqual(policy.decide(later).target, "b")

    def test_learnt(self) -> None:
        """How many ask for a model is remembered over a restart."""
        policy = BalancedPolicy()
        policy.learn(self.popular().as_json())
        self.assertIsNone(self.settled(policy, a=awake(since=0.0), b=asleep(0.0)).target)

    def test_three_tours(self) -> None:
        """Whoever has waited for three tours is served, whatever else, and that is final."""
        others = {"c": asleep(*[50.0] * 40, first=2)}
        models = {"a": awake(1), "b": asleep(0.0, first=1), **others}
        waiting = contenders(shown(models))
        wait = 3 * tour(waiting[0], waiting, shown(models))
        models["b"] = asleep(wait, first=1)
        decision = self.settled(self.popular(), **models)
        self.assertEqual((decision.target, decision.forced), ("b", True))

    @given(_OBSERVATIONS, contexts())
    def test_guard(self, observations: list[tuple[str, str, Any]], context: PolicyContext) -> None:
        """Nobody waits for longer than that without a switch."""
        policy = BalancedPolicy()
        observe(policy, observations)
        waiting = contenders(context)
        late = [each for each in waiting if each.wait >= 3 * tour(each, waiting, context)]
        oldest = max(waiting, key=lambda each: each.wait, default=None)
        if oldest in late and oldest is not None and context.phase is Phase.SETTLED:
            self.assertIsNotNone(policy.decide(context).target)

    def test_promise(self) -> None:
        """Whoever's promise is due is served before those who weigh more, and that is final."""
        models = {
            "a": awake(1),
            "b": asleep(60.0, first=1, promise=50.0),
            "c": asleep(*[50.0] * 40, first=2),
        }
        decision = self.settled(self.popular(), **models)
        self.assertEqual((decision.target, decision.forced), ("b", True))

    @given(contexts())
    def test_drain(self, context: PolicyContext) -> None:
        """What was begun for somebody who waits still goes on, to somebody who waits."""
        decision = BalancedPolicy().decide(context)
        if decision.target is not None:
            self.assertIn(decision.target, [each.name for each in contenders(context)])


def draining(target: str, **models: ModelView) -> PolicyDecision:
    """Ask one during a drain."""
    return BalancedPolicy().decide(shown(models, Phase.DRAINING, target))


class StayTests(SynchronousTestCase):
    """Whether, and for how long, a model is kept that answers or has just answered."""

    def asked(self, rate: float) -> BalancedPolicy:
        """Make one that has seen so many requests a second for a model, until now."""
        policy = BalancedPolicy()
        for number in range(20):
            policy.arrived("a", NOW - (19 - number) / rate)
        return policy

    def settled(self, policy: BalancedPolicy, **models: ModelView) -> PolicyDecision:
        """Ask one; a switch takes 10 seconds and an answer 2."""
        return policy.decide(shown(models))

    def test_nearly_idle(self) -> None:
        """A model is not left in the midst of its last answer, unless many wait for that."""
        for count, expected in ((1, None), (40, "b")):
            models = {"a": awake(1), "b": asleep(*[20.0] * count)}
            decision = self.settled(self.asked(0.1), **models)
            self.assertEqual(decision.target, expected, count)

    def test_next(self) -> None:
        """Meanwhile that model is named as next for which most is waited."""
        models = {"a": awake(1), "b": asleep(21.0, first=1), "c": asleep(20.0, 20.0, first=2)}
        decision = self.settled(self.asked(0.1), **models)
        self.assertEqual((decision.target, decision.prepare), (None, "c"))

    def test_whom(self) -> None:
        """Of several models that one is woken for which most is waited."""
        models = {"a": awake(), "b": asleep(21.0, first=1), "c": asleep(20.0, 20.0, first=2)}
        self.assertEqual(self.settled(BalancedPolicy(), **models).target, "c")
        context = shown(models, Phase.COMMITTING, "b")
        self.assertEqual(BalancedPolicy().decide(context).target, "c", "at the last moment, too")

    def test_nobody_came(self) -> None:
        """It is not kept for those who did not come when it was left before."""
        policy, models = self.asked(10.0), {"a": awake(since=0.0), "b": asleep(0.0)}
        self.assertIsNone(self.settled(policy, **models).target)
        policy.learn({**policy.as_json(), "departures": [["a", True, 100.0, 0.0]]})
        self.assertEqual(self.settled(policy, **models).target, "b")

    def test_who_came(self) -> None:
        """How many came while a model was away is learnt."""
        learnt: list[float] = []
        for count in (0, 3):
            policy = self.asked(0.1)
            self.assertEqual(self.settled(policy, a=awake(), b=asleep(90.0)).target, "b")
            for number in range(count):
                policy.arrived("a", NOW + number)
            policy.decide(attrs.evolve(shown({"a": asleep(), "b": awake()}), now=NOW + 100))
            memory: Any = policy.as_json()
            ((model, idle, _, suffered),) = memory["departures"]
            self.assertEqual((model, idle), ("a", True))
            learnt.append(suffered)
        self.assertEqual(learnt, [0.0, 22.0**2 + 21.0**2 + 20.0**2])  # of two switches, an answer

    def test_who_needs_much(self) -> None:
        """Whose turn it is next has nobody come before who would take a part of what it needs."""
        policy = BalancedPolicy()
        for number in range(20):
            policy.arrived("b", NOW - (19 - number) / 20)
        models = {
            "a": awake(1),
            "b": awake(1),
            "c": asleep(*[5.0] * 20, first=1, evicts=("a", "b")),
            "d": asleep(4.0, first=9, evicts=("a",)),
        }
        decision = self.settled(policy, **models)
        self.assertEqual((decision.target, decision.prepare), (None, "c"))

    def test_batch_stays(self) -> None:
        """What serves only batch requests stays for three switches' costs, and is left then."""
        for since, expected in ((20.0, None), (30.0, "b")):
            models = {"a": awake(1, since=since, batch=1), "b": asleep(5.0)}
            decision = self.settled(self.asked(10.0), **models)
            self.assertEqual(decision.target, expected, since)
            if expected is None:
                self.assertEqual(decision.ask_at, NOW + 10.0)

    def test_batch_beside_nobody(self) -> None:
        """Batch requests have an idle model leave at once, however many ask for it at times."""
        policy, models = self.asked(10.0), {"a": awake(since=0.0)}
        self.assertIsNone(self.settled(policy, **models, b=asleep(0.0)).target)
        self.assertEqual(self.settled(policy, **models, b=asleep(0.0, kind=BATCH)).target, "b")


class OpenDrainTests(SynchronousTestCase):
    """Whether a model that is being drained stays open to new requests."""

    def test_few_wait(self) -> None:
        """It does while one answer more makes few wait for hardly any longer."""
        self.assertTrue(draining("b", a=awake(3), b=asleep(1.0)).admit)

    def test_many_wait(self) -> None:
        """It does not where that would make many wait for longer."""
        self.assertFalse(draining("b", a=awake(3), b=asleep(*[1.0] * 60)).admit)

    def test_batch(self) -> None:
        """What serves only batch requests takes no more while anybody interactive waits."""
        self.assertFalse(draining("b", a=awake(3, batch=3), b=asleep(1.0)).admit)
        self.assertTrue(draining("b", a=awake(3, batch=3), b=asleep(1.0, kind=BATCH)).admit)

    def test_overdue(self) -> None:
        """When it is somebody's turn it is closed, and that is final."""
        decision = draining("b", a=awake(3), b=asleep(2000.0))
        self.assertEqual((decision.target, decision.admit, decision.forced), ("b", False, True))
