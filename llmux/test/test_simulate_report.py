"""The simulator's report: what its pictures are drawn from, and what its page holds."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from unittest import SkipTest

import attrs
from twisted.trial.unittest import SynchronousTestCase

import llmux.simulate
from llmux.simulate.report import NoPlotting, write_report
from llmux.simulate.run import Run, Served, Span
from llmux.states import State
from llmux.urgency import INTERACTIVE

try:
    from llmux.simulate import report_figures
except ImportError as error:
    raise SkipTest("plotly is not installed") from error

NAME = "llmux.simulate.report_figures"
HOSTILE = "</script><b>x"


def run_of(model: str, count: int = 2) -> Run:
    """Make a run in which one model serves."""
    served = tuple(
        Served(model, INTERACTIVE, float(n), n + 1.0, n + 1.5, n + 2.0) for n in range(count)
    )
    return Run("fifo", served, (Span(model, State.AWAKE, 0.0, 4.0),), count + 2.0, 0)


class ReportTests(SynchronousTestCase):
    def page(self, *runs: Run) -> str:
        """Write a report, and give its page."""
        path = Path(self.mktemp())
        write_report(path, runs, {"trace": HOSTILE})
        return path.read_text(encoding="utf-8")

    def test_waiters(self) -> None:
        """Who waits is counted over time."""
        served = [Served("a", INTERACTIVE, 0.0, 2.0, 3.0, 4.0)]
        self.assertEqual(report_figures.waiting(served, 4.0, 4), {"a": [1, 1, 0, 0]})

    def test_failed(self) -> None:
        """How many requests were answered, and how many were not, stands beside the waits."""
        page = self.page(attrs.evolve(run_of("a"), failed=7))
        (row,) = re.findall(r'<tr><th scope="row">fifo</th>(.*?)</tr>', page)
        (heads,) = re.findall(r"<thead><tr>(.*?)</tr></thead>", page)
        names = re.findall(r">([^<]+)</th>", heads)[1:]
        told = dict(zip(names, re.findall(r"<td>(.*?)</td>", row), strict=True))
        self.assertEqual((told["requests"], told["mean"], told["failed"]), ("2", "1.0", "7"))

    def test_hostile_name(self) -> None:
        """A name that looks like HTML is only text."""
        self.assertNotIn(HOSTILE, self.page(run_of(HOSTILE)))

    def test_nothing(self) -> None:
        """A page is made of no requests, and of no runs."""
        self.assertIn("<table>", self.page(Run("fifo", (), (), 0.0, 0)))
        self.assertIn("<table>", self.page())

    def test_many_requests(self) -> None:
        """However many requests there are, the page has a few megabytes."""
        self.assertLess(len(self.page(run_of("a", 20_000))), 8_000_000)

    def test_without_plotly(self) -> None:
        """Where the pictures cannot be drawn, it is said what to install."""
        self.patch(llmux.simulate, "report_figures", None)
        del llmux.simulate.report_figures
        self.addCleanup(sys.modules.__setitem__, NAME, sys.modules[NAME])
        sys.modules[NAME] = None  # type: ignore[assignment]
        error = self.assertRaises(NoPlotting, self.page, run_of("a"))
        self.assertIn("llmux-twisted[report]", str(error))
