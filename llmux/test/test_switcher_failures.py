"""The switcher when hooks fail: who is refused, who goes on, and what is tried again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import ModelUnavailable
from llmux.hooks.contract import Hook, Reason
from llmux.test.fakes import model_config
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

    def test_back_off_doubles(self) -> None:
        """Each failure in a row doubles the back-off, up to a minute."""
        bench = Bench()
        waits = []
        for _ in range(7):
            bench.request("a")
            bench.answer(1, 0)
            began = bench.clock.seconds()
            while isinstance(bench.request("a").error, ModelUnavailable):
                bench.clock.advance(0.5)
            waits.append(bench.clock.seconds() - began)
            bench.answer(1, 0)
            bench.switcher.models["a"].wake_backoff.failures -= 1  # of the look just now
            bench.clock.advance(60)
        self.assertEqual(waits, [2, 4, 8, 16, 32, 60, 60])

    def test_completed_request_resets_the_back_off(self) -> None:
        """A model that has answered a request is healthy, whatever was before."""
        bench = Bench()
        for _ in range(3):
            bench.request("a")
            bench.answer(1, 0)
            bench.clock.advance(60)
        bench.wake("a").finish()
        self.assertEqual(bench.switcher.models["a"].wake_backoff.failures, 0)

    def test_old_model_comes_back_at_once(self) -> None:
        """Who waits for the model that had to leave for nothing is served before all others."""
        bench = Bench(["a", "b", "c"])
        bench.wake("a").finish()
        bench.request("b")
        other, back = bench.request("c"), bench.request("a")
        self.assertEqual(bench.answer(0, 1, 0, 0), ["sleep a", "wake b", "sleep b", "wake a"])
        self.assertIsNotNone(back.lease)
        self.assertIsNone(other.endings or None)

    def test_old_model_that_nobody_wants_stays_asleep(self) -> None:
        """When a wake fails and nobody wants the model that had to leave, the next one is woken."""
        bench = Bench(["a", "b", "c"])
        bench.wake("a").finish()
        bench.request("b")
        bench.request("c")
        self.assertEqual(bench.answer(0, 1, 0, 0), ["sleep a", "wake b", "sleep b", "wake c"])

    def test_clean_up_that_fails_leaves_the_model_unknown(self) -> None:
        """A model that could neither be woken nor cleaned up is put to sleep before another."""
        bench = Bench()
        bench.request("a")
        self.assertEqual(bench.answer(1, 1, 1), ["wake a", "sleep a", "sleep a"])
        self.assertEqual(bench.states()["a"], "unknown")
        waiting = bench.request("b")
        bench.clock.advance(2)
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertIsNotNone(waiting.lease)

    def test_unknown_model_may_simply_be_woken(self) -> None:
        """A model nobody knows the state of is woken again when it is the one that is wanted."""
        bench = Bench()
        bench.request("a")
        bench.answer(1, 1, 1)
        bench.clock.advance(3)
        client = bench.request("a")
        bench.exit()
        self.assertIsNotNone(client.lease)

    def test_clean_up_of_what_is_gone(self) -> None:
        """A clean-up that fails holds up nobody, if alive says that there is nothing."""
        bench = Bench(alive=frozenset({"a"}))
        bench.request("a")
        self.assertEqual(bench.answer(1, 1, 1), ["wake a", "sleep a", "alive a"])
        self.assertEqual(bench.states()["a"], "asleep")


class SleepTests(SynchronousTestCase):
    """A model that does not go to sleep."""

    def test_it_is_tried_once_more(self) -> None:
        """A sleep hook that fails is run again; who waits notices nothing but the delay."""
        bench = Bench()
        bench.wake("a").finish()
        waiting = bench.request("b")
        self.assertEqual(bench.answer(1, 0, 0), ["sleep a", "sleep a", "wake b"])
        self.assertEqual(bench.hooks.calls[2].reason, Reason.SLEEP_FAILED)
        self.assertIsNotNone(waiting.lease)

    def test_then_the_switch_is_called_off(self) -> None:
        """Without an alive the exit status is the truth: the model is awake and goes on serving."""
        bench = Bench()
        bench.wake("a").finish()
        waiting = bench.request("b")
        blocked = bench.request("a")
        self.assertEqual(bench.answer(1, 1), ["sleep a", "sleep a"])
        self.assertIsInstance(waiting.error, ModelUnavailable)
        assert isinstance(waiting.error, ModelUnavailable)
        self.assertGreaterEqual(waiting.error.retry_after or 0, 1)
        self.assertIsNotNone(blocked.lease)
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})
        events = bench.events.named("sleep_hook_failed")
        self.assertEqual([(e["model"], e["to"]) for e in events], [("a", "b"), ("a", "b")])

    def test_kill_is_the_last_resort(self) -> None:
        """A model whose sleep fails twice is killed, if there is a hook for that."""
        bench = Bench()
        bench.hooks.kill = {"a"}
        bench.wake("a").finish()
        waiting = bench.request("b")
        self.assertEqual(bench.answer(1, 1, 0, 0), ["sleep a", "sleep a", "kill a", "wake b"])
        self.assertIsNotNone(waiting.lease)

    def test_kill_that_fails(self) -> None:
        """A model that could not even be killed is woken before it is asked anything again."""
        bench = Bench()
        bench.hooks.kill = {"a"}
        bench.wake("a").finish()
        waiting = bench.request("b")
        bench.answer(1, 1, 1)
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertEqual(bench.states(), {"a": "unknown", "b": "asleep"})

    def test_sleep_that_hangs(self) -> None:
        """A model whose sleep was ended halfway is woken before it is asked anything again."""
        bench = Bench()
        bench.wake("a").finish()
        bench.request("b")
        blocked = bench.request("a")
        bench.hooks.running[0].time_out()
        bench.hooks.running[0].time_out()
        self.assertIsNone(blocked.lease)
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "sleep a", "wake a"])
        bench.exit()
        self.assertIsNotNone(blocked.lease)

    def test_it_is_tried_again_after_a_back_off(self) -> None:
        """The next request for another model waits for the back-off, which doubles."""
        bench = Bench()
        bench.wake("a").finish()
        bench.request("b")
        bench.answer(1, 1)
        again = bench.request("b")
        bench.clock.advance(1.9)
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(0.1)
        bench.answer(1, 1)
        self.assertIsInstance(again.error, ModelUnavailable)
        last = bench.request("b")
        bench.clock.advance(3.9)
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(0.1)
        self.assertEqual(bench.answer(0, 0), ["sleep a", "wake b"])
        self.assertIsNotNone(last.lease)
        self.assertEqual(bench.switcher.models["a"].sleep_backoff.failures, 0)

    def test_alive_tells_that_there_is_nothing_left_to_sleep(self) -> None:
        """A sleep hook that fails on a crashed engine does not block the next model."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a").finish()
        waiting = bench.request("b")
        self.assertEqual(bench.answer(1, 1, 0), ["sleep a", "alive a", "wake b"])
        self.assertEqual(bench.hooks.calls[3].reason, Reason.SLEEP_FAILED)
        self.assertIsNotNone(waiting.lease)

    def test_alive_tells_that_the_model_is_still_there(self) -> None:
        """A model that is alive after its sleep hook failed still holds its memory."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a").finish()
        waiting, blocked = bench.request("b"), bench.request("a")
        self.assertEqual(bench.answer(1, 0, 1, 0), ["sleep a", "alive a", "sleep a", "alive a"])
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertIsNotNone(blocked.lease)
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})

    def test_alive_that_says_nothing(self) -> None:
        """An alive that hangs does not make a model that would not sleep count as gone."""
        bench = Bench(alive=frozenset({"a"}))
        bench.wake("a").finish()
        waiting = bench.request("b")
        for _ in range(2):
            bench.exit(1)
            bench.hooks.running[0].time_out()
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertEqual(bench.states(), {"a": "unknown", "b": "asleep"})

    def test_alive_that_has_never_agreed(self) -> None:
        """An alive that never agreed is not believed when it says that a model is gone."""
        bench = Bench(alive=frozenset({"a"}))
        client = bench.request("a")
        bench.exit(0)
        while client.lease is None:
            bench.exit(1)
            bench.clock.advance(2)
        client.finish()
        waiting = bench.request("b")
        bench.answer(1, 1, 1, 1)
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})

    def test_freed_is_asked_until_it_agrees(self) -> None:
        """Nobody is woken before the memory of the model that left is really free."""
        bench = Bench()
        bench.hooks.freed = {"a"}
        bench.wake("a").finish()
        waiting = bench.request("b")
        self.assertEqual(bench.answer(0, 1), ["sleep a", "freed a"])
        self.assertEqual(bench.hooks.running, [])
        bench.clock.advance(1)
        self.assertEqual(bench.answer(0, 0), ["freed a", "wake b"])
        self.assertIsNotNone(waiting.lease)

    def test_memory_that_is_never_free(self) -> None:
        """Memory that does not get free in time is a sleep that failed; nobody is woken into it."""
        bench = Bench([model_config("a", sleep_timeout_secs=10.0), "b"])
        bench.hooks.freed = {"a"}
        bench.hooks.script = lambda call: (1, 0.1) if call.hook is Hook.FREED else (0, 1.0)
        client = bench.request("a")
        bench.clock.advance(1)
        client.finish()
        waiting = bench.request("b")
        bench.clock.advance(10.5)
        self.assertEqual(bench.hooks.names().count("sleep a"), 2)
        self.assertIsNone(waiting.error)
        bench.clock.advance(10.5)
        self.assertIsInstance(waiting.error, ModelUnavailable)
        self.assertEqual(bench.states(), {"a": "unknown", "b": "asleep"})
        self.assertNotIn("wake b", bench.hooks.names())


class NextTests(SynchronousTestCase):
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
