"""
Runs the benchmark: ``python -m bench.run``, or ``make bench``.

``docs/benchmarks.rst`` says what each figure is.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import litellm
from bench.contenders import BEFORE, LITELLM, LLMUX, NAMES, USUAL, Contender, Contest
from bench.crowd import CROWD
from bench.decisions import DECISIONS
from bench.eviction import EVICTION
from bench.figures import FULL, QUICK, Bench, Case, Samples
from bench.helpers import HERE, backend, compile_helpers
from bench.memory import BODIES, STALLED
from bench.processes import BenchError, end_leftovers, raise_file_limit, wait_until
from bench.proxy import Proxy
from bench.race import RACE
from bench.report import Report, say
from bench.requests import LATENCY, SMALL, UPLOAD
from bench.streams import BEGIN, EVENTS, IDLE
from bench.switch import SWITCH
from bench.waiters import WAITERS
from bench.workers import DEATH

# The waiting bodies come last: what they leave for the disk to do takes its time.
CASES = (
    SMALL, LATENCY, EVENTS, BEGIN, CROWD, UPLOAD, WAITERS, SWITCH, RACE, EVICTION, DECISIONS,
    DEATH, IDLE, STALLED, BODIES,
)  # fmt: skip
CASE_NAMES = tuple(dict.fromkeys(case.name for case in CASES))
STACKS_CASES = ("small", "latency", "streams")

_LOOK = 0.1  # seconds
_Run = tuple[str, str]  # a contender's name, and how it is run


def main(words: list[str]) -> int:
    """
    Run it.

    :param words: the command line, without the program.
    :returns: 0, or 1 if something could not be measured.
    """
    options = _parser().parse_args(words)
    usual_cases = STACKS_CASES if options.stacks else CASE_NAMES
    usual = tuple(name for name in NAMES if name != LLMUX) if options.stacks else USUAL
    cases, contenders = options.only or usual_cases, options.contenders or usual
    if options.before is None:
        contenders = tuple(name for name in contenders if name != BEFORE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # also where a shell has it ignored
    chosen = [case for case in CASES if case.name in cases]
    try:
        if SMALL in chosen and shutil.which("wrk") is None:
            raise BenchError(f"wrk is needed for {SMALL.name!r} (a package of most distributions)")
        compile_helpers()
    except BenchError as error:
        say(str(error))
        return 1
    complete = True
    with tempfile.TemporaryDirectory(prefix="llmux-bench-") as name, ExitStack() as stack:
        stack.callback(end_leftovers)
        bench = Bench(Path(name), QUICK if options.quick else FULL)
        port = stack.enter_context(backend(bench.directory))
        contest = Contest(bench.directory, port, raise_file_limit(), options.before, bench.note)
        makes = frozenset(make for case in chosen for make in case.makes)
        found = contest.contenders(contenders, makes)
        report = Report(options.quick, [contender.name for contender in found])
        if LITELLM in report.contenders:
            report.machine["LiteLLM"] = litellm.version()
        running = _start(bench, found, chosen, stack)
        for case in chosen:
            complete &= _run_case(bench, case, found, running, report)
    report.notes = bench.notes
    options.results.mkdir(parents=True, exist_ok=True)
    results = options.results / f"{report.date:%Y-%m-%dT%H%M%S}.json"
    results.write_text(report.as_json())
    print(report.as_rst(), end="")
    if options.rst:
        options.rst.write_text(report.as_rst())
    say(f"all of it: {results}")
    return 0 if complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)

    def names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
        def read(text: str) -> tuple[str, ...]:
            chosen = tuple(text.split(","))
            if unknown := set(chosen) - set(known):
                raise argparse.ArgumentTypeError(f"{unknown.pop()!r}; there are {', '.join(known)}")
            return chosen

        return read

    parser.add_argument(
        "--only", type=names(CASE_NAMES), metavar="CASES", help=f"some of {','.join(CASE_NAMES)}"
    )
    parser.add_argument(
        "--contenders",
        type=names(NAMES),
        metavar="NAMES",
        help=f"some of {','.join(NAMES)}; if nothing is said, {','.join(USUAL)}",
    )
    parser.add_argument(
        "--stacks",
        action="store_true",
        help=f"every contender but {LLMUX}, and of the cases {','.join(STACKS_CASES)}",
    )
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT",
        help=f"another checkout of llmux, for the contender {BEFORE}",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="little work: shows that it runs, and no more"
    )
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument(
        "--results", type=Path, metavar="DIRECTORY", default=HERE / "results",
        help="where the JSON file goes (bench/results)",
    )  # fmt: skip
    return parser


def _start(
    bench: Bench, found: list[Contender], chosen: list[Case], stack: ExitStack
) -> dict[_Run, Proxy]:
    """Start those that no case wants fresh."""
    running = {}
    for contender in found:
        for make, start in contender.starts.items():
            if any(not case.fresh and make in case.makes for case in chosen):
                try:
                    running[contender.name, make] = stack.enter_context(start())
                except BenchError as error:
                    bench.note(f"{_called(contender.name, make)}: {_on_a_line(error)}")
    return running


def _run_case(
    bench: Bench,
    case: Case,
    found: list[Contender],
    running: dict[_Run, Proxy],
    report: Report,
) -> bool:
    """Measure a case: the contenders take turns, so that a noisy moment meets all of them."""
    figures = case.figures(bench.scale)
    report.figures += figures
    complete = True
    for turn in range(min(case.rounds, bench.scale.rounds)):
        samples: dict[str, Samples] = {}
        for contender, make in _takers(case, found):
            begin = time.monotonic()
            called = _called(contender.name, make)
            try:
                values = _measure(bench, case, contender, make, running)
            except BenchError as error:
                complete = False
                bench.note(f"{case.name}, {called}: {_on_a_line(error)}")
                continue
            ending = f"_{make}" if make else ""
            of_contender = samples.setdefault(contender.name, {})
            of_contender.update({f"{key}{ending}": value for key, value in values.items()})
            took = time.monotonic() - begin
            say(f"{case.name}, round {turn + 1}, {called}: {took:.1f} s")
        straight = samples.get("straight", {})
        for figure in figures:
            for name, values in samples.items():
                if figure.key in values:
                    report.add(figure, name, values[figure.key])
                elif name != "straight" and figure.added_to in values.keys() & straight:
                    added = values[figure.added_to] - straight[figure.added_to]
                    report.add(figure, name, added)
    return complete


def _takers(case: Case, found: list[Contender]) -> list[tuple[Contender, str]]:
    """Give who has part in a case, and how each is run."""
    return [
        (contender, make)
        for contender in found
        if contender.cases is None or case.name in contender.cases
        for make in case.makes
        if make in contender.starts
    ]


def _measure(
    bench: Bench, case: Case, contender: Contender, make: str, running: dict[_Run, Proxy]
) -> Samples:
    if case.fresh:
        with contender.starts[make]() as proxy:
            return case.measure(bench, contender.name, proxy)
    if (contender.name, make) not in running:
        raise BenchError("it could not be started")
    proxy = running[contender.name, make]
    samples = case.measure(bench, contender.name, proxy)
    try:
        _calm(proxy)
    except BenchError as error:
        bench.note(f"after {case.name}, {_called(contender.name, make)}: {error}")
    return samples


def _calm(proxy: Proxy) -> None:
    """Wait until a proxy has done all that it was given, or it would burden whoever comes next."""

    def is_calm() -> bool:
        before = proxy.cpu_seconds()
        time.sleep(_LOOK)
        return proxy.cpu_seconds() - before < _LOOK / 10

    wait_until(is_calm, "it has nothing to do any more")


def _called(contender: str, make: str) -> str:
    return f"{contender} ({make})" if make else contender


def _on_a_line(error: BenchError) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
