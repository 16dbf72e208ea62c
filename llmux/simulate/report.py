"""The report of the simulator: one page of HTML that needs no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmux.errors import LLMuxError
from llmux.simulate.results import Group, Summary, summarize
from llmux.simulate.run import Run

_STYLE = """
:root { color-scheme: light; }
body { background: #fff; color: #222; font: 16px/1.5 sans-serif; margin: 0 auto; max-width: 75rem;
  padding: 0 1rem; overflow-wrap: anywhere; }
.box { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
td, th { border-bottom: 1px solid #ccc; padding: .2rem .6rem; text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; }
"""
_READING = """
<p>Each policy was given the same requests. A wait is the time from a request's arrival to its
lease. In brackets is how a figure differs from the first policy's.</p>
"""
_HEADS = (
    "requests", "mean", "p50", "p95", "p99", "max", "first token", "failed", "makespan",
    "switches", "switching", "draining",
)  # fmt: skip


class NoPlotting(LLMuxError):
    """The library that draws the pictures is not installed."""


def write_report(path: Path, runs: Sequence[Run], about: Mapping[str, str]) -> None:
    """
    Write what several policies did with one trace as a page of HTML.

    :param path: the file to write.
    :param runs: the runs; the others are compared with the first.
    :param about: what was simulated, such as the trace and the seed, by what it is called.
    :raises NoPlotting: if plotly is not installed.
    :raises OSError: if the file cannot be written.
    """
    try:
        from llmux.simulate import report_figures
    except ImportError as error:
        raise NoPlotting("a report needs plotly: pip install 'llmux-twisted[report]'") from error
    told = "".join(
        f"<li>{html.escape(name)}: {html.escape(value)}</li>" for name, value in about.items()
    )
    pictures = [("How long requests waited", report_figures.waits(runs))]
    pictures += [(f"Policy {run.policy}", report_figures.timeline(run)) for run in runs]
    drawn = "".join(
        f'<section><h2>{html.escape(title)}</h2><div role="img" aria-label="{html.escape(title)}">'
        + figure.to_html(
            full_html=False,
            include_plotlyjs=place == 0,
            config={"responsive": True, "displayModeBar": False},
        )
        + "</div></section>"
        for place, (title, figure) in enumerate(pictures)
    )
    path.write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What policies would do</title><style>{_STYLE}</style></head><body>"
        f"<h1>What policies would do</h1><ul>{told}</ul>{_READING}"
        f"{_table([summarize(run) for run in runs])}{drawn}</body></html>\n",
        encoding="utf-8",
    )


def _table(summaries: Sequence[Summary]) -> str:
    kinds = sorted({kind for each in summaries for kind in each.by_class})
    first = _figures(summaries[0], summaries[0].all) if summaries else []
    rows = [_row(each.policy, _figures(each, each.all), first) for each in summaries]
    for kind in kinds if len(kinds) > 1 else ():
        base = _of_group(summaries[0].by_class.get(kind))
        rows += [
            _row(f"{each.policy}, {kind}", _of_group(each.by_class.get(kind)), base)
            for each in summaries
        ]
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("policy", *_HEADS))
    return (
        '<div class="box" tabindex="0" role="region" aria-label="Policies side by side">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(name: str, figures: Sequence[float], base: Sequence[float]) -> str:
    cells = "".join(
        f"<td>{_cell(value, base[place] if place < len(base) else 0.0)}</td>"
        for place, value in enumerate(figures)
    )
    return f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>'


def _cell(value: float, base: float) -> str:
    change = "" if not base or value == base else f" ({value / base - 1:+.0%})"
    shown = f"{value}" if isinstance(value, int) else f"{value:.1f}"
    return f"{shown}{change}"


def _of_group(group: Group | None) -> list[float]:
    if group is None:
        return []
    wait = group.wait
    times = (wait.mean, wait.p50, wait.p95, wait.p99, wait.max, group.first_token.mean)
    return [group.requests, *times]


def _figures(summary: Summary, group: Group) -> list[float]:
    spent = summary.makespan, summary.switches, summary.switch_secs, summary.drain_secs
    return [*_of_group(group), summary.failed, *spent]
