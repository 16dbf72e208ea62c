"""Servers that hooks leave running outlive llmux, and go on printing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.program import Program, free_port, start, wait_until

SERVERS = {
    "shell": "while :; do echo tick; sleep 0.05; done",
    "python": f"exec {sys.executable} -uc 'import time\nwhile True: print(1); time.sleep(0.05)'",
}


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Write a wake hook that starts a server with & and no more ado; end the server afterwards."""
    wake = tmp_path / "wake.sh"
    wake.write_text(f'#!/bin/sh\n({SERVERS[request.param]}) &\necho $! >>"{tmp_path}/pids"\n')
    wake.chmod(0o755)
    yield wake
    for pid in (tmp_path / "pids").read_text().split():  # nobody listens, so it is woken twice
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_server_goes_on_printing(
    server: Path,
    number: signal.Signals,
    tmp_path: Path,
    programs: list[Program],
    environment: dict[str, str],
) -> None:
    """A server that a hook started with & goes on when llmux stops, is killed, and starts again."""
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"port: {port}\nstate_dir: {tmp_path}/state\n"
        f"models: {{a: {{port: 1, wake: {server}, sleep: 'true'}}}}\n"
    )
    program = start(programs, config, port, environment)
    status, _ = program.post("/v1/x", {"model": "a"})
    assert status == 502, "the hook has ended although its server has not"
    pid = int((tmp_path / "pids").read_text().split()[-1])
    output = tmp_path / "state/models/a/hooks.log"

    def goes_on() -> bool:
        before = output.stat().st_size
        wait_until(lambda: output.stat().st_size > before + 10)
        os.kill(pid, 0)
        return True

    assert goes_on()
    program.process.send_signal(number)
    program.process.wait(10)
    assert goes_on()
    start(programs, config, port, environment)
    assert goes_on()
