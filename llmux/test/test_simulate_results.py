"""Tests of :mod:`llmux.simulate.results`."""

from __future__ import annotations

import json
from statistics import quantiles

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.simulate.results import Distribution, summarize, table
from llmux.simulate.run import Run, Served, Span
from llmux.states import State

RUN = Run(
    policy="fifo",
    served=(
        Served("a", "interactive", arrived=0.0, leased=2.0, first=3.0, done=5.0),
        Served("a", "batch", arrived=1.0, leased=2.0, first=4.0, done=9.0),
        Served("b", "batch", arrived=3.0, leased=12.0, first=12.5, done=20.0),
    ),
    spans=(
        Span("b", State.ASLEEP, 0.0, 10.0),
        Span("a", State.WAKING, 0.0, 2.0),
        Span("a", State.AWAKE, 2.0, 3.0),
        Span("a", State.DRAINING, 3.0, 9.0),
        Span("a", State.SLEEPING, 9.0, 10.0),
        Span("b", State.WAKING, 10.0, 12.0),
        Span("a", State.ASLEEP, 10.0, 20.0),
        Span("b", State.AWAKE, 12.0, 20.0),
    ),
    ended=20.0,
    failed=1,
)


class DistributionTests(SynchronousTestCase):
    """How times are distributed."""

    def test_nothing(self) -> None:
        """Of no times nothing is known, and of one everything."""
        self.assertEqual(Distribution.of([]), Distribution())
        self.assertEqual(Distribution.of([3.0]), Distribution(3.0, 3.0, 3.0, 3.0, 3.0))

    @given(st.lists(st.floats(0, 1e6), min_size=2))
    def test_percentiles(self, times: list[float]) -> None:
        """Percentiles are what the standard library says of them."""
        found, ranks = Distribution.of(times), quantiles(times, n=100, method="inclusive")
        for value, rank in ((found.p50, 50), (found.p95, 95), (found.p99, 99)):
            self.assertAlmostEqual(value, ranks[rank - 1], places=4)
        self.assertEqual(found.max, max(times))
        self.assertAlmostEqual(found.mean, sum(times) / len(times), places=4)


class SummaryTests(SynchronousTestCase):
    """What a run comes to."""

    def test_figures(self) -> None:
        """A run comes to these figures."""
        summary = summarize(RUN)
        self.assertEqual(summary.all.wait.mean, 4.0)
        self.assertEqual(summary.all.first_token.max, 9.5)
        self.assertEqual((summary.makespan, summary.failed, summary.switches), (20.0, 1, 2))
        self.assertEqual((summary.switch_secs, summary.drain_secs), (5.0, 6.0))
        self.assertEqual(summary.worst_model, "b")
        self.assertEqual({name: each.requests for name, each in summary.by_class.items()},
                         {"batch": 2, "interactive": 1})  # fmt: skip
        self.assertEqual(summary.by_model["a"].wait.mean, 1.5)

    def test_json(self) -> None:
        """All of it can be given as JSON."""
        document = json.loads(json.dumps(summarize(RUN).as_json()))
        self.assertEqual(
            set(document),
            {"policy", "requests", "wait_secs", "first_token_secs", "failed", "makespan_secs",
             "switches", "switch_secs", "drain_secs", "worst_model", "by_model", "by_class"},
        )  # fmt: skip
        self.assertEqual(set(document["wait_secs"]), {"mean", "p50", "p95", "p99", "max"})
        self.assertEqual(document["by_class"]["batch"]["requests"], 2)

    def test_nothing_served(self) -> None:
        """If nothing was served there is no worst model."""
        summary = summarize(Run("fifo", (), (), 3.0, 2))
        self.assertEqual((summary.worst_model, summary.all.requests), (None, 0))
        self.assertIn("-", table([summary]))

    def test_table(self) -> None:
        """Policies stand below each other, one a line."""
        other = summarize(Run("a-much-longer-name", (), (), 3.0, 2))
        lines = table([summarize(RUN), other]).splitlines()
        self.assertEqual([line.split()[0] for line in lines],
                         ["policy", "fifo", "a-much-longer-name"])  # fmt: skip
        end = lines[0].index("requests") + len("requests")
        self.assertEqual([line[end - 1] for line in lines], ["s", "3", "0"])
