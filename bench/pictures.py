"""Draws what came of ``bench.scheduling``, for the documentation; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bench.scheduling import AZURE, BASE, Outcomes, interval, ratio

matplotlib.use("svg")
from matplotlib import pyplot  # after it knows what to draw with

_COLOURS = ("#999999", "#56b4e9", "#e69f00", "#0072b2", "#009e73", "#cc79a7")  # Okabe and Ito's
_WHAT = {"mean": "mean", "p95": "p95", "longest": "longest"}


def draw(
    directory: Path, outcomes: Outcomes, costs: Sequence[float], policies: Sequence[str]
) -> None:
    """
    Draw all pictures.

    :param directory: where they go; ``scheduling-*.svg``.
    :param outcomes: what came out, and
    :param costs: and
    :param policies: of which of it.
    """
    matplotlib.rcParams.update({"svg.hashsalt": "llmux", "font.size": 10})
    directory.mkdir(parents=True, exist_ok=True)
    if AZURE in {trace for trace, _, _ in outcomes}:
        _draw_azure(directory / "scheduling-azure.svg", outcomes, costs, policies)
    _draw_ratios(directory / "scheduling-ratios.svg", outcomes, costs, policies)


def _draw_azure(
    path: Path, outcomes: Outcomes, costs: Sequence[float], policies: Sequence[str]
) -> None:
    """Draw waits as bars, with intervals; one field for each cost."""
    figure, fields = pyplot.subplots(1, len(costs), figsize=(9, 3.4), squeeze=False)
    width = 0.8 / len(policies)
    for field, cost in zip(fields[0], costs, strict=True):
        for number, policy in enumerate(policies):
            runs = outcomes[AZURE, cost, policy]
            told = [interval([getattr(each, what) for each in runs]) for what in _WHAT]
            field.bar(
                [place + number * width for place in range(len(_WHAT))],
                [middle for middle, _ in told],
                width,
                yerr=[off for _, off in told],
                color=_COLOURS[number],
                label=policy,
                error_kw={"linewidth": 1},
            )
        places = [place + 0.4 - width / 2 for place in range(len(_WHAT))]
        field.set_xticks(places, list(_WHAT.values()))
        field.set_title(f"{cost:g} s a switch")
        field.spines[["top", "right"]].set_visible(False)
    fields[0][0].set_ylabel("wait, seconds")
    fields[0][0].legend(frameon=False)
    figure.tight_layout()
    _save(figure, path)


def _draw_ratios(
    path: Path, outcomes: Outcomes, costs: Sequence[float], policies: Sequence[str]
) -> None:
    """Draw mean waits as parts of those of llmux 2.4.0: a line of dots for each trace."""
    traces = list(dict.fromkeys(trace for trace, _, _ in outcomes))[::-1]
    figure, fields = pyplot.subplots(
        1, len(costs), figsize=(9, 0.6 + 0.32 * len(traces)), squeeze=False, sharey=True
    )
    for field, cost in zip(fields[0], costs, strict=True):
        for number, policy in enumerate(policies):
            if policy != BASE:
                parts = [ratio(outcomes, (trace, cost, policy), BASE, "mean") for trace in traces]
                field.plot(parts, range(len(traces)), "o", color=_COLOURS[number], label=policy)
        field.axvline(1, color=_COLOURS[0], linewidth=1)
        field.set_xlim(0, max(1.25, field.get_xlim()[1]))
        field.set_xticks((0, 0.5, 1))
        field.set_yticks(range(len(traces)), traces)
        field.set_title(f"{cost:g} s a switch")
        field.set_xlabel("mean wait, llmux 2.4.0 = 1")
        field.grid(axis="y", linewidth=0.4)
        field.spines[["top", "right"]].set_visible(False)
    fields[0][0].legend(frameon=False, loc="lower left")
    figure.tight_layout()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a picture that is the same whenever its figures are."""
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
