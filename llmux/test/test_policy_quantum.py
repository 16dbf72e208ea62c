"""Tests of :mod:`llmux.policy.quantum`, and of the promises that it keeps."""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from llmux.policy import BATCH, ModelView, Phase, PolicyContext, PolicyDecision
from llmux.policy.contenders import contenders, tour
from llmux.policy.promises import leave_by
from llmux.policy.quantum import QuantumPolicy
from llmux.test.fakes import model_config
from llmux.test.switching import Bench
from llmux.test.views import NOW, asleep, awake, contexts, shown
from llmux.urgency import Urgency


def decide(**models: ModelView) -> PolicyDecision:
    """Ask one with the usual quantum, where a switch takes 10 seconds and an answer 2."""
    return QuantumPolicy().decide(shown(models))


class QuantumTests(SynchronousTestCase):
    def test_stays(self) -> None:
        """While its quantum lasts a busy model stays, and the policy is asked when it is over."""
        decision = decide(a=awake(1, since=12.0), b=asleep(5.0))
        self.assertEqual(decision, PolicyDecision(ask_at=NOW - 12 + 30, prepare="b"))

    def test_is_over(self) -> None:
        """Then whoever waits longest comes, however busy it is."""
        decision = decide(a=awake(9, since=30.0), b=asleep(5.0, first=2), c=asleep(6.0, first=1))
        self.assertEqual(decision, PolicyDecision(target="c"))

    def test_idle(self) -> None:
        """A model that nobody is served by goes at once."""
        self.assertEqual(decide(a=awake(0, since=0.5), b=asleep(0.0)).target, "b")

    def test_nobody_has_to_go(self) -> None:
        """Where there is room, nothing is waited for."""
        decision = decide(a=awake(1, since=0.0), b=asleep(0.0, evicts=()))
        self.assertEqual(decision.target, "b")

    def test_another_one_may_go(self) -> None:
        """If the model that is in the way of the first may not go, that of the next may."""
        decision = decide(
            a=awake(1, since=1.0),
            d=awake(1, since=40.0),
            b=asleep(9.0, first=1),
            c=asleep(1.0, first=2, evicts=("d",)),
        )
        self.assertEqual(decision.target, "c")

    def test_who_needs_much(self) -> None:
        """Nobody takes a part of what whoever waits longest needs, before all of it may go."""
        decision = decide(
            a=awake(1, since=1.0),
            d=awake(1, since=40.0),
            b=asleep(9.0, first=1, evicts=("a", "d")),
            c=asleep(1.0, first=2, evicts=("d",)),
        )
        self.assertEqual((decision.target, decision.prepare), (None, "b"))

    def test_longer(self) -> None:
        """It says with what it is made how many switches' costs the quantum is."""
        models = {"a": awake(1, since=15.0), "b": asleep(1.0)}
        self.assertEqual(QuantumPolicy(1).decide(shown(models)).target, "b")
        self.assertIsNone(QuantumPolicy(2).decide(shown(models)).target)

    def test_under_way(self) -> None:
        """What was begun goes on, as long as anybody waits."""
        models = {"a": awake(1, since=0.0), "b": asleep(1.0), "c": asleep(99.0, first=0)}
        for phase in (Phase.DRAINING, Phase.COMMITTING):
            decision = QuantumPolicy().decide(shown(models, phase, "b"))
            self.assertEqual(decision.target, "b")
            decision = QuantumPolicy().decide(shown({"a": models["a"]}, phase, "b"))
            self.assertIsNone(decision.target)

    def test_on_the_clock(self) -> None:
        """In a switcher, it leaves a busy model when the quantum is over and not before."""
        bench = Bench(policy=QuantumPolicy())
        bench.costs.switched("a", "b", 10.0)
        bench.wake("a")
        bench.request("a")
        bench.clock.advance(5)
        bench.request("b")
        bench.clock.advance(24.9)
        self.assertEqual(bench.states()["a"], "awake")
        bench.clock.advance(0.2)
        self.assertEqual(bench.states()["a"], "draining")


class PromiseTests(SynchronousTestCase):
    """``max_wait_secs``."""

    def test_early_enough(self) -> None:
        """A model is left as early as its drain and the hooks need for the promise to be kept."""
        models = {"a": awake(1, since=1.0), "b": asleep(5.0, promise=40.0)}
        decision = decide(**models)
        self.assertEqual(decision.ask_at, NOW - 5 + 40 - 10 - 2)  # sooner than NOW - 1 + 30
        self.assertEqual(decide(**{**models, "b": asleep(28.0, promise=40.0)}).target, "b")
        self.assertIsNone(decide(**{**models, "b": asleep(28.0)}).target)

    def test_not_in_vain(self) -> None:
        """But never before one tour is over: what cannot be kept does not stop the work."""
        models = {"a": awake(1, since=1.0), "b": asleep(5.0, promise=1.0)}
        waiting = contenders(shown(models))
        secs = tour(waiting[0], waiting, shown(models))
        self.assertEqual(secs, 2 + 10 + 2 + 10)  # drain, switch, answer, and back
        self.assertEqual(decide(**models).ask_at, NOW - 5 + secs)

    def test_first_of_all(self) -> None:
        """Whoever's promise is due comes before those who came earlier."""
        models = {
            "a": awake(1, since=99.0),
            "b": asleep(90.0, first=1),
            "c": asleep(80.0, first=2, promise=60.0),
        }
        self.assertEqual(decide(**models).target, "c")

    def test_first_due(self) -> None:
        """Of several promises that are due, the one goes first that was due first."""
        models = {
            "a": awake(1, since=1.0),
            "b": asleep(90.0, first=1, promise=100.0),
            "c": asleep(80.0, first=2, promise=70.0),
        }
        self.assertEqual(decide(**models).target, "c")

    def test_nobody_is_promised_anything(self) -> None:
        """Without the setting, and for batch requests, there is no promise."""
        for model in (asleep(5.0), asleep(700.0, kind=BATCH, promise=1.0)):
            context = shown({"a": awake(), "b": model})
            waiting = contenders(context)
            self.assertIsNone(leave_by(waiting[0], waiting, context))

    @given(contexts())
    def test_bounds(self, context: PolicyContext) -> None:
        """Nobody has to leave sooner than a tour after the first who was promised something."""
        waiting = contenders(context)
        for each in waiting:
            at = leave_by(each, waiting, context)
            if at is not None:
                self.assertGreaterEqual(at, NOW - each.wait + tour(each, waiting, context) - 1e-6)

    def bench(self, **settings: float) -> Bench:
        """Let a be awake and busy; b has been promised a minute."""
        bench = Bench(["a", model_config("b", max_wait_secs=60.0, **settings)])
        self.busy = bench.wake("a")
        return bench

    def test_missed(self) -> None:
        """A promise that was not kept is logged once, for all that are served then, and counted."""
        bench = self.bench()
        for wait in (50.0, 15.0, 0.0):
            bench.request("b")
            bench.clock.advance(wait)
        self.busy.finish()
        bench.answer(0, 0)
        (event,) = bench.events.named("max_wait_missed")
        told = {key: event[key] for key in ("model", "late", "longest_secs", "max_wait_secs")}
        self.assertEqual(
            told, {"model": "b", "late": 1, "longest_secs": 65.0, "max_wait_secs": 60.0}
        )
        self.assertEqual(bench.sample("llmux_max_wait_missed_total", model="b"), 1)

    def test_kept(self) -> None:
        """Nothing is said of a promise that was kept, to the second."""
        bench = self.bench()
        bench.request("b")
        bench.clock.advance(60.0)
        self.busy.finish()
        bench.answer(0, 0)
        self.assertEqual(bench.events.named("max_wait_missed"), [])

    def test_batch(self) -> None:
        """Nor of batch requests, to whom nothing is promised."""
        bench = self.bench()
        bench.switcher.acquire("b", Urgency(BATCH))
        bench.clock.advance(700.0)
        self.busy.finish()
        bench.answer(0, 0)
        self.assertEqual(bench.events.named("max_wait_missed"), [])
