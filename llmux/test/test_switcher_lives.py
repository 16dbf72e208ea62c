"""The switcher's beginning, its end, and other configurations in between."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from llmux.config import Adoption, Backend, ModelConfig
from llmux.errors import ModelUnavailable, ShuttingDown, UnknownModel
from llmux.hooks.contract import Hook, Leftover, ProcessId, Reason
from llmux.journal import Memory, ModelRecord
from llmux.lease import Outcome, Revocation
from llmux.roster import Changes
from llmux.test.fakes import model_config
from llmux.test.switching import Bench

LEFTOVER = Leftover("a", Hook.WAKE, ProcessId(4711, 1, "boot"), 60.0)
AWAKE = ModelRecord("awake", asked=7, agreed="alive a")


class StartTests(SynchronousTestCase):
    """What a restart makes of what was before."""

    def start(self, bench: Bench, **models: ModelRecord) -> Deferred[None]:
        """Start with what another llmux has left."""
        return bench.switcher.start(Memory(models=models))

    def test_first_start(self) -> None:
        """Where nothing was before and nothing says that it is alive, all are asleep."""
        bench = Bench(alive=frozenset({"a"}))
        started = self.start(bench)
        self.assertEqual(bench.answer(1), ["alive a"])
        self.successResultOf(started)
        self.assertEqual(bench.states(), {"a": "asleep", "b": "asleep"})
        self.assertEqual(bench.events.named("hook_failed"), [], "it is only an answer")

    def test_requests_wait(self) -> None:
        """Nobody is woken before it is known what is awake."""
        bench = Bench(alive=frozenset({"a"}))
        self.start(bench)
        client = bench.request("b")
        self.assertEqual(bench.hooks.names(), ["alive a"])
        self.assertEqual(bench.switcher.phase, "starting")
        bench.answer(1, 0)
        self.assertIsNotNone(client.lease)

    def test_all_are_asked_at_once(self) -> None:
        """The models are asked side by side."""
        bench = Bench(alive=frozenset({"a", "b"}))
        self.start(bench)
        self.assertEqual([hook.call.model for hook in bench.hooks.running], ["a", "b"])

    def test_adoption(self) -> None:
        """A model that is alive holds its memory; before its first request its wake hook runs."""
        bench = Bench(alive=frozenset({"a"}))
        self.start(bench, a=AWAKE)
        bench.answer(0)
        self.assertEqual(bench.states()["a"], "unknown")
        client = bench.request("a")
        self.assertEqual(bench.answer(0, 0), ["wake a", "alive a"])
        self.assertIsNotNone(client.lease)

    def test_adoption_by_alive_alone(self) -> None:
        """With adopt: alive a model that is alive serves at once."""
        bench = Bench([model_config("a", adopt=Adoption.ALIVE)], alive=frozenset({"a"}))
        self.start(bench)
        bench.answer(0)
        self.assertIsNotNone(bench.request("a").lease)

    def test_model_that_is_in_the_way(self) -> None:
        """A model that was found alive is put to sleep before another one is woken."""
        bench = Bench(alive=frozenset({"a"}))
        self.start(bench)
        client = bench.request("b")
        self.assertEqual(bench.answer(0, 0, 0), ["alive a", "sleep a", "wake b"])
        self.assertIsNotNone(client.lease)

    def test_nobody_can_tell(self) -> None:
        """A model without an alive that was awake may still be: it is put to sleep first."""
        bench = Bench()
        self.start(bench, a=AWAKE)
        self.assertEqual(bench.states()["a"], "unknown")
        bench.request("b")
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])

    def test_more_than_fit(self) -> None:
        """Of several that are alive those that do not fit go, least recently asked for first."""
        bench = Bench(["a", "b", "c"], alive=frozenset({"a", "b", "c"}))
        self.start(
            bench,
            a=ModelRecord("awake", asked=5),
            b=ModelRecord("asleep", asked=9),
            c=ModelRecord("asleep", asked=3),
        )
        for hook in list(bench.hooks.running):
            hook.exit(0)
        running = {hook.call.model: hook.call for hook in bench.hooks.running}
        self.assertEqual(list(running), ["c", "a"])
        self.assertIs(running["c"].reason, Reason.START)
        for hook in list(bench.hooks.running):
            hook.exit(0)
        self.assertEqual(bench.states(), {"a": "asleep", "b": "unknown", "c": "asleep"})

    def test_leftover_hook(self) -> None:
        """A hook that another llmux left running is waited for before anything else."""
        bench = Bench(alive=frozenset({"a"}))
        memory = Memory(models={"a": ModelRecord("waking")}, hooks=(LEFTOVER,))
        bench.switcher.start(memory)
        self.assertEqual(bench.hooks.names(), [])
        ((leftover, ended),) = bench.hooks.finishing
        self.assertEqual(leftover, LEFTOVER)
        ended.callback(None)
        self.assertEqual(bench.hooks.names(), ["alive a"])
        (event,) = bench.events.named("hook_left")
        self.assertEqual((event["model"], event["hook"], event["pid"]), ("a", "wake", 4711))

    def test_half_woken(self) -> None:
        """A model that was waking holds what it holds, also if it is not alive."""
        bench = Bench(alive=frozenset({"a"}))
        self.start(bench, a=ModelRecord("waking"))
        bench.request("b")
        self.assertEqual(bench.answer(1, 0, 0), ["alive a", "sleep a", "wake b"])

    def test_model_that_the_configuration_has_no_longer(self) -> None:
        """A model that was awake and is not in the file any more is put to sleep all the same."""
        bench = Bench()
        old = model_config("old")
        self.start(bench, old=ModelRecord("awake", 3, None, old.as_json()))
        self.assertEqual(bench.told_to_sleep, ["old after 0"])
        call = bench.exit()
        self.assertEqual((call.model, call.hook, call.reason), ("old", Hook.SLEEP, Reason.CONFIG))
        self.assertEqual(list(bench.states()), ["a", "b"])
        self.assertIsInstance(bench.request("old").error, UnknownModel)

    def test_model_that_has_another_address_now(self) -> None:
        """A model that was awake elsewhere is put to sleep there, before it is woken here."""
        bench = Bench()
        now = bench.switcher.models["a"].config
        old = attrs.evolve(now, backend=Backend("127.0.0.1", 2))
        self.start(bench, a=ModelRecord("awake", 3, None, old.as_json()))
        client = bench.request("a")
        self.assertEqual(bench.switcher.models["a"].config, old)
        call = bench.exit()
        self.assertEqual((call.model, call.hook, call.reason), ("a", Hook.SLEEP, Reason.CONFIG))
        self.assertEqual(bench.switcher.models["a"].config, now)
        self.assertEqual(bench.answer(0), ["wake a"])
        self.assertIsNotNone(client.lease)

    def test_model_that_nobody_knows_any_more(self) -> None:
        """If its hooks are not known either, the log says that somebody has to end it by hand."""
        bench = Bench()
        self.start(bench, old=ModelRecord("awake"))
        (event,) = bench.events.named("model_lost")
        self.assertEqual(event["model"], "old")

    def test_what_is_remembered(self) -> None:
        """What a restart must know can be had at any time."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a")
        record = bench.switcher.records()["a"]
        self.assertEqual((record.state, record.asked, record.agreed), ("awake", 1, "alive a"))
        again = Bench()
        self.start(again, **bench.switcher.records())
        again.request("b")
        self.assertGreater(again.switcher.models["b"].asked, 1, "the counting goes on")


class CloseTests(SynchronousTestCase):
    """How the switcher ends."""

    def close(
        self, bench: Bench, grace: float = 30.0, *, sleep_models: bool = False
    ) -> Deferred[None]:
        """Begin to end."""
        return Deferred.fromCoroutine(bench.switcher.close(grace, sleep_models))

    def test_nothing_to_wait_for(self) -> None:
        """With nothing under way the end is at once; what is awake stays so."""
        bench = Bench()
        bench.wake("a").finish()
        self.successResultOf(self.close(bench))
        self.assertEqual(bench.states()["a"], "awake")
        self.assertIsInstance(bench.request("a").error, ShuttingDown)

    def test_requests_in_flight(self) -> None:
        """Requests in flight are waited for; who waits is refused."""
        bench = Bench()
        client = bench.wake("a")
        waiting = bench.request("b")
        closed = self.close(bench)
        self.assertIsInstance(waiting.error, ShuttingDown)
        self.assertNoResult(closed)
        client.finish()
        self.successResultOf(closed)

    def test_grace(self) -> None:
        """After the grace they are wanted back, and after a while not waited for any more."""
        bench = Bench()
        client = bench.wake("a")
        closed = self.close(bench, 10.0)
        bench.clock.advance(9.9)
        assert client.lease is not None
        self.assertIsNone(client.lease.revoked)
        bench.clock.advance(0.1)
        self.assertIs(client.lease.revoked, Revocation.SHUTDOWN)
        self.assertNoResult(closed)
        bench.clock.advance(5)
        self.successResultOf(closed)

    def test_cut(self) -> None:
        """An end that is cut wants everything back at once."""
        bench = Bench()
        client = bench.wake("a")
        self.close(bench)
        bench.switcher.cut()
        assert client.lease is not None
        self.assertIs(client.lease.revoked, Revocation.SHUTDOWN)

    def test_hooks(self) -> None:
        """A hook that runs is waited for, with what belongs to it."""
        bench = Bench(alive=frozenset({"a"}))
        bench.request("a")
        closed = self.close(bench)
        bench.clock.advance(100)
        self.assertNoResult(closed)
        bench.answer(0, 0)
        self.successResultOf(closed)
        self.assertEqual(bench.states()["a"], "awake")

    def test_health(self) -> None:
        """An alive that runs by the clock holds up nothing."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a").finish()
        bench.clock.advance(15)
        self.assertEqual(len(bench.hooks.running), 1)
        self.successResultOf(self.close(bench))
        self.assertEqual(bench.hooks.running, [])

    def test_models_that_are_to_sleep(self) -> None:
        """With sleep_models what is awake is put to sleep, when its engine has settled."""
        bench = Bench()
        client = bench.wake("a")
        closed = self.close(bench, 10.0, sleep_models=True)
        client.finish(Outcome.ABORTED)
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(1.1)
        call = bench.exit()
        self.assertEqual((call.hook, call.reason), (Hook.SLEEP, Reason.SHUTDOWN))
        self.successResultOf(closed)
        self.assertEqual(bench.states()["a"], "asleep")


class ReconfigureTests(SynchronousTestCase):
    """Another configuration, while requests run."""

    def setUp(self) -> None:
        """Let a be awake, with a request in flight."""
        self.bench = Bench()
        self.client = self.bench.wake("a")

    def apply(self, *models: ModelConfig) -> Changes:
        """Have a configuration with these models count."""
        configs = {model.name: model for model in models}
        switcher = self.bench.switcher
        return self.successResultOf(switcher.reconfigure(configs))

    def test_the_same(self) -> None:
        """Models that stay as they are are not touched."""
        changes = self.apply(model_config("a"), model_config("b"))
        self.assertEqual(changes, Changes())
        self.assertIsNotNone(self.bench.request("a").lease)

    def test_settings_count_at_once(self) -> None:
        """Another time limit holds for those who wait already."""
        waiting = self.bench.request("b")
        changes = self.apply(model_config("a"), model_config("b", request_timeout_secs=5.0))
        self.assertEqual(changes.changed, ("b",))
        self.bench.clock.advance(5)
        self.assertIsNotNone(waiting.error)

    def test_more_places(self) -> None:
        """Places that a new configuration brings are given to those who wait."""
        bench = Bench([model_config("a", max_concurrency=1)])
        bench.wake("a")
        waiting = bench.request("a")
        configs = {"a": model_config("a", max_concurrency=2)}
        self.successResultOf(bench.switcher.reconfigure(configs))
        self.assertIsNotNone(waiting.lease)

    def test_new_model(self) -> None:
        """A new model can be asked for."""
        changes = self.apply(model_config("a"), model_config("b"), model_config("c"))
        self.assertEqual(changes.added, ("c",))
        waiting = self.bench.request("c")
        self.client.finish()
        self.assertEqual(self.bench.answer(0, 0), ["sleep a", "wake c"])
        self.assertIsNotNone(waiting.lease)

    def test_new_model_that_is_awake(self) -> None:
        """A new model that is alive already is known to hold something."""
        bench = Bench(["a"], alive=frozenset({"b"}))
        configs = {"a": model_config("a"), "b": model_config("b", alive="alive b")}
        changed = bench.switcher.reconfigure(configs)
        bench.request("a")
        self.assertEqual(bench.answer(0, 0, 0), ["alive b", "sleep b", "wake a"])
        self.successResultOf(changed)

    def test_removed_model(self) -> None:
        """A model that is gone drains and sleeps; who waits for it hears that there is none."""
        waiting = self.bench.request("b")
        changes = self.apply(model_config("c"))
        self.assertEqual(changes.removed, ("a", "b"))
        self.assertIsInstance(waiting.error, UnknownModel)
        self.assertIsInstance(self.bench.request("a").error, UnknownModel)
        self.assertEqual(list(self.bench.states()), ["c", "a"])
        self.client.finish()
        call = self.bench.exit()
        self.assertEqual((call.hook, call.model, call.reason), (Hook.SLEEP, "a", Reason.CONFIG))
        self.assertEqual(list(self.bench.states()), ["c"])

    def test_model_that_comes_back(self) -> None:
        """A model that is back before it has gone is as awake as before."""
        self.apply(model_config("b"))
        self.apply(model_config("a"), model_config("b"))
        self.assertIsNotNone(self.bench.request("a").lease)
        self.assertEqual(self.bench.states()["a"], "awake")

    def test_other_address(self) -> None:
        """A model with another address sleeps at the old one, and is woken at the new one."""
        moved = model_config("a", backend=Backend("127.0.0.1", 2))
        self.assertEqual(self.apply(moved, model_config("b")).changed, ("a",))
        waiting = self.bench.request("a")
        self.assertIsNone(waiting.lease)
        self.assertEqual(self.bench.switcher.models["a"].config.backend.port, 1)
        self.client.finish()
        self.assertEqual(self.bench.answer(0), ["sleep a"])
        self.assertEqual(self.bench.switcher.models["a"].config, moved)
        self.assertEqual(self.bench.answer(0), ["wake a"])
        self.assertIsNotNone(waiting.lease)

    def test_removed_while_it_is_about_to_wake(self) -> None:
        """A model that goes while another one is put to sleep for it is not woken."""
        self.bench.request("b")
        self.client.finish()
        self.apply(model_config("a"))
        self.assertEqual(self.bench.answer(0), ["sleep a"])
        self.assertEqual(self.bench.hooks.running, [])
        self.assertEqual(self.bench.states(), {"a": "asleep"})

    def test_removed_model_that_would_not_sleep(self) -> None:
        """A model that is gone and does not go to sleep is tried again and again."""
        self.apply(model_config("b"))
        self.client.finish()
        self.bench.answer(1, 1)
        self.assertEqual(self.bench.hooks.running, [])
        waiting = self.bench.request("b")
        self.bench.clock.advance(2.1)
        self.assertEqual(self.bench.answer(1, 1), ["sleep a", "sleep a"])
        self.assertIsInstance(waiting.error, ModelUnavailable, "it does not wait for ever")
        waiting = self.bench.request("b")
        self.bench.clock.advance(4.1)
        self.assertEqual(self.bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertIsNotNone(waiting.lease)
        self.assertEqual(list(self.bench.states()), ["b"])
