"""Starting llmux, configuring it, and asking it."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from typing import Any

import openai
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

WAIT = 30.0  # seconds after which a test gives up

BIN = Path(sys.executable).parent


def _own_ports() -> Iterator[int]:
    """
    Go through the ports of this run of tests, again and again.

    Those that the system gives to connections of its own accord begin at 32768 on Linux. A port
    from among them can be taken by a connection before a server has come to listen on it, and
    two that run tests side by side could be given the same one.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12_000 + worker % 8 * 2_500
    return cycle(range(first, first + 2_500))


_PORTS = _own_ports()


def free_port() -> int:
    """Give a port that nobody listens on at this moment, and no other test is given."""
    for port in _PORTS:
        with socket.socket() as taken, suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle has no end")


def scratch_environment(directory: Path) -> dict[str, str]:
    """Make an environment whose state goes into a directory of its own."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(directory / "xdg"),
        "PYTHON": sys.executable,
    }


@contextmanager
def answering(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Have a server that answers every request with 200, over TLS if so; give its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # what http.server calls
            """Answer."""
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *words: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            serving.join()


async def in_thread(function: Any, *arguments: Any, **keywords: Any) -> Any:
    """Call something that blocks without holding up the reactor."""
    called: Deferred[Any] = deferToThread(function, *arguments, **keywords)
    return await called


class Program:
    """
    A process of llmux, with what it prints in a file.

    :param command: ``twistd ...`` or ``llmux ...``.
    :param port: where it will listen.
    :param environment: the environment.
    :param log: takes what it prints.
    :param cwd: where it runs, if not where the tests do.
    :param sockets: what is handed over to it, as systemd does.
    """

    def __init__(
        self,
        command: list[str],
        port: int,
        environment: dict[str, str],
        log: Path,
        cwd: Path | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self.port = port
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        files = [each.fileno() for each in sockets]
        program = [str(BIN / command[0]), *command[1:]]
        if files:
            program = [sys.executable, "-c", _HAND_OVER, *map(str, (len(files), *files)), *program]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                program,
                pass_fds=files,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=hear_interrupts,
            )

    def wait_until_it_serves(self) -> None:
        """Return when it answers."""

        def serves() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.printed()}")
            try:
                return self.get("/health")[0] == 200
            except OSError:
                return False

        wait_until(serves)

    def get(self, path: str) -> tuple[int, str]:
        """GET a path; give status and body."""
        return self.ask(urllib.request.Request(self.url + path))

    def post(self, path: str, document: object) -> tuple[int, str]:
        """POST some JSON, as ``curl -d`` would; give status and body."""
        return self.ask(urllib.request.Request(self.url + path, json.dumps(document).encode()))

    def ask(self, request: urllib.request.Request) -> tuple[int, str]:
        """Send a request; give status and body, also of errors."""
        try:
            with urllib.request.urlopen(request, timeout=WAIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, series: str) -> float:
        """Give the value of one series, written as Prometheus would; 0 if there is none."""
        for line in self.get("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return 0.0

    def printed(self) -> str:
        """Give all that it has printed."""
        return self.log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """
        Give the log's events, but for a line that is not whole yet; it has to log JSON.

        A client may have its answer before the log has its end: :meth:`event` waits.
        """
        lines = self.printed().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def event(self, **fields: Any) -> dict[str, Any]:
        """Wait for the event that has some fields, and give it."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [event for event in self.events() if fields.items() <= event.items()]
            return bool(found)

        wait_until(is_there)
        (event,) = found
        return event

    def openai(self, **settings: Any) -> openai.OpenAI:
        """Make an official client for it."""
        chosen = {"max_retries": 0, "timeout": WAIT, **settings}
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", **chosen)

    def terminate(self) -> int:
        """End it as a user would, and give its status."""
        self.process.terminate()
        return self.process.wait(WAIT)

    def kill(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(WAIT)


#: Becomes another program, with some open files at the numbers from 3 on, and says so.
_HAND_OVER = """\
import os, sys
number = int(sys.argv[1])
given = [int(each) for each in sys.argv[2 : 2 + number]]
spare = max(given) + number + 3
for index, each in enumerate(given):
    os.dup2(each, spare + index)
    os.close(each)
for index in range(number):
    os.dup2(spare + index, 3 + index)
    os.close(spare + index)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), str(number)
os.execv(sys.argv[2 + number], sys.argv[2 + number :])
"""


def hear_interrupts() -> None:
    """Undo what a shell does to what it runs in the background: SIGINT would be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def chat(client: openai.OpenAI, model: str, **settings: Any) -> Any:
    """Ask for a short answer."""
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Say something about switching."}],
        **{"max_tokens": 8, "temperature": 0, **settings},
    )


def chat_at_length(client: openai.OpenAI, model: str) -> Any:
    """
    Ask for a stream that goes on until somebody does something about it.

    A tiny model of llama-server has written all that its context holds in less than a second,
    and a busy machine may let that pass before the client has read a word. So each event has the
    probabilities of the whole vocabulary with it: 57 MB in all, much more than the sockets in
    between take, so that the end cannot be written before most of it is read.
    """
    return chat(client, model, stream=True, max_tokens=4000, logprobs=True, top_logprobs=400)


class Backends:
    """
    Two models, ``first`` and ``second/model``, with the hooks of an example.

    :param kind: the example's folder.
    :param state: the state directory.
    :param ports: one for each model.
    :ivar before_wake: what the shell does before each wake, with a semicolon behind it.
    :ivar prepare: the ``prepare`` hook of both, if they have one.
    """

    models = ("first", "second/model")

    def __init__(self, kind: str, state: Path, ports: list[int]) -> None:
        self.kind = kind
        self.state = state
        self.ports = ports
        self.before_wake = ""
        self.prepare: str | None = None

    def config(self, directory: Path, port: int, **sections: object) -> Path:
        """Write a configuration and give its path; as JSON, which is what needs no library."""
        hooks = {hook: f"examples/{self.kind}/{hook}.sh" for hook in ("wake", "sleep", "alive")}
        hooks["wake"] = self.before_wake + hooks["wake"]
        if self.prepare is not None:
            hooks["prepare"] = self.prepare
        path = directory / "config.json"
        path.write_text(
            json.dumps(
                {
                    "port": port,
                    "state_dir": str(self.state),
                    **sections,
                    "models": {
                        model: {"port": backend, **hooks}
                        for model, backend in zip(self.models, self.ports, strict=True)
                    },
                }
            )
        )
        return path

    def gate(self) -> Gate:
        """Have every wake wait for a gate to be opened."""
        gate = Gate(self.state.parent / "gate")
        self.before_wake = f"until [ -e '{gate.path}' ]; do sleep 0.05; done; "
        return gate

    def send_signal(self, model: str, number: signal.Signals) -> None:
        """Send a signal to a model's process; the hooks know nothing of it."""
        directory = self.state / "models" / model.replace("/", "%2F")
        (pid_file,) = directory.glob("*.pid")
        os.kill(int(pid_file.read_text()), number)

    def end_all(self, environment: dict[str, str]) -> None:
        """Put both to sleep by hand, as llmux would."""
        for model, port in zip(self.models, self.ports, strict=True):
            directory = self.state / "models" / model.replace("/", "%2F")
            if not directory.exists():
                continue
            told = {
                "LLMUX_MODEL": model,
                "LLMUX_PORT": str(port),
                "LLMUX_URL": f"http://127.0.0.1:{port}",
                "LLMUX_STATE_DIR": str(directory),
            }
            subprocess.run(
                [f"examples/{self.kind}/sleep.sh"],
                env={**environment, **told},
                check=True,
                timeout=WAIT,
            )


class Gate:
    """
    What keeps a hook waiting, for as long as a test needs.

    :param path: a file; while it exists the gate is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Let everybody pass."""
        self.path.touch()

    def close(self) -> None:
        """Let nobody pass."""
        self.path.unlink()


def wait_until(condition: Any, seconds: float = WAIT) -> None:
    """Return when something is so; it is a failure if it does not come about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def start(
    programs: list[Program],
    config: Path,
    port: int,
    environment: dict[str, str],
    *options: str,
) -> Program:
    """Start ``twistd -n llmux`` and wait until it serves."""
    command = ["twistd", "-n", "--pidfile=", "llmux", "--config", str(config), *options]
    program = Program(command, port, environment, config.parent / "llmux.log")
    programs.append(program)
    program.wait_until_it_serves()
    return program
