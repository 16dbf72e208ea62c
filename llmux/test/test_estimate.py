"""Tests of :mod:`llmux.estimate`, alone and as the switcher uses it."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import Budget
from llmux.clock import VirtualClock
from llmux.costs import SwitchCosts
from llmux.errors import ModelUnavailable, RequestTimedOut, TooManyWaiting
from llmux.estimate import LONGEST, Estimate
from llmux.outlook import Outlook
from llmux.states import State
from llmux.switching import Switch
from llmux.test.fakes import lease_out, make_model, model_config
from llmux.test.switching import Bench
from llmux.worth import UNLEARNT, Worth

SLEEP: Mapping[str, float] = {"a": 3.0, "b": 4.0}
WAKE: Mapping[str, float] = {"a": 20.0, "b": 30.0}
LEASE: Mapping[str, float] = {"a": 7.0, "b": 8.0}


def learnt(*models: object, slots: int = 1) -> Bench:
    """Make a switcher that has been running for a while."""
    bench = Bench(models or ("a", "b"), slots=slots)  # type: ignore[arg-type]  # names or configurations
    bench.costs.sleep.update(SLEEP)
    bench.costs.wake.update(WAKE)
    bench.costs.lease.update(LEASE)
    return bench


class EstimateTests(SynchronousTestCase):
    def test_awake(self) -> None:
        """A model that is awake and has room serves at once."""
        bench = learnt()
        bench.wake("a")
        self.assertEqual(bench.switcher.estimate("a"), 1)

    def test_nothing_learnt(self) -> None:
        """Before anything is learnt, each hook is taken to last ten seconds."""
        bench = Bench()
        self.assertEqual(bench.switcher.estimate("a"), UNLEARNT)
        bench.wake("a").finish()
        self.assertEqual(bench.switcher.estimate("b"), 2 * UNLEARNT)

    def test_from_idle(self) -> None:
        """Where there is room, a request waits for the wake."""
        self.assertEqual(learnt().switcher.estimate("b"), 30)

    def test_other_model_is_awake(self) -> None:
        """Where another one has to go, a request waits for its sleep, too."""
        bench = learnt()
        bench.wake("a").finish()
        bench.costs.lease["a"] = 7.0
        self.assertEqual(bench.switcher.estimate("b"), 3 + 30)

    def test_other_model_is_busy(self) -> None:
        """Before that, for an answer that is under way, unless that is not waited for."""
        for drains, expected in ((True, 7 + 3 + 30), (False, 3 + 30)):
            bench = learnt(model_config("a", drain_before_switch=drains), "b")
            bench.wake("a")
            self.assertEqual(bench.switcher.estimate("b"), expected)

    def test_cool_down(self) -> None:
        """Before that, for the end of the cool-down."""
        bench = learnt(model_config("a", min_active_secs=60), "b")
        bench.wake("a").finish()
        bench.clock.advance(10)
        self.assertEqual(bench.switcher.estimate("b"), 50 + 3 + 30)

    def test_how_long_answers_take(self) -> None:
        """How long an answer takes is learnt from those that have ended."""
        bench = Bench([model_config("a", max_concurrency=1), "b"])
        running, second = bench.wake("a"), bench.request("a")
        bench.clock.advance(20)
        running.finish()
        self.assertEqual(bench.costs.lease, {"a": 20})
        self.assertEqual(bench.switcher.estimate("a"), 20)
        bench.clock.advance(10)
        second.finish()
        self.assertApproximates(bench.costs.lease["a"], 17, 1e-9)

    def test_room_for_two(self) -> None:
        """Nobody has to go where there is room for both."""
        bench = learnt(slots=2)
        bench.wake("a")
        self.assertEqual(bench.switcher.estimate("b"), 30)

    def test_waking(self) -> None:
        """While a model wakes, what is left counts; when that is overdue, it is any moment."""
        bench = learnt()
        bench.request("a")
        for passed, expected in ((0, 20), (15, 5), (4.5, 1), (100, 1)):
            bench.clock.advance(passed)
            self.assertEqual(bench.switcher.estimate("a"), expected)

    def test_switch_that_is_under_way(self) -> None:
        """Of a switch what is left counts, step by step."""
        bench = learnt()
        running = bench.wake("a")
        bench.costs.wake["a"] = 20.0
        bench.request("b")
        self.assertEqual(bench.switcher.estimate("b"), 7 + 3 + 30)
        bench.clock.advance(5)
        self.assertEqual(bench.switcher.estimate("b"), 2 + 3 + 30)
        bench.clock.advance(5)
        self.assertEqual(bench.switcher.estimate("b"), 3 + 30)
        running.finish()
        bench.clock.advance(2)
        self.assertEqual(bench.switcher.estimate("b"), 1 + 30)
        bench.exit()
        bench.clock.advance(10)
        self.assertEqual(bench.switcher.estimate("b"), 20)

    def test_model_that_leaves(self) -> None:
        """Who wants the model that leaves waits for it to go, and for the other one to go again."""
        bench = learnt("a", model_config("b", min_active_secs=60))
        running = bench.wake("a")
        bench.costs.wake["a"] = 20.0
        bench.request("b")
        there, back = 7 + 3 + 30, 60 + 8 + 4 + 20
        self.assertEqual(bench.switcher.estimate("a"), there + back)
        running.finish()
        bench.exit()
        bench.clock.advance(10)
        bench.costs.sleep["a"] = 3.0
        self.assertEqual(bench.switcher.estimate("a"), 20 + back)

    def test_third_model(self) -> None:
        """Who wants a third model waits for the switch that runs and for one more."""
        bench = learnt("a", "b", "c")
        bench.wake("a").finish()
        bench.request("b")
        self.assertEqual(bench.switcher.estimate("c"), 3 + 30 + 8 + 4 + UNLEARNT)

    def test_third_model_that_finds_room(self) -> None:
        """With room for two the model goes that is the cheapest to lose when the time has come."""
        bench = learnt("a", "b", "c", slots=2)
        bench.wake("a").finish()
        bench.request("b")
        self.assertEqual(bench.switcher.estimate("c"), 30 + 3 + UNLEARNT)

    def test_places(self) -> None:
        """Where all places are taken, a request waits for as many answers as are before it."""
        bench = learnt(model_config("a", max_concurrency=2))
        bench.wake("a")
        expected = [1, 7, 7, 14, 14, 21]
        for seconds in expected:
            self.assertEqual(bench.switcher.estimate("a"), seconds)
            bench.request("a")

    def test_places_of_a_model_that_wakes(self) -> None:
        """More requests than places wait for the wake and for those before them."""
        bench = learnt(model_config("a", max_concurrency=2))
        for seconds in (20, 20, 27, 27):
            self.assertEqual(bench.switcher.estimate("a"), seconds)
            bench.request("a")

    def test_wake_that_failed(self) -> None:
        """After a wake that failed come its clean-up, its back-off and another wake."""
        bench = learnt()
        client = bench.request("a")
        bench.exit(1)
        assert isinstance(client.error, ModelUnavailable)
        self.assertEqual(client.error.retry_after, 3 + 20)
        bench.clock.advance(1)
        again = bench.request("a").error
        assert isinstance(again, ModelUnavailable)
        self.assertEqual(again.retry_after, 2 + 20)
        self.assertEqual(bench.switcher.estimate("b"), 2 + 30)
        bench.exit()
        self.assertEqual(bench.switcher.estimate("a"), 1 + 20)
        bench.clock.advance(5)
        self.assertEqual(bench.switcher.estimate("a"), 20)

    def test_never_before_the_back_off_is_over(self) -> None:
        """Who is refused in a back-off is not told to come again before its end."""
        bench = Bench()
        bench.costs.sleep["a"] = bench.costs.wake["a"] = 0.0
        client = bench.request("a")
        bench.exit(1)
        bench.exit()
        for error in (client.error, bench.request("a").error):
            assert isinstance(error, ModelUnavailable)
            self.assertEqual(error.retry_after, 2)

    def test_sleep_that_failed(self) -> None:
        """After a sleep that failed come its back-off, another sleep and the wake."""
        bench = learnt()
        bench.wake("a").finish()
        client = bench.request("b")
        bench.answer(1, 1)
        assert isinstance(client.error, ModelUnavailable)
        self.assertEqual(client.error.retry_after, 2 + 3 + 30)

    def test_time_out(self) -> None:
        """Who has waited too long is told how long it would take now."""
        bench = learnt(model_config("a", request_timeout_secs=5), "b")
        client = bench.request("a")
        bench.clock.advance(5)
        assert isinstance(client.error, RequestTimedOut)
        self.assertEqual(client.error.retry_after, 15)

    def test_too_many(self) -> None:
        """Who may not wait is told how long it would take."""
        bench = learnt(model_config("a", max_waiting=1), "b")
        bench.request("a")
        bench.clock.advance(4)
        error = bench.request("a").error
        assert isinstance(error, TooManyWaiting)
        self.assertEqual(error.retry_after, 16)

    def test_longest(self) -> None:
        """However long it takes, nobody is told to stay away for longer than ten minutes."""
        bench = learnt()
        bench.costs.wake["a"] = 1e9
        self.assertEqual(bench.switcher.estimate("a"), LONGEST)

    @settings(max_examples=300)
    @given(st.data())
    def test_any_state(self, data: st.DataObject) -> None:
        """Whatever the states and the costs, it is whole seconds from one to the longest."""
        clock = VirtualClock()
        models = {name: make_model(clock, name, max_concurrency=1) for name in "abc"}
        times = st.floats(0, 200)
        for model in models.values():
            model.state = data.draw(st.sampled_from(State))
            lease_out(model, data.draw(st.integers(0, 2)))
            model.since, model.awake_since = data.draw(times), data.draw(times)
            model.wake_backoff.until = data.draw(times)
            model.sleep_backoff.until = data.draw(times)
        costs = st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6))
        target, *victims = data.draw(st.permutations("abc"))[: data.draw(st.integers(1, 3))]
        goal = data.draw(st.sampled_from((models[target], None)))
        switch = Switch(goal, tuple(models[name] for name in victims), started=50.0)
        outlook = Outlook(models, Budget.slots(data.draw(st.integers(1, 3))), Worth(SwitchCosts()))
        switches: list[Switch] = data.draw(st.sampled_from(([], [switch])))
        outlook.switches = switches
        estimate = Estimate(
            outlook,
            SwitchCosts(data.draw(costs), data.draw(costs), {}, data.draw(costs)),
            switches,
            100.0,
        )
        for model in models.values():
            seconds = estimate.seconds(model)
            self.assertIsInstance(seconds, int)
            self.assertTrue(1 <= seconds <= LONGEST, seconds)
