"""LiteLLM's proxy, from PyPI, in a virtual environment of its own: another proxy in Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.helpers import BUILD
from bench.processes import BenchError, Process, free_port, wait_until_listening
from bench.proxy import PACE, SHORT_STREAM, SMALL_ANSWER, STREAM, Proxy

CASES = frozenset({"small", "latency", "streams"})
"""What it can be asked: it knows none but a few paths, and a model for each."""

_VENV = BUILD / "litellm"
_COMPLETE = _VENV / "complete"
_INSTALLING, _STARTING = 900, 120  # seconds that it may take
_PACE = 500  # milliseconds from event to event: more it could not follow
_MODELS = {SMALL_ANSWER: "small", STREAM: "stream", SHORT_STREAM: "short-stream"}
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the network for prices
    "LITELLM_LOG": "ERROR",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no key: no database, no check
}


def install() -> None:
    """
    Make its virtual environment, if there is none.

    :raises BenchError: if it cannot be had.
    """
    if _COMPLETE.exists():
        return
    pip = [str(_VENV / "bin" / "python"), "-m", "pip", "install", "-q", "litellm[proxy]"]
    for command in ([sys.executable, "-m", "venv", str(_VENV)], pip):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALLING, check=False
        )
        if done.returncode:
            raise BenchError(f"{' '.join(command)}: {done.stderr[-500:]}")
    _COMPLETE.touch()


def version() -> str:
    """Say which one it is."""
    code = "import importlib.metadata; print(importlib.metadata.version('litellm'))"
    command = [str(_VENV / "bin" / "python"), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@contextmanager
def start(directory: Path, backend: int) -> Iterator[Proxy]:
    """
    Run it, with nothing switched on that need not be.

    :param directory: for its files.
    :param backend: the backend's port.
    """
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"http://127.0.0.1:{backend}{_as_base(path)}",
                "api_key": "none",
            },
        }
        for path, name in _MODELS.items()
    ]
    config = directory / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models, "litellm_settings": {"telemetry": False}}))
    port = free_port()
    command = [str(_VENV / "bin" / "litellm"), "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **_ENVIRONMENT}
    with Process(
        command, directory / "litellm.log", environment=environment, cwd=directory
    ) as litellm:
        wait_until_listening(litellm, port, _STARTING)
        yield Proxy(port, litellm.pid, models=_MODELS, pace=_PACE)


def _as_base(path: str) -> str:
    """Write a path so that something can be put behind it."""
    slower = path.replace(f"pace_ms={PACE}", f"pace_ms={_PACE}") if path == STREAM else path
    return slower.replace("?", "/").replace("&", "/")
