"""Those who are compared: no proxy, nginx, llmux in several makes, and LiteLLM."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import attrs

from bench import litellm
from bench.multiplexer import Multiplexer, why_no_workers
from bench.processes import (
    BenchError,
    Process,
    children,
    free_port,
    wait_until,
    wait_until_listening,
)
from bench.proxy import Proxy

MAIN, QUIET, WORKERS = "", "quiet", "workers"
"""How a contender can be run: as it comes, without its access log, with two workers."""

LLMUX, BEFORE, LITELLM = "llmux", "before", "litellm"
STACKS = ("default+default", "default+llhttp", "uvloop+default", "uvloop+llhttp")
"""Those of llmux, by its reactor and what reads HTTP for it."""

NAMES = ("straight", "nginx", BEFORE, *STACKS, LLMUX, LITELLM)
USUAL = ("straight", "nginx", LLMUX)

_Start = Callable[[Path, int], AbstractContextManager[Proxy]]

_NGINX = """\
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid nginx.pid;
error_log error.log;
{user}
events {{ worker_connections {connections}; }}
http {{
    access_log {log};
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
class Contender:
    """
    Something to be measured.

    :param starts: for each way in which it can be run: starts a fresh one in front of the backend,
        and ends it.
    :param cases: the names of the cases that it can have part in; ``None``: all.
    """

    name: str
    starts: Mapping[str, Callable[[], AbstractContextManager[Proxy]]]
    cases: frozenset[str] | None = None


@attrs.frozen
class Contest:
    """
    Who takes part, and where.

    :param directory: for configuration, logs and temporary files.
    :param backend: the backend's port.
    :param files: how many files a process may open.
    :param before: another checkout of llmux, for the contender ``before``.
    :param note: takes why somebody is left out.
    """

    directory: Path
    backend: int
    files: int
    before: Path | None
    note: Callable[[str], None]

    def contenders(self, names: tuple[str, ...], makes: frozenset[str]) -> list[Contender]:
        """
        Give those of the names that can be had on this machine.

        :param makes: which of the ways to run them are wanted.
        """
        found = []
        why_not = why_no_workers(self.directory) if WORKERS in makes else None
        if why_not:
            self.note(f"two workers are left out: {why_not}")
        for name in NAMES:
            if name not in names:
                continue
            try:
                starts = self._starts(name)
            except BenchError as error:
                self.note(str(error))
                continue
            chosen = {
                make: partial(self._start, start)
                for make, start in starts.items()
                if make in makes and not (make == WORKERS and why_not)
            }
            found.append(Contender(name, chosen, litellm.CASES if name == LITELLM else None))
        return found

    def _start(self, start: _Start) -> AbstractContextManager[Proxy]:
        made = self.directory / f"{time.monotonic_ns()}"
        made.mkdir()
        return start(made, self.backend)

    def _starts(self, name: str) -> Mapping[str, _Start]:
        if name == "straight":
            return {MAIN: _straight}
        if name == "nginx":
            if not find_nginx():
                raise BenchError("nginx is not installed, so it is not in the table")
            return {
                MAIN: partial(start_nginx, files=self.files),
                QUIET: partial(start_nginx, files=self.files, log="off"),
                WORKERS: partial(start_nginx, files=self.files, workers=2),
            }
        if name == LITELLM:
            litellm.install()
            return {MAIN: litellm.start}
        if name == BEFORE:
            if self.before is None:
                raise BenchError("nothing is said of what was before: --before CHECKOUT")
            # what it has not, it is not asked for
            return {
                MAIN: Multiplexer(checkout=self.before).start,
                QUIET: Multiplexer(checkout=self.before, words=_QUIET_WORDS).start,
            }
        environment = {}
        if name in STACKS:
            reactor, _, http = name.partition("+")
            environment = {"LLMUX_REACTOR": reactor, "LLMUX_HTTP": http}
        return {
            MAIN: Multiplexer(environment=environment).start,
            QUIET: Multiplexer(environment=environment, words=_QUIET_WORDS).start,
            WORKERS: Multiplexer(environment=environment, workers=True).start,
        }


_QUIET_WORDS = ("--log-level", "warn")  # its line for each request is at level info


def find_nginx() -> str | None:
    """Give the path of nginx, which is seldom on the PATH of a user."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def _straight(directory: Path, backend: int) -> Iterator[Proxy]:
    yield Proxy(backend)


@contextmanager
def start_nginx(
    directory: Path, backend: int, files: int, log: str = "access.log", workers: int = 1
) -> Iterator[Proxy]:
    """
    Run nginx, which has a process besides its workers.

    :param log: a file, or ``off``.
    """
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
            log=log,
            workers=workers,
            user="" if os.getuid() else "user root;",  # or its worker cannot enter the directory
        )
    )
    command = [program, "-p", str(directory), "-c", str(config), "-e", str(directory / "error.log")]
    with Process(command, directory / "nginx.log") as master:
        wait_until_listening(master, port)
        wait_until(lambda: len(children(master.pid)) == workers, "nginx has its workers")
        if workers > 1:
            yield Proxy(port, master.pid, workers=True)
        else:
            yield Proxy(port, children(master.pid)[0])
