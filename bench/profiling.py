"""
Where llmux's processor time goes: ``python -m bench.profiling streams``.

It is started as the benchmark starts it, but under cProfile, which twistd knows how to do. That
makes calls dearer than they are, and what C does beside them cheaper: look at the order and at what
is called how often, and measure with the benchmark. It heeds ``LLMUX_REACTOR`` and ``LLMUX_HTTP``.
"""

from __future__ import annotations

import argparse
import io
import pstats
import sys
import tempfile
import time
from pathlib import Path

from bench.helpers import Load, backend, compile_helpers, run_load
from bench.multiplexer import Multiplexer
from bench.processes import raise_file_limit
from bench.proxy import SMALL_ANSWER, STREAM

_LOADS = {"streams": (STREAM, 64), "small": (SMALL_ANSWER, 16)}
_ORDERS = ("tottime", "cumulative")


def main(words: list[str]) -> int:
    """
    Run it, and print the functions that cost most.

    :param words: the command line, without the program.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench.profiling", description="Where llmux's processor time goes."
    )
    parser.add_argument("load", choices=_LOADS, help="64 paced streams, or 16 clients in a hurry")
    parser.add_argument("--seconds", type=int, default=10, help="how long (10)")
    parser.add_argument("--top", type=int, default=40, help="how many functions (40)")
    parser.add_argument("--order", choices=_ORDERS, default=_ORDERS[0], help="tottime, or ...")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep all of it, for pstats")
    options = parser.parse_args(words)
    raise_file_limit()
    compile_helpers()
    with tempfile.TemporaryDirectory(prefix="llmux-profile-") as name:
        statistics = Path(name) / "profile"
        answers, events, used = _run(Path(name), statistics, options.load, options.seconds)
        if options.save:
            options.save.write_bytes(statistics.read_bytes())
        printed = io.StringIO()
        pstats.Stats(str(statistics), stream=printed).sort_stats(options.order).print_stats(
            options.top
        )
    print(printed.getvalue(), end="")
    each = used / max(1, events or answers) * 1e6
    print(f"{answers} answers, {events} events: {used:.2f} s under it, {each:.1f} us for each")
    return 0


def _run(directory: Path, statistics: Path, load: str, seconds: int) -> tuple[int, int, float]:
    """
    Load llmux, and end it.

    :param statistics: takes what the profiler has seen.
    :returns: how many answers and events came, and the processor time that they took.
    """
    path, clients = _LOADS[load]
    words = ("--profile", str(statistics), "--profiler", "cprofile", "--savestats")
    with (
        backend(directory) as port,
        Multiplexer(twistd=words).start(directory, port) as llmux,
    ):
        run_load(directory, llmux, SMALL_ANSWER, requests=10)
        with Load(directory, llmux, path, clients=clients, seconds=seconds) as clients_at_work:
            clients_at_work.wait_for("begun")
            before = llmux.cpu_seconds()
            outcome = clients_at_work.outcome()
            used = llmux.cpu_seconds() - before
        time.sleep(0.2)  # it still sees its clients go
    return outcome.answers, outcome.count("events"), used


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
