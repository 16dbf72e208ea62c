"""Tests of preparing: when it begins, for whom, and that it is never in the way."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import Budget
from llmux.hooks.contract import Hook, HookCall, Leftover, ProcessId, Reason
from llmux.journal import Memory, ModelRecord
from llmux.orders import Kind
from llmux.policy import FifoPolicy, PolicyContext, PolicyDecision
from llmux.policy.guard import GuardedPolicy
from llmux.status import Status
from llmux.test.fakes import RunningHook, ScriptedPolicy, model_config
from llmux.test.switching import Bench, Client


def make_bench(*names: str, prepares: str = "b", policy: ScriptedPolicy | None = None) -> Bench:
    """
    Make a bench of one slot on which the first model is awake.

    :param prepares: the models that have a ``prepare`` hook.
    """
    bench = Bench(names or ("a", "b"), policy=policy)
    bench.hooks.prepares = set(prepares)
    return bench


def hook_of(bench: Bench, model: str) -> RunningHook:
    """Give the hook of a model that runs."""
    (hook,) = [hook for hook in bench.hooks.running if hook.call.model == model]
    return hook


def stays(prepare: str | None) -> ScriptedPolicy:
    """Make a policy that wakes a first model, then stays with it and names another one."""

    def decide(context: PolicyContext) -> PolicyDecision:
        if any(model.state.holds for model in context.models.values()):
            return PolicyDecision(prepare=prepare)
        return FifoPolicy().decide(context)

    return ScriptedPolicy(decide)


def prepare_of(bench: Bench) -> tuple[object, object]:
    """Say what the status tells of the ``prepare`` hook of b."""
    models = {model["name"]: model for model in Status(bench.switcher, 0.0).models()}
    hooks = models["b"]["hooks"]
    assert isinstance(hooks, dict)
    return hooks["prepare"]["result"], hooks["prepare"]["reason"]


def wakes(bench: Bench, model: str, prepared: str) -> float:
    """Say how many wakes of a model were counted."""
    labels = {"model": model, "prepared": prepared}
    return bench.sample("llmux_wake_duration_seconds_count", **labels) or 0.0


class BeginningTests(SynchronousTestCase):
    """Whom it is for."""

    def test_target_of_a_drain(self) -> None:
        """While a switch drains, its target is prepared."""
        bench = make_bench()
        bench.wake("a")
        bench.request("b")
        call = HookCall("b", Hook.PREPARE, "idle", "b", Reason.PREPARE)
        self.assertEqual([hook.call for hook in bench.hooks.running], [call])
        self.assertEqual(bench.states(), {"a": "draining", "b": "asleep"})
        self.assertEqual([event["model"] for event in bench.events.named("prepare_started")], ["b"])

    def test_it_holds_nothing(self) -> None:
        """What is being prepared takes no room."""
        bench = make_bench()
        bench.wake("a")
        used = bench.switcher.used()
        bench.request("b")
        self.assertEqual(bench.switcher.used(), used)

    def test_without_the_hook(self) -> None:
        """A model without such a hook is not prepared."""
        bench = make_bench(prepares="a")
        bench.wake("a")
        bench.request("b")
        self.assertEqual(bench.hooks.running, [])

    def test_cold_start(self) -> None:
        """A model that can be woken at once is woken at once."""
        bench = make_bench()
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake b"])

    def test_no_drain(self) -> None:
        """Where nobody has to be waited for there is no time to prepare."""
        bench = make_bench()
        bench.wake("a").finish()
        bench.request("b")
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])

    def test_cool_down(self) -> None:
        """A model whose time has not come yet, though the policy has chosen it, is prepared."""
        bench = make_bench()
        bench.switcher.models["a"].config = model_config("a", min_active_secs=60.0)
        bench.wake("a").finish()
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "prepare b"])
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})

    def test_named_by_the_policy(self) -> None:
        """While a policy stays with what is awake, whom it names is prepared."""
        bench = make_bench("a", "b", "c", prepares="bc", policy=stays("c"))
        bench.wake("a")
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "prepare c"])

    def test_named_by_the_policy_during_a_drain(self) -> None:
        """During a drain its target is expected, whatever the policy says."""
        policy = ScriptedPolicy(lambda _: PolicyDecision(target="b", prepare="c"))
        bench = make_bench("a", "b", "c", prepares="bc", policy=policy)
        bench.switcher.order(Kind.WAKE, "a")
        bench.exit()
        bench.request("a")
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "prepare b"])

    def test_named_in_vain(self) -> None:
        """A name that is no model's, or of one that is awake or has no such hook, does no harm."""
        for name in ("nobody", "a", "c", "", None):
            bench = make_bench("a", "b", "c", prepares="ab", policy=stays(name))
            bench.wake("a")
            bench.request("b")
            self.assertEqual(bench.hooks.names(), ["wake a"], name)
            self.assertEqual(bench.events.named("policy_unsettled"), [])

    def test_no_name(self) -> None:
        """What is not even a name is taken for what it is: a policy that fails."""
        nonsense = PolicyDecision(prepare=7)  # type: ignore[arg-type]  # what somebody else's may say
        policy = GuardedPolicy(ScriptedPolicy(lambda _: nonsense))
        bench = make_bench("a", "b")
        bench.switcher.use_policy(policy)
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake b"])
        self.assertTrue(self.flushLoggedErrors(TypeError))

    def test_one_at_a_time(self) -> None:
        """While one model is prepared no other one is, and after that the next one can be."""
        named = ["b"]
        policy = stays(None)
        decide = policy._decide

        def name(context: PolicyContext) -> PolicyDecision:
            decision = decide(context)
            return PolicyDecision(prepare=named[0]) if decision.target is None else decision

        policy._decide = name
        bench = make_bench("a", "b", "c", prepares="bc", policy=policy)
        bench.wake("a")
        bench.request("b")
        named[0] = "c"
        bench.request("c")
        self.assertEqual(bench.hooks.names(), ["wake a", "prepare b"])
        bench.exit()
        self.assertEqual(bench.hooks.names(), ["wake a", "prepare b", "prepare c"])

    def test_once(self) -> None:
        """A model is prepared once, and again only when it has been awake in between."""
        bench = make_bench()
        running = bench.wake("a")
        bench.request("b").leave()
        bench.exit()
        second = bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "prepare b"])
        running.finish()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        other = bench.request("a")
        second.finish()
        self.assertEqual(bench.answer(0, 0), ["sleep b", "wake a"])
        bench.request("b")
        self.assertEqual(bench.exit().hook, Hook.PREPARE)
        other.finish()

    def test_failure(self) -> None:
        """A failure changes nothing, and there is a pause before it is tried again."""
        bench = make_bench()
        running = bench.wake("a")
        bench.request("b")
        bench.exit(1)
        self.assertEqual(bench.states(), {"a": "draining", "b": "asleep"})
        bench.request("b")
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(2)
        bench.request("b")
        self.assertEqual(bench.exit(1).hook, Hook.PREPARE)
        failures = bench.sample("llmux_hook_failures_total", model="b", hook="prepare")
        self.assertEqual(failures, 2)
        running.finish()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertEqual(wakes(bench, "b", "no"), 1)


class NeverInTheWayTests(SynchronousTestCase):
    """It makes way for everything else."""

    def drain_to_b(self, *, stubborn: bool = False) -> tuple[Bench, Client, RunningHook]:
        """Let b be prepared while a has a request in flight."""
        bench = make_bench("a", "b", "c")
        bench.hooks.stubborn = {"b"} if stubborn else set()
        running = bench.wake("a")
        bench.request("b")
        return bench, running, hook_of(bench, "b")

    def test_it_goes_on_while_others_sleep(self) -> None:
        """What is being prepared goes on while the models sleep that have to go for it."""
        bench, running, prepare = self.drain_to_b()
        running.finish()
        self.assertEqual(hook_of(bench, "a").call.hook, Hook.SLEEP)
        self.assertFalse(prepare.stopped)
        prepare.exit()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertEqual(wakes(bench, "b", "yes"), 1)

    def test_it_is_ended_before_the_wake(self) -> None:
        """It is ended when its model is to be woken, and the wake begins when it has ended."""
        bench, running, prepare = self.drain_to_b(stubborn=True)
        running.finish()
        hook_of(bench, "a").exit()
        self.assertTrue(prepare.stopped)
        self.assertEqual([hook.call.hook for hook in bench.hooks.running], [Hook.PREPARE])
        prepare.time_out()
        self.assertEqual(bench.exit().hook, Hook.WAKE)
        self.assertEqual(wakes(bench, "b", "partly"), 1)
        failures = bench.sample("llmux_hook_failures_total", model="b", hook="prepare")
        self.assertEqual(failures, 0)
        self.assertEqual(bench.events.named("hook_failed"), [])

    def test_nobody_wants_it_any_more(self) -> None:
        """If a switch is called off, what is being prepared for it goes on to its end."""
        bench = make_bench()
        bench.wake("a")
        bench.request("b").leave()
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})
        self.assertFalse(hook_of(bench, "b").stopped)

    def test_another_model_is_woken(self) -> None:
        """A wake of another model does not wait, and what is being prepared goes on."""
        bench = make_bench("a", "b", "c")
        running = bench.wake("a")
        bench.request("b").leave()
        bench.request("c")
        running.finish()
        hook_of(bench, "a").exit()
        self.assertEqual(hook_of(bench, "c").call.hook, Hook.WAKE)
        self.assertFalse(hook_of(bench, "b").stopped)

    def test_an_operator_kills_its_model(self) -> None:
        """An order to kill its model ends it."""
        bench, _, prepare = self.drain_to_b(stubborn=True)
        bench.hooks.kill = {"b"}
        bench.switcher.order(Kind.KILL, "b")
        self.assertTrue(prepare.stopped)
        prepare.time_out()
        self.assertEqual(bench.hooks.running, [])

    def test_its_model_is_removed(self) -> None:
        """A model that the configuration has no longer is let go when its hook has been ended."""
        bench, _, prepare = self.drain_to_b(stubborn=True)
        bench.switcher.reconfigure({name: model_config(name) for name in "ac"})
        self.assertTrue(prepare.stopped)
        self.assertIn("b", bench.states())
        prepare.time_out()
        self.assertNotIn("b", bench.states())

    def test_its_model_is_changed(self) -> None:
        """What a script has prepared that the configuration has no longer does not count."""
        bench, running, prepare = self.drain_to_b()
        changed = {**{name: model_config(name) for name in "ac"}, "b": model_config("b", wake="x")}
        bench.switcher.reconfigure(changed)
        prepare.exit()
        self.assertEqual(bench.exit().hook, Hook.PREPARE)
        running.finish()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertEqual(wakes(bench, "b", "yes"), 1)

    def test_its_model_is_to_be_stopped(self) -> None:
        """A model that has to be stopped is stopped when its hook has been ended."""
        asleep = {"needs": ({"gpu": 1.0},), "asleep_needs": {"ram": 1.0}, "stop": "stop b"}
        bench = Bench(
            [
                model_config("a", needs=({"gpu": 1.0},)),
                model_config("b", **asleep),
                model_config("c", needs=({"ram": 2.0},)),
            ],
            resources={"gpu": 1.0, "ram": 2.0},
        )
        bench.hooks.prepares, bench.hooks.stops = {"b"}, {"b"}
        bench.wake("b").finish()
        bench.request("a")
        bench.answer(0, 0)
        bench.request("b")
        prepare = hook_of(bench, "b")
        bench.hooks.stubborn = {"b"}
        self.assertEqual(prepare.call.hook, Hook.PREPARE)
        bench.switcher.models["b"].waiting.take()
        bench.request("c")
        self.assertTrue(prepare.stopped)
        prepare.time_out()
        self.assertEqual(bench.answer(0, 0), ["stop b", "wake c"])

    def test_shutdown(self) -> None:
        """When llmux ends, what is being prepared is ended at once, and waited for."""
        bench, running, prepare = self.drain_to_b(stubborn=True)
        closed = Deferred.fromCoroutine(bench.switcher.close(5.0, sleep_models=False))
        self.assertTrue(prepare.stopped)
        running.finish()
        self.assertNoResult(closed)
        prepare.time_out()
        self.successResultOf(closed)
        self.assertEqual(bench.hooks.names(), ["wake a", "prepare b"])

    def test_restart(self) -> None:
        """What another llmux has left of it is ended at once."""
        bench = make_bench()
        stopped: list[str] = []
        self.patch(bench.hooks, "stop", stopped.append)
        leftover = Leftover("b", Hook.PREPARE, ProcessId(4711, 1, "boot"), 120.0)
        bench.switcher.start(Memory({"b": ModelRecord("asleep")}, (leftover,)))
        self.assertEqual(stopped, ["b"])
        self.assertEqual([left for left, _ in bench.hooks.finishing], [leftover])


class BenefitTests(SynchronousTestCase):
    """What it was good for."""

    def in_vain(self, bench: Bench) -> list[tuple[str, str]]:
        """Give who was prepared in vain, and for whom."""
        return [
            (event["model"], event["woken"]) for event in bench.events.named("prepared_in_vain")
        ]

    def test_times(self) -> None:
        """Wakes of prepared models are measured apart from all others."""
        bench = make_bench()
        running = bench.wake("a")
        bench.request("b")
        bench.clock.advance(7)
        bench.exit()
        running.finish()
        bench.exit()
        bench.clock.advance(3)
        bench.exit()
        prepared = {"model": "b", "prepared": "yes"}
        self.assertEqual(bench.sample("llmux_wake_duration_seconds_sum", **prepared), 3)
        self.assertEqual(wakes(bench, "a", "no"), 1)
        cost = {"model": "b", "hook": "prepare"}
        self.assertEqual(bench.sample("llmux_hook_duration_seconds_sum", **cost), 7)

    def test_in_vain(self) -> None:
        """That another model was woken instead is told, once."""
        bench = make_bench("a", "b", "c")
        running = bench.wake("a")
        bench.request("b").leave()
        bench.exit()
        client = bench.request("c")
        running.finish()
        bench.answer(0, 0)
        self.assertEqual(self.in_vain(bench), [("b", "c")])
        self.assertEqual(bench.sample("llmux_prepared_in_vain_total", model="b"), 1)
        bench.request("a")
        client.finish()
        bench.answer(0, 0)
        self.assertEqual(self.in_vain(bench), [("b", "c")])

    def test_not_in_vain(self) -> None:
        """A model that was woken next was not prepared in vain."""
        bench = make_bench()
        running = bench.wake("a")
        bench.request("b")
        bench.exit()
        running.finish()
        bench.answer(0, 0)
        self.assertEqual(self.in_vain(bench), [])

    def test_status(self) -> None:
        """The status tells of it as of every other hook; that it had to make way is no failure."""
        bench = make_bench()
        running = bench.wake("a")
        bench.request("b")
        told = [prepare_of(bench)]
        running.finish()
        hook_of(bench, "a").exit()
        told.append(prepare_of(bench))
        self.assertEqual(told, [("running", "prepare"), ("stopped", "prepare")])

    def test_elsewhere(self) -> None:
        """A model that is woken where the prepared one can never be says nothing about it."""
        places = {"a": "gpu0", "b": "gpu0", "c": "gpu1"}
        models = [model_config(name, needs=({gpu: 1.0},)) for name, gpu in places.items()]
        bench = Bench(models, resources={"gpu0": 1.0, "gpu1": 1.0})
        bench.hooks.prepares = {"b"}
        bench.wake("a")
        bench.request("b").leave()
        bench.exit()
        bench.wake("c")
        self.assertEqual(self.in_vain(bench), [])
        self.assertEqual(bench.switcher.budget, Budget.of({"gpu0": 1.0, "gpu1": 1.0}))
