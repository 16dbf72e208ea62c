"""The switcher when hooks fail: who is refused, who goes on, and what is tried again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import ModelUnavailable
from llmux.hooks.contract import Hook, Reason
from llmux.test.switching import Bench


class FailureTests(SynchronousTestCase):
    def test_wake_that_fails(self) -> None:
        """When a wake hook fails its requests are refused, and the sleep hook cleans up."""
        bench = Bench()
        client = bench.request("a")
        bench.exit(1)
        assert isinstance(client.error, ModelUnavailable)
        self.assertEqual(client.error.retry_after, 20)  # its sleep and its wake, nothing learnt yet
        call = bench.exit()
        self.assertEqual((call.hook, call.reason), (Hook.SLEEP, Reason.WAKE_FAILED))
        self.assertEqual(bench.states()["a"], "asleep")
        (event,) = bench.events.named("switch_failed")
        self.assertEqual((event["model"], event["from"]), ("a", "idle"))
        self.assertIn("exited with status 1", event["error"])

    def test_failed_model_has_a_back_off_of_its_own(self) -> None:
        """After a failed wake only that model's requests are refused, and only for a while."""
        bench = Bench()
        bench.request("a")
        bench.exit(1)
        bench.exit()
        self.assertIsInstance(bench.request("a").error, ModelUnavailable)
        self.assertIsNotNone(bench.wake("b").lease)
        again = bench.request("a")
        self.assertIsNone(again.error)

    def test_wake_that_hangs(self) -> None:
        """A wake hook that is ended at its deadline counts as failed."""
        bench = Bench()
        client = bench.request("a")
        bench.hooks.running[0].time_out()
        self.assertIsInstance(client.error, ModelUnavailable)

    def test_clean_up_that_fails_leaves_the_model_unknown(self) -> None:
        """A model that could neither be woken nor cleaned up is put to sleep before another."""
        bench = Bench()
        bench.request("a")
        bench.exit(1)
        bench.exit(1)
        self.assertEqual(bench.states()["a"], "unknown")
        waiting = bench.request("b")
        bench.clock.advance(2)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "sleep a"])
        bench.exit()
        bench.exit()
        self.assertIsNotNone(waiting.lease)

    def test_unknown_model_may_simply_be_woken(self) -> None:
        """A model nobody knows the state of is woken again when it is the one that is wanted."""
        bench = Bench()
        bench.request("a")
        bench.exit(1)
        bench.exit(1)
        bench.clock.advance(3)
        client = bench.request("a")
        bench.exit()
        self.assertIsNotNone(client.lease)

    def test_sleep_that_fails_calls_the_switch_off(self) -> None:
        """Beside a model that may not have gone to sleep nobody is woken."""
        bench = Bench()
        bench.wake("a").finish()
        waiting = bench.request("b")
        bench.exit(1)
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertEqual(bench.states(), {"a": "unknown", "b": "asleep"})
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a"])
        (event,) = bench.events.named("sleep_hook_failed")
        self.assertEqual((event["model"], event["to"]), ("a", "b"))

    def test_model_that_may_be_half_asleep_is_woken_before_it_is_asked(self) -> None:
        """Who waits for a model whose sleep hook failed is served after its wake hook has run."""
        bench = Bench()
        bench.wake("a").finish()
        bench.request("b")
        blocked = bench.request("a")
        bench.hooks.running[0].time_out()
        self.assertIsNone(blocked.lease)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "wake a"])
        bench.exit()
        self.assertIsNotNone(blocked.lease)

    def test_sleep_that_failed_is_tried_again_after_a_while(self) -> None:
        """The next request for another model waits for the back-off, then it is tried again."""
        bench = Bench()
        bench.wake("a").finish()
        bench.request("b")
        bench.exit(1)
        again = bench.request("b")
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a"])
        bench.clock.advance(2)
        bench.exit()
        bench.exit()
        self.assertIsNotNone(again.lease)

    def test_alive_tells_that_there_is_nothing_left_to_sleep(self) -> None:
        """A sleep hook that fails on a crashed engine does not block the next model."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a").finish()
        waiting = bench.request("b")
        bench.exit(1)
        call = bench.exit(1)
        self.assertEqual((call.hook, call.reason), (Hook.ALIVE, Reason.SLEEP_FAILED))
        bench.exit()
        self.assertIsNotNone(waiting.lease)

    def test_alive_tells_that_the_model_is_still_there(self) -> None:
        """A model that is alive after its sleep hook failed still holds its memory."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a").finish()
        waiting, blocked = bench.request("b"), bench.request("a")
        bench.exit(1)
        bench.exit(0)
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertIsNotNone(blocked.lease)
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})

    def test_alive_that_says_nothing(self) -> None:
        """An alive that hangs does not make a model that would not sleep count as gone."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a").finish()
        waiting = bench.request("b")
        bench.exit(1)
        bench.hooks.running[0].time_out()
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertEqual(bench.states(), {"a": "unknown", "b": "asleep"})

    def test_next_switch_is_possible_after_a_failed_one(self) -> None:
        """After a failed wake the model that had to leave can be woken again at once."""
        bench = Bench()
        bench.wake("a").finish()
        bench.request("b")
        back = bench.request("a")
        bench.exit()
        bench.exit(1)
        bench.exit()
        bench.exit()
        self.assertIsNotNone(back.lease)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "wake b", "sleep b", "wake a"])
