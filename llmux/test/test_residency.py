"""Tests of who is awake beside whom: budgets, places, stops, pins, and what the owner wants."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import Budget
from llmux.config import ModelConfig
from llmux.errors import NoRoom
from llmux.fitting import fit
from llmux.hooks.contract import Hook, HookCall, Reason
from llmux.journal import Memory, ModelRecord
from llmux.orders import Kind, OrderFailed
from llmux.test.fakes import model_config
from llmux.test.switching import Bench

TWO_GPUS = {"gpu0": 24.0, "gpu1": 24.0}


def takes(name: str, *needs: dict[str, float], **more: Any) -> ModelConfig:
    """Make a model that takes so much, in one of some places."""
    return model_config(name, needs=needs, **more)


def end(bench: Bench, model: str, hook: Hook = Hook.WAKE, code: int = 0) -> HookCall:
    """End a hook of a model, which has to run."""
    (running,) = [
        each for each in bench.hooks.running if (each.call.model, each.call.hook) == (model, hook)
    ]
    running.exit(code)
    return running.call


def idle(bench: Bench, *models: str) -> None:
    """Have models awake, with nothing in flight."""
    for model in models:
        client = bench.request(model)
        bench.clock.advance(1)
        end(bench, model)
        client.finish()


class BudgetTests(SynchronousTestCase):
    """Who fits beside whom, and who goes."""

    def test_two_that_fit(self) -> None:
        """Two models that fit together serve interleaved requests with no switch at all."""
        bench = Bench([takes("a", {"gpu": 8.0}), takes("b", {"gpu": 8.0})], resources={"gpu": 16.0})
        idle(bench, "a", "b")
        before = len(bench.hooks.calls)
        for _ in range(20):
            for name in ("a", "b"):
                client = bench.request(name)
                self.assertIsNotNone(client.lease)
                client.finish()
        self.assertEqual(len(bench.hooks.calls), before)

    def test_no_more_than_needed(self) -> None:
        """Only those go whose room is needed, those first whose loss costs least."""
        models = [takes(name, {"gpu": amount}) for name, amount in (("big", 12.0), ("x", 4.0))]
        models += [takes("y", {"gpu": 4.0}), takes("new", {"gpu": 8.0})]
        bench = Bench(models, resources={"gpu": 20.0})
        idle(bench, "big", "x", "y")
        for _ in range(5):
            bench.request("big").finish()  # it is much in demand
        bench.request("new")
        self.assertEqual(bench.states()["big"], "awake")
        self.assertEqual({call.model for call in bench.hooks.calls[-2:]}, {"x", "y"})
        (started,) = bench.events.named("switch_started")[-1:]
        self.assertEqual((started["from"], set(started["evicted"])), ("several", {"x", "y"}))

    def test_side_by_side(self) -> None:
        """Switches on different resources run side by side."""
        models = [takes(f"{n}{gpu}", {gpu: 20.0}) for gpu in TWO_GPUS for n in ("a", "b")]
        bench = Bench(models, resources=TWO_GPUS)
        idle(bench, "agpu0", "agpu1")
        first, second = bench.request("bgpu0"), bench.request("bgpu1")
        self.assertEqual(len(bench.switcher.switches), 2)
        for name in ("agpu0", "agpu1"):
            end(bench, name, Hook.SLEEP)
        end(bench, "bgpu1")
        self.assertIsNotNone(second.lease)
        end(bench, "bgpu0")
        self.assertIsNotNone(first.lease)

    def test_one_after_the_other(self) -> None:
        """Two models that share a resource are woken one after the other, though both fit."""
        bench = Bench([takes("a", {"gpu": 8.0}), takes("b", {"gpu": 8.0})], resources={"gpu": 16.0})
        bench.request("a")
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a"])
        end(bench, "a")
        self.assertEqual(bench.hooks.names(), ["wake a", "wake b"])

    def test_the_big_one_gets_its_turn(self) -> None:
        """Small models cannot pass a big one for ever that waits for two resources."""
        models = [
            takes("s0", {"gpu0": 20.0}),
            takes("s1", {"gpu1": 20.0}),
            takes("t1", {"gpu1": 9.0}),
        ]
        bench = Bench([*models, takes("big", {"gpu0": 22.0, "gpu1": 22.0})], resources=TWO_GPUS)
        bench.request("s0")
        big = bench.request("big")
        later = bench.request("t1")
        self.assertEqual(bench.hooks.names(), ["wake s0"], "gpu1 is kept for the big one")
        end(bench, "s0")
        self.assertEqual(bench.states()["s0"], "draining")
        self.assertIsNone(later.lease)
        bench.switcher.models["s0"].held.copy().popitem()[0].release()
        end(bench, "s0", Hook.SLEEP)
        end(bench, "big")
        self.assertIsNotNone(big.lease)

    def test_alternatives(self) -> None:
        """A model goes where least has to go, and its hooks are told where that is."""
        models = [takes("a", {"gpu0": 20.0}), takes("b", {"gpu0": 20.0}, {"gpu1": 20.0})]
        bench = Bench(models, resources=TWO_GPUS)
        idle(bench, "a")
        bench.request("b")
        self.assertEqual(bench.hooks.calls[-1].placement, {"gpu1": 20.0})
        self.assertEqual(bench.states()["a"], "awake")

    def test_spared(self) -> None:
        """Who need not go any more, because room has appeared elsewhere, stays."""
        models = [takes(n, {"gpu": 8.0}) for n in ("a", "b", "c")]
        bench = Bench(models, resources={"gpu": 16.0})
        idle(bench, "b")
        busy = bench.request("a")
        end(bench, "a")
        asking = bench.request("b")
        waiting = bench.request("c")
        self.assertEqual(sorted(bench.states().values()), ["asleep", "awake", "draining"])
        (draining,) = [name for name, state in bench.states().items() if state == "draining"]
        other = "b" if draining == "a" else "a"
        {"a": busy, "b": asking}[other].finish()
        bench.switcher.order(Kind.SLEEP, other)
        end(bench, other, Hook.SLEEP)
        self.assertEqual(bench.states()[draining], "awake", "there is room for c without it")
        end(bench, "c")
        self.assertIsNotNone(waiting.lease)

    def test_cool_down(self) -> None:
        """Who may go now goes, though it costs more than one that may not."""
        models = [
            takes("a", {"gpu": 8.0}, min_active_secs=60.0),
            takes("b", {"gpu": 8.0}),
            takes("c", {"gpu": 8.0}),
        ]
        bench = Bench(models, resources={"gpu": 16.0})
        idle(bench, "b", "a")
        for _ in range(9):
            bench.request("b").finish()
        bench.request("c")
        self.assertEqual(bench.hooks.names()[-1], "sleep b")

    def test_earliest_end_of_a_cool_down(self) -> None:
        """Where nobody may go yet, whoever may first goes then, and not who costs least."""
        models = [
            takes("a", {"gpu": 8.0}, min_active_secs=1000.0),
            takes("b", {"gpu": 8.0}, min_active_secs=60.0),
            takes("c", {"gpu": 8.0}),
        ]
        bench = Bench(models, resources={"gpu": 16.0})
        idle(bench, "a", "b")
        for _ in range(9):
            bench.request("b").finish()
        bench.request("c")
        bench.clock.advance(59)
        self.assertEqual(bench.hooks.names()[-1], "wake b")
        bench.clock.advance(1)
        self.assertEqual(bench.hooks.names()[-1], "sleep b")


class SleeperTests(SynchronousTestCase):
    """What models take while they are asleep."""

    def make(self, ram: float = 50.0, **more: Any) -> Bench:
        """Make two models that keep 40 of the host's memory while they sleep."""
        models = [
            takes(name, {"gpu": 20.0}, asleep_needs={"ram": 40.0}, stop=f"stop {name}", **more)
            for name in ("a", "b")
        ]
        bench = Bench(models, resources={"gpu": 24.0, "ram": ram})
        bench.hooks.stops |= {"a", "b"}
        return bench

    def test_states(self) -> None:
        """What was never woken takes nothing; what sleeps keeps what it takes then."""
        bench = self.make()
        self.assertEqual(bench.states(), {"a": "stopped", "b": "stopped"})
        idle(bench, "a")
        self.assertEqual(bench.switcher.used(), {"gpu": 20.0, "ram": 40.0})
        bench.switcher.order(Kind.SLEEP, "a")
        end(bench, "a", Hook.SLEEP)
        self.assertEqual(bench.switcher.used(), {"gpu": 0.0, "ram": 40.0})

    def test_stopped(self) -> None:
        """When there is no room for two sleepers, the one that leaves is stopped as well."""
        bench = self.make()
        idle(bench, "a")
        waiting = bench.request("b")
        end(bench, "a", Hook.SLEEP)
        self.assertEqual(end(bench, "a", Hook.STOP).reason, Reason.REQUEST)
        self.assertEqual(bench.states()["a"], "stopped")
        end(bench, "b")
        self.assertIsNotNone(waiting.lease)
        self.assertEqual(bench.switcher.used(), {"gpu": 20.0, "ram": 40.0})

    def test_room_for_both(self) -> None:
        """Where both can sleep nobody is stopped."""
        bench = self.make(ram=80.0)
        idle(bench, "a")
        bench.request("b")
        end(bench, "a", Hook.SLEEP)
        end(bench, "b")
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "wake b"])

    def test_wanted_again_when_it_was_not_stopped(self) -> None:
        """What was not stopped because nobody waited counts for whoever comes while others go."""
        models = [
            takes("a", {"gpu": 10.0}, asleep_needs={"ram": 5.0}, stop="stop a"),
            takes("b", {"gpu": 10.0}),
            takes("c", {"gpu": 20.0, "ram": 8.0}),
        ]
        bench = Bench(models, resources={"gpu": 20.0, "ram": 8.0})
        bench.hooks.stops |= {"a"}
        idle(bench, "a", "b")
        first = bench.request("c")
        self.assertEqual(bench.hooks.names()[-2:], ["sleep a", "sleep b"])
        first.waiting.cancel()
        end(bench, "a", Hook.SLEEP)
        bench.request("c")
        end(bench, "b", Hook.SLEEP)
        self.assertEqual(bench.hooks.names()[-1], "stop a")
        end(bench, "a", Hook.STOP)
        self.assertEqual(bench.hooks.names()[-1], "wake c")

    def test_need_only_sleep(self) -> None:
        """When host memory appears meanwhile nobody is stopped who has to sleep all the same."""
        bench = self.make()
        client = bench.wake("a")
        bench.request("b")
        self.assertEqual([m.name for m in bench.switcher.switches[0].stops], ["a"])
        configs = {name: model.config for name, model in bench.switcher.models.items()}
        bench.switcher.reconfigure(configs, Budget.of({"gpu": 24.0, "ram": 80.0}))
        client.finish()
        end(bench, "a", Hook.SLEEP)
        self.assertEqual(bench.hooks.names()[-1], "wake b")
        self.assertEqual(bench.states()["a"], "asleep")

    def test_kept_whatever_the_file_says_since(self) -> None:
        """What has gone to sleep with much keeps that until it is stopped, or woken."""
        bench = self.make()
        idle(bench, "a")
        bench.switcher.order(Kind.SLEEP, "a")
        end(bench, "a", Hook.SLEEP)
        configs = {name: model.config for name, model in bench.switcher.models.items()}
        configs["a"] = attrs.evolve(configs["a"], asleep_needs={})
        bench.switcher.reconfigure(configs)
        self.assertEqual(bench.switcher.used()["ram"], 40.0)
        records = bench.switcher.records()
        bench.request("b")
        self.assertEqual(bench.hooks.names()[-1], "stop a")
        end(bench, "a", Hook.STOP)
        self.assertEqual(bench.switcher.used()["ram"], 40.0)  # those of b
        again = Bench(list(configs.values()), resources={"gpu": 24.0, "ram": 50.0})
        again.switcher.start(Memory(models=records))
        self.assertEqual(again.switcher.used(), {"gpu": 0.0, "ram": 40.0})

    def test_stop_that_fails(self) -> None:
        """Memory is not promised twice: whom there is no room for is not woken."""
        bench = self.make()
        idle(bench, "a")
        waiting = bench.request("b")
        end(bench, "a", Hook.SLEEP)
        end(bench, "a", Hook.STOP, code=1)
        self.assertEqual(bench.states(), {"a": "asleep", "b": "stopped"})
        self.assertIsNotNone(waiting.error)
        self.assertEqual(bench.hooks.running, [])

    def test_killed(self) -> None:
        """Where stop fails, kill frees what was kept."""
        bench = self.make(kill="kill")
        bench.hooks.kill |= {"a", "b"}
        idle(bench, "a")
        bench.request("b")
        end(bench, "a", Hook.SLEEP)
        end(bench, "a", Hook.STOP, code=1)
        end(bench, "a", Hook.KILL)
        self.assertEqual(bench.states(), {"a": "stopped", "b": "waking"})

    def test_operator_kills_a_sleeper(self) -> None:
        """An operator who wants a sleeping model ended gets back what it keeps."""
        bench = self.make()
        idle(bench, "a")
        bench.switcher.order(Kind.SLEEP, "a")
        end(bench, "a", Hook.SLEEP)
        done = bench.switcher.order(Kind.KILL, "a")
        end(bench, "a", Hook.STOP)
        self.assertIn("a was killed", self.successResultOf(done))
        self.assertEqual(bench.states()["a"], "stopped")

    def test_cold_starts_are_learnt_apart(self) -> None:
        """How long a wake takes after a stop says nothing of how long one takes after a sleep."""
        bench = self.make()
        idle(bench, "a")
        self.assertEqual((bench.costs.cold, bench.costs.wake), ({"a": 1.0}, {}))
        bench.switcher.order(Kind.SLEEP, "a")
        end(bench, "a", Hook.SLEEP)
        bench.request("a")
        end(bench, "a")
        self.assertEqual((bench.costs.cold, bench.costs.wake), ({"a": 1.0}, {"a": 0.0}))

    def test_removed(self) -> None:
        """A model that goes out of the configuration gives back what it took asleep."""
        bench = self.make()
        idle(bench, "a")
        bench.switcher.order(Kind.SLEEP, "a")
        end(bench, "a", Hook.SLEEP)
        bench.switcher.reconfigure({"b": bench.switcher.models["b"].config})
        self.assertEqual(end(bench, "a", Hook.STOP).reason, Reason.CONFIG)
        self.assertEqual(list(bench.states()), ["b"])

    def test_that_nobody_can_stop(self) -> None:
        """An order to wake what does not fit beside sleepers that nobody can stop says so."""
        models = [takes(n, {"gpu": 8.0}, asleep_needs={"ram": 30.0}) for n in ("a", "b")]
        bench = Bench(models, resources={"gpu": 8.0, "ram": 50.0})
        idle(bench, "a")
        bench.switcher.order(Kind.SLEEP, "a")
        end(bench, "a", Hook.SLEEP)
        failure = self.failureResultOf(bench.switcher.order(Kind.WAKE, "b"), OrderFailed)
        said = "no room for b beside what is asleep, and without a stop hook: a"
        self.assertIn(said, failure.getErrorMessage())

    def test_promised_to_a_cold_start(self) -> None:
        """What a model will take from its start on is promised to it while others drain for it."""
        models = [
            takes(f"on {gpu}", {gpu: 20.0}, asleep_needs={"ram": 40.0}, stop="stop")
            for gpu in TWO_GPUS
        ]
        bench = Bench(
            [*models, takes("before", {"gpu0": 20.0})], resources={**TWO_GPUS, "ram": 60.0}
        )
        client = bench.request("before")
        end(bench, "before")
        bench.request("on gpu0")
        self.assertEqual(bench.states()["before"], "draining")
        bench.request("on gpu1")
        self.assertEqual(bench.hooks.names(), ["wake before"], "there is ram for one of them")
        client.finish()
        end(bench, "before", Hook.SLEEP)
        self.assertEqual(bench.hooks.names()[-1], "wake on gpu0")


class PlacementTests(SynchronousTestCase):
    """Where models are, over restarts."""

    def make(self, record: ModelRecord) -> Bench:
        """Start with a model that can be on either GPU, and what was noted of it."""
        config = takes("a", {"gpu0": 20.0}, {"gpu1": 20.0})
        bench = Bench([config, takes("b", {"gpu1": 20.0})], resources=TWO_GPUS)
        bench.switcher.start(Memory(models={"a": record}))
        return bench

    def test_remembered(self) -> None:
        """Another llmux knows where a model is."""
        record = ModelRecord("awake", placement={"needs": {"gpu0": 20.0}, "known": True})
        bench = self.make(record)
        self.assertEqual(bench.switcher.used(), {"gpu0": 20.0, "gpu1": 0.0})
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake b"])

    def test_not_known(self) -> None:
        """A model of which that is not known holds every place, until it has slept once."""
        bench = self.make(ModelRecord("awake"))
        self.assertEqual(bench.switcher.used(), {"gpu0": 20.0, "gpu1": 20.0})
        bench.request("b")
        call = end(bench, "a", Hook.SLEEP)
        self.assertIsNone(call.placement)
        end(bench, "b")
        bench.request("a")
        self.assertEqual(bench.hooks.calls[-1].placement, {"gpu0": 20.0})
        self.assertEqual(bench.switcher.used(), {"gpu0": 20.0, "gpu1": 20.0})

    def test_other_resources(self) -> None:
        """A place that there is no more is none."""
        record = ModelRecord("awake", placement={"needs": {"gpu7": 20.0}, "known": True})
        self.assertEqual(self.make(record).switcher.used(), {"gpu0": 20.0, "gpu1": 20.0})

    def test_less_than_there_was(self) -> None:
        """When a configuration says that there is less, who is too much goes."""
        models = [takes("a", {"gpu": 8.0}), takes("b", {"gpu": 8.0})]
        bench = Bench(models, resources={"gpu": 16.0})
        idle(bench, "a", "b")
        configs = {model.name: model for model in models}
        bench.switcher.reconfigure(configs, bench.budget({"gpu": 10.0}))
        self.assertEqual(bench.hooks.names()[-1], "sleep a")

    def test_less_than_what_is_pinned(self) -> None:
        """What is too much and pinned goes when it is not pinned any more."""
        models = [takes("a", {"gpu": 8.0}), takes("b", {"gpu": 8.0})]
        bench = Bench(models, resources={"gpu": 16.0})
        idle(bench, "a", "b")
        for name in ("a", "b"):
            bench.switcher.pin(name, True)
        bench.switcher.reconfigure({m.name: m for m in models}, bench.budget({"gpu": 10.0}))
        self.assertEqual(bench.hooks.names()[-1], "wake b", "nobody may go")
        bench.switcher.pin("b", False)
        self.assertEqual(bench.hooks.names()[-1], "sleep b")
        end(bench, "b", Hook.SLEEP)
        self.assertEqual(bench.switcher.used(), {"gpu": 8.0})


class PinTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a small model that is pinned, and two that are not."""
        models = [
            takes("embed", {"gpu": 2.0}, pinned=True),
            takes("a", {"gpu": 20.0}),
            takes("b", {"gpu": 20.0}),
        ]
        self.bench = Bench(models, resources={"gpu": 24.0})
        idle(self.bench, "embed", "a")

    def test_stays(self) -> None:
        """A pinned model stays while others switch around it."""
        for name, other in (("b", "a"), ("a", "b")) * 3:
            client = self.bench.request(name)
            end(self.bench, other, Hook.SLEEP)
            end(self.bench, name)
            client.finish()
            self.assertEqual(self.bench.states()["embed"], "awake")

    def test_pinned_at_run_time(self) -> None:
        """Who wants a model that does not fit beside what is pinned is told so at once."""
        self.assertTrue(self.bench.switcher.pin("a", True))
        self.assertFalse(self.bench.switcher.pin("a", True))
        error = self.bench.request("b").error
        self.assertIsInstance(error, NoRoom)
        self.assertIn("pinned: embed, a", str(error))
        self.assertTrue(self.bench.switcher.pin("a", False))
        self.bench.request("b")
        self.assertEqual(self.bench.hooks.names()[-1], "sleep a")

    def test_sleeper_of_another_configuration(self) -> None:
        """Nobody waits for what does not fit beside what a sleeper keeps that nobody can stop."""
        models = [takes("a", {"gpu0": 20.0}, asleep_needs={"ram": 8.0}), takes("b", {"ram": 10.0})]
        bench = Bench(models, resources={"gpu0": 24.0, "ram": 16.0})
        bench.wake("a").finish()
        bench.switcher.order(Kind.SLEEP, "a")
        bench.exit()
        changed = takes("a", {"gpu0": 20.0})  # it would keep nothing if it went to sleep now
        bench.switcher.reconfigure({"a": changed, "b": models[1]})
        error = bench.request("b").error
        self.assertIsInstance(error, NoRoom)
        self.assertIn("asleep, and without a stop hook: a", str(error))
        bench.wake("a").finish()
        bench.switcher.order(Kind.SLEEP, "a")
        bench.exit()
        self.assertIsNone(bench.request("b").error)

    def test_any_of_several(self) -> None:
        """Who would take any of several models hears the same if none fits beside pinned ones."""
        bench = Bench(
            [takes(name, {"gpu0": 20.0}) for name in "abc"],
            resources={"gpu0": 24.0},
            shared={"s": ("b", "c")},
        )
        bench.wake("a")
        bench.switcher.pin("a", True)
        error = bench.request("s").error
        self.assertIsInstance(error, NoRoom)
        self.assertIn("s does not fit beside what is pinned: a", str(error))

    def test_pinned_while_it_drains(self) -> None:
        """A model that is pinned before its point of no return stays after all."""
        client = self.bench.request("a")
        waiting = self.bench.request("b")
        self.assertEqual(self.bench.states()["a"], "draining")
        self.bench.switcher.pin("a", True)
        self.assertEqual(self.bench.states()["a"], "awake")
        self.assertIsInstance(waiting.error, NoRoom)
        (off,) = self.bench.events.named("switch_called_off")
        self.assertEqual(off["reason"], "a is pinned by now")
        client.finish()

    def test_pinned_while_it_drains_for_an_order(self) -> None:
        """It stays, too, if an operator has ordered another model to be woken; the order fails."""
        client = self.bench.request("a")
        done = self.bench.switcher.order(Kind.WAKE, "b")
        self.assertEqual(self.bench.states()["a"], "draining")
        self.bench.switcher.pin("a", True)
        self.assertEqual(self.bench.states()["a"], "awake")
        failure = self.failureResultOf(done, OrderFailed)
        self.assertIn("a is pinned by now", failure.getErrorMessage())
        client.finish()

    def test_pinned_while_it_is_ordered_to_sleep(self) -> None:
        """An order that it goes to sleep is carried out though it is pinned meanwhile."""
        client = self.bench.request("a")
        done = self.bench.switcher.order(Kind.SLEEP, "a")
        self.bench.switcher.pin("a", True)
        client.finish()
        end(self.bench, "a", Hook.SLEEP)
        self.assertIn("a is asleep", self.successResultOf(done))

    def test_orders(self) -> None:
        """An operator can put a pinned model to sleep; for another one nobody can."""
        self.bench.switcher.pin("a", True)
        failure = self.failureResultOf(self.bench.switcher.order(Kind.WAKE, "b"), OrderFailed)
        self.assertIn("beside what is pinned: embed, a", failure.getErrorMessage())
        done = self.bench.switcher.order(Kind.SLEEP, "a")
        end(self.bench, "a", Hook.SLEEP)
        self.assertIn("a is asleep", self.successResultOf(done))

    def test_restart(self) -> None:
        """What an operator has said holds after a restart, unless the file says something new."""
        self.bench.switcher.pin("a", True)
        records = self.bench.switcher.records()
        for pinned, expected in ((False, True), (True, True)):
            models = [takes("a", {"gpu": 20.0}, pinned=pinned)]
            bench = Bench(models, resources={"gpu": 24.0})
            bench.switcher.start(Memory(models={"a": records["a"]}))
            self.assertEqual(bench.switcher.models["a"].pinned, expected)
        self.bench.switcher.pin("embed", False)
        records = self.bench.switcher.records()
        bench = Bench([takes("embed", {"gpu": 2.0}, pinned=True)], resources={"gpu": 24.0})
        bench.switcher.start(Memory(models={"embed": records["embed"]}))
        self.assertFalse(bench.switcher.models["embed"].pinned)


class QuietTests(SynchronousTestCase):
    """What happens when nobody asks."""

    def test_idle_sleep(self) -> None:
        """A model goes to sleep when nobody has asked for so long, and not before."""
        bench = Bench([takes("a", {"gpu": 8.0}, idle_sleep_secs=60.0)], resources={"gpu": 8.0})
        client = bench.wake("a")
        bench.clock.advance(1000)
        self.assertEqual(bench.states()["a"], "awake", "a request runs")
        client.finish()
        bench.clock.advance(59)
        bench.request("a").finish()
        bench.clock.advance(59)
        self.assertEqual(bench.states()["a"], "awake")
        bench.clock.advance(1)
        self.assertEqual(end(bench, "a", Hook.SLEEP).reason, Reason.IDLE)

    def test_idle_in_one_slot(self) -> None:
        """That needs no resources in the configuration."""
        bench = Bench([model_config("a", idle_sleep_secs=5.0), "b"])
        bench.wake("a").finish()
        bench.clock.advance(5)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a"])

    def test_idle_in_its_cool_down(self) -> None:
        """It does not go to sleep for being idle before its cool-down is over."""
        models = [takes("a", {"gpu": 8.0}, idle_sleep_secs=10.0, min_active_secs=100.0)]
        bench = Bench(models, resources={"gpu": 8.0})
        idle(bench, "a")
        bench.clock.advance(50)
        self.assertEqual(bench.states()["a"], "awake")
        bench.clock.advance(60)
        self.assertEqual(bench.states()["a"], "sleeping")

    def test_pinned_models_do_not_idle(self) -> None:
        """A pinned model stays, however long nobody asks."""
        config = takes("a", {"gpu": 8.0}, idle_sleep_secs=60.0, pinned=True)
        bench = Bench([config], resources={"gpu": 8.0})
        bench.wake("a").finish()
        bench.clock.advance(1000)
        self.assertEqual(bench.states()["a"], "awake")

    def test_wake_at_start(self) -> None:
        """Models are woken at the start in their order, as far as they fit."""
        models = [takes(n, {"gpu": 8.0}, wake_at_start=True) for n in ("a", "b", "c")]
        models.append(takes("d", {"gpu": 4.0}, wake_at_start=True))
        bench = Bench(models, resources={"gpu": 20.0})
        bench.switcher.start(Memory())
        for name in ("a", "b", "d"):
            self.assertEqual(end(bench, name).reason, Reason.PRELOAD)
        self.assertEqual(bench.hooks.running, [])
        self.assertEqual(bench.states()["c"], "asleep")

    def test_requests_come_first(self) -> None:
        """Whoever waits already when llmux starts is served before anybody is woken for nobody."""
        models = [takes("a", {"gpu": 8.0}, wake_at_start=True), takes("b", {"gpu": 8.0})]
        bench = Bench(models, resources={"gpu": 8.0})
        bench.request("b")
        bench.switcher.start(Memory())
        self.assertEqual(bench.hooks.names(), ["wake b"])

    def test_idle_model(self) -> None:
        """When nothing is asked any more the idle model comes back, and stays."""
        bench = Bench(["home", "other"], idle_model="home")
        bench.wake("other").finish()
        bench.clock.advance(59)
        self.assertEqual(bench.states()["other"], "awake")
        bench.clock.advance(1)
        self.assertEqual(bench.answer(0, 0), ["sleep other", "wake home"])
        bench.clock.advance(10_000)
        self.assertEqual(bench.states()["home"], "awake")

    def test_idle_model_waits_for_quiet(self) -> None:
        """As long as anything is asked of anybody, nothing happens for its sake."""
        bench = Bench(["home", "other"], idle_model="home")
        client = bench.wake("other")
        bench.clock.advance(1000)
        self.assertEqual(bench.states()["other"], "awake")
        client.finish()
        bench.clock.advance(59)
        bench.request("other").finish()
        bench.clock.advance(59)
        self.assertEqual(bench.hooks.names(), ["wake other"])


class AnyOfSeveralTests(SynchronousTestCase):
    """Requests that any of several models can serve."""

    def setUp(self) -> None:
        """Make three models of one slot, of which two share a name."""
        self.bench = Bench(["a", "b", "c"], shared={"fast": ("b", "a")})

    def test_whoever_is_awake(self) -> None:
        """Whichever is awake serves them at once."""
        self.bench.wake("a")
        client = self.bench.request("fast")
        assert client.lease is not None
        self.assertEqual((client.lease.model, client.lease.shared), ("a", "fast"))

    def test_the_one_liked_best(self) -> None:
        """If none is, the first is woken, for all who wait, and only that one."""
        clients = [self.bench.request("fast") for _ in range(3)]
        self.assertEqual(self.bench.hooks.names(), ["wake b"])
        self.assertEqual(self.bench.sample("llmux_request_queue_depth", model="fast"), 3.0)
        self.bench.exit()
        self.assertEqual([client.lease and client.lease.model for client in clients], ["b"] * 3)
        self.assertEqual(self.bench.sample("llmux_request_queue_depth", model="fast"), 0.0)
        self.assertEqual(self.bench.hooks.running, [])

    def test_on_two_gpus(self) -> None:
        """Who waits for one on its way has no other one woken as well."""
        models = [takes("a", {"gpu0": 20.0}), takes("b", {"gpu1": 20.0})]
        bench = Bench(models, resources=TWO_GPUS, shared={"fast": ("a", "b")})
        bench.request("fast")
        self.assertEqual(bench.hooks.names(), ["wake a"])
        own = bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "wake b"])
        end(bench, "b")
        self.assertIsNotNone(own.lease)

    def test_two_on_their_way(self) -> None:
        """When the first of two that are on their way does not come, no third one is woken."""
        gpus = {"gpu0": 24.0, "gpu1": 24.0, "gpu2": 24.0}
        models = [takes(name, {gpu: 20.0}) for name, gpu in zip("abc", gpus, strict=True)]
        bench = Bench(models, resources=gpus, shared={"fast": ("a", "b", "c")})
        client = bench.request("fast")
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "wake b"])
        end(bench, "a", code=1)
        end(bench, "a", Hook.SLEEP)
        self.assertEqual(bench.hooks.names()[-1], "sleep a")
        end(bench, "b")
        assert client.lease is not None
        self.assertEqual(client.lease.model, "b")

    def test_passed_over(self) -> None:
        """One that cannot be woken is passed over; only when none is left they are refused."""
        client = self.bench.request("fast")
        self.assertEqual(self.bench.answer(1, 0), ["wake b", "sleep b"])
        self.assertIsNone(client.error)
        self.assertEqual(self.bench.answer(1, 0), ["wake a", "sleep a"])
        self.assertIn("fast could not be woken", str(client.error))
        self.assertIn("fast could not be woken", str(self.bench.request("fast").error))

    def test_order_of_arrival(self) -> None:
        """Those who want one of several and those who want this one stand in one line."""
        config = model_config("a", max_concurrency=1)
        bench = Bench([config], shared={"fast": ("a",)})
        clients = [bench.request(name) for name in ("a", "fast", "a", "fast")]
        bench.exit()
        for client in clients:
            self.assertIsNotNone(client.lease)
            client.finish()

    def test_client_that_leaves(self) -> None:
        """Who leaves is out of the line at once, and nobody is woken for nobody."""
        self.bench.wake("c")
        client = self.bench.request("fast")
        self.assertEqual(self.bench.states()["c"], "draining")
        client.leave()
        self.assertEqual(self.bench.states()["c"], "awake")

    def test_timeout(self) -> None:
        """They wait no longer than those may who want one of the models."""
        models = [model_config("a", request_timeout_secs=30.0), model_config("b")]
        bench = Bench(models, shared={"fast": ("a", "b")})
        client = bench.request("fast")
        bench.clock.advance(30)
        self.assertIn("timed out", str(client.error))

    def test_too_many(self) -> None:
        """No more of them wait than may wait for any of the models."""
        models = [model_config("a", max_waiting=1), model_config("b")]
        bench = Bench(models, shared={"fast": ("a", "b")})
        bench.request("fast")
        self.assertIn("Too many requests", str(bench.request("fast").error))

    def test_refused_backend(self) -> None:
        """A request whose backend is gone goes back to the line, and whoever comes serves it."""
        self.bench.wake("b").finish()
        client = self.bench.request("fast")
        again = client.is_refused()
        self.assertEqual(self.bench.answer(0), ["sleep b"])
        self.assertEqual(self.bench.answer(0), ["wake b"])
        assert again.lease is not None
        self.assertEqual(again.lease.shared, "fast")

    def test_configuration_changes(self) -> None:
        """When a name goes out of the configuration, those who wait for it are told."""
        self.bench.wake("c")
        client = self.bench.request("fast")
        configs = {name: model.config for name, model in self.bench.switcher.models.items()}
        self.bench.switcher.reconfigure(configs)
        self.assertIn("Model not found: fast", str(client.error))


class ReloadTests(SynchronousTestCase):
    """What another configuration says of a model counts for a switch that drains."""

    def reload(self, bench: Bench, *models: ModelConfig) -> None:
        """Have other configurations count."""
        bench.switcher.reconfigure({model.name: model for model in models})

    def end_all(self, bench: Bench) -> None:
        """Let whatever runs come to a good end."""
        for _ in range(5):
            for hook in list(bench.hooks.running):
                hook.exit(0)
            bench.clock.advance(1)

    def test_more_for_the_target(self) -> None:
        """A model that takes more now is not woken with what it took."""
        self.check_more(committed=False)

    def test_more_while_others_go_to_sleep(self) -> None:
        """Nor is it if the switch to it has passed its point of no return."""
        self.check_more(committed=True)

    def test_pinned_elsewhere(self) -> None:
        """One that is where the file would not have it pinned can be made go, and moves."""
        stays = takes("a", {"gpu0": 20.0}, {"gpu1": 20.0})
        others = [takes("b", {"gpu0": 20.0}), takes("c", {"gpu1": 20.0})]
        bench = Bench([stays, *others], resources=TWO_GPUS)
        idle(bench, "b", "a")
        pinned = attrs.evolve(stays, pinned=True)
        configs = fit({"a": pinned, "c": others[1]}, TWO_GPUS, lambda *wrong: self.fail(str(wrong)))
        bench.switcher.reconfigure(configs)
        self.end_all(bench)
        client = bench.request("c")
        self.end_all(bench)
        self.assertIsNotNone(client.lease)
        again = bench.request("a")
        self.end_all(bench)
        self.assertIsNotNone(again.lease)
        self.assertEqual(bench.hooks.calls[-1].placement, {"gpu0": 20.0})

    def check_more(self, *, committed: bool) -> None:
        """Have a model take more while there is a switch to it."""
        models = [takes(name, {"gpu": 8.0}) for name in ("a", "b", "c")]
        bench = Bench(models, resources={"gpu": 20.0})
        idle(bench, "c")
        clients = [bench.request("a")]
        end(bench, "a")
        clients.append(bench.request("c"))
        wanted = bench.request("b")
        if committed:
            clients.pop(0).finish()
        self.assertEqual(bench.states()["a"], "sleeping" if committed else "draining")
        self.reload(bench, models[0], takes("b", {"gpu": 18.0}), models[2])
        for client in clients:
            client.finish()
        self.end_all(bench)
        self.assertIsNotNone(wanted.lease)
        self.assertEqual(bench.states(), {"a": "asleep", "b": "awake", "c": "asleep"})
        self.assertEqual(bench.switcher.used(), {"gpu": 18.0})
