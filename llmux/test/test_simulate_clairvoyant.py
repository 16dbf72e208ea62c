"""Tests of :mod:`llmux.simulate.clairvoyant`."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.simulate.clairvoyant import MOST, NAME, NotForeseeable
from llmux.simulate.hooks import HookCosts
from llmux.simulate.replay import Setup, config_of, simulate
from llmux.simulate.results import summarize
from llmux.simulate.trace import Row, Trace
from llmux.simulate.workloads import WORKLOADS


def setup(trace: Trace) -> Setup:
    """Have each of its models be awake alone; a switch takes ten seconds."""
    return Setup(config_of(trace), HookCosts(10.0))


def mean_wait(trace: Trace, policy: str) -> float:
    """Say how long its requests wait on an average, in seconds."""
    return summarize(simulate(setup(trace), trace, policy)).all.wait.mean


def rows(*requests: tuple[float, str, int]) -> Trace:
    """Make a trace of times, models and lengths of answers."""
    return tuple(Row(model, 0, tokens, at) for at, model, tokens in requests)


class ClairvoyantTests(SynchronousTestCase):
    def test_waits_for_who_comes(self) -> None:
        """It does not leave a model for which many come in a second."""
        trace = rows((0, "a", 50), (20, "b", 50), *((21.5 + n / 10, "a", 50) for n in range(30)))
        run = simulate(setup(trace), trace, NAME)
        waits = [each.leased - each.arrived for each in run.served if each.model == "a"]
        self.assertEqual(sum(wait > 0 for wait in waits), 1)  # the first one

    def test_goes_at_once(self) -> None:
        """It does not wait for anybody who does not come."""
        trace = rows((0, "a", 50), (20, "b", 50))
        self.assertAlmostEqual(mean_wait(trace, NAME), mean_wait(trace, "fifo"))

    def test_gains(self) -> None:
        """With what it knows, less is waited than with any policy that does not know it."""
        for name in ("symmetric", "two alike"):
            trace = tuple(row for row in WORKLOADS[name].trace(1) if (row.arrived_at or 0) < 400)
            known = mean_wait(trace, NAME)
            for policy in ("fifo", "balanced"):
                self.assertLess(known, mean_wait(trace, policy))

    @settings(max_examples=30)
    @given(
        st.lists(
            st.tuples(st.floats(0, 300), st.sampled_from("abc"), st.integers(1, 500)),
            min_size=1,
            max_size=30,
        )
    )
    def test_all_are_served(self, requests: list[tuple[float, str, int]]) -> None:
        """Whatever comes, everybody is served."""
        trace = rows(*requests)
        self.assertEqual(len(simulate(setup(trace), trace, NAME).served), len(trace))

    def test_sessions(self) -> None:
        """When those come who wait for their own answers, it cannot know."""
        trace = (Row("a", 1, 1, 0.0, session="s"), Row("a", 1, 1, session="s", think_secs=1.0))
        error = self.assertRaises(NotForeseeable, simulate, setup(trace), trace, NAME)
        self.assertIn("session", str(error))

    def test_unasked(self) -> None:
        """A model that nobody asks for may be awake."""
        trace = rows((0, "a", 50), (20, "b", 50))
        config = setup(rows((0, "a", 1), (0, "b", 1), (0, "c", 1))).config
        models = {
            name: attrs.evolve(model, idle_sleep_secs=1.0) for name, model in config.models.items()
        }
        config = attrs.evolve(config, models=models, idle_model="c")
        run = simulate(Setup(config, HookCosts(10.0)), trace, NAME)
        self.assertEqual(len(run.served), 2)

    def test_any_of_several(self) -> None:
        """Whose requests any of several models could serve, it cannot know."""
        trace = rows((0, "any", 50))
        config = attrs.evolve(setup(rows((0, "a", 1))).config, first_awake={"any": ("a",)})
        error = self.assertRaises(
            NotForeseeable, simulate, Setup(config, HookCosts(10.0)), trace, NAME
        )
        self.assertIn("any", str(error))

    def test_too_many(self) -> None:
        """It is too slow for long traces, and says so."""
        trace = rows(*((0.0, "a", 1) for _ in range(MOST + 1)))
        error = self.assertRaises(NotForeseeable, simulate, setup(trace), trace, NAME)
        self.assertIn(str(MOST), str(error))
