"""
Finds out whether it is true what ``llmux simulate`` says.

Pieces of a recorded trace are played to a real llmux before demo backends, over HTTP and faster
than they were recorded; and the same is simulated, with what hooks and backends really took.
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

from bench.comparing import Comparison, Overall, by_policy, mean_hooks, table
from bench.helpers import HERE
from bench.playing import Measured, Played, measure, play
from bench.processes import BenchError
from bench.report import describe_machine, say
from bench.stage import HookTimes, Stage
from llmux.costs import SwitchCosts
from llmux.policy import POLICIES
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
CHANCES = 20
"""How often each piece is simulated, each time with other chance in what hooks take."""


def piece(trace: Trace, seed: int, minutes: float, compress: float) -> Trace:
    """
    Cut a piece out of a trace, thinned, and let its time pass faster.

    :param seed: decides who is kept, and which piece it is.
    :param minutes: how long it is, before it is compressed.
    :raises BenchError: if nobody asks anything in it.
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
    if not kept:
        raise BenchError(f"piece {seed}: nobody asks anything in {minutes:g} minutes")
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
            say(comparison.brief)
            found.append(comparison)
    return measured, found


def _document(
    options: argparse.Namespace, measured: Measured, found: Sequence[Comparison]
) -> dict[str, Any]:
    policies = by_policy(found)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "minutes": options.minutes,
        "compress": options.compress,
        "engine": measured.as_json(),
        "policies": {name: Overall.of(some).as_json() for name, some in policies.items()},
        "comparisons": [each.as_json() for each in found],
    }


def _about(document: dict[str, Any], found: Sequence[Comparison]) -> dict[str, str]:
    """Choose what the reader of the table wants to know."""
    machine, loads = document["machine"], sorted(each.load for each in found)
    *engine, overhead = document["engine"].values()
    return {
        "engine": f"{','.join(f'{value:g}' for value in engine)}, and {overhead:.3f} s besides",
        "hooks": ", ".join(f"{hook} {mean:.3f} s" for hook, mean in mean_hooks(found).items()),
        "date": document["date"][:10],
        "processor": machine["processor"],
        "load average": f"{loads[0]:.1f} to {loads[-1]:.1f}",
        "Python": machine["Python"],
        "Twisted": machine["Twisted"],
    }


def _policies(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in POLICIES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(POLICIES)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.validate", description=__doc__)
    add = parser.add_argument
    add("--policy", type=_policies, default=["fifo", "balanced"], help="which (fifo,balanced)")
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
        if options.keep:
            directory = options.keep.absolute()
        else:
            scratch = tempfile.TemporaryDirectory(prefix="llmux-validate-")
            directory = Path(stack.enter_context(scratch))
        try:
            measured, found = validate(options, directory)
        except BenchError as error:
            say(str(error))
            return 1
    document = _document(options, measured, found)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    printed = table(found, _about(document, found))
    if options.rst:
        options.rst.write_text(printed)
    print(printed, end="")
    say(f"all of it: {options.out}")
    return 0 if all(Overall.of(some).within for some in by_policy(found).values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
