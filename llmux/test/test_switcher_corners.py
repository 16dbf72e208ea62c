"""The switcher when several things happen at once, or just one moment apart."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from llmux.config import Adoption
from llmux.errors import ModelUnavailable, UnknownModel
from llmux.hooks.contract import Hook, HookResult, Reason
from llmux.journal import Memory, ModelRecord
from llmux.lease import Outcome
from llmux.orders import Kind, OrderFailed
from llmux.policy import FifoPolicy, PolicyContext, PolicyDecision
from llmux.test.fakes import ScriptedPolicy, model_config
from llmux.test.switching import Bench, Client


def release_when_revoked(client: Client) -> None:
    """Let a request end in the moment when its lease is wanted back."""
    assert client.lease is not None
    lease = client.lease
    lease.on_revoked(lambda why: lease.release(Outcome.ABORTED))


class KillTests(SynchronousTestCase):
    """An operator's kill, whatever is going on."""

    def test_request_that_ends_in_the_same_moment(self) -> None:
        """A kill does not end its own hook, also where its requests are given back at once."""
        bench = Bench([model_config("a", settle_secs=0.0)])
        bench.hooks.kill = {"a"}
        release_when_revoked(bench.wake("a"))
        done = bench.switcher.order(Kind.KILL, "a")
        (hook,) = bench.hooks.running
        self.assertEqual((hook.call.hook, hook.stopped), (Hook.KILL, False))
        self.assertIs(hook.call.reason, Reason.OPERATOR)
        bench.exit(0)
        self.assertEqual(self.successResultOf(done), "a was killed, after 0.0 s")

    def test_second_kill(self) -> None:
        """An impatient operator does not end the kill that runs."""
        bench = Bench()
        bench.hooks.kill = {"a"}
        bench.wake("a").finish()
        first = bench.switcher.order(Kind.KILL, "a")
        second = bench.switcher.order(Kind.KILL, "a")
        self.assertFalse(bench.hooks.running[0].stopped)
        self.assertEqual(bench.answer(0), ["kill a"])
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(second), "a was asleep already")

    def test_kill_that_fails_is_tried_as_a_kill_again(self) -> None:
        """A kill whose first try was a clean-up's begins with kill, and not with sleep."""
        bench = Bench()
        bench.hooks.kill = {"a"}
        bench.request("a")
        bench.switcher.order(Kind.KILL, "a")
        self.assertEqual(bench.answer(1), ["kill a"])
        self.assertEqual([hook.call.hook for hook in bench.hooks.running], [Hook.KILL])

    def test_kill_while_alive_is_asked(self) -> None:
        """An alive that was ended says nothing: the model does not count as gone."""
        bench = Bench(alive=frozenset({"a"}))
        bench.hooks.kill = {"a"}
        bench.hooks.stubborn = {"a"}
        bench.wake("a").finish()
        bench.request("b")
        bench.exit(1)
        done = bench.switcher.order(Kind.KILL, "a")
        bench.exit(1)  # it answers the TERM with a status of its own
        self.assertEqual(bench.answer(0, 0), ["kill a", "wake b"])
        self.successResultOf(done)


class OrderTests(SynchronousTestCase):
    """Orders that come at an odd moment."""

    def test_order_that_needs_nothing(self) -> None:
        """Waking what is awake changes nothing, least of all how long a drain may take."""
        bench = Bench([model_config("a", drain_timeout_secs=10.0), "b"])
        client = bench.wake("a")
        bench.request("b")
        for _ in range(5):
            bench.clock.advance(2)
            done = bench.switcher.order(Kind.WAKE, "a")
            self.assertEqual(self.successResultOf(done), "a was awake, and about to go")
        assert client.lease is not None
        self.assertIsNotNone(client.lease.revoked)

    def test_back_off_after_an_order(self) -> None:
        """A wake that was ordered and fails begins a new back-off, as the first failure."""
        bench = Bench()
        for _ in range(3):
            bench.request("a")
            bench.answer(1, 0)
            bench.clock.advance(60)
        bench.switcher.order(Kind.WAKE, "a").addErrback(lambda failed: None)
        bench.answer(1, 0)
        bench.clock.advance(2)
        self.assertIsNone(bench.request("a").error)

    def test_model_that_is_removed(self) -> None:
        """A wake whose model is removed while another one drains for it is not carried out."""
        bench = Bench()
        bench.wake("a")
        done = bench.switcher.order(Kind.WAKE, "b")
        self.successResultOf(bench.switcher.reconfigure({"a": model_config("a")}))
        self.assertFalse(self.failureResultOf(done, OrderFailed).value.tried)
        self.assertIsNotNone(bench.request("a").lease)

    def test_orders_that_wait_at_the_end(self) -> None:
        """An order whose turn has not come when llmux ends is answered."""
        bench = Bench()
        bench.request("a")
        done = bench.switcher.order(Kind.SLEEP, "a")
        bench.switcher.stop()
        self.assertIn("shutting down", str(self.failureResultOf(done, OrderFailed).value))

    def test_whom_an_order_woke_stays(self) -> None:
        """A model that had to leave for nothing does not come back over one that was ordered."""
        bench = Bench([model_config("a"), "b", model_config("c", min_active_secs=60.0)])
        bench.wake("a").finish()
        bench.request("b")
        bench.request("a")
        bench.answer(0, 1)
        bench.switcher.order(Kind.WAKE, "c")
        self.assertEqual(bench.answer(0, 0), ["sleep b", "wake c"])
        self.assertEqual(bench.hooks.running, [])
        self.assertEqual(bench.states()["c"], "awake")


class DrainTests(SynchronousTestCase):
    """The last moments of a drain."""

    def test_waiter_that_leaves_for_another(self) -> None:
        """When nobody waits for one model but somebody for another, the drain simply goes on."""
        bench = Bench([model_config("a", drain_timeout_secs=4.0), "b", "c"])
        client = bench.wake("a")
        leaver = bench.request("b")
        bench.request("c")
        bench.clock.advance(3)
        leaver.leave()
        bench.clock.advance(1)
        assert client.lease is not None
        self.assertIsNotNone(client.lease.revoked)

    def test_alive_that_takes_its_time_to_end(self) -> None:
        """Who leaves while an alive is being ended still calls the switch off."""
        bench = Bench(alive=frozenset({"a"}))
        bench.hooks.stubborn = {"a"}
        bench.wake("a").finish()
        bench.clock.advance(15)
        waiting = bench.request("b")
        self.assertEqual([hook.call.hook for hook in bench.hooks.running], [Hook.ALIVE])
        waiting.leave()
        bench.hooks.running[0].time_out()
        self.assertEqual(bench.hooks.running, [])
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})
        bench.clock.advance(15)
        self.assertEqual(len(bench.hooks.running), 1, "it is looked after again")

    def test_lease_that_comes_late(self) -> None:
        """An engine gets its time also after a request that was given back at the last moment."""
        bench = Bench([model_config("a", drain_timeout_secs=10.0, settle_secs=3.0), "b"])
        client = bench.wake("a")
        bench.request("b")
        bench.clock.advance(14.5)
        client.finish(Outcome.ABORTED)
        bench.clock.advance(2.9)
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(0.2)
        self.assertEqual(len(bench.hooks.running), 1)


class HookTests(SynchronousTestCase):
    """What hooks say, read closely."""

    def test_sleep_that_could_not_be_started(self) -> None:
        """A model whose sleep could not even be started goes on serving."""
        bench = Bench()
        bench.wake("a").finish()
        waiting = bench.request("b")
        for _ in range(2):
            (hook,) = bench.hooks.running
            hook.ended.callback(HookResult(seconds=0.0, error="Too many open files"))
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertEqual(bench.states()["a"], "awake")

    def test_deadline_of_alive_after_wake(self) -> None:
        """The time in which alive has to agree counts from the start of wake."""
        bench = Bench([model_config("a", wake_timeout_secs=20.0)], alive=frozenset({"a"}))
        bench.switcher.models["a"].health.agreed = "alive a"
        client = bench.request("a")
        bench.clock.advance(15)
        bench.hooks.script = lambda call: (1, 0.1)
        bench.exit()
        bench.clock.advance(6)
        self.assertIsInstance(client.error, ModelUnavailable)

    def test_two_answers_of_which_one_goes_on(self) -> None:
        """One answer that goes on is enough to show that a backend is there."""
        bench = Bench()
        client, one, other = bench.wake("a"), bench.request("a"), bench.request("a")
        before = bench.clock.seconds()
        assert one.lease is not None
        assert other.lease is not None
        one.lease.heard_at = lambda: before
        other.lease.heard_at = bench.clock.seconds
        again = client.is_refused()
        bench.clock.advance(1)
        self.assertIsNotNone(again.lease)

    def test_a_minute_of_health(self) -> None:
        """A model that was awake for a minute is healthy, also if nobody asked it anything."""
        bench = Bench()
        client = bench.wake("a")
        bench.switcher.models["a"].wake_backoff.failures = 5
        bench.clock.advance(61)
        client.finish(Outcome.FAILED)
        bench.request("b")
        bench.answer(0)
        self.assertEqual(bench.switcher.models["a"].wake_backoff.failures, 0)

    def test_who_waits_for_a_model_that_flaps(self) -> None:
        """Who waits for a model that falls for the second time is refused at once."""
        bench = Bench()
        again = bench.wake("a").is_refused()
        bench.answer(0, 0)
        waiting = again.is_refused()
        self.assertIsInstance(waiting.error, ModelUnavailable)

    def test_first_failure_after_an_accident(self) -> None:
        """A model that fell once and then cannot be woken has the shortest back-off."""
        bench = Bench()
        client = bench.wake("a")
        client.is_refused()
        bench.answer(0, 1, 0)
        bench.clock.advance(2)
        self.assertIsNone(bench.request("a").error)

    def test_alive_that_was_believed_before_the_restart(self) -> None:
        """An alive that has agreed once is believed after a restart, too."""
        bench = Bench(alive=frozenset({"a"}))
        record = ModelRecord("asleep", 1, "alive a")
        bench.switcher.start(Memory(models={"a": record}))
        bench.exit(1)
        self.assertTrue(bench.switcher.models["a"].believes_alive)

    def test_alive_that_hangs_at_the_start(self) -> None:
        """A model whose alive says nothing may hold something: it is put to sleep first."""
        bench = Bench(alive=frozenset({"a"}))
        bench.switcher.start(Memory())
        bench.hooks.running[0].time_out()
        bench.request("b")
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])

    def test_end_during_the_start(self) -> None:
        """What is being asked at the start is ended when llmux ends, and nothing is forgotten."""
        noted: list[int] = []
        bench = Bench(alive=frozenset({"a"}))
        bench.hooks.stubborn = {"a"}
        bench.switcher._remember = lambda: noted.append(1)
        bench.switcher.start(Memory(models={"a": ModelRecord("awake")}))
        closed = Deferred.fromCoroutine(bench.switcher.close(10.0, False))
        (hook,) = bench.hooks.running
        self.assertTrue(hook.stopped)
        self.assertNoResult(closed)
        hook.time_out()
        self.successResultOf(closed)
        self.assertEqual(noted, [], "what was noted before counts on")


class ReloadTests(SynchronousTestCase):
    """Other configurations, at an odd moment."""

    def test_new_model_is_not_awake_by_being_alive(self) -> None:
        """While others hold something a new model is not adopted as awake."""
        configs = {
            "a": model_config("a"),
            "b": model_config("b", alive="alive b", adopt=Adoption.ALIVE),
        }
        bench = Bench(["a"], alive=frozenset({"b"}))
        bench.wake("a")
        bench.switcher.reconfigure(configs)
        bench.exit(0)
        self.assertEqual(bench.states()["b"], "sleeping")

    def test_health_is_asked_on(self) -> None:
        """Reloads do not put off the next question about a model's health."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a")
        configs = {name: model.config for name, model in bench.switcher.models.items()}
        for _ in range(4):
            bench.clock.advance(5)
            self.successResultOf(bench.switcher.reconfigure(configs))
        self.assertEqual(len(bench.hooks.running), 1)

    def test_removed_model_of_a_refused_request(self) -> None:
        """A request whose model is gone when it finds nobody hears that there is none."""
        bench = Bench()
        client = bench.wake("a")
        self.successResultOf(bench.switcher.reconfigure({"b": model_config("b")}))
        self.assertIsInstance(client.is_refused().error, UnknownModel)

    def test_estimate_for_a_model_that_has_gone(self) -> None:
        """Whoever asks about a model that has just gone gets an answer."""
        self.assertEqual(Bench().switcher.estimate("gone"), 1)

    def test_settling_that_fails(self) -> None:
        """A failure in what others make of another configuration stops no switch."""
        bench = Bench()
        bench.switcher._roster._configured = lambda config: 1 / 0  # type: ignore[assignment]  # the fault
        client = bench.wake("a")
        moved = model_config("b", max_waiting=3)
        self.failureResultOf(
            bench.switcher.reconfigure({"a": model_config("a"), "b": moved}), ZeroDivisionError
        )
        client.finish()
        other = bench.request("b")
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertIsNotNone(other.lease)


class PolicyTests(SynchronousTestCase):
    def test_what_cannot_be_written_down(self) -> None:
        """A policy that has learnt what JSON cannot hold hurts nobody."""

        class Odd(FifoPolicy):
            def as_json(self) -> dict[str, object]:
                return {"odd": {1, 2}}

        bench = Bench(policy=Odd())
        self.assertEqual(bench.switcher.policy.as_json(), {})
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_open_until_the_sleep_hook(self) -> None:
        """A model that a policy keeps open while it drains is closed before its sleep hook runs."""

        def decide(context: PolicyContext) -> PolicyDecision:
            return PolicyDecision("b" if context.models["b"].waiting else "a", admit=True)

        bench = Bench(policy=ScriptedPolicy(decide), alive=frozenset({"a"}))
        client = bench.wake("a")
        bench.hooks.stubborn = {"a"}
        bench.clock.advance(15)
        bench.request("b")
        client.finish()
        late = bench.request("a")
        bench.hooks.running[0].time_out()
        if late.lease is not None:
            self.assertEqual(bench.hooks.running, [], "its request is waited for")
            late.finish()
        self.assertEqual([hook.call.hook for hook in bench.hooks.running], [Hook.SLEEP])
