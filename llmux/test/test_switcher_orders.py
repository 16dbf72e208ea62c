"""What operators have done with models."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.hooks.contract import Hook, Reason
from llmux.lease import Outcome, Revocation
from llmux.orders import Kind, OrderFailed
from llmux.test.fakes import ScriptedPolicy, model_config
from llmux.test.switching import Bench


class OrderTests(SynchronousTestCase):
    def test_wake(self) -> None:
        """A model is woken without a request, and the answer says how long it took."""
        bench = Bench()
        done = bench.switcher.order(Kind.WAKE, "a")
        bench.clock.advance(3)
        call = bench.exit()
        self.assertEqual((call.hook, call.reason), (Hook.WAKE, Reason.OPERATOR))
        self.assertEqual(self.successResultOf(done), "a is awake, after 3.0 s")

    def test_wake_makes_room(self) -> None:
        """Who has to go for the model goes, when its requests have ended."""
        bench = Bench()
        client = bench.wake("a")
        done = bench.switcher.order(Kind.WAKE, "b")
        self.assertEqual(bench.hooks.running, [])
        client.finish()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.successResultOf(done)

    def test_nothing_to_be_done(self) -> None:
        """What is so already is answered at once."""
        bench = Bench()
        bench.wake("a").finish()
        order = bench.switcher.order
        self.assertEqual(self.successResultOf(order(Kind.WAKE, "a")), "a was awake already")
        self.assertEqual(self.successResultOf(order(Kind.SLEEP, "b")), "b was asleep already")
        self.assertEqual(self.successResultOf(order(Kind.KILL, "b")), "b was asleep already")

    def test_wake_that_fails(self) -> None:
        """The answer says why; and the model is cleaned up after."""
        bench = Bench()
        done = bench.switcher.order(Kind.WAKE, "a")
        bench.exit(1)
        failed = self.failureResultOf(done, OrderFailed).value
        self.assertEqual((str(failed), failed.tried), ("the wake hook exited with status 1", True))
        self.assertEqual(bench.answer(0), ["sleep a"])

    def test_order_wins_over_a_back_off(self) -> None:
        """Whoever orders a wake has seen to it that it can work now."""
        bench = Bench()
        bench.request("a")
        bench.answer(1, 0)
        done = bench.switcher.order(Kind.WAKE, "a")
        self.assertEqual(bench.answer(0), ["wake a"])
        self.successResultOf(done)

    def test_order_wins_over_a_cool_down(self) -> None:
        """What keeps policies from switching too often does not keep an operator."""
        bench = Bench([model_config("a", min_active_secs=600.0), "b"])
        bench.wake("a").finish()
        done = bench.switcher.order(Kind.SLEEP, "a")
        self.assertEqual(bench.answer(0), ["sleep a"])
        self.assertEqual(self.successResultOf(done), "a is asleep, after 0.0 s")

    def test_sleep_waits_for_requests(self) -> None:
        """A model that is to sleep takes no new requests, and answers those that it has."""
        bench = Bench()
        client = bench.wake("a")
        done = bench.switcher.order(Kind.SLEEP, "a")
        later = bench.request("a")
        self.assertIsNone(later.lease)
        client.finish()
        call = bench.exit()
        self.assertEqual((call.source, call.target, call.reason), ("a", "idle", Reason.OPERATOR))
        self.successResultOf(done)
        self.assertEqual(bench.answer(0), ["wake a"], "for the request that came meanwhile")
        self.assertIsNotNone(later.lease)

    def test_sleep_that_fails(self) -> None:
        """A model that would not sleep goes on serving, and the answer says why."""
        bench = Bench()
        bench.wake("a").finish()
        done = bench.switcher.order(Kind.SLEEP, "a")
        bench.answer(1, 1)
        failed = self.failureResultOf(done, OrderFailed).value
        self.assertIn("a did not go to sleep: the sleep hook exited with status 1", str(failed))
        self.assertEqual(bench.states()["a"], "awake")

    def test_kill_cuts(self) -> None:
        """A model that is to be killed gives its requests back at once."""
        bench = Bench()
        bench.hooks.kill = {"a"}
        client = bench.wake("a")
        done = bench.switcher.order(Kind.KILL, "a")
        assert client.lease is not None
        self.assertIs(client.lease.revoked, Revocation.KILLED)
        client.finish(Outcome.ABORTED)
        bench.clock.advance(1.1)
        self.assertEqual(bench.answer(0), ["kill a"])
        self.assertEqual(self.successResultOf(done), "a was killed, after 1.1 s")

    def test_kill_without_a_hook(self) -> None:
        """Without a kill hook the sleep hook has to do."""
        bench = Bench()
        bench.wake("a").finish()
        done = bench.switcher.order(Kind.KILL, "a")
        self.assertEqual(bench.answer(0), ["sleep a"])
        self.successResultOf(done)

    def test_kill_of_what_is_waking(self) -> None:
        """A wake that hangs is ended by a kill; the next request is served."""
        bench = Bench()
        bench.hooks.kill = {"a"}
        bench.request("a")
        done = bench.switcher.order(Kind.KILL, "a")
        self.assertEqual(bench.answer(0), ["kill a"])
        self.successResultOf(done)
        self.assertEqual(bench.states()["a"], "asleep")
        bench.clock.advance(2)
        self.assertIsNotNone(bench.wake("a").lease)

    def test_kill_of_what_waits_for_alive(self) -> None:
        """A model that is asked over and over whether it is alive can be killed, too."""
        bench = Bench(alive=frozenset({"a"}))
        bench.hooks.kill = {"a"}
        bench.request("a")
        bench.answer(0, 1)
        done = bench.switcher.order(Kind.KILL, "a")
        bench.clock.advance(2)
        self.assertEqual(bench.answer(0), ["kill a"])
        self.successResultOf(done)

    def test_order_comes_before_policies(self) -> None:
        """A drain that a policy wanted is called off for an order, and begun anew after it."""
        bench = Bench(["a", "b", "c"])
        client = bench.wake("a")
        waiting = bench.request("b")
        done = bench.switcher.order(Kind.WAKE, "c")
        client.finish()
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake c"])
        self.successResultOf(done)
        self.assertEqual(bench.answer(0, 0), ["sleep c", "wake b"])
        self.assertIsNotNone(waiting.lease)

    def test_kill_comes_before_a_sleep_that_waits(self) -> None:
        """A sleep that waits for requests without end is helped by a kill."""
        bench = Bench()
        client = bench.wake("a")
        sleep = bench.switcher.order(Kind.SLEEP, "a")
        kill = bench.switcher.order(Kind.KILL, "a")
        client.finish(Outcome.ABORTED)
        bench.clock.advance(2)
        self.assertEqual(bench.answer(0), ["sleep a"])
        self.successResultOf(sleep)
        self.successResultOf(kill)

    def test_policies_hear_nothing_of_it(self) -> None:
        """A policy is not asked about an order."""
        policy = ScriptedPolicy(lambda context: self.fail("it was asked"))
        bench = Bench(policy=policy)
        bench.switcher.order(Kind.WAKE, "a")
        bench.answer(0)
        bench.switcher.order(Kind.SLEEP, "a")
        bench.answer(0)
        self.assertEqual(policy.contexts, [])

    def test_end(self) -> None:
        """Orders that have not been begun when llmux ends are answered."""
        bench = Bench()
        bench.wake("a")
        waiting = bench.switcher.order(Kind.WAKE, "b")
        bench.switcher.stop()
        self.assertIn("shutting down", str(self.failureResultOf(waiting, OrderFailed).value))
        late = bench.switcher.order(Kind.WAKE, "b")
        self.assertFalse(self.failureResultOf(late, OrderFailed).value.tried)
