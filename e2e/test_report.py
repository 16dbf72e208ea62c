"""The simulator's report in a real browser, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.browser import Browser
from e2e.program import wait_until
from llmux.simulate.report import write_report
from llmux.simulate.run import Run, Served, Span
from llmux.states import State
from llmux.urgency import INTERACTIVE

pytest.importorskip("plotly")

RUN = Run(
    "fifo",
    (Served("a", INTERACTIVE, 0.0, 2.0, 3.0, 4.0), Served("b", INTERACTIVE, 1.0, 6.0, 7.0, 8.0)),
    (Span("a", State.AWAKE, 2.0, 4.0), Span("b", State.WAKING, 4.0, 6.0)),
    8.0,
    0,
)
SIZES = "[...document.querySelectorAll('svg.main-svg')].map(e => e.getBoundingClientRect().width)"
TEXTS = (
    "[...document.querySelectorAll('text, p, li, td, th')]"
    ".map(e => parseFloat(getComputedStyle(e).fontSize))"
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Start a browser."""
    browser = Browser(tmp_path)
    yield browser
    browser.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_report(width: int, browser: Browser, tmp_path: Path) -> None:
    """All pictures are drawn, fit the page and can be read, and nothing is fetched."""
    page = tmp_path / "report.html"
    write_report(page, [RUN, RUN], {"trace": "two requests"})
    browser.resize(width)
    browser.visit(page.as_uri())
    wait_until(lambda: browser.evaluate("document.querySelectorAll('g.legend').length") == 3)
    sizes = browser.evaluate(SIZES)
    assert sizes
    assert all(0 < size <= width for size in sizes)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert min(browser.evaluate(TEXTS)) >= 11
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0
    assert browser.complaints() == []
