"""Tests of :mod:`llmux.policy.contenders`: whom a policy can choose from."""

from __future__ import annotations

import attrs
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from llmux.policy import BATCH, INTERACTIVE, POLICIES, ModelView, PolicyContext
from llmux.policy.contenders import contenders, drain_secs, is_in_a_hurry, tour
from llmux.policy.prices import Prices
from llmux.states import SERVING, State
from llmux.test.views import NOW, asleep, awake, contexts, queue, shown
from llmux.urgency import BATCH_SECS


def names(**models: ModelView) -> list[str]:
    """Name the contenders, whoever came first in front."""
    return [each.name for each in contenders(shown(models))]


class ContendersTests(SynchronousTestCase):
    def test_order(self) -> None:
        """Whoever came first is first."""
        models = {"b": asleep(1.0, first=7), "c": asleep(1.0, first=5)}
        self.assertEqual(names(a=awake(), **models), ["c", "b"])

    def test_who_does_not_count(self) -> None:
        """Models that nobody waits for, that serve, or that cannot be woken now are none."""
        self.assertEqual(names(a=awake(), b=asleep(), c=asleep(1.0, evicts=None)), [])
        waited_for = attrs.evolve(awake(), waiting={INTERACTIVE: queue(1.0)})
        self.assertEqual(names(a=waited_for), [])

    def test_back_off(self) -> None:
        """One that must not be woken yet stands back, unless there is no other."""
        backing_off = attrs.evolve(asleep(9.0, first=1), not_before=NOW + 1)
        self.assertEqual(names(a=awake(), b=backing_off, c=asleep(1.0, first=2)), ["c"])
        self.assertEqual(names(a=awake(), b=backing_off), ["b"])

    def test_drain(self) -> None:
        """A drain lasts as long as the slowest of all that have to go."""
        context = shown({"a": awake(2), "b": awake(1), "c": asleep(1.0, evicts=("a", "b"))})
        (contender,) = contenders(context)
        self.assertEqual(drain_secs(contender, Prices(context.costs)), 2.0 + 1.0)

    def test_tour(self) -> None:
        """A tour is the drain, each switch with an answer, and the way back."""
        context = shown({"a": awake(1), "b": asleep(2.0, first=1), "c": asleep(1.0, first=2)})
        waiting = contenders(context)
        self.assertEqual(tour(waiting[0], waiting, context), 2 + (10 + 2) + (10 + 2) + 10)

    @given(contexts())
    def test_rules(self, context: PolicyContext) -> None:
        """Each is asleep, can be woken, and has somebody who waits; their order is that of age."""
        found = contenders(context)
        for each in found:
            model = context.models[each.name]
            self.assertNotIn(model.state, SERVING)
            self.assertIsNotNone(model.evicts)
            self.assertTrue(0 < each.count <= sum(view.count for view in model.waiting.values()))
            self.assertGreaterEqual(each.wait, 0)
            self.assertGreaterEqual(each.weight(1.0), 0)
        places = [each.place for each in found]
        self.assertEqual(places, sorted(places))

    @given(contexts())
    def test_batch(self, context: PolicyContext) -> None:
        """
        Batch requests count where nobody has to go for them, or is in a hurry, or when they have
        waited for long enough; everybody else counts at any time.
        """
        for each in contenders(context):
            for kind, view in context.models[each.name].waiting.items():
                ripe = context.now >= view.oldest + BATCH_SECS
                free = not each.victims or not is_in_a_hurry(context)
                self.assertEqual(kind in each.views, kind != BATCH or ripe or free)


class BatchTests(SynchronousTestCase):
    """When batch requests may cause a switch."""

    def test_nobody_is_in_a_hurry(self) -> None:
        """They do while only batch requests are served and wait."""
        self.assertEqual(names(a=awake(1, batch=1), b=asleep(1.0, kind=BATCH)), ["b"])

    def test_somebody_is_served(self) -> None:
        """They do not while anybody interactive is served, wherever that is."""
        models = {"b": asleep(1.0, kind=BATCH)}
        self.assertEqual(names(a=awake(2, batch=1), **models), [])
        self.assertEqual(names(a=awake(), c=awake(1), **models), [])

    def test_somebody_waits(self) -> None:
        """Nor while anybody interactive waits: their model comes first."""
        models = {"b": asleep(9.0, kind=BATCH, first=1), "c": asleep(1.0, first=2)}
        self.assertEqual(names(a=awake(), **models), ["c"])

    def test_room(self) -> None:
        """Where nobody has to go for them, they always do."""
        models = {"a": awake(1), "b": asleep(1.0, kind=BATCH, evicts=())}
        self.assertEqual(names(**models), ["b"])
        holds = attrs.evolve(asleep(), state=State.UNKNOWN)
        models = {"a": awake(1), "b": asleep(1.0, kind=BATCH, evicts=("c",)), "c": holds}
        self.assertEqual(names(**models), ["b"])

    def test_asked_again(self) -> None:
        """Where they do not count yet, every policy is asked again when they do."""
        models = {"a": awake(1), "b": asleep(100.0, kind=BATCH)}
        for name, plugin in POLICIES.items():
            decision = plugin.make({}).decide(shown(models))
            self.assertEqual((decision.target, decision.ask_at), (None, NOW + 500.0), name)

    def test_long_enough(self) -> None:
        """After ten minutes they count like all others."""
        for wait, expected in ((BATCH_SECS - 1, []), (BATCH_SECS, ["b"])):
            self.assertEqual(names(a=awake(1), b=asleep(wait, kind=BATCH)), expected)
