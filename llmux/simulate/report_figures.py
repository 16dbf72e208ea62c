"""The pictures of the simulator's report, drawn with plotly, which is an extra."""

from __future__ import annotations

import html
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmux.simulate.run import Run, Served
from llmux.states import State

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = {
    State.AWAKE: "#009E73",
    State.DRAINING: "#F0E442",
    State.SLEEPING: "#0072B2",
    State.WAKING: "#D55E00",
    State.UNKNOWN: "#999999",
}
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#000000")
_POINTS = 600  # what a screen can show side by side


def waiting(served: Iterable[Served], ended: float, points: int = _POINTS) -> dict[str, list[int]]:
    """
    Count who waits for each model over time.

    :param served: the requests.
    :param ended: until when, in seconds since the trace's begin.
    :param points: into how many equal slices the time is cut.
    :returns: for each model the most that waited at once in each slice.
    """
    steps: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for each in served:
        if each.leased > each.arrived:
            steps[each.model] += [(each.arrived, 1), (each.leased, -1)]
    most: dict[str, list[int]] = {}
    for model in sorted(steps):
        counts, now, reached = [0] * points, 0, 0
        for when, step in sorted(steps[model]):
            place = min(int(when / ended * points), points - 1)
            for passed in range(reached + 1, min(math.ceil(when / ended * points), points)):
                counts[passed] = now
            now, reached = now + step, place
            counts[place] = max(counts[place], now)
        most[model] = counts
    return most


def timeline(run: Run) -> go.Figure:
    """Draw who held the GPU, one lane per model, and who waited above it."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    moments = [run.ended * place / _POINTS for place in range(_POINTS)]
    for place, (model, counts) in enumerate(waiting(run.served, run.ended).items()):
        figure.add_scatter(
            x=moments,
            y=counts,
            name=f"waits for {html.escape(model)}",
            stackgroup="waiting",
            mode="lines",
            line={"shape": "hv", "width": 0, "color": _LINES[place % len(_LINES)]},
            row=1,
            col=1,
        )
    for state, colour in _COLOURS.items():
        spans = [span for span in run.spans if span.state is state]
        if spans:
            figure.add_bar(
                base=[span.began for span in spans],
                x=[span.ended - span.began for span in spans],
                y=[html.escape(span.model) for span in spans],
                orientation="h",
                name=state.value,
                marker={"color": colour, "line": {"width": 0}},
                row=2,
                col=1,
            )
    figure.update_layout(barmode="overlay", bargap=0.15, height=520)
    figure.update_yaxes(title="waiting", rangemode="tozero", row=1, col=1)
    lanes = sorted({html.escape(span.model) for span in run.spans}, reverse=True)
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=lanes,
        automargin=True,
        row=2,
        col=1,
    )
    figure.update_xaxes(title="seconds since the trace's begin", row=2, col=1)
    return _dressed(figure)


def waits(runs: Sequence[Run]) -> go.Figure:
    """Draw which part of the requests waited no longer than how long, for each policy."""
    figure = go.Figure()
    for place, run in enumerate(runs):
        times = sorted(each.leased - each.arrived for each in run.served)
        if times:
            parts = [part / _POINTS for part in range(_POINTS + 1)]
            figure.add_scatter(
                x=[times[round(part * (len(times) - 1))] for part in parts],
                y=parts,
                name=html.escape(run.policy),
                mode="lines",
                line={"shape": "hv", "color": _LINES[place % len(_LINES)]},
            )
    figure.update_layout(height=420)
    figure.update_xaxes(title="wait in seconds", rangemode="tozero")
    figure.update_yaxes(title="part of the requests", tickformat=".0%", range=[0, 1.02])
    return _dressed(figure)


def _dressed(figure: go.Figure) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        font={"size": 12},
        margin={"l": 50, "r": 10, "t": 10, "b": 50},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2},
        showlegend=True,
    )
