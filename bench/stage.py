"""A real llmux before demo backends that share one pretended GPU; hooks take what they are told."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean, pstdev
from types import TracebackType
from typing import Any, Self

import attrs

from bench.helpers import HERE
from bench.processes import BenchError, Process, free_port, wait_until
from llmux.simulate.engine import EngineFigures

SLEEP_SHARE = 0.2
"""How much of a switch is sleep; the rest is wake."""


@attrs.frozen
class HookTimes:
    """
    How long a hook took, each time.

    :param seconds: one for each of its runs.
    """

    seconds: Sequence[float]

    def as_json(self) -> dict[str, float]:
        """Give it as plain JSON values, all but the number in seconds."""
        return {
            "runs": len(self.seconds),
            "mean": round(fmean(self.seconds), 4),
            "deviation": round(pstdev(self.seconds), 4),
            "longest": max(self.seconds),
        }


class Stage:
    """
    All that a trace needs, as a context manager.

    :param directory: takes the configuration, the state and the logs; it has to be new.
    :param models: their names.
    :param policy: the name of llmux's policy.
    :param engine: how fast each backend is.
    :param switch: what the two hooks of a switch linger for, in seconds.
    :ivar port: where llmux listens.
    """

    def __init__(
        self,
        directory: Path,
        models: Sequence[str],
        policy: str,
        engine: EngineFigures,
        switch: float,
    ) -> None:
        self.policy = policy
        self.port = free_port()
        self._directory = directory
        self._engine = engine
        self._switch = switch
        self._ports = {model: free_port() for model in models}
        self._log = directory / "llmux.log"
        self._processes = ExitStack()
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE.parent),
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._processes.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._processes.close()

    def hook_times(self) -> dict[str, dict[str, HookTimes]]:
        """Give what hooks took, by hook and model, as llmux has logged it."""
        times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for line in self._log.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "hook_completed":
                times[event["hook"]][event["model"]].append(event["duration_secs"])
        return {
            hook: {model: HookTimes(seconds) for model, seconds in sorted(by_model.items())}
            for hook, by_model in sorted(times.items())
        }

    def check(self) -> None:
        """
        See to it that the GPU was never promised to two models at once.

        :raises BenchError: if it was.
        """
        overcommitted = self._memory / "overcommitted.log"
        if overcommitted.exists():
            raise BenchError(f"two models were awake at once: {overcommitted.read_text()}")

    @property
    def _memory(self) -> Path:
        return self._directory / "machine"

    def _start(self) -> None:
        if shutil.which("curl") is None:
            raise BenchError("the hooks need curl")
        self._memory.mkdir(parents=True)
        (self._memory / "capacity.json").write_text('{"gpu": 1}')
        for model, port in self._ports.items():
            self._run(self._backend(model, port), f"{model}.log", f"http://127.0.0.1:{port}/health")
            order = f"http://127.0.0.1:{port}/sleep?level=2"
            urllib.request.urlopen(order, b"", timeout=10).close()
        config = self._directory / "config.json"
        config.write_text(json.dumps(self._config(), indent=2))
        command = ["twistd", "-n", "--pidfile=", "llmux", "--config", str(config)]
        ready = f"http://127.0.0.1:{self.port}/health"
        self._run([*command, "--log-format", "json"], self._log.name, ready)

    def _backend(self, model: str, port: int) -> list[str]:
        engine = self._engine
        options = {
            "model": model,
            "port": port,
            "load-secs": 0,
            "tokens-per-sec": 1 / engine.token_secs,
            "prompt-tokens-per-sec": engine.prompt_rate,
            "slowdown": engine.slowdown,
            "most": engine.most,
            "memory": self._memory,
            "needs": "gpu=1",
        }
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        return [sys.executable, "-m", "llmux.demo", *words]

    def _config(self) -> dict[str, Any]:
        order = "curl -sSf -o /dev/null -X POST"
        sleep, wake = self._switch * SLEEP_SHARE, self._switch * (1 - SLEEP_SHARE)
        hooks = {
            "sleep": f'sleep {sleep:.3f} && {order} "$LLMUX_URL/sleep?level=2"',
            "wake": f'sleep {wake:.3f} && {order} "$LLMUX_URL/wake_up"',
        }
        return {
            "port": self.port,
            "state_dir": str(self._directory / "state"),
            "policy": {"name": self.policy},
            "models": {model: {"port": port, **hooks} for model, port in self._ports.items()},
        }

    def _run(self, command: list[str], log: str, ready: str) -> None:
        """Start a program, and wait until it says that it is healthy."""
        process = self._processes.enter_context(
            Process(
                command, self._directory / log, environment=self._environment, cwd=self._directory
            )
        )

        def healthy() -> bool:
            process.check()
            try:
                with urllib.request.urlopen(ready, timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(healthy, f"{' '.join(command[:3])} is healthy")
