"""The program in three guises, each started once for all cases."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from e2e.conftest import CHECKOUT
from e2e.program import Program, free_port, scratch_environment
from e2e.wire.backend import RecordingBackend
from llmux.engine.choice import HTTP

WAKE_SECS = 1.5  # how long the slow model takes


@attrs.frozen
class House:
    """
    A program and what stands behind it.

    :param program: llmux.
    :param backend: of the model ``llama``.
    :param other: of the model ``org/other``.
    :param spool: where it keeps large bodies.
    """

    program: Program
    backend: RecordingBackend
    other: RecordingBackend
    spool: Path

    @property
    def port(self) -> int:
        """Where llmux listens."""
        return self.program.port


@pytest.fixture(scope="session")
def http() -> str:
    """Say what reads HTTP: what the environment asks for; tox has it tried on each stack."""
    return HTTP.made(os.environ)


def serve(
    directory: Path, http: str, general: dict[str, Any], settings: dict[str, Any]
) -> Iterator[House]:
    """
    Serve some models.

    :param http: what reads HTTP.
    :param general: what the configuration says beside its models.
    :param settings: what it says of each model.
    """
    backend, other = RecordingBackend(), RecordingBackend()
    spool = directory / "spool"
    spool.mkdir()
    port = free_port()
    hooks = {"wake": "true", "sleep": "true", **settings}
    limits = {"spool_dir": str(spool), **general.pop("limits", {})}
    models = {
        "llama": {"port": backend.port, **hooks},
        "org/other": {"port": other.port, **hooks},
        # each is asked once: one that nobody listens for has a back-off afterwards
        **{f"nobody-{number}": {"port": free_port(), **hooks} for number in range(1, 6)},
        "broken": {"port": free_port(), **hooks, "wake": "exit 1"},
        "fails": {**hooks, "port": free_port(), "wake": f"sleep {WAKE_SECS}; exit 1"},
        "slow": {**hooks, "port": backend.port, "wake": f"sleep {WAKE_SECS}"},
        "fresh": {**hooks, "port": backend.port, "reuse_secs": 0},
        "single": {**hooks, "port": backend.port, "max_concurrency": 1, "max_waiting": 2},
        "late": {**hooks, "port": backend.port, "wake": "sleep 2", "request_timeout_secs": 0.2},
    }
    config = directory / "config.json"
    state = str(directory / "state")
    config.write_text(
        json.dumps(
            {"port": port, "state_dir": state, "limits": limits, "models": models, **general}
        )
    )
    command = ["twistd", "-n", "--pidfile=", "llmux", "--config", str(config)]
    environment = {**scratch_environment(directory), HTTP.variable: http}
    log = directory / "llmux.log"
    command += ["--log-format", "json"]
    program = Program(command, port, environment, log, cwd=CHECKOUT)
    try:
        program.wait_until_it_serves()
        yield House(program, backend, other, spool)
    finally:
        program.kill()
        backend.close()
        other.close()
    assert "Traceback" not in program.printed()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, http: str) -> Iterator[House]:
    """Serve with the configuration's defaults."""
    yield from serve(tmp_path_factory.mktemp("plain"), http, {}, {})


@pytest.fixture(scope="session")
def tight(tmp_path_factory: pytest.TempPathFactory, http: str) -> Iterator[House]:
    """Serve with limits that are soon met."""
    limits = {"max_body_bytes": 1000, "body_timeout_secs": 0.4}
    settings = {
        "first_byte_timeout_secs": 0.4,
        "idle_timeout_secs": 0.4,
        "tunnel_idle_secs": 0.4,
        "client_stall_secs": 0.4,
        "connect_timeout_secs": 0.4,
        "request_timeout_secs": 5,
    }
    yield from serve(tmp_path_factory.mktemp("tight"), http, {"limits": limits}, settings)


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory, http: str) -> Iterator[House]:
    """Serve with all that is off by default and concerns what others learn."""
    general = {
        "forwarded": True,
        "keepalive_secs": 0.1,
        "cors": {"origins": ["https://chat.example"]},
    }
    yield from serve(tmp_path_factory.mktemp("public"), http, general, {})
