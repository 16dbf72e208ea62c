"""Starts llmux, of this checkout or of another, as it is to be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from bench.helpers import BUILD
from bench.processes import (
    BenchError,
    Process,
    free_port,
    wait_until,
    wait_until_listening,
)
from bench.proxy import Gate, Proxy

CHECKOUT = Path(__file__).parent.parent
WORKERS = 2


@attrs.frozen(kw_only=True)
class Multiplexer:
    """
    How llmux is started.

    :param checkout: whose llmux.
    :param environment: what is set besides what we have ourselves.
    :param workers: whether it has two of them.
    :param words: options for llmux.
    :param twistd: options for twistd.
    """

    checkout: Path = CHECKOUT
    environment: Mapping[str, str] = attrs.Factory(dict)
    workers: bool = False
    words: Sequence[str] = ()
    twistd: Sequence[str] = ()

    @contextmanager
    def start(self, directory: Path, backend: int) -> Iterator[Proxy]:
        """
        Run it.

        :param directory: for its files.
        :param backend: the backend's port.
        """
        gate = Gate(directory / "gate", directory / "stamp")
        gate.open()
        port = free_port()
        config = directory / "config.json"
        config.write_text(json.dumps(_config(directory, backend, port, gate, self.workers)))
        spool = directory / "spool"
        spool.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.checkout),
            "TMPDIR": str(spool),
            **self.environment,
        }
        options = ["--config", str(config), *self.words]
        command = [str(_program("twistd")), "-n", "--pidfile=", *self.twistd, "llmux", *options]
        with Process(
            command, directory / "llmux.log", environment=environment, cwd=directory
        ) as llmux:
            wait_until_listening(llmux, port)
            if self.workers:
                _wait_for_workers(llmux)
            yield Proxy(port, llmux.pid, gate, self.workers)


def why_no_workers(directory: Path) -> str | None:
    """
    Say why llmux cannot have two workers, if so.

    :param directory: for the configuration that it is asked about.
    """
    config = directory / "workers.json"
    gate = Gate(directory / "gate", directory / "stamp")
    config.write_text(json.dumps(_config(directory, 1, 2, gate, workers=True)))
    done = subprocess.run(
        [str(_program("llmux")), "--config", str(config), "check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        return None
    reason = done.stderr.strip().removeprefix(f"{config}:").partition(";")[0]
    return f"llmux check refuses them: {reason}"


def _config(directory: Path, backend: int, port: int, gate: Gate, workers: bool) -> dict[str, Any]:
    held = f"exec {BUILD / 'hold'} {gate.gate} {gate.stamp}"
    config: dict[str, Any] = {
        "port": port,
        "state_dir": str(directory / "state"),
        "models": {
            "bench": {"port": backend, "wake": "true", "sleep": "true"},
            "other": {"port": backend, "wake": "true", "sleep": "true"},
            "held": {"port": backend, "wake": held, "sleep": "true"},
        },
    }
    if workers:
        config["workers"] = WORKERS
    return config


def _wait_for_workers(llmux: Process) -> None:
    """
    Return when all workers serve clients.

    They have the listening sockets long before, from when they are started; until then the first
    one would have all clients, and the others' start would count as processor time.
    """

    def all_serve() -> bool:
        llmux.check()
        return llmux.printed().count("serves clients") == WORKERS

    wait_until(all_serve, "all workers of llmux serve clients")


def _program(name: str) -> Path:
    program = Path(sys.executable).parent / name
    if not program.exists():
        raise BenchError(f"{program} is missing: run this with the Python that has llmux")
    return program
