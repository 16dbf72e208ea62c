"""
Is it true what ``llmux simulate`` says?

Pieces of a recorded trace are played to a real llmux before demo backends, over HTTP and faster than
they were recorded; and the same is simulated, with what the hooks and the backends really took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import attrs

from bench.helpers import HERE
from bench.playing import Measured, Played, measure, play
from bench.processes import BenchError
from bench.report import describe_machine, say
from bench.stage import HookTimes, Stage
from llmux.costs import SwitchCosts
from llmux.simulate.engine import EngineFigures
from llmux.simulate.hooks import HookCosts
from llmux.simulate.replay import Setup, config_of, simulate
from llmux.simulate.results import Distribution, Summary, summarize
from llmux.simulate.trace import Trace, from_beginning, read_trace, thin

TRACE = HERE / "traces" / "azure-llm-2023.csv.gz"
KEEP = 1 / 12
SWITCH = 10.0
"""Seconds of a switch, before time is compressed."""
ENGINE = EngineFigures()
WITHIN = 0.15
"""How far the simulated mean wait may be from the real one."""
CHANCES = 20
"""How often each piece is simulated, each time with other chance in what hooks take."""


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
            "ratio": round(self.real.mean / self.simulated, 4),
            "hooks": hooks,
            "sent_late_secs": round(self.late, 4),
            "load_average": self.load,
        }


def piece(trace: Trace, seed: int, minutes: float, compress: float) -> Trace:
    """
    Cut a piece out of a trace, thinned, and let its time pass faster.

    :param seed: decides who is kept, and which piece it is.
    :param minutes: how long it is, before it is compressed.
    """
    span = max(row.arrived_at or 0.0 for row in trace)
    latest = max(1.0, span - minutes * 60)
    begin = seed * 600.0 % latest
    kept = [
        attrs.evolve(
            row,
            arrived_at=row.arrived_at / compress,
            prompt_tokens=max(1, row.prompt_tokens),
            output_tokens=max(1, row.output_tokens),
        )
        for row in thin(trace, KEEP, seed)
        if row.arrived_at is not None and begin <= row.arrived_at < begin + minutes * 60
    ]
    return from_beginning(tuple(kept))


def faster(engine: EngineFigures, compress: float) -> EngineFigures:
    """Give an engine that does in a second what another does in ``compress`` seconds."""
    return attrs.evolve(
        engine,
        prompt_rate=engine.prompt_rate * compress,
        token_secs=engine.token_secs / compress,
    )


def simulated(
    trace: Trace, policy: str, measured: Measured, hooks: dict[str, dict[str, HookTimes]]
) -> list[Summary]:
    """Simulate a piece with what was measured, :data:`CHANCES` times."""
    means = {
        hook: {model: fmean(times.seconds) for model, times in by_model.items()}
        for hook, by_model in hooks.items()
    }
    sleep, wake = means.get("sleep", {}), means.get("wake", {})
    switch = fmean(wake.values()) + (fmean(sleep.values()) if sleep else 0.0)
    costs = HookCosts(switch, SwitchCosts(sleep=sleep, wake=wake))
    setup = Setup(config_of(trace), costs, measured.figures)
    rows = tuple(measured.burden(row) for row in trace)
    return [summarize(simulate(setup, rows, policy, chance)) for chance in range(CHANCES)]


def compare(
    seed: int, stage: Stage, trace: Trace, played: Sequence[Played], measured: Measured
) -> Comparison:
    """Set beside each other what was seen and what is simulated."""
    hooks = stage.hook_times()
    runs = simulated(trace, stage.policy, measured, hooks)
    means = [run.all.wait.mean for run in runs]
    return Comparison(
        seed=seed,
        policy=stage.policy,
        requests=len(trace),
        real=Distribution.of(each.waited for each in played),
        simulated=fmean(means),
        least=min(means),
        most=max(means),
        wakes=sum(len(times.seconds) for times in hooks["wake"].values()),
        switches=fmean(run.switches for run in runs),
        hooks=hooks,
        late=max(each.late for each in played),
        load=os.getloadavg()[0],
    )


async def _play_all(stages: Sequence[Stage], trace: Trace) -> list[list[Played]]:
    return await asyncio.gather(*(play(stage.port, trace) for stage in stages))


def validate(options: argparse.Namespace, directory: Path) -> tuple[Measured, list[Comparison]]:
    """
    Do all of it; policies are tried side by side, pieces one after the other.

    :param directory: where to work.
    """
    recorded = read_trace(TRACE)
    models = sorted({row.model for row in recorded})
    engine, switch = faster(ENGINE, options.compress), SWITCH / options.compress
    with Stage(directory / "measuring", models, "fifo", engine, switch) as stage:
        measured = asyncio.run(measure(stage.port, models[0], engine.most))
    say(f"the backends, seen by a client: {measured.as_json()}")
    found = []
    for seed in range(options.seeds):
        trace = piece(recorded, seed, options.minutes, options.compress)
        with ExitStack() as stack:
            stages = [
                stack.enter_context(
                    Stage(directory / f"{policy}-{seed}", models, policy, engine, switch)
                )
                for policy in options.policy
            ]
            played = asyncio.run(_play_all(stages, trace))
            for stage in stages:
                stage.check()
        for stage, answers in zip(stages, played, strict=True):
            comparison = compare(seed, stage, trace, answers, measured)
            say(_told(comparison))
            found.append(comparison)
    return measured, found


def _told(comparison: Comparison) -> str:
    return (
        f"{comparison.policy}, seed {comparison.seed}: mean wait {comparison.real.mean:.3f} s,"
        f" simulated {comparison.simulated:.3f} s ({comparison.least:.3f} to"
        f" {comparison.most:.3f}); load {comparison.load:.1f}"
    )


def overall(comparisons: Sequence[Comparison]) -> dict[str, dict[str, Any]]:
    """Say for each policy how far the real mean wait is from the simulated one."""
    result = {}
    for policy in dict.fromkeys(each.policy for each in comparisons):
        of_policy = [each for each in comparisons if each.policy == policy]
        real = fmean(each.real.mean for each in of_policy)
        expected = fmean(each.simulated for each in of_policy)
        ratios = [each.real.mean / each.simulated for each in of_policy]
        result[policy] = {
            "real_mean_wait": round(real, 4),
            "simulated_mean_wait": round(expected, 4),
            "ratio": round(real / expected, 4),
            "within": abs(real / expected - 1) <= WITHIN,
            "seeds_within": sum(abs(ratio - 1) <= WITHIN for ratio in ratios),
            "seeds": len(ratios),
        }
    return result


def table(comparisons: Sequence[Comparison]) -> str:
    """Give the table, which is reST."""
    head = ("policy", "piece", "requests", "switches", "simulated", "wait", "simulated", "ratio")
    rows: list[tuple[str, ...]] = []
    for policy, whole in overall(comparisons).items():
        of_policy = [each for each in comparisons if each.policy == policy]
        for each in of_policy:
            rows.append((
                policy, str(each.seed), str(each.requests), str(each.wakes), f"{each.switches:.1f}",
                f"{each.real.mean:.3f}", f"{each.simulated:.3f}",
                f"{each.real.mean / each.simulated:.3f}",
            ))  # fmt: skip
        rows.append((
            policy, "all", str(sum(each.requests for each in of_policy)),
            str(sum(each.wakes for each in of_policy)),
            f"{sum(each.switches for each in of_policy):.1f}",
            f"{whole['real_mean_wait']:.3f}", f"{whole['simulated_mean_wait']:.3f}",
            f"{whole['ratio']:.3f}",
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [rule, _line(head, widths), rule, *(_line(row, widths) for row in rows), rule]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _document(
    options: argparse.Namespace, measured: Measured, found: Sequence[Comparison]
) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "minutes": options.minutes,
        "compress": options.compress,
        "engine": measured.as_json(),
        "policies": overall(found),
        "comparisons": [each.as_json() for each in found],
    }


def _policies(text: str) -> list[str]:
    return text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.validate", description=__doc__)
    add = parser.add_argument
    add("--policy", type=_policies, default=["fifo", "balanced"], help="fifo,balanced")
    add("--seeds", type=int, default=5, help="how many pieces (%(default)s)")
    add("--compress", type=float, default=10.0, help="how much faster time is (%(default)s)")
    add("--minutes", type=float, default=10.0, help="how long a piece was (%(default)s)")
    add("--out", type=Path, default=HERE / "results" / "validate.json", help="all figures, as JSON")
    add("--rst", type=Path, help="put the table here, too")
    add("--keep", type=Path, help="work in this new directory, and leave it: the logs are in it")
    return parser


def main(words: list[str]) -> int:
    """
    Run it.

    :param words: the command line, without the program.
    :returns: 0; 1 if a mean wait is too far from the simulated one, or could not be measured.
    """
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="llmux-validate-")
        directory = options.keep or Path(stack.enter_context(scratch))
        try:
            measured, found = validate(options, directory.absolute())
        except BenchError as error:
            say(str(error))
            return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(_document(options, measured, found), indent=1) + "\n")
    if options.rst:
        options.rst.write_text(table(found))
    print(table(found), end="")
    say(f"all of it: {options.out}")
    return 0 if all(each["within"] for each in overall(found).values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
