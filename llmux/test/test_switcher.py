"""The switcher on a virtual clock: who gets a lease, when, and in which order."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import RequestTimedOut, ShuttingDown, UnknownModel
from llmux.hooks.contract import Reason
from llmux.test.fakes import model_config
from llmux.test.switching import Bench, Client


class LeaseTests(SynchronousTestCase):
    def test_first_request_wakes_its_model(self) -> None:
        """The first request for a model wakes it and then gets its lease."""
        bench = Bench()
        client = bench.request("a")
        self.assertIsNone(client.lease)
        self.assertEqual(bench.hooks.names(), ["wake a"])
        self.assertEqual(bench.states(), {"a": "waking", "b": "asleep"})
        bench.exit()
        self.assertIsNotNone(client.lease)
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})

    def test_awake_model_serves_at_once(self) -> None:
        """A request for a model that is awake gets its lease in the same turn."""
        bench = Bench()
        bench.wake("a")
        self.assertIsNotNone(bench.request("a").lease)
        self.assertEqual(bench.switcher.in_flight("a"), 2)

    def test_waiters_are_served_in_order_of_arrival(self) -> None:
        """All who wait for a model get their leases in one turn, first come first."""
        bench = Bench()
        clients = [bench.request("a") for _ in range(20)]
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 20)
        bench.exit()
        self.assertEqual([client.order for client in clients], list(range(1, 21)))
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 0)
        self.assertEqual(bench.sample("llmux_model_in_flight", model="a"), 20)

    def test_one_wake_for_many_requests(self) -> None:
        """However many requests wait, the wake hook runs once."""
        bench = Bench()
        for _ in range(5):
            bench.request("a")
        bench.exit()
        self.assertEqual(bench.hooks.names(), ["wake a"])

    def test_every_lease_is_counted_before_any_request_goes_on(self) -> None:
        """A request that ends at once does not let a switch begin before the others have begun."""

        class FirstEndsAtOnce(Bench):
            def granted(self, client: Client) -> None:
                if client.order == 1:
                    client.finish()

        bench = FirstEndsAtOnce()
        first, second = bench.request("a"), bench.request("a")
        bench.request("b")
        bench.exit()
        self.assertEqual((first.endings, second.endings), (1, 1))
        self.assertEqual(bench.states(), {"a": "draining", "b": "asleep"})
        self.assertEqual(bench.hooks.names(), ["wake a"])

    def test_releasing_twice_counts_once(self) -> None:
        """A lease that is released twice is given back once."""
        bench = Bench()
        client = bench.wake("a")
        bench.request("a")
        client.finish()
        client.finish()
        self.assertEqual(bench.switcher.in_flight("a"), 1)

    def test_unknown_model(self) -> None:
        """A model that nobody configured is refused at once."""
        bench = Bench()
        self.assertIsInstance(bench.request("c").error, UnknownModel)

    def test_a_waiter_that_cancels_another_one(self) -> None:
        """A request that is cancelled by the one served before it gives its lease back."""

        class FirstCancelsSecond(Bench):
            def granted(self, client: Client) -> None:
                if client.order == 1:
                    second.leave()

        bench = FirstCancelsSecond()
        bench.request("a")
        second = bench.request("a")
        third = bench.request("a")
        bench.exit()
        self.assertIsInstance(second.error, CancelledError)
        self.assertIsNotNone(third.lease)
        self.assertEqual(bench.switcher.in_flight("a"), 2)


class SwitchTests(SynchronousTestCase):
    def test_switch_drains_sleeps_and_wakes(self) -> None:
        """A switch waits for the requests in flight, then sleeps the one and wakes the other."""
        bench = Bench()
        running = bench.wake("a")
        waiting = bench.request("b")
        self.assertEqual(bench.states(), {"a": "draining", "b": "asleep"})
        self.assertEqual(bench.hooks.names(), ["wake a"])
        running.finish()
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a"])
        bench.exit()
        self.assertEqual(bench.states(), {"a": "asleep", "b": "waking"})
        bench.exit()
        self.assertIsNotNone(waiting.lease)
        self.assertEqual(bench.states(), {"a": "asleep", "b": "awake"})

    def test_hooks_are_told_why(self) -> None:
        """Hooks learn between which models it is switched, and why."""
        bench = Bench()
        bench.wake("a").finish()
        bench.request("b")
        sleep, wake = bench.exit(), bench.exit()
        self.assertEqual((sleep.source, sleep.target, sleep.reason), ("a", "b", Reason.REQUEST))
        self.assertEqual((wake.source, wake.target, wake.reason), ("a", "b", Reason.REQUEST))
        self.assertEqual(bench.hooks.calls[0].source, "idle")

    def test_draining_model_is_closed(self) -> None:
        """Under fifo a request for a model that is being drained waits for its next turn."""
        bench = Bench()
        running = bench.wake("a")
        bench.request("b")
        late = bench.request("a")
        self.assertIsNone(late.lease)
        running.finish()
        bench.exit()
        bench.exit()
        self.assertIsNone(late.lease)

    def test_two_models_take_turns(self) -> None:
        """Requests for two models are served alternately, each by one switch."""
        bench = Bench()
        first = bench.wake("a")
        second, third = bench.request("b"), bench.request("a")
        first.finish()
        bench.exit()
        bench.exit()
        assert second.lease is not None
        second.finish()
        bench.exit()
        bench.exit()
        self.assertIsNotNone(third.lease)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "wake b", "sleep b", "wake a"])

    def test_others_are_told_before_a_sleep(self) -> None:
        """Whoever keeps connections to a model is told right before its sleep hook starts."""
        bench = Bench()
        running = bench.wake("a")
        bench.request("b")
        self.assertEqual(bench.told_to_sleep, [])
        running.finish()
        self.assertEqual((bench.told_to_sleep, len(bench.hooks.calls)), (["a after 1"], 2))
        bench.exit()
        bench.exit(1)
        self.assertEqual(bench.hooks.names()[-1], "sleep b")
        self.assertEqual(bench.told_to_sleep, ["a after 1", "b after 3"])

    def test_others_that_fail_when_they_are_told(self) -> None:
        """What goes wrong there is logged and stops no switch."""

        class Fails(Bench):
            def before_sleep(self, model: str) -> None:
                raise RuntimeError("planted")

        bench = Fails()
        bench.wake("a").finish()
        client = bench.request("b")
        bench.exit()
        bench.exit()
        self.assertIsNotNone(client.lease)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_no_drain_where_it_is_switched_off(self) -> None:
        """Without drain_before_switch the sleep hook runs although requests are in flight."""
        bench = Bench([model_config("a", drain_before_switch=False), "b"])
        bench.wake("a")
        bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a"])
        self.assertEqual(bench.switcher.in_flight("a"), 1)

    def test_cool_down_serves_on(self) -> None:
        """Before min_active_secs have passed the awake model goes on serving, unhurried."""
        bench = Bench([model_config("a", min_active_secs=30), "b"])
        bench.wake("a").finish()
        waiting = bench.request("b")
        bench.clock.advance(29)
        during = bench.request("a")
        self.assertIsNotNone(during.lease)
        during.finish()
        self.assertEqual(bench.states()["a"], "awake")
        bench.clock.advance(2)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a"])
        bench.exit()
        bench.exit()
        self.assertIsNotNone(waiting.lease)

    def test_two_models_stay_where_both_fit(self) -> None:
        """With room for two models both are awake, and only a third one makes one go."""
        bench = Bench(["a", "b", "c"], slots=2)
        bench.wake("a").finish()
        bench.clock.advance(1)
        bench.wake("b").finish()
        self.assertEqual(bench.states(), {"a": "awake", "b": "awake", "c": "asleep"})
        bench.request("c")
        self.assertEqual(bench.states(), {"a": "sleeping", "b": "awake", "c": "asleep"})

    def test_costs_are_learnt_from_hooks_alone(self) -> None:
        """What is learnt of a switch is the time of its hooks; the drain is measured apart."""
        bench = Bench()
        running = bench.wake("a")
        bench.request("b")
        bench.clock.advance(100)
        running.finish()
        bench.clock.advance(3)
        bench.exit()
        bench.clock.advance(7)
        bench.exit()
        self.assertEqual(bench.costs.pair, {("idle", "a"): 2.0, ("a", "b"): 10.0})
        self.assertEqual((bench.costs.sleep, bench.costs.wake), ({"a": 3.0}, {"a": 2.0, "b": 7.0}))
        labels = {"from": "a", "to": "b"}
        self.assertEqual(bench.sample("llmux_switch_duration_seconds_sum", **labels), 110)
        self.assertEqual(bench.sample("llmux_switch_drain_duration_seconds_sum", **labels), 100)
        self.assertEqual(bench.sample("llmux_switch_cost_ema_seconds", **labels), 10)
        self.assertEqual(bench.sample("llmux_model_active_duration_seconds_sum", model="a"), 100)
        self.assertEqual(bench.sample("llmux_switch_total", **labels, result="success"), 1)


class LeavingTests(SynchronousTestCase):
    def test_client_that_leaves_leaves_the_queue_at_once(self) -> None:
        """A client that hangs up while it waits is out of the queue in the same turn."""
        bench = Bench()
        client = bench.request("a")
        client.leave()
        self.assertIsInstance(client.error, CancelledError)
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 0)
        bench.exit()
        self.assertEqual(bench.switcher.in_flight("a"), 0)
        self.assertEqual(bench.states()["a"], "awake")

    def test_switch_for_nobody_is_called_off(self) -> None:
        """A switch whose only client leaves during the drain does not happen."""
        bench = Bench()
        running = bench.wake("a")
        waiting, blocked = bench.request("b"), bench.request("a")
        waiting.leave()
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})
        self.assertIsNotNone(blocked.lease)
        running.finish()
        self.assertEqual(bench.hooks.names(), ["wake a"])
        self.assertEqual(len(bench.events.named("switch_called_off")), 1)
        self.assertIsNone(
            bench.sample("llmux_switch_total", **{"from": "a", "to": "b"}, result="failure")
        )

    def test_drain_goes_on_for_another_target(self) -> None:
        """When the target's clients leave, the drain goes on for the next model that is wanted."""
        bench = Bench(["a", "b", "c"])
        running = bench.wake("a")
        for_b = bench.request("b")
        for_c = bench.request("c")
        for_b.leave()
        running.finish()
        bench.exit()
        bench.exit()
        self.assertIsNotNone(for_c.lease)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "wake c"])

    def test_request_that_waits_too_long(self) -> None:
        """A request that has waited for request_timeout_secs is refused, and forgotten."""
        bench = Bench([model_config("a", request_timeout_secs=5), "b"])
        client = bench.request("a")
        bench.clock.advance(4.9)
        self.assertIsNone(client.error)
        bench.clock.advance(0.2)
        self.assertIsInstance(client.error, RequestTimedOut)
        (event,) = bench.events.named("request_timeout")
        self.assertEqual((event["model"], event["timeout_secs"]), ("a", 5))
        bench.exit()
        self.assertEqual(bench.switcher.in_flight("a"), 0)

    def test_timeout_counts_the_whole_wait(self) -> None:
        """Plans that change do not give a request more time than it has."""
        bench = Bench(["a", model_config("b", request_timeout_secs=60)])
        running = bench.wake("a")
        client = bench.request("b")
        bench.clock.advance(40)
        running.finish()
        bench.exit()
        bench.clock.advance(19)
        self.assertIsNone(client.error)
        bench.clock.advance(1.1)
        self.assertIsInstance(client.error, RequestTimedOut)


class StopTests(SynchronousTestCase):
    def test_stop_refuses_who_waits_and_who_comes(self) -> None:
        """A switcher that stops refuses everybody and begins no switch any more."""
        bench = Bench()
        running = bench.wake("a")
        waiting = bench.request("b")
        bench.switcher.stop()
        self.assertIsInstance(waiting.error, ShuttingDown)
        self.assertIsInstance(bench.request("a").error, ShuttingDown)
        running.finish()
        self.assertEqual(bench.hooks.names(), ["wake a"])
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_stop_while_a_model_goes_to_sleep(self) -> None:
        """A switch that llmux's end overtakes wakes nobody, for nobody waits any more."""
        bench = Bench()
        bench.wake("a").finish()
        waiting = bench.request("b")
        ended = Deferred.fromCoroutine(bench.switcher.close(30, False))
        self.assertIsInstance(waiting.error, ShuttingDown)
        self.assertEqual(bench.answer(0), ["sleep a"])
        self.assertEqual(bench.hooks.running, [])
        self.assertEqual(bench.states(), {"a": "asleep", "b": "asleep"})
        self.assertTrue(ended.called)
