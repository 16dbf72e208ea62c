"""The program as a process of its own, in front of real backends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.program import Backends, Program, free_port, scratch_environment, start

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the examples' scripts are found."""
    monkeypatch.chdir(CHECKOUT)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give the environment for processes; their state goes where the test can find it."""
    return scratch_environment(tmp_path)


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Collect the processes of a test; they end with it."""
    started: list[Program] = []
    yield started
    for program in started:
        program.kill()


@pytest.fixture(params=["demo", "llama-server"])
def backends(
    request: pytest.FixtureRequest, tmp_path: Path, environment: dict[str, str]
) -> Iterator[Backends]:
    """Give two models with the hooks of an example, on free ports."""
    kind: str = request.param
    settings = {"LOAD_SECS": "0.2", "TOKENS_PER_SEC": "200"}
    if kind == "llama-server":
        settings = _llama_server()
    environment.update(settings)
    found = Backends(kind, tmp_path / "state", ports=[free_port(), free_port()])
    yield found
    found.end_all(environment)


@pytest.fixture
def serve(
    backends: Backends, programs: list[Program], tmp_path: Path, environment: dict[str, str]
) -> Callable[..., Program]:
    """Start llmux in front of both models when it is called, with further sections of the file."""

    def serve(**sections: object) -> Program:
        port = free_port()
        config = backends.config(tmp_path, port, **sections)
        return start(programs, config, port, environment, "--log-format", "json")

    return serve


def _llama_server() -> dict[str, str]:
    server = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    model = os.environ.get("LLAMA_MODEL")
    if not server:
        pytest.skip("no llama-server: set LLAMA_SERVER to it, or put it on PATH")
    if not model:
        pytest.skip("no model for llama-server: set LLAMA_MODEL to a GGUF file")
    if not shutil.which("curl"):
        pytest.skip("the example's hooks need curl")
    arguments = "-c 8192 -np 4 --no-webui --embeddings --pooling mean"
    return {"LLAMA_SERVER": server, "MODEL_FILE": model, "LLAMA_ARGS": arguments}
