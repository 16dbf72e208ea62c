"""``llmux simulate``: replays a trace under several policies, and says how each of them did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import attrs

from llmux.config import Config
from llmux.errors import LLMuxError
from llmux.simulate.engine import EngineFigures
from llmux.simulate.hooks import HookCosts
from llmux.simulate.policies import check_names, names
from llmux.simulate.replay import Setup, config_of, simulate
from llmux.simulate.report import write_report
from llmux.simulate.results import summarize, table
from llmux.simulate.trace import Trace, TraceError, from_beginning, read_trace, thin

COST = 10.0
"""Seconds of a switch of which nothing is said."""

_ENGINE = (
    "it takes tokens of a prompt per second, seconds per token of an answer, slowdown per further"
    " request, and how many run at once, like 6000,0.02,0.02,32; for one model alone it is"
    " llama=6000,0.02,0.02,32"
)


class NoEngine(LLMuxError):
    """
    An engine that is described in a way that makes no sense.

    :param word: what was said of it.
    :param why: what is wrong with that.
    """

    def __init__(self, word: str, why: str) -> None:
        super().__init__(f"--engine {word}: {why}")


@attrs.frozen(kw_only=True)
class Command:
    """
    What is to be simulated.

    :param trace: the file with the requests.
    :param config: the file with the models; ``None``: those that the trace names, one awake at a
        time.
    :param policies: their names; none: llmux's own, and that of llmux 2.4.0.
    :param cost: what a switch takes, in seconds, where nothing was measured.
    :param costs: the file with what was measured, if there is one.
    :param engines: what is said of the engines, each perhaps with a model's name before it.
    :param keep: the probability with which each request, or session, counts.
    :param seed: of all chance.
    :param json: whether to print JSON.
    :param report: where a page with pictures is to be written, if anywhere.
    """

    trace: str
    config: str | None = None
    policies: tuple[str, ...] = ()
    cost: float | None = None
    costs: str | None = None
    engines: tuple[str, ...] = ()
    keep: float = 1.0
    seed: int = 0
    json: bool = False
    report: str | None = None


def run(command: Command, out: TextIO, errors: TextIO) -> int:
    """
    Simulate, and print what comes of it.

    :returns: the exit status.
    """
    try:
        policies = check_names(command.policies) or names()
        trace = _read(command)
        setup = _set_up(command, trace)
        runs = [simulate(setup, trace, policy, command.seed) for policy in policies]
        if command.report is not None:
            write_report(Path(command.report), runs, _about(command))
    except (LLMuxError, OSError) as error:
        print(f"llmux: {error}", file=errors)
        return 1
    summaries = [summarize(each) for each in runs]
    if command.json:
        print(json.dumps({"policies": [each.as_json() for each in summaries]}, indent=2), file=out)
    else:
        print(table(summaries), file=out)
    return 0


def read_engines(words: Sequence[str]) -> tuple[EngineFigures, dict[str, EngineFigures]]:
    """
    Read what is said of engines.

    :returns: what holds for all models, and what holds for some, by name.
    :raises NoEngine: if it makes no sense.
    """
    general, special = EngineFigures(), {}
    for word in words:
        model, _, figures = word.rpartition("=")
        try:
            prompt_rate, token_secs, slowdown, most = figures.split(",")
            engine = EngineFigures(
                float(prompt_rate), float(token_secs), float(slowdown), int(most)
            )
        except ValueError as error:
            raise NoEngine(word, _ENGINE) from error
        if model:
            special[model] = engine
        else:
            general = engine
    return general, special


def _about(command: Command) -> dict[str, str]:
    cost = COST if command.cost is None and command.costs is None else command.cost
    return {
        "trace": command.trace,
        "kept of it": f"{command.keep:g}",
        "models": command.config or "those of the trace, one awake at a time",
        "measured costs of switches": command.costs or "none",
        "seconds of another switch": "none" if cost is None else f"{cost:g}",
        "engines": " ".join(command.engines) or "as by default",
        "seed": str(command.seed),
    }


def _read(command: Command) -> Trace:
    trace = read_trace(command.trace)
    if command.keep < 1:
        trace = thin(trace, command.keep, command.seed)
    if not trace:
        raise TraceError(command.trace, "no request is left in it")
    return from_beginning(trace)


def _set_up(command: Command, trace: Trace) -> Setup:
    config = Config.from_file(Path(command.config)) if command.config else config_of(trace)
    if command.costs is not None:
        costs = HookCosts.from_file(command.costs, command.cost)
    else:
        costs = HookCosts(COST if command.cost is None else command.cost)
    engine, engines = read_engines(command.engines)
    for name in engines:
        if name not in config.models:
            raise NoEngine(f"{name}=...", f"no model is called {name}")
    return Setup(config, costs, engine, engines)
