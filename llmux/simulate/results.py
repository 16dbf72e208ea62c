"""What a run comes to: a few figures for each policy, and a table of policies side by side."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from llmux.simulate.run import Run, Served
from llmux.states import State

_DIGITS = 3  # behind the point: milliseconds


@attrs.frozen
class Distribution:
    """
    How some times are distributed, all in seconds.

    Between two values a percentile is where the straight line between them is.

    :param mean: the mean.
    :param p50: the median.
    :param p95: what 95 % are below.
    :param p99: what 99 % are below.
    :param max: the longest.
    """

    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, times: Iterable[float]) -> Distribution:
        """Find it out of some times; of none, all of it is 0."""
        ranked = sorted(times)
        if not ranked:
            return cls()
        return cls(
            mean=math.fsum(ranked) / len(ranked),
            p50=_percentile(ranked, 0.50),
            p95=_percentile(ranked, 0.95),
            p99=_percentile(ranked, 0.99),
            max=ranked[-1],
        )

    def as_json(self) -> dict[str, float]:
        """Give it as plain JSON values."""
        return {name: round(value, _DIGITS) for name, value in attrs.asdict(self).items()}


@attrs.frozen
class Group:
    """
    How it went for some of the requests.

    :param requests: how many they are.
    :param wait: from their arrival to their lease.
    :param first_token: from their arrival to the first token of their answer.
    """

    requests: int
    wait: Distribution
    first_token: Distribution

    @classmethod
    def of(cls, served: Sequence[Served]) -> Group:
        """Find it out."""
        return cls(
            requests=len(served),
            wait=Distribution.of(each.leased - each.arrived for each in served),
            first_token=Distribution.of(each.first - each.arrived for each in served),
        )

    def as_json(self) -> dict[str, object]:
        """Give it as plain JSON values."""
        return {
            "requests": self.requests,
            "wait_secs": self.wait.as_json(),
            "first_token_secs": self.first_token.as_json(),
        }


@attrs.frozen
class Summary:
    """
    The figures of one run.

    :param policy: its policy.
    :param all: how it went for all requests that were answered.
    :param failed: how many were not.
    :param makespan: when the last one had ended, in seconds since the trace's begin.
    :param switches: how often a model was woken.
    :param switch_secs: for how long models were being put to sleep or woken, taken together.
    :param drain_secs: for how long models were being drained, taken together.
    :param by_model: how it went for the requests that each model served.
    :param by_class: how it went for each class of requests.
    """

    policy: str
    all: Group
    failed: int
    makespan: float
    switches: int
    switch_secs: float
    drain_secs: float
    by_model: Mapping[str, Group]
    by_class: Mapping[str, Group]

    @property
    def worst_model(self) -> str | None:
        """The model for which requests waited longest, on an average; ``None`` without any."""
        waits = {name: group.wait.mean for name, group in self.by_model.items()}
        return max(waits, key=waits.__getitem__, default=None)

    def as_json(self) -> dict[str, object]:
        """Give it as plain JSON values."""
        return {
            "policy": self.policy,
            **self.all.as_json(),
            "failed": self.failed,
            "makespan_secs": round(self.makespan, _DIGITS),
            "switches": self.switches,
            "switch_secs": round(self.switch_secs, _DIGITS),
            "drain_secs": round(self.drain_secs, _DIGITS),
            "worst_model": self.worst_model,
            "by_model": {name: group.as_json() for name, group in self.by_model.items()},
            "by_class": {name: group.as_json() for name, group in self.by_class.items()},
        }


def summarize(run: Run) -> Summary:
    """Find out what a run comes to."""
    spent: dict[State, float] = defaultdict(float)
    for span in run.spans:
        spent[span.state] += span.ended - span.began
    return Summary(
        policy=run.policy,
        all=Group.of(run.served),
        failed=run.failed,
        makespan=run.ended,
        switches=sum(span.state is State.WAKING for span in run.spans),
        switch_secs=spent[State.SLEEPING] + spent[State.WAKING],
        drain_secs=spent[State.DRAINING],
        by_model=_grouped(run.served, lambda each: each.model),
        by_class=_grouped(run.served, lambda each: each.kind),
    )


_COLUMNS: Mapping[str, Callable[[Summary], str]] = {
    "requests": lambda summary: f"{summary.all.requests}",
    "failed": lambda summary: f"{summary.failed}",
    "mean": lambda summary: f"{summary.all.wait.mean:.1f}",
    "p50": lambda summary: f"{summary.all.wait.p50:.1f}",
    "p95": lambda summary: f"{summary.all.wait.p95:.1f}",
    "p99": lambda summary: f"{summary.all.wait.p99:.1f}",
    "max": lambda summary: f"{summary.all.wait.max:.1f}",
    "first token": lambda summary: f"{summary.all.first_token.mean:.1f}",
    "makespan": lambda summary: f"{summary.makespan:.0f}",
    "switches": lambda summary: f"{summary.switches}",
    "switching": lambda summary: f"{summary.switch_secs:.0f}",
    "draining": lambda summary: f"{summary.drain_secs:.0f}",
    "worst model": lambda summary: summary.worst_model or "-",
}


def table(summaries: Sequence[Summary]) -> str:
    """Write the figures of several policies side by side, one policy a line; times in seconds."""
    rows = [["policy", *_COLUMNS]]
    rows += [[each.policy, *(show(each) for show in _COLUMNS.values())] for each in summaries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _grouped(served: Iterable[Served], by: Callable[[Served], str]) -> Mapping[str, Group]:
    groups: dict[str, list[Served]] = defaultdict(list)
    for each in served:
        groups[by(each)].append(each)
    return {name: Group.of(groups[name]) for name in sorted(groups)}


def _percentile(ranked: Sequence[float], part: float) -> float:
    place = part * (len(ranked) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])
