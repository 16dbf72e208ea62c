"""What keeps a switch, or whoever waits for one, from being overtaken while it is under way."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import Budget
from llmux.config import ModelConfig
from llmux.hooks.contract import Hook
from llmux.orders import Kind
from llmux.policy import PolicyContext, PolicyDecision
from llmux.policy.contract import Phase
from llmux.test.fakes import ScriptedPolicy, model_config
from llmux.test.switching import Bench

TWO_GPUS = {"gpu0": 24.0, "gpu1": 24.0}


def takes(name: str, *needs: dict[str, float], **more: Any) -> ModelConfig:
    """Make a model that takes so much, in one of some places."""
    return model_config(name, needs=needs, **more)


def end(bench: Bench, model: str, hook: Hook = Hook.WAKE, code: int = 0) -> None:
    """End a hook of a model, which has to run."""
    (running,) = [
        each for each in bench.hooks.running if (each.call.model, each.call.hook) == (model, hook)
    ]
    running.exit(code)


def rather(wanted: str, target: str) -> ScriptedPolicy:
    """Make a policy that begins with one target, and takes another as soon as it could be one."""

    def decide(context: PolicyContext) -> PolicyDecision:
        instead = context.models[wanted]
        replaceable = instead.waiting and instead.evicts is not None
        if context.phase is not Phase.SETTLED and replaceable:
            return PolicyDecision(target=wanted)
        return PolicyDecision(target=target if context.models[target].waiting else None)

    return ScriptedPolicy(decide)


class ShrinkingTests(SynchronousTestCase):
    """Less room than there was when a switch began."""

    def test_while_others_go_to_sleep(self) -> None:
        """Nobody is woken beyond what a new configuration has; more have to go first."""
        models = [takes("a", {"gpu": 20.0}), takes("b", {"gpu": 20.0}), takes("c", {"gpu": 4.0})]
        bench = Bench(models, resources={"gpu": 24.0})
        for name in ("a", "c"):
            bench.wake(name).finish()
        for _ in range(5):
            bench.request("c").finish()  # it is much in demand
        waiting = bench.request("b")
        self.assertEqual(bench.states(), {"a": "sleeping", "b": "asleep", "c": "awake"})
        configs = {config.name: config for config in models}
        bench.switcher.reconfigure(configs, Budget.of({"gpu": 22.0}))
        end(bench, "a", Hook.SLEEP)
        self.assertEqual(bench.states(), {"a": "asleep", "b": "asleep", "c": "sleeping"})
        (off,) = bench.events.named("switch_called_off")
        self.assertEqual(off["reason"], "there is less room than there was")
        end(bench, "c", Hook.SLEEP)
        end(bench, "b")
        self.assertIsNotNone(waiting.lease)


class ReplacingTests(SynchronousTestCase):
    """Another target for a switch that drains."""

    def test_in_its_back_off(self) -> None:
        """A model that is left alone for a while does not become the target."""
        bench = Bench(["a", "b", "c"], ScriptedPolicy(lambda context: PolicyDecision("a")))
        client = bench.wake("a")
        bench.request("c")
        bench.switcher.models["c"].wake_backoff.fail(bench.clock.seconds())
        bench.switcher.use_policy(rather("c", "b"))
        waiting = bench.request("b")
        self.assertEqual(bench.states()["a"], "draining")
        client.finish()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertIsNotNone(waiting.lease)

    def make(self, *others: ModelConfig) -> Bench:
        """Have a model awake that can be stopped, and others that want its room."""
        first = takes("a", {"gpu": 20.0}, asleep_needs={"ram": 40.0}, stop="stop a")
        policy = ScriptedPolicy(lambda context: PolicyDecision("a"))
        bench = Bench([first, *others], policy=policy, resources={"gpu": 24.0, "ram": 50.0})
        bench.hooks.stops = {config.name for config in (first, *others)}
        return bench

    def test_that_needs_less(self) -> None:
        """No model is stopped for one that has room without that."""
        big = takes("big", {"gpu": 20.0}, asleep_needs={"ram": 40.0}, stop="stop big")
        bench = self.make(big, takes("small", {"gpu": 20.0}))
        client = bench.wake("a")
        bench.request("small")
        bench.switcher.use_policy(rather("small", "big"))
        bench.request("big")
        client.finish()
        hooks = bench.answer(0, 0, 0)
        self.assertEqual(hooks, ["sleep a", "stop a", "wake big"])
        self.assertNotIn("small is to be woken instead", str(bench.events.recorded))

    def test_that_needs_only_what_sleepers_keep(self) -> None:
        """One that takes none of the resources while it is awake can be the target as well."""
        big, free = (
            takes(name, needs, asleep_needs={"ram": 40.0}, stop="stop")
            for name, needs in (("big", {"gpu": 20.0}), ("free", {}))
        )
        bench = self.make(big, free)
        client = bench.wake("a")
        waiting = bench.request("free")
        bench.switcher.use_policy(rather("free", "big"))
        bench.request("big")
        client.finish()
        self.assertEqual(bench.answer(0, 0, 0), ["sleep a", "stop a", "wake free"])
        self.assertIsNotNone(waiting.lease)


class OrderTests(SynchronousTestCase):
    """Orders that have to wait for what happens elsewhere."""

    def test_wake_keeps_all_it_needs(self) -> None:
        """No small model passes one that was ordered and waits for one of two resources."""
        models = [takes("s0", {"gpu0": 20.0}), takes("s1", {"gpu1": 20.0})]
        models.append(takes("big", {"gpu0": 22.0, "gpu1": 22.0}))
        bench = Bench(models, resources=TWO_GPUS)
        client = bench.request("s0")
        done = bench.switcher.order(Kind.WAKE, "big")
        passing = bench.request("s1")
        self.assertEqual(bench.hooks.names(), ["wake s0"], "gpu1 is kept for the big one")
        end(bench, "s0")
        client.finish()
        end(bench, "s0", Hook.SLEEP)
        end(bench, "big")
        self.assertIn("big is awake", self.successResultOf(done))
        self.assertIsNone(passing.lease)

    def test_sleep_keeps_its_places(self) -> None:
        """No small model begins beside one that waits for its turn to be put to sleep."""
        models = [takes("s0", {"gpu0": 8.0}), takes("s1", {"gpu1": 8.0})]
        models.append(takes("big", {"gpu0": 16.0, "gpu1": 16.0}))
        bench = Bench(models, resources=TWO_GPUS)
        bench.wake("big").finish()
        bench.request("s0")
        done = bench.switcher.order(Kind.SLEEP, "big")
        bench.request("s1")
        self.assertEqual(bench.hooks.names(), ["wake big", "wake s0"], "big has its turn first")
        end(bench, "s0")
        self.assertEqual(bench.states()["big"], "sleeping")
        end(bench, "big", Hook.SLEEP)
        self.assertIn("big is asleep", self.successResultOf(done))
        end(bench, "s1")

    def test_nobody_comes_back_over_one_that_was_ordered(self) -> None:
        """A model that had to leave in vain is forgotten when an operator says who is to come."""

        def decide(context: PolicyContext) -> PolicyDecision:
            return PolicyDecision("b" if context.models["b"].waiting else None)

        bench = Bench(["a", "b", "c"])
        bench.wake("a").finish()
        bench.switcher.use_policy(ScriptedPolicy(decide))
        bench.request("b")
        waiting = bench.request("a")
        bench.answer(0, 1)
        done = bench.switcher.order(Kind.WAKE, "c")
        self.assertEqual(bench.answer(0, 0), ["sleep b", "wake c"])
        self.assertIn("c is awake", self.successResultOf(done))
        self.assertEqual((bench.hooks.running, bench.states()["c"]), ([], "awake"))
        self.assertIsNone(waiting.lease)
