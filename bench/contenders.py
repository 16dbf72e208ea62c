"""Those who are compared: no proxy, nginx, and llmux as it is in this checkout."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import attrs

from bench.helpers import BUILD
from bench.processes import (
    BenchError,
    Process,
    children,
    free_port,
    wait_until,
    wait_until_listening,
)

CHECKOUT = Path(__file__).parent.parent

_NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log error.log;
{user}
events {{ worker_connections {connections}; }}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 0;
    keepalive_requests 100000000;
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 1024;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@attrs.frozen
class Gate:
    """
    Holds the wake hook of the model ``held`` until it is opened.

    :param gate: the file for which the hook waits.
    :param stamp: the file in which it notes when it ended.
    """

    gate: Path
    stamp: Path

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Have wakes wait until it is opened, or until the block ends."""
        self.gate.unlink(missing_ok=True)
        self.stamp.unlink(missing_ok=True)
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let the wake go on."""
        self.gate.touch()

    def opened_ns(self) -> int:
        """Give the monotonic time at which the hook ended."""
        return int(self.stamp.read_text())


@attrs.frozen
class Proxy:
    """
    What requests can be sent to.

    :param pid: the process that relays; ``None`` if there is none in between.
    :param gate: of the model ``held``; llmux alone has one.
    """

    port: int
    pid: int | None = None
    gate: Gate | None = None

    def waiting(self, model: str) -> int:
        """Ask llmux how many requests wait for a model."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f'llmux_request_queue_depth{{model="{model}"}}'):
                    return int(float(line.split()[-1]))
        return 0


@attrs.frozen
class Contender:
    """
    Something to be measured.

    :param start: starts a fresh one in front of the backend, and ends it.
    """

    name: str
    start: Callable[[], AbstractContextManager[Proxy]]


def contenders(directory: Path, backend: int, files: int) -> list[Contender]:
    """
    Give those that can be had on this machine, llmux last.

    :param directory: for their configuration, logs and temporary files.
    :param backend: the backend's port.
    :param files: how many files a process may open.
    """

    @contextmanager
    def straight() -> Iterator[Proxy]:
        yield Proxy(backend)

    found = [Contender("straight", straight)]
    if find_nginx():
        found.append(Contender("nginx", lambda: _nginx(_scratch(directory), backend, files)))
    found.append(Contender("llmux", lambda: _llmux(_scratch(directory), backend)))
    return found


def find_nginx() -> str | None:
    """Give the path of nginx, which is seldom on the PATH of a user."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _scratch(directory: Path) -> Path:
    """Make a directory for one process."""
    made = directory / f"{time.monotonic_ns()}"
    made.mkdir()
    return made


@contextmanager
def _nginx(directory: Path, backend: int, files: int) -> Iterator[Proxy]:
    program = find_nginx()
    assert program is not None
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(
        _NGINX.format(
            files=files,
            connections=files - 100,
            backend=backend,
            port=port,
            user="" if os.getuid() else "user root;",  # or its worker cannot enter the directory
        )
    )
    command = [program, "-p", str(directory), "-c", str(config), "-e", str(directory / "error.log")]
    with Process(command, directory / "nginx.log") as master:
        wait_until_listening(master, port)
        wait_until(lambda: len(children(master.pid)) == 1, "nginx has its worker")
        yield Proxy(port, children(master.pid)[0])


@contextmanager
def _llmux(directory: Path, backend: int) -> Iterator[Proxy]:
    gate = Gate(directory / "gate", directory / "stamp")
    gate.open()
    port = free_port()
    config = directory / "config.json"
    held = f"exec {BUILD / 'hold'} {gate.gate} {gate.stamp}"
    config.write_text(
        json.dumps(
            {
                "port": port,
                "state_dir": str(directory / "state"),
                "models": {
                    "bench": {"port": backend, "wake": "true", "sleep": "true"},
                    "held": {"port": backend, "wake": held, "sleep": "true"},
                },
            }
        )
    )
    spool = directory / "spool"
    spool.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(spool)}
    program = Path(sys.executable).parent / "twistd"
    if not program.exists():
        raise BenchError(f"{program} is missing: run this with the Python that has Twisted")
    options = ["--config", str(config)]
    command = [str(program), "-n", "--pidfile=", "llmux", *options]
    with Process(command, directory / "llmux.log", environment=environment, cwd=directory) as llmux:
        wait_until_listening(llmux, port)
        yield Proxy(port, llmux.pid, gate)
