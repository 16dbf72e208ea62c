"""The compiled helpers: the backend, the clients, the wake hook that waits; and wrk."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from bench.processes import BenchError, Process
from bench.proxy import Proxy

HERE = Path(__file__).parent
BUILD = HERE / "build"
HELPERS = ("backend", "load", "hold", "start")

_STREAMS = ("/stream", "/silent")  # what the backend answers with events

_WRK_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model":"%s","messages":[{"role":"user","content":"Hello"}]}'
"""


def compile_helpers() -> None:
    """
    Compile what is older than its source, with ``cc``.

    :raises BenchError: if there is no compiler, or it is not content.
    """
    if shutil.which("cc") is None:
        raise BenchError("a C compiler is needed, as cc")
    BUILD.mkdir(exist_ok=True)
    headers = max(path.stat().st_mtime for path in HERE.glob("*.h"))
    for name in HELPERS:
        source, program = HERE / f"{name}.c", BUILD / name
        if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime, headers):
            continue
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command)}:\n{done.stderr}")


@contextmanager
def backend(directory: Path) -> Iterator[int]:
    """Run the backend; give its port."""
    command = [str(BUILD / "backend")]
    with Process(command, directory / "backend.log", read=True) as process:
        line = process.read_line()
        if not line:
            raise BenchError(f"the backend did not start: {process.printed()}")
        yield json.loads(line)["port"]


@attrs.frozen
class Outcome:
    """
    What the clients saw.

    :param figures: as ``load.c`` prints them.
    """

    figures: dict[str, Any]

    @property
    def answers(self) -> int:
        """How many answers came to their end."""
        return int(self.figures["answers"])

    def count(self, name: str) -> int:
        """Give one of the counts: ``closed``, ``cut``, ``nonsense``, ``closed_before``, ..."""
        return int(self.figures[name])

    def with_status(self, status: int) -> int:
        """Give how many answers had a status."""
        return int(self.figures["statuses"].get(str(status), 0))

    def milliseconds(self, series: str, which: str) -> float:
        """
        Give a duration.

        :param series: ``first_byte`` or ``lag``.
        :param which: ``p50``, ``p99`` or ``max``.
        :raises BenchError: if there was none.
        """
        found = self.figures[series].get(which)
        if found is None:
            raise BenchError(f"nobody got anything: {self.figures}")
        return float(found) * 1000

    @property
    def failures(self) -> str:
        """Say what was not an answer with status 200; nothing if all were."""
        words = [f"{n} x {status}" for status, n in self.figures["statuses"].items()]
        words = [word for word in words if not word.endswith(" 200")]
        words += [f"{self.count(n)} {n}" for n in ("closed", "cut", "nonsense") if self.count(n)]
        sample = " ".join(self.figures["sample"].split())
        return ", ".join(words) + (f" ({sample})" if words and sample else "")


class Load:
    """
    Clients at work; see ``load.c`` for what they can be told.

    :param path: what the backend is to do.
    :param options: ``clients=64`` and the like.
    """

    def __init__(
        self, directory: Path, proxy: Proxy, path: str, model: str = "bench", /, **options: int
    ) -> None:
        options["stream"] = path.startswith(_STREAMS)
        words = [word for name, value in options.items() for word in (f"--{name}", f"{value:d}")]
        command = [str(BUILD / "load"), str(proxy.port), *proxy.way(path, model), *words]
        self._process = Process(command, directory / "load.log", read=True)
        self._what = " ".join(command[1:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.end()

    def leave_a_core(self) -> None:
        """
        Keep to the last core, so that whoever is measured has another one.

        On few cores the kernel has a process that has been woken wait for the next tick behind one
        that runs, 4 ms at 250 Hz, also where another core is idle.
        """
        cores = os.sched_getaffinity(self._process.pid)
        os.sched_setaffinity(self._process.pid, {max(cores)})

    def wait_for(self, word: str) -> dict[str, Any]:
        """
        Wait until the clients say something; they give up by themselves.

        :param word: ``sent``, ``begun``, ``part`` or ``done``.
        :raises BenchError: if they ended without it.
        """
        while line := self._process.read_line():
            said: dict[str, Any] = json.loads(line)
            if said["said"] == word:
                return said
            if said["said"] == "done":
                break
        raise BenchError(f"load {self._what}: no {word!r}: {self._process.printed()}")

    def outcome(self) -> Outcome:
        """Wait for their end; their connections are still open for a moment."""
        return Outcome(self.wait_for("done"))

    def part(self) -> Outcome:
        """Give what they have seen since the last time, and have them go on."""
        self._process.send(signal.SIGUSR1)
        return Outcome(self.wait_for("part"))

    def stop(self) -> Outcome:
        """Have them end now."""
        self._process.terminate()
        return self.outcome()


def run_load(directory: Path, proxy: Proxy, path: str, **options: int) -> Outcome:
    """Have clients of the model ``bench`` do their work to its end."""
    with Load(directory, proxy, path, **options) as load:
        return load.outcome()


@attrs.frozen
class WrkOutcome:
    """
    What wrk has counted.

    :param failed: answers that were not 2xx, and socket errors.
    """

    requests: int
    per_second: float
    failed: int


def run_wrk(directory: Path, proxy: Proxy, seconds: int, connections: int) -> WrkOutcome:
    """Have wrk POST short JSON bodies as fast as it can, over connections that it keeps."""
    script = directory / "post.lua"
    path, model = proxy.way("/small", "bench")
    script.write_text(_WRK_SCRIPT % model)
    words = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    command = ["wrk", *words, f"http://127.0.0.1:{proxy.port}{path}"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 30, check=False
    )
    total = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    if done.returncode or not total or not rate:
        raise BenchError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    errors = re.search(r"Socket errors: (.+)", done.stdout)
    broken = sum(int(n) for n in re.findall(r"\d+", errors[1])) if errors else 0
    return WrkOutcome(int(total[1]), float(rate[1]), broken + (int(failed[1]) if failed else 0))
