"""What was really seen of a trace, beside what is simulated of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import attrs

from bench.stage import HookTimes
from llmux.simulate.results import Distribution

WITHIN = 0.15
"""How far the real mean wait may be from the simulated one, as a part of that."""


@attrs.frozen
class Comparison:
    """
    A piece of the trace under one policy, real and simulated.

    :param requests: how many there are.
    :param real: how long they waited, in seconds.
    :param simulated: the mean of the mean waits of all simulations, in seconds.
    :param least: the least of them.
    :param most: the largest.
    :param wakes: how often a model was really woken.
    :param switches: the mean of how often one was in the simulations.
    :param hooks: what hooks really took, by hook and model.
    :param late: the most by which a request was sent too late, in seconds.
    :param load: what else the machine had to do: its load average at the end.
    """

    seed: int
    policy: str
    requests: int
    real: Distribution
    simulated: float
    least: float
    most: float
    wakes: int
    switches: float
    hooks: dict[str, dict[str, HookTimes]]
    late: float
    load: float

    @property
    def ratio(self) -> float:
        """How long they really waited, as a multiple of what is simulated."""
        return self.real.mean / self.simulated

    @property
    def brief(self) -> str:
        """Tell it in a line."""
        return (
            f"{self.policy}, piece {self.seed}: mean wait {self.real.mean:.3f} s, simulated"
            f" {self.simulated:.3f} s ({self.least:.3f} to {self.most:.3f}); load {self.load:.1f}"
        )

    def as_json(self) -> dict[str, Any]:
        """Give it as plain JSON values."""
        hooks = {
            hook: {model: times.as_json() for model, times in by_model.items()}
            for hook, by_model in self.hooks.items()
        }
        return {
            "seed": self.seed,
            "policy": self.policy,
            "requests": self.requests,
            "real": {"wait": self.real.as_json(), "switches": self.wakes},
            "simulated": {
                "mean_wait": round(self.simulated, 4),
                "least_mean_wait": round(self.least, 4),
                "largest_mean_wait": round(self.most, 4),
                "switches": self.switches,
            },
            "ratio": round(self.ratio, 4),
            "hooks": hooks,
            "sent_late_secs": round(self.late, 4),
            "load_average": self.load,
        }


@attrs.frozen
class Overall:
    """
    All pieces under one policy; their mean waits count alike, however many requests they have.

    :param real: the mean of their real mean waits, in seconds.
    :param simulated: the mean of the simulated ones.
    :param ratios: how far real and simulated are apart, of each piece.
    """

    real: float
    simulated: float
    ratios: Sequence[float]

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> Overall:
        """Find it out."""
        return cls(
            fmean(each.real.mean for each in comparisons),
            fmean(each.simulated for each in comparisons),
            [each.ratio for each in comparisons],
        )

    @property
    def ratio(self) -> float:
        """How long they really waited, as a multiple of what is simulated."""
        return self.real / self.simulated

    @property
    def within(self) -> bool:
        """Whether that is near enough."""
        return _is_within(self.ratio)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain JSON values."""
        return {
            "real_mean_wait": round(self.real, 4),
            "simulated_mean_wait": round(self.simulated, 4),
            "ratio": round(self.ratio, 4),
            "within": self.within,
            "pieces": len(self.ratios),
            "pieces_within": sum(map(_is_within, self.ratios)),
        }


def by_policy(comparisons: Sequence[Comparison]) -> Mapping[str, list[Comparison]]:
    """Sort them by their policies."""
    found: dict[str, list[Comparison]] = {}
    for each in comparisons:
        found.setdefault(each.policy, []).append(each)
    return found


def mean_hooks(comparisons: Sequence[Comparison]) -> Mapping[str, float]:
    """Say what each hook took on an average, whosever it was, in seconds."""
    seconds: dict[str, list[float]] = {}
    for each in comparisons:
        for hook, by_model in each.hooks.items():
            for times in by_model.values():
                seconds.setdefault(hook, []).extend(times.seconds)
    return {hook: fmean(some) for hook, some in sorted(seconds.items())}


def table(comparisons: Sequence[Comparison], about: Mapping[str, str]) -> str:
    """
    Give the table, which is reST.

    :param about: what is to be known of it.
    """
    head = ("policy", "piece", "requests", "switches", "simulated", "wait", "simulated", "ratio")
    rows: list[tuple[str, ...]] = []
    for policy, some in by_policy(comparisons).items():
        rows += [_cells(policy, str(each.seed), [each]) for each in some]
        rows.append(_cells(policy, "all", some))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [f":{name}: {value}" for name, value in about.items()]
    lines += ["", rule, _line(head, widths), rule, *(_line(row, widths) for row in rows), rule]
    return "\n".join(lines) + "\n"


def _cells(policy: str, piece: str, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    overall = Overall.of(comparisons)
    return (
        policy,
        piece,
        str(sum(each.requests for each in comparisons)),
        str(sum(each.wakes for each in comparisons)),
        f"{sum(each.switches for each in comparisons):.1f}",
        f"{overall.real:.3f}",
        f"{overall.simulated:.3f}",
        f"{overall.ratio:.3f}",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _is_within(ratio: float) -> bool:
    return abs(ratio - 1) <= WITHIN
