"""What the switcher tells those who wait and those who serve: no room, your place, hurry up."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import TooManyWaiting
from llmux.policy import FifoPolicy, PolicyContext, PolicyDecision
from llmux.test.fakes import ScriptedPolicy, model_config
from llmux.test.switching import Bench


class BugTests(SynchronousTestCase):
    def test_nobody_is_left_behind(self) -> None:
        """A request that fails while it is queued does not wait on, nor hold anything later."""
        bench = Bench()
        bench.wake("a").finish()

        def broken() -> None:
            raise ZeroDivisionError

        broken_for_now = self.patch(bench.switcher._conductor, "consider", broken)
        self.assertRaises(ZeroDivisionError, bench.switcher.acquire, "b")
        broken_for_now.restore()
        self.assertEqual(bench.switcher.waiting("b"), 0)
        waiting = bench.request("b")
        bench.exit()
        bench.exit()
        waiting.finish()
        self.assertEqual(bench.switcher.in_flight("b"), 0)

    def test_costs_are_not_the_policys(self) -> None:
        """Whatever a policy does to what it is shown of costs, they stay as they were learnt."""

        def decide(context: PolicyContext) -> PolicyDecision:
            context.costs.wake["a"] = -1.0
            context.costs.pair.clear()
            return FifoPolicy().decide(context)

        bench = Bench(policy=ScriptedPolicy(decide))
        bench.wake("a").finish()
        learnt = bench.switcher.costs.copy()
        self.assertTrue(learnt.wake and learnt.pair)
        bench.request("b")
        self.assertEqual(bench.switcher.costs, learnt)


class MaxWaitingTests(SynchronousTestCase):
    def test_one_too_many(self) -> None:
        """A request that would be one too many to wait is refused at once, and leaves no trace."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench([model_config("a", max_waiting=2), "b"], policy)
        waiting = [bench.request("a"), bench.request("a")]
        before = list(policy.observed), len(policy.contexts)
        error = bench.request("a").error
        assert isinstance(error, TooManyWaiting)
        self.assertEqual((error.status, error.retry_after), (429, 10))
        self.assertEqual(
            error.message, "Too many requests are waiting for model a (2); try again in 10 s"
        )
        self.assertEqual((policy.observed, len(policy.contexts)), before)
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 2)
        bench.exit()
        self.assertTrue(all(client.lease for client in waiting))
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 0)

    def test_each_model_for_itself(self) -> None:
        """Who waits for one model takes nothing from those who want another one."""
        bench = Bench([model_config("a", max_waiting=1), model_config("b", max_waiting=1)])
        bench.request("a")
        self.assertIsNone(bench.request("b").error)
        self.assertIsInstance(bench.request("b").error, TooManyWaiting)

    def test_only_who_would_wait(self) -> None:
        """An awake model serves as many as come, however few may wait."""
        bench = Bench([model_config("a", max_waiting=1)])
        bench.wake("a")
        self.assertTrue(all(bench.request("a").lease for _ in range(5)))

    def test_who_leaves_makes_room(self) -> None:
        """When one who waits has left, another one may wait."""
        bench = Bench([model_config("a", max_waiting=1)])
        bench.request("a").leave()
        self.assertIsNone(bench.request("a").error)

    def test_those_who_wait_for_a_place(self) -> None:
        """Who waits for a place at an awake model counts as waiting."""
        bench = Bench([model_config("a", max_concurrency=1, max_waiting=1)])
        running = bench.wake("a")
        second, third = bench.request("a"), bench.request("a")
        self.assertIsInstance(third.error, TooManyWaiting)
        running.finish()
        self.assertIsNotNone(second.lease)
        self.assertIsNone(bench.request("a").error)


class PlaceTests(SynchronousTestCase):
    def test_how_many_are_before(self) -> None:
        """A request that waits can be told how many wait before it for the same model."""
        bench = Bench()
        clients = [bench.request(model) for model in "abaaba"]
        of_a = [clients[n] for n in (0, 2, 3, 5)]
        before = [bench.switcher.waiting_before(client.waiting) for client in of_a]
        self.assertEqual(before, [0, 1, 2, 3])
        of_a[1].leave()
        before = [bench.switcher.waiting_before(client.waiting) for client in of_a]
        self.assertEqual(before, [0, None, 1, 2])
        self.assertEqual(bench.switcher.waiting_before(clients[4].waiting), 1)
        bench.exit()
        before = [bench.switcher.waiting_before(client.waiting) for client in of_a]
        self.assertEqual(before, [None] * 4)

    def test_who_never_waited(self) -> None:
        """A request that was served or refused at once never waited."""
        bench = Bench()
        bench.wake("a")
        for model in ("a", "nobody's"):
            self.assertIsNone(bench.switcher.waiting_before(bench.request(model).waiting))


class WantedBackTests(SynchronousTestCase):
    def test_drain(self) -> None:
        """While a model is drained its leases are wanted back, since the drain began."""
        bench = Bench()
        running = bench.wake("a")
        self.assertIsNone(bench.switcher.leaving_since("a"))
        bench.clock.advance(10)
        other = bench.request("b")
        bench.clock.advance(3)
        self.assertEqual(bench.switcher.leaving_since("a"), 1012)
        other.leave()
        self.assertIsNone(bench.switcher.leaving_since("a"))
        bench.request("b")
        bench.clock.advance(1)
        running.finish()
        self.assertEqual(bench.states()["a"], "sleeping")
        self.assertEqual(bench.switcher.leaving_since("a"), 1015)

    def test_requests_that_were_not_drained(self) -> None:
        """Leases that are left over from before a sleep are wanted back until the next wake."""
        bench = Bench([model_config("a", drain_before_switch=False), "b"])
        bench.wake("a")
        other = bench.request("b")
        bench.clock.advance(1)
        bench.exit()
        bench.exit()
        self.assertEqual((bench.states()["a"], bench.switcher.leaving_since("a")), ("asleep", 1002))
        bench.request("a")
        other.finish()
        bench.exit()
        self.assertEqual((bench.states()["a"], bench.switcher.leaving_since("a")), ("waking", None))

    def test_cool_down(self) -> None:
        """A model that may stay for a while longer is not wanted to go, whoever waits."""
        bench = Bench([model_config("a", min_active_secs=30), "b"])
        bench.wake("a")
        bench.request("b")
        bench.clock.advance(29)
        self.assertIsNone(bench.switcher.leaving_since("a"))
        bench.clock.advance(2)
        self.assertEqual(bench.switcher.leaving_since("a"), 1032)

    def test_full(self) -> None:
        """While requests wait for a place, those who have one are to get on."""
        bench = Bench([model_config("a", max_concurrency=2)])
        first, _ = bench.wake("a"), bench.request("a")
        self.assertIsNone(bench.switcher.leaving_since("a"))
        bench.clock.advance(5)
        bench.request("a")
        bench.clock.advance(5)
        second = bench.request("a")
        self.assertEqual(bench.switcher.leaving_since("a"), 1007)
        first.finish()
        self.assertEqual(bench.switcher.leaving_since("a"), 1007)
        second.leave()
        self.assertIsNone(bench.switcher.leaving_since("a"))

    def test_woken_for_many(self) -> None:
        """Who waited for the wake does not hurry those who have been let in since."""
        bench = Bench([model_config("a", max_concurrency=1)])
        bench.request("a")
        bench.request("a")
        bench.clock.advance(60)
        bench.exit()
        self.assertEqual(bench.switcher.leaving_since("a"), 1060)


class WaitTests(SynchronousTestCase):
    def test_how_long_it_waited(self) -> None:
        """A lease knows how long its request waited, and how much of this was the switch."""
        bench = Bench()
        running = bench.wake("a")
        assert running.lease is not None
        self.assertEqual((running.lease.queued, running.lease.switching), (2, 2))
        early = bench.request("b")
        bench.clock.advance(10)
        running.finish()
        bench.clock.advance(3)
        bench.exit()
        late = bench.request("b")
        bench.clock.advance(5)
        bench.exit()
        at_once = bench.request("b")
        leases = [client.lease for client in (early, late, at_once)]
        got = [(lease.queued, lease.switching) for lease in leases if lease]
        self.assertEqual(got, [(18, 18), (5, 5), (0, 0)])

    def test_how_long_it_waited_before_the_switch(self) -> None:
        """The time before the switch to its model began is a request's wait, but no switch."""
        bench = Bench([model_config("a", min_active_secs=30), "b"])
        bench.wake("a").finish()
        client = bench.request("b")
        bench.clock.advance(31)
        bench.exit()
        bench.clock.advance(4)
        bench.exit()
        assert client.lease is not None
        self.assertEqual((client.lease.queued, client.lease.switching), (35, 5))

    def test_how_long_it_waited_for_a_place(self) -> None:
        """The wait for a place at a model that is awake is no switch either."""
        bench = Bench([model_config("a", max_concurrency=1)])
        second, third = bench.request("a"), bench.request("a")
        bench.clock.advance(2)
        bench.exit()
        bench.clock.advance(10)
        fourth = bench.request("a")
        for client in (second, third):
            client.finish()
            bench.clock.advance(1)
        got = [(c.lease.queued, c.lease.switching) for c in (second, third, fourth) if c.lease]
        self.assertEqual(got, [(2, 2), (12, 2), (1, 0)])
