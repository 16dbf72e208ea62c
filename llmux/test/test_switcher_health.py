"""The switcher and engines that die: who notices, what is done, and what their requests see."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import ModelUnavailable, RequestTimedOut
from llmux.hooks.contract import Hook, HookResult, Reason
from llmux.lease import Outcome, Revocation
from llmux.test.fakes import model_config
from llmux.test.switching import Bench, Client


def awake(*, alive: bool = True, **settings: object) -> tuple[Bench, Client]:
    """Make a bench on which a is awake, and has answered a request; and another request of its."""
    config = model_config("a", **settings)
    bench = Bench([config, "b"], alive=frozenset({"a"}) if alive else frozenset())
    bench.wake("a").finish()
    return bench, bench.request("a")


class WakeTests(SynchronousTestCase):
    """Awake means able to serve."""

    def test_alive_is_asked_until_it_agrees(self) -> None:
        """Nobody is served before alive has agreed."""
        bench = Bench(alive=frozenset({"a"}))
        client = bench.request("a")
        self.assertEqual(bench.answer(0, 1), ["wake a", "alive a"])
        self.assertEqual(bench.states()["a"], "waking")
        bench.clock.advance(0.5)
        self.assertEqual(bench.answer(0), ["alive a"])
        self.assertIsNotNone(client.lease)
        self.assertEqual(bench.hooks.calls[1].reason, Reason.REQUEST)

    def test_time_to_serve_is_learnt(self) -> None:
        """What waking costs includes the time until alive agrees."""
        bench = Bench(alive=frozenset({"a"}))
        bench.request("a")
        bench.clock.advance(3)
        bench.exit()
        bench.clock.advance(2)
        bench.exit()
        self.assertEqual(bench.costs.wake["a"], 5)

    def test_alive_that_agreed_before(self) -> None:
        """A wake after which alive does not agree within the wake's deadline has failed."""
        bench = Bench([model_config("a", wake_timeout_secs=20.0), "b"], alive=frozenset({"a"}))
        bench.wake("a").finish()
        other = bench.request("b")
        bench.answer(0, 0)
        other.finish()
        bench.hooks.script = lambda call: (1, 0.1) if call.hook is Hook.ALIVE else (0, 1.0)
        client = bench.request("a")
        bench.clock.advance(19)
        self.assertIsNone(client.error)
        bench.clock.advance(5)
        self.assertIsInstance(client.error, ModelUnavailable)
        (event,) = bench.events.named("switch_failed")
        self.assertIn("the wake hook succeeded, but the alive hook exited", event["error"])

    def test_alive_that_never_agreed(self) -> None:
        """An alive that never agreed is warned about after a while, and not believed."""
        bench = Bench(alive=frozenset({"a"}))
        client = bench.request("a")
        bench.hooks.script = lambda call: (1, 0.1)
        bench.exit()
        bench.clock.advance(12)
        self.assertIsNotNone(client.lease)
        (event,) = bench.events.named("alive_doubted")
        self.assertEqual(event["model"], "a")
        client.finish()
        bench.clock.advance(100)
        self.assertEqual(bench.states()["a"], "awake", "it is not believed later, either")

    def test_doubted_alive_costs_time_only_once(self) -> None:
        """An alive that did not agree after a wake is asked once after the next one."""
        bench = Bench(alive=frozenset({"a"}))
        client = bench.request("a")
        bench.hooks.script = lambda call: (int(call.hook is Hook.ALIVE), 0.1)
        bench.exit()
        bench.clock.advance(12)
        client.finish()
        other = bench.request("b")
        bench.clock.advance(1)
        other.finish()
        asked = bench.request("a")
        began = bench.clock.seconds()
        bench.clock.advance(1)
        assert asked.lease is not None
        self.assertLess(asked.lease.granted_at - began, 1)


class RefusedTests(SynchronousTestCase):
    """A request finds that nobody listens."""

    def test_it_is_served_after_all(self) -> None:
        """The model is examined, cleaned up after, woken again, and answers the request."""
        bench, client = awake()
        again = client.is_refused()
        self.assertEqual(bench.answer(1, 0, 0, 0), ["alive a", "sleep a", "wake a", "alive a"])
        reasons = [call.reason for call in bench.hooks.calls[-4:]]
        self.assertEqual(reasons[:2], [Reason.BACKEND_DOWN, Reason.BACKEND_DOWN])
        self.assertIsNotNone(again.lease)
        (event,) = bench.events.named("model_down")
        self.assertEqual((event["model"], event["cause"]), ("a", "nobody listens at its address"))

    def test_without_an_alive(self) -> None:
        """That nobody listens is enough where there is no alive to ask."""
        bench, client = awake(alive=False)
        again = client.is_refused()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake a"])
        self.assertIsNotNone(again.lease)

    def test_healthy_after_all(self) -> None:
        """If alive agrees the request is simply sent again; nothing is put to sleep."""
        bench, client = awake()
        again = client.is_refused()
        self.assertIsNone(again.lease)
        self.assertEqual(bench.answer(0), ["alive a"])
        self.assertIsNotNone(again.lease)

    def test_nobody_else_runs_into_it(self) -> None:
        """While the model is examined, new requests for it wait."""
        bench, client = awake()
        client.is_refused()
        later = bench.request("a")
        self.assertIsNone(later.lease)
        bench.answer(0)
        self.assertIsNotNone(later.lease)

    def test_old_place_and_old_clock(self) -> None:
        """The request keeps its place in the queue, and its waiting is counted from its arrival."""
        bench, client = awake(request_timeout_secs=30.0)
        bench.clock.advance(10)
        later = bench.request("a")
        assert later.lease is not None
        self.assertEqual(later.order, 3)
        late, early = later.is_refused(), client.is_refused()
        bench.clock.advance(5)
        self.assertEqual(bench.switcher.waiting_before(early.waiting), 0)
        self.assertEqual(bench.switcher.waiting_before(late.waiting), 1)
        bench.clock.advance(15)
        self.assertIsInstance(early.error, RequestTimedOut)
        self.assertIsNone(late.error)
        bench.clock.advance(10)
        self.assertIsInstance(late.error, RequestTimedOut)

    def test_answers_that_go_on(self) -> None:
        """A model from which answers are coming has only more to do than it takes."""
        bench, client = awake(alive=False)
        stream = bench.request("a")
        assert stream.lease is not None
        stream.lease.heard_at = bench.clock.seconds
        again = client.is_refused()
        bench.clock.advance(1)
        self.assertEqual(bench.states()["a"], "awake")
        self.assertIsNotNone(again.lease)
        self.assertIsNone(stream.lease.revoked)

    def test_answers_that_have_ended_do_not_count(self) -> None:
        """A model that answered a moment ago can be down by now."""
        bench, client = awake(alive=False)
        stream = bench.request("a")
        assert stream.lease is not None
        before = bench.clock.seconds()
        stream.lease.heard_at = lambda: before
        client.is_refused()
        bench.clock.advance(1)
        self.assertIs(stream.lease.revoked, Revocation.BACKEND_DOWN)

    def test_model_that_flaps(self) -> None:
        """A model that falls twice without having answered anything has a back-off."""
        bench = Bench()
        client = bench.wake("a")
        again = client.is_refused()
        bench.answer(0, 0)
        assert again.lease is not None
        again.finish(Outcome.REFUSED)
        self.assertEqual(bench.answer(0), ["sleep a"])
        refused = bench.request("a")
        self.assertIsInstance(refused.error, ModelUnavailable)
        other = bench.wake("b")
        self.assertIsNotNone(other.lease)
        bench.clock.advance(2)
        self.assertIsNone(bench.request("a").error)

    def test_model_that_nobody_wants_any_more(self) -> None:
        """A model that is down and that nobody waits for is asleep."""
        bench, client = awake(alive=False)
        again = client.is_refused()
        again.leave()
        self.assertEqual(bench.answer(0), ["sleep a"])
        self.assertEqual(bench.states()["a"], "asleep")
        self.assertEqual(bench.hooks.running, [])

    def test_lease_of_an_earlier_life(self) -> None:
        """A refusal of before the model was woken again says nothing about it now."""
        bench, client = awake(alive=False, drain_before_switch=False)
        other = bench.request("b")
        bench.answer(0, 0)
        other.finish()
        bench.clock.advance(1)
        bench.request("a")
        bench.answer(0, 0)
        again = client.is_refused()
        self.assertIsNotNone(again.lease)
        self.assertEqual(bench.hooks.running, [])


class ClockTests(SynchronousTestCase):
    """A model is asked by the clock whether it is healthy."""

    def run_alive(self, bench: Bench, seconds: float) -> int:
        """Let time pass with an alive that fails; say how often it was asked."""
        before = bench.hooks.names().count("alive a")
        bench.hooks.script = lambda call: (1, 0.1) if call.hook is Hook.ALIVE else (0, 0.1)
        bench.clock.advance(seconds)
        return bench.hooks.names().count("alive a") - before

    def test_three_failures(self) -> None:
        """A model whose alive fails three times in a row is down; its requests are ended."""
        bench, stuck = awake()
        assert stuck.lease is not None
        self.run_alive(bench, 40)
        self.assertEqual(bench.states()["a"], "awake")
        bench.clock.advance(6)
        self.assertIs(stuck.lease.revoked, Revocation.BACKEND_DOWN)
        stuck.finish(Outcome.ABORTED)
        bench.clock.advance(2)
        self.assertEqual(bench.states()["a"], "asleep")
        (event,) = bench.events.named("model_down")
        self.assertIn("3 times", event["cause"])

    def test_answers_prove_life(self) -> None:
        """A failure does not count while bytes of answers have come within the interval."""
        bench, busy = awake()
        assert busy.lease is not None
        busy.lease.heard_at = bench.clock.seconds
        self.assertGreater(self.run_alive(bench, 200), 10)
        self.assertEqual(bench.states()["a"], "awake")

    def test_failures_in_a_row(self) -> None:
        """A model that is healthy in between is not down."""
        bench, _ = awake()
        count = iter(range(1000))
        bench.hooks.script = lambda call: (int(next(count) % 3 != 2), 0.1)
        bench.clock.advance(300)
        self.assertEqual(bench.states()["a"], "awake")

    def test_alive_that_cannot_be_run(self) -> None:
        """An alive that llmux cannot even start says nothing about its model."""
        bench, _ = awake()
        for _ in range(5):
            bench.clock.advance(15)
            (asked,) = bench.hooks.running
            asked.ended.callback(HookResult(seconds=0.0, error="Too many open files"))
        self.assertEqual(bench.events.named("model_down"), [])

    def test_no_interval(self) -> None:
        """Without an interval nobody asks."""
        bench, _ = awake(alive_interval_secs=None)
        self.assertEqual(self.run_alive(bench, 300), 0)

    def test_not_beside_other_hooks(self) -> None:
        """An alive that runs when its model has to go is ended first."""
        bench, client = awake()
        client.finish()
        bench.clock.advance(15)
        (asked,) = bench.hooks.running
        self.assertEqual((asked.call.hook, asked.call.reason), (Hook.ALIVE, Reason.HEALTH))
        bench.request("b")
        self.assertEqual([hook.call.hook for hook in bench.hooks.running], [Hook.SLEEP])
        self.assertTrue(asked.stopped)

    def test_wedged_during_a_drain(self) -> None:
        """A model that hangs while it is drained does not hold up who waits for another one."""
        bench, stuck = awake()
        waiting = bench.request("b")
        self.run_alive(bench, 50)
        assert stuck.lease is not None
        self.assertIs(stuck.lease.revoked, Revocation.BACKEND_DOWN)
        stuck.finish(Outcome.ABORTED)
        bench.clock.advance(5)
        self.assertIsNotNone(waiting.lease)


class DrainTests(SynchronousTestCase):
    """How long a model waits before it goes to sleep."""

    def test_deadline(self) -> None:
        """At its deadline a drain wants back what is left, and goes on when it has it."""
        bench, slow = awake(alive=False, drain_timeout_secs=30.0)
        waiting = bench.request("b")
        assert slow.lease is not None
        bench.clock.advance(29.9)
        self.assertIsNone(slow.lease.revoked)
        bench.clock.advance(0.2)
        self.assertIs(slow.lease.revoked, Revocation.DRAIN_TIMEOUT)
        slow.finish(Outcome.ABORTED)
        bench.clock.advance(1.1)
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertIsNotNone(waiting.lease)

    def test_lease_that_is_not_given_back(self) -> None:
        """Who does not give back a lease that is wanted back is not waited for, either."""
        bench, _ = awake(alive=False, drain_timeout_secs=30.0)
        bench.request("b")
        bench.clock.advance(34.9)
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(0.2)
        self.assertEqual(bench.answer(0), ["sleep a"])

    def test_engine_that_is_aborting(self) -> None:
        """After an answer was broken off its model is left alone for a moment."""
        bench, client = awake(alive=False, settle_secs=3.0)
        bench.request("b")
        client.finish(Outcome.ABORTED)
        bench.clock.advance(2.9)
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(0.2)
        self.assertEqual(bench.answer(0), ["sleep a"])

    def test_answers_that_end_by_themselves(self) -> None:
        """Nothing is waited for after an answer that came to its end."""
        bench, client = awake(alive=False, settle_secs=3.0)
        bench.request("b")
        client.finish(Outcome.COMPLETE)
        self.assertEqual(bench.answer(0), ["sleep a"])
