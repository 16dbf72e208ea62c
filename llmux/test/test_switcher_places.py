"""The switcher where a model serves only so many requests at once: who is next, and when."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import ModelUnavailable, RequestTimedOut, ShuttingDown
from llmux.policy import FifoPolicy, PolicyContext, PolicyDecision
from llmux.test.fakes import ScriptedPolicy, model_config
from llmux.test.switching import Bench, Client


def narrow(places: int = 1, **settings: object) -> Bench:
    """Make a bench whose model a serves so many requests at once."""
    return Bench([model_config("a", max_concurrency=places, **settings), "b"])


def served(clients: list[Client]) -> list[bool]:
    """Say who of them has got a lease."""
    return [client.lease is not None for client in clients]


class MaxConcurrencyTests(SynchronousTestCase):
    def test_no_more_than_so_many(self) -> None:
        """A model that wakes for more requests than it has places serves the first ones."""
        bench = narrow(2)
        clients = [bench.request("a") for _ in range(4)]
        bench.exit()
        self.assertEqual(served(clients), [True, True, False, False])
        self.assertEqual(bench.sample("llmux_model_in_flight", model="a"), 2)
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 2)

    def test_place_that_gets_free(self) -> None:
        """When an answer ends, whoever has waited longest is next, in the same turn."""
        bench = narrow()
        clients = [bench.wake("a"), *(bench.request("a") for _ in range(3))]
        for number, client in enumerate(clients):
            self.assertEqual(served(clients), [n <= number for n in range(4)])
            self.assertEqual(client.order, number + 1)
            bench.clock.advance(1)
            client.finish()
        self.assertEqual(bench.hooks.names(), ["wake a"])
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 0)
        waited = bench.sample("llmux_request_queue_wait_seconds_sum", model="a")
        self.assertEqual(waited, 2 + 1 + 2 + 3)  # the first one for the wake

    def test_request_that_comes_as_a_place_gets_free(self) -> None:
        """Whoever comes in the moment when a place gets free does not overtake who waits."""

        class ComesAtOnce(Bench):
            newcomer: Client | None = None

            def granted(self, client: Client) -> None:
                if client.order == 2:
                    client.finish()
                    self.newcomer = self.request("a")

        bench = ComesAtOnce([model_config("a", max_concurrency=1)])
        first = bench.wake("a")
        bench.request("a")
        third = bench.request("a")
        first.finish()
        assert bench.newcomer is not None
        self.assertEqual((third.order, bench.newcomer.lease), (3, None))
        third.finish()
        self.assertEqual(bench.newcomer.order, 4)

    def test_many_that_end_at_once(self) -> None:
        """However many requests end in the moment when they are let in, the last one is let in."""

        class EndsAtOnce(Bench):
            def granted(self, client: Client) -> None:
                client.finish()

        bench = EndsAtOnce([model_config("a", max_concurrency=1), "b"])
        clients = [bench.request("a") for _ in range(200)]
        bench.exit()
        self.assertEqual(served(clients), [True] * 200)
        self.assertEqual(bench.events.named("policy_unsettled"), [])

    def test_client_that_leaves(self) -> None:
        """A client that waits for a place and hangs up is out of the queue at once."""
        bench = narrow()
        running = bench.wake("a")
        second, third = bench.request("a"), bench.request("a")
        second.leave()
        self.assertIsInstance(second.error, CancelledError)
        self.assertEqual(bench.sample("llmux_request_queue_depth", model="a"), 1)
        running.finish()
        self.assertIsNotNone(third.lease)

    def test_wait_that_is_too_long(self) -> None:
        """The time-out of a request counts for the wait for a place, too."""
        bench = narrow(request_timeout_secs=30)
        bench.wake("a")
        bench.clock.advance(100)
        waiting = bench.request("a")
        bench.clock.advance(29)
        self.assertIsNone(waiting.error)
        bench.clock.advance(1)
        self.assertIsInstance(waiting.error, RequestTimedOut)

    def test_policy_is_not_asked(self) -> None:
        """Requests that wait for a place are no reason to ask for a switch."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench([model_config("a", max_concurrency=1), "b"], policy)
        running = bench.wake("a")
        policy.contexts.clear()
        policy.observed.clear()
        bench.request("a").leave()
        bench.request("a")
        running.finish()
        self.assertEqual(policy.contexts, [])
        self.assertEqual(policy.observed, ["arrived a", "left a", "arrived a", "completed a"])

    def test_who_came_first_is_first(self) -> None:
        """Who waits for a place is served before a later request for another model is."""
        bench = narrow()
        first = bench.wake("a")
        second, other, third = bench.request("a"), bench.request("b"), bench.request("a")
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})
        first.finish()
        self.assertEqual(served([second, other, third]), [True, False, False])
        self.assertEqual(bench.states(), {"a": "draining", "b": "asleep"})
        assert second.lease is not None
        second.finish()
        bench.exit()
        bench.exit()
        self.assertEqual(served([second, other, third]), [True, True, False])
        other.finish()
        bench.exit()
        bench.exit()
        self.assertIsNotNone(third.lease)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "wake b", "sleep b", "wake a"])

    def test_who_gives_up_holds_nobody_up(self) -> None:
        """When those who came earlier have left, the switch begins in the same turn."""
        bench = narrow()
        bench.wake("a")
        earlier = bench.request("a")
        bench.request("b")
        self.assertEqual(bench.states()["a"], "awake")
        earlier.leave()
        self.assertEqual(bench.states()["a"], "draining")

    def test_drain_that_is_called_off(self) -> None:
        """Who waits while the model is drained goes on when the drain is called off."""
        bench = narrow(2)
        first, _ = bench.wake("a"), bench.request("a")
        other = bench.request("b")
        late = [bench.request("a"), bench.request("a")]
        first.finish()
        self.assertEqual(served(late), [False, False])
        other.leave()
        self.assertEqual(served(late), [True, False])

    def test_policy_that_drains_regardless(self) -> None:
        """A policy may let a model go for which requests wait: they wait for its next turn."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench([model_config("a", max_concurrency=1), "b"], policy)
        running = bench.wake("a")
        earlier = bench.request("a")
        policy._decide = lambda context: PolicyDecision(target="b")
        other = bench.request("b")
        running.finish()
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a"])
        bench.exit()
        bench.exit()
        policy._decide = FifoPolicy().decide
        other.finish()
        bench.exit()
        bench.exit()
        self.assertIsNotNone(earlier.lease)

    def test_drain_that_is_open(self) -> None:
        """A model that is drained and open gives free places to who waits."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench([model_config("a", max_concurrency=1), "b"], policy)
        running = bench.wake("a")
        policy._decide = lambda context: PolicyDecision(target="b", admit=True)
        bench.request("b")
        late = bench.request("a")
        self.assertEqual((bench.states()["a"], late.lease), ("draining", None))
        running.finish()
        self.assertIsNotNone(late.lease)
        self.assertEqual(bench.states()["a"], "draining")

    def test_policy_that_wants_whom_it_has(self) -> None:
        """A policy that names an awake model for which requests wait changes nothing by that."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench([model_config("a", max_concurrency=1), "b"], policy, slots=2)
        bench.wake("a")
        waiting = bench.request("a")

        def stubborn(context: PolicyContext) -> PolicyDecision:
            return PolicyDecision(target="b" if context.target is None else "a")

        policy._decide = stubborn
        bench.request("b")
        self.assertEqual((bench.states()["a"], waiting.endings), ("awake", 0))

    def test_requests_from_before(self) -> None:
        """Requests that outlived a sleep without a drain take up their places in the next turn."""
        bench = narrow(drain_before_switch=False)
        old = bench.wake("a")
        other = bench.request("b")
        bench.exit()
        bench.exit()
        waiting = bench.request("a")
        other.finish()
        bench.exit()
        bench.exit()
        self.assertEqual((bench.states()["a"], waiting.lease), ("awake", None))
        old.finish()
        self.assertIsNotNone(waiting.lease)

    def test_wake_that_fails(self) -> None:
        """All who wait for a model are refused when it cannot be woken, whatever its places."""
        bench = narrow()
        clients = [bench.request("a") for _ in range(3)]
        bench.exit(1)
        self.assertEqual([type(client.error) for client in clients], [ModelUnavailable] * 3)

    def test_stop(self) -> None:
        """When llmux ends, who waits for a place is refused, and no place is given any more."""
        bench = narrow()
        running, waiting = bench.wake("a"), bench.request("a")
        bench.switcher.stop()
        self.assertIsInstance(waiting.error, ShuttingDown)
        running.finish()
        self.assertEqual(bench.switcher.in_flight("a"), 0)
