"""
Compares policies on a trace of real traffic and on traces that are made up.

``python -m bench.scheduling`` writes the tables and pictures of ``docs/scheduling.rst``: every
trace, with several seeds of all chance, several costs of a switch, under every policy.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import attrs

from llmux.simulate import clairvoyant
from llmux.simulate.hooks import HookCosts
from llmux.simulate.replay import Setup, config_of, simulate
from llmux.simulate.results import Summary, summarize
from llmux.simulate.trace import Trace, read_trace, thin
from llmux.simulate.workloads import WORKLOADS
from llmux.urgency import INTERACTIVE

AZURE = "azure"
AZURE_TRACE = Path(__file__).parent / "traces" / "azure-llm-2023.csv.gz"
KEEP = 1 / 12  # of its requests, so that one GPU can serve them
BASE = "fifo-2.4.0"
POLICIES = (BASE, "fifo", "quantum", "balanced")
COSTS = (2.0, 10.0, 60.0)
TRACES = (AZURE, *WORKLOADS)

_LIMIT_SEEDS = 3  # of the policy that is no real one, and slow
_LEAST_WAIT = 0.05  # seconds; below that a ratio of waits says nothing
# Student's t for 95 %, by degrees of freedom
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
        14: 2.145, 19: 2.093, 29: 2.045}  # fmt: skip


@attrs.frozen
class Job:
    """
    One run.

    :param trace: one of :data:`TRACES`.
    :param cost: of a switch, in seconds.
    :param policy: its name.
    :param seed: of all chance.
    """

    trace: str
    cost: float
    policy: str
    seed: int


@attrs.frozen
class Outcome:
    """What came of one; times in seconds."""

    mean: float
    p95: float
    longest: float
    interactive: float
    makespan: float
    switches: float

    @classmethod
    def of(cls, summary: Summary) -> Outcome:
        """Choose what is compared."""
        interactive = summary.by_class.get(INTERACTIVE, summary.all)
        wait = summary.all.wait
        return cls(
            wait.mean, wait.p95, wait.max, interactive.wait.mean, summary.makespan,
            summary.switches,
        )  # fmt: skip


Outcomes = dict[tuple[str, float, str], list[Outcome]]
"""By trace, cost and policy, one for each seed."""


@cache
def _azure() -> Trace:
    return read_trace(AZURE_TRACE)


def trace_of(name: str, seed: int) -> Trace:
    """Give a trace by its name."""
    return thin(_azure(), KEEP, seed) if name == AZURE else WORKLOADS[name].trace(seed)


def run(job: Job) -> Outcome:
    """Simulate."""
    trace = trace_of(job.trace, job.seed)
    setup = Setup(config_of(trace), HookCosts(job.cost))
    return Outcome.of(summarize(simulate(setup, trace, job.policy, job.seed)))


def run_all(jobs: Sequence[Job]) -> Outcomes:
    """Simulate all, on all cores."""
    outcomes: Outcomes = defaultdict(list)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for job, outcome in zip(jobs, pool.map(run, jobs, chunksize=4), strict=True):
            outcomes[job.trace, job.cost, job.policy].append(outcome)
    return dict(outcomes)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """
    Give the mean of some values, and how far it may be off, with 95 % confidence.

    By Student's t, whose next smaller number of degrees of freedom is taken that is known here.
    """
    if len(values) < 2:
        return mean(values), math.inf
    degrees = max(known for known in _T95 if known <= len(values) - 1)
    return mean(values), _T95[degrees] * stdev(values) / math.sqrt(len(values))


def ratio(outcomes: Outcomes, key: tuple[str, float, str], base: str, what: str) -> float:
    """Give the mean of a figure as a part of what it is under another policy."""
    trace, cost, _ = key
    ours, theirs = (
        max(_LEAST_WAIT, mean(getattr(each, what) for each in outcomes[each_key]))
        for each_key in (key, (trace, cost, base))
    )
    return float(ours / theirs)


def geometric_mean(values: Iterable[float]) -> float:
    """Give it."""
    return math.exp(mean([math.log(value) for value in values]))


def azure_table(outcomes: Outcomes, costs: Sequence[float], policies: Sequence[str]) -> list[str]:
    """Write what came of the real trace, with intervals."""
    rows = [["cost", "policy", "mean", "p95", "max", "switches"]]
    for cost in costs:
        for policy in (*policies, clairvoyant.NAME):
            runs = outcomes.get((AZURE, cost, policy))
            if runs is None:
                continue
            cells = []
            for what in ("mean", "p95", "longest", "switches"):
                middle, off = interval([getattr(each, what) for each in runs])
                cells.append(f"{middle:.1f} ± {off:.1f}")
            rows.append([f"{cost:g} s", f"``{policy}``", *cells])
    return rst_table(rows)


def ratio_table(outcomes: Outcomes, cost: float, policies: Sequence[str]) -> list[str]:
    """Write mean and p95 of all traces, as parts of what they are with llmux 2.4.0."""
    rows = [["trace", *(f"``{policy}``" for policy in policies if policy != BASE)]]
    traces = list(dict.fromkeys(trace for trace, _, _ in outcomes))
    ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for trace in traces:
        cells = []
        for policy in policies[1:]:
            key = trace, cost, policy
            parts = ratio(outcomes, key, BASE, "mean"), ratio(outcomes, key, BASE, "p95")
            ratios[policy].append(parts)
            cells.append("{:.2f} / {:.2f}".format(*parts))
        rows.append([trace, *cells])
    means = [
        "**{:.2f} / {:.2f}**".format(*map(geometric_mean, zip(*ratios[policy], strict=True)))
        for policy in policies[1:]
    ]
    rows.append(["**geometric mean**", *means])
    return rst_table(rows)


def rst_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [rule, lines[0], rule, *lines[1:], rule]


def findings(outcomes: Outcomes, costs: Sequence[float]) -> list[str]:
    """Say what the tables are asked for most."""
    told = []
    for cost in costs:
        for what in ("mean", "p95"):
            worst, trace = max(
                (ratio(outcomes, key, "fifo", what), key[0])
                for key in outcomes
                if key[1:] == (cost, "balanced")
            )
            told.append(
                f"{cost:g} s a switch: at worst, the {what} wait with ``balanced`` is {worst:.2f}"
                f" times that with ``fifo`` (*{trace}*)"
            )
        for trace, what, name in (
            ("agents", "makespan", "time until the last of the agents has ended"),
            ("batch", "interactive", "mean wait of interactive requests"),
        ):
            if (trace, cost, "balanced") in outcomes:
                part = ratio(outcomes, (trace, cost, "balanced"), BASE, what)
                told.append(
                    f"{cost:g} s a switch, *{trace}*: the {name} is {1 / part:.1f} times shorter"
                    f" with ``balanced`` than with llmux 2.4.0"
                )
    return told


def as_json(outcomes: Outcomes) -> str:
    """Give all outcomes."""
    document = [
        {"trace": trace, "cost": cost, "policy": policy, "runs": [attrs.asdict(r) for r in runs]}
        for (trace, cost, policy), runs in outcomes.items()
    ]
    return json.dumps(document, indent=1) + "\n"


def write_tables(
    directory: Path, outcomes: Outcomes, costs: Sequence[float], policies: Sequence[str]
) -> None:
    """Write what the documentation includes."""
    directory.mkdir(parents=True, exist_ok=True)
    if AZURE in {trace for trace, _, _ in outcomes}:
        _write(directory / "scheduling-azure.inc", azure_table(outcomes, costs, policies))
    for cost in costs:
        table = ratio_table(outcomes, cost, policies)
        _write(directory / f"scheduling-ratios-{cost:g}.inc", table)
    lines = [f"- {line}." for line in findings(outcomes, costs)]
    _write(directory / "scheduling-findings.inc", lines)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


def main(words: list[str]) -> int:
    """
    Run it.

    :param words: the command line, without the program.
    """
    options = _parser().parse_args(words)
    policies = (BASE, *(policy for policy in options.policy if policy != BASE))
    jobs = [
        Job(trace, cost, policy, seed)
        for trace in options.trace
        for cost in options.cost
        for policy in policies
        for seed in range(options.first_seed, options.first_seed + options.seeds)
    ]
    if options.limit and AZURE in options.trace:
        jobs += [
            Job(AZURE, cost, clairvoyant.NAME, seed)
            for cost in options.cost
            for seed in range(min(_LIMIT_SEEDS, options.seeds))
        ]
    began = time.monotonic()
    outcomes = run_all(jobs)
    print(f"{len(jobs)} runs in {time.monotonic() - began:.0f} s\n")
    if AZURE in options.trace:
        print("\n".join(azure_table(outcomes, options.cost, policies)), end="\n\n")
    for cost in options.cost:
        print(f"{cost:g} s a switch, mean / p95 wait as parts of those of {BASE}:")
        print("\n".join(ratio_table(outcomes, cost, policies)), end="\n\n")
    if {"fifo", "balanced"} <= set(policies):
        print("\n".join(findings(outcomes, options.cost)))
    if options.json is not None:
        options.json.write_text(as_json(outcomes))
    if options.rst is not None and options.held_out:
        for cost in options.cost:
            table = ratio_table(outcomes, cost, policies)
            _write(options.rst / f"scheduling-held-out-{cost:g}.inc", table)
    elif options.rst is not None:
        write_tables(options.rst, outcomes, options.cost, policies)
    if options.pictures is not None:
        from bench.pictures import draw

        draw(options.pictures, outcomes, options.cost, policies)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scheduling", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="runs of each; default: 10")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them; default: 0")
    parser.add_argument(
        "--held-out", action="store_true", help="only write tables of what nothing was tuned with"
    )
    parser.add_argument("--cost", type=float, nargs="+", default=COSTS, help="seconds of a switch")
    parser.add_argument("--policy", nargs="+", default=POLICIES)
    parser.add_argument("--trace", nargs="+", default=TRACES, choices=TRACES)
    parser.add_argument("--limit", action="store_true", help="try clairvoyance, too: minutes more")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--rst", type=Path, help="a directory for the tables")
    parser.add_argument("--pictures", type=Path, help="a directory for pictures; needs matplotlib")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
