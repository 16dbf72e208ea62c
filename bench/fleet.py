"""Models with hooks that can be told to go wrong, and the truth about them: what /proc says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from bench.helpers import HERE
from bench.processes import free_port, wait_until

HOOK = HERE / "hook.sh"
CHANGING = ("wake", "sleep", "kill")
"""Hooks that change something; the others only ask."""


@attrs.frozen
class Backend:
    """
    A model and its place.

    :param name: the model's name.
    :param kind: the folder of the example whose hooks it has.
    :param port: its backend's.
    """

    name: str
    kind: str
    port: int

    @property
    def demo(self) -> bool:
        """Whether it is known word for word what it answers."""
        return self.kind == "demo"


@attrs.frozen
class HookRun:
    """
    A run of a hook, as it has noted it down itself.

    :param began: seconds since 1970.
    :param ended: the same; ``None`` if it was killed, or still runs.
    :param beside: how many backends of other models were alive when it began.
    :param status: its exit status, if it has ended.
    """

    model: str
    hook: str
    pid: int
    began: float
    ended: float | None
    beside: int
    status: int | None


class Fleet:
    """
    Some models that share one slot, in a directory of their own.

    :param directory: takes the state, the logs and the configuration.
    :param models: the models' names, each with its kind.
    :param settings: what the hooks of the examples are told.
    """

    def __init__(self, directory: Path, models: dict[str, str], settings: dict[str, str]) -> None:
        self.directory = directory
        self.backends = [Backend(name, kind, free_port()) for name, kind in models.items()]
        self.names = [backend.name for backend in self.backends]
        self.by_name = {backend.name: backend for backend in self.backends}
        self.port = free_port()
        self.config = directory / "config.json"
        self.log = directory / "llmux.log"
        self.state = directory / "state"
        self.faults = directory / "faults"
        self.faults.mkdir()
        ports = " ".join(str(backend.port) for backend in self.backends)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE.parent),
            "PYTHON": sys.executable,
            "FLEET": str(directory),
            "FLEET_PORTS": ports,
            **settings,
        }

    def write(self, sections: dict[str, Any], without: str | None = None) -> None:
        """
        Write the configuration.

        :param sections: all but where to listen and the models.
        :param without: a model that is left out.
        """
        models = {}
        for backend in self.backends:
            if backend.name != without:
                script = f"{HOOK} {backend.kind}"
                hooks = dict.fromkeys(("wake", "sleep", "alive", "freed", "kill"), script)
                models[backend.name] = {"port": backend.port, **hooks}
        document = {"port": self.port, "state_dir": str(self.state), "models": models, **sections}
        new = self.config.with_suffix(".new")
        new.write_text(json.dumps(document, indent=2))
        new.replace(self.config)

    def arm(self, model: str, hook: str, what: str) -> None:
        """
        Have a hook go wrong: the next time, or every time for a while.

        :param what: ``fail``, ``hang``, ``slow SECONDS`` or ``until SECONDS_SINCE_1970``.
        """
        new = self.faults / "new"
        new.write_text(what + "\n")
        new.replace(self.faults / f"{model}.{hook}")

    def disarm(self, model: str = "*") -> None:
        """Have the hooks do what they should."""
        for fault in self.faults.glob(f"{model}.*"):
            fault.unlink(missing_ok=True)

    def alive(self) -> dict[str, list[int]]:
        """Say which models have processes, and which; by their command lines, not by pid files."""
        names = {str(backend.port).encode(): backend.name for backend in self.backends}
        found: dict[str, list[int]] = {}
        for pid, command in _processes("cmdline"):
            words = command.split(b"\0")
            for option, word in pairwise(words):
                if option == b"--port" and word in names:
                    found.setdefault(names[word], []).append(pid)
        return found

    def held(self) -> dict[str, list[int]]:
        """Say the same, but only of those that are there at two moments: nothing in passing."""
        first = self.alive()
        if len(first) < 2:
            return first
        time.sleep(0.02)
        second = self.alive()
        return {name: pids for name, pids in second.items() if set(pids) & set(first.get(name, []))}

    def signal(self, model: str, pid: int, number: signal.Signals) -> bool:
        """Send a signal to a backend, unless it has gone; say whether it was there."""
        if pid not in self.alive().get(model, []):
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def hook_runs(self) -> list[HookRun]:
        """Give all runs of hooks in the order of their beginnings."""
        log = self.directory / "hooks.log"
        runs: list[HookRun] = []
        running: dict[tuple[str, str, int], int] = {}
        for line in log.read_text().splitlines() if log.exists() else []:
            when, what, model, hook, pid, more = line.split()
            key = model, hook, int(pid)
            if what == "start":
                running[key] = len(runs)
                runs.append(HookRun(model, hook, int(pid), float(when), None, int(more), None))
            elif key in running:
                index = running.pop(key)
                runs[index] = attrs.evolve(runs[index], ended=float(when), status=int(more))
        return runs

    def end(self) -> None:
        """End everything that has been started for it: backends, hooks, and llmux itself."""
        mark = f"FLEET={self.directory}".encode()

        def mine() -> list[int]:
            others = (pid for pid, told in _processes("environ") if mark in told.split(b"\0"))
            return [pid for pid in others if pid != os.getpid()]

        def ended() -> bool:
            left = mine()
            for pid in left:
                for number in (signal.SIGKILL, signal.SIGCONT):
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        continue
            return not left

        wait_until(ended, "all that was started has ended")


def llama_models() -> tuple[dict[str, str], dict[str, str]]:
    """
    Give two models of llama-server and their settings; none if it is not there.

    It is found in ``LLAMA_SERVER`` or in ``PATH``, its GGUF file in ``LLAMA_MODEL``.
    """
    server = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    model = os.environ.get("LLAMA_MODEL")
    if not server or not model or not shutil.which("curl"):
        return {}, {}
    settings = {
        "LLAMA_SERVER": server,
        "MODEL_FILE": model,
        "LLAMA_ARGS": "-c 4096 -np 4 -t 1 --no-webui",
        "KILL_AFTER": "3",
    }
    return {"llama-one": "llama-server", "llama-two": "llama-server"}, settings


def overlaps(runs: list[HookRun]) -> list[str]:
    """
    Say where two hooks that change something ran at once, or a wake began beside another model.

    A run whose end is not known was killed with all that it had begun; it is taken to have been
    over when the next one began.
    """
    said = []
    last: HookRun | None = None
    for run in runs:
        if run.hook not in CHANGING:
            continue
        what = f"{run.hook} of {run.model} (pid {run.pid}, {run.began:.3f})"
        if run.beside:
            said.append(f"{what} began while {run.beside} backends of other models were alive")
        if last is not None and last.ended is not None and run.began < last.ended:
            said.append(f"{what} began before {last.hook} of {last.model} ended, {last.ended:.3f}")
        if last is None or (run.ended or run.began) >= (last.ended or last.began):
            last = run
    return said


def count_runs(runs: list[HookRun]) -> dict[str, int]:
    """Count runs by hook and by whether they failed."""
    counts: Counter[str] = Counter()
    for run in runs:
        counts[run.hook] += 1
        if run.status is None:
            counts[f"{run.hook}, killed"] += 1
        elif run.status:
            counts[f"{run.hook}, failed"] += 1
    return dict(sorted(counts.items()))


def _processes(file: str) -> list[tuple[int, bytes]]:
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                found.append((int(directory.name), (directory / file).read_bytes()))
            except OSError:  # it has ended, or is another user's
                continue
    return found
