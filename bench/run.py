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
from contextlib import ExitStack
from pathlib import Path

from bench.contenders import Contender, Proxy, contenders
from bench.decisions import DECISIONS
from bench.eviction import EVICTION
from bench.figures import FULL, QUICK, Bench, Case, Samples
from bench.helpers import HERE, backend, compile_helpers
from bench.memory import BODIES, STALLED
from bench.processes import BenchError, raise_file_limit
from bench.race import RACE
from bench.report import Report, say
from bench.requests import LATENCY, SMALL, UPLOAD
from bench.streams import BEGIN, EVENTS, IDLE
from bench.waiters import WAITERS

# The waiting bodies come last: what they leave for the disk to do takes its time.
CASES = (
    SMALL, LATENCY, EVENTS, BEGIN, UPLOAD, WAITERS, RACE, EVICTION, DECISIONS,
    IDLE, STALLED, BODIES,
)  # fmt: skip
NAMES = tuple(dict.fromkeys(case.name for case in CASES))


def main(words: list[str]) -> int:
    """
    Run it.

    :param words: the command line, without the program.
    :returns: 0, or 1 if something could not be measured.
    """
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # also where a shell has it ignored
    chosen = [case for case in CASES if case.name in options.only]
    try:
        if SMALL in chosen and shutil.which("wrk") is None:
            raise BenchError(f"wrk is needed for {SMALL.name!r} (a package of most distributions)")
        compile_helpers()
    except BenchError as error:
        say(str(error))
        return 1
    files = raise_file_limit()
    complete = True
    with tempfile.TemporaryDirectory(prefix="llmux-bench-") as name, ExitStack() as stack:
        bench = Bench(Path(name), QUICK if options.quick else FULL)
        found = contenders(bench.directory, stack.enter_context(backend(bench.directory)), files)
        report = Report(options.quick, [contender.name for contender in found])
        if "nginx" not in report.contenders:
            bench.note("nginx is not installed, so it is not in the table")
        running = {}
        if not all(case.fresh for case in chosen):
            running = {each.name: stack.enter_context(each.start()) for each in found}
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

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(NAMES):
            raise argparse.ArgumentTypeError(f"{unknown.pop()!r}; there are {', '.join(NAMES)}")
        return chosen

    parser.add_argument(
        "--only", type=names, default=NAMES, metavar="CASES", help=f"some of {','.join(NAMES)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="little work: shows that it runs, and no more"
    )
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument(
        "--results", type=Path, metavar="DIRECTORY", default=HERE / "results",
        help="where the JSON file goes (bench/results)",
    )  # fmt: skip
    return parser


def _run_case(
    bench: Bench,
    case: Case,
    found: list[Contender],
    running: dict[str, Proxy],
    report: Report,
) -> bool:
    """Measure a case: the contenders take turns, so that a noisy moment meets all of them."""
    figures = case.figures(bench.scale)
    report.figures += figures
    complete = True
    for turn in range(1 if case.once else bench.scale.rounds):
        samples: dict[str, Samples] = {}
        for contender in found:
            begin = time.monotonic()
            try:
                samples[contender.name] = _measure(bench, case, contender, running)
            except BenchError as error:
                complete = False
                bench.note(f"{case.name}, {contender.name}: {' '.join(str(error).split())}")
            took = time.monotonic() - begin
            say(f"{case.name}, round {turn + 1}, {contender.name}: {took:.1f} s")
        straight = samples.get("straight", {})
        for figure in figures:
            for name, values in samples.items():
                if figure.key in values:
                    report.add(figure, name, values[figure.key])
                elif name != "straight" and figure.added_to in values.keys() & straight:
                    added = values[figure.added_to] - straight[figure.added_to]
                    report.add(figure, name, added)
    return complete


def _measure(bench: Bench, case: Case, contender: Contender, running: dict[str, Proxy]) -> Samples:
    if not case.fresh:
        return case.measure(bench, contender.name, running[contender.name])
    with contender.start() as proxy:
        return case.measure(bench, contender.name, proxy)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
