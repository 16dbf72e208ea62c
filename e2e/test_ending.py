"""The end of the program: in order or at once, and what goes on meanwhile; reading files again."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.program import WAIT, Gate, Program, free_port, wait_until

COMMANDS = {
    "twistd": ["twistd", "-n", "--pidfile=llmux.pid", "llmux"],
    "twist": ["twist", "llmux"],
    "llmux": ["llmux"],
}


class Backend:
    """
    A backend that sends the first half of an answer, and the second one when the test lets it.

    :ivar port: where it listens.
    :ivar asked: how many requests have come.
    :ivar go_on: lets it send the rest.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self.go_on.set()
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            received = b""
            while b"}" not in received:
                received += connection.recv(65536)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n6\r\nfirst \r\n"
            )
            self.asked += 1
            self.go_on.wait(WAIT)
            connection.sendall(b"4\r\nlast\r\n0\r\n\r\n")


@pytest.fixture
def backend() -> Iterator[Backend]:
    """Serve a model."""
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture
def config(tmp_path: Path, backend: Backend) -> Callable[..., Path]:
    """Write a configuration with that model, and further sections, and give its path."""

    def write(**sections: Any) -> Path:
        model = {"port": backend.port, "wake": "true", "sleep": "true"}
        model |= sections.pop("model", {})
        document = {"port": free_port(), "state_dir": str(tmp_path / "state"), **sections}
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**document, "models": {"a": model}}))
        return path

    return write


@pytest.fixture
def run(
    tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> Callable[..., Program]:
    """Start a command with a configuration, and wait until it serves."""

    def run(config: Path, command: str = "twistd", *options: str, **settings: Any) -> Program:
        port = json.loads(config.read_text())["port"]
        words = [*COMMANDS[command], "--config", str(config), *options]
        program = Program(
            words, port, environment, tmp_path / f"log{len(programs)}", cwd=tmp_path, **settings
        )
        programs.append(program)
        program.wait_until_it_serves()
        return program

    return run


class Client:
    """
    A client that reads an answer while it comes.

    :param program: whom it asks.
    """

    def __init__(self, program: Program) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=WAIT)

    def ask(self) -> http.client.HTTPResponse:
        """Ask the model; give the answer as soon as its head is here."""
        self.connection.request("POST", "/v1/chat/completions", json.dumps({"model": "a"}))
        return self.connection.getresponse()


def refuses(program: Program) -> bool:
    """Tell whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", program.port)) != 0


def ended(program: Program) -> int:
    """Give its status when it has ended."""
    return program.process.wait(WAIT)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle(
    command: str,
    number: signal.Signals,
    config: Callable[..., Path],
    run: Callable[..., Program],
    tmp_path: Path,
) -> None:
    """TERM and INT end an idle llmux with status 0, however it was started."""
    program = run(config(), command)
    program.process.send_signal(number)
    assert ended(program) == 0, program.printed()
    assert "Traceback" not in program.printed()
    assert not (tmp_path / "llmux.pid").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_stream_in_flight(
    command: str, config: Callable[..., Path], run: Callable[..., Program], backend: Backend
) -> None:
    """A stream that is on its way comes to its end; nobody new is let in; the status is 0."""
    program = run(config(), command)
    answer = Client(program).ask()
    assert answer.read(6) == b"first "
    program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refuses(program))
    assert program.process.poll() is None
    backend.go_on.set()
    assert answer.read() == b"last"
    assert ended(program) == 0


def test_log(config: Callable[..., Path], run: Callable[..., Program], backend: Backend) -> None:
    """The log says whom llmux waits for at its end, and how long that took."""
    program = run(config(), "twistd", "--log-format", "json")
    answer = Client(program).ask()
    program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refuses(program))
    backend.go_on.set()
    answer.read()
    ended(program)
    events = {event["event"]: event for event in program.events()}
    begun = events["stopping"]
    assert (begun["signal"], begun["in_flight"], begun["waiting"]) == ("TERM", 1, 0)
    assert begun["grace_secs"] == 30.0
    assert events["request_ended"]["how"] == "complete"
    assert events["stopped"]["duration_secs"] >= 0


def test_grace_is_over(
    config: Callable[..., Path], run: Callable[..., Program], backend: Backend
) -> None:
    """What is still in flight after the grace is cut, visibly; the status is 0 all the same."""
    program = run(config(shutdown={"grace_secs": 0.3}), "twistd", "--log-format", "json")
    answer = Client(program).ask()
    assert answer.read(6) == b"first "
    program.process.send_signal(signal.SIGTERM)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    assert ended(program) == 0
    (request,) = [event for event in program.events() if event["event"] == "request_ended"]
    assert request["how"] != "complete"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(
    command: str,
    number: signal.Signals,
    config: Callable[..., Path],
    run: Callable[..., Program],
    backend: Backend,
    tmp_path: Path,
) -> None:
    """A second signal cuts at once, visibly; the status is 1, and the pid file is gone."""
    program = run(config(), command)
    assert (tmp_path / "llmux.pid").exists() is (command == "twistd")
    answer = Client(program).ask()
    assert answer.read(6) == b"first "
    program.process.send_signal(number)
    wait_until(lambda: refuses(program))
    program.process.send_signal(number)
    assert ended(program) == 1, program.printed()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    assert not (tmp_path / "llmux.pid").exists()
    assert "Traceback" not in program.printed()


def test_waiters(config: Callable[..., Path], run: Callable[..., Program], tmp_path: Path) -> None:
    """Who waits is refused at once, with 503; the hook that runs is waited for."""
    gate = Gate(tmp_path / "gate")
    mark = tmp_path / "woken"
    wake = f"until [ -e '{gate.path}' ]; do sleep 0.05; done; touch '{mark}'"
    program = run(config(model={"wake": wake}))
    client = Client(program)
    answers: list[http.client.HTTPResponse] = []
    asking = threading.Thread(target=lambda: answers.append(client.ask()))
    asking.start()
    wait_until(lambda: program.metric('llmux_request_queue_depth{model="a"}') == 1)
    program.process.send_signal(signal.SIGTERM)
    asking.join(WAIT)
    (answer,) = answers
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert answer.headers["Connection"] == "close"
    assert program.process.poll() is None
    gate.open()
    assert ended(program) == 0
    assert mark.exists()


def test_second_signal_while_a_hook_runs(
    config: Callable[..., Path], run: Callable[..., Program], tmp_path: Path
) -> None:
    """A second signal waits for no hook; the hook goes on."""
    gate = Gate(tmp_path / "gate")
    mark = tmp_path / "woken"
    wake = f"until [ -e '{gate.path}' ]; do sleep 0.05; done; touch '{mark}'"
    program = run(config(model={"wake": wake}))
    client = Client(program)
    asking = threading.Thread(target=client.ask)
    asking.start()
    wait_until(lambda: program.metric('llmux_request_queue_depth{model="a"}') == 1)
    program.process.send_signal(signal.SIGTERM)
    asking.join(WAIT)
    program.process.send_signal(signal.SIGTERM)
    assert ended(program) == 1
    gate.open()
    wait_until(mark.exists)


def test_kept_connections(
    config: Callable[..., Path], run: Callable[..., Program], backend: Backend
) -> None:
    """A connection that is idle is closed; one that is new gets one more answer, and no other."""
    program = run(config())
    backend.go_on.set()
    idle = Client(program)
    assert idle.ask().read() == b"first last"
    backend.go_on.clear()
    busy = Client(program)
    answer = busy.ask()
    new = socket.create_connection(("127.0.0.1", program.port), WAIT)
    wait_until(lambda: program.get("/health")[0] == 200)  # so it has been let in, too
    program.process.send_signal(signal.SIGTERM)
    assert idle.connection.sock.recv(1) == b""
    new.sendall(b'POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 14\r\n\r\n{"model": "a"}')
    received = b"".join(iter(lambda: new.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"Connection: close\r\n" in received
    backend.go_on.set()
    assert answer.read() == b"first last"
    assert ended(program) == 0


def test_reload(config: Callable[..., Path], run: Callable[..., Program]) -> None:
    """HUP brings a new file, while an answer is on its way; a bad one changes nothing."""
    path = config()
    program = run(path, "twistd", "--log-format", "json")
    answer = Client(program).ask()
    document = json.loads(path.read_text())
    document["models"]["b"] = {"port": 1, "wake": "true", "sleep": "true"}

    def reload(event: str) -> dict[str, Any]:
        path.write_text(json.dumps(document))
        before = len(program.events())
        program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any(each["event"] == event for each in program.events()[before:]))
        return program.events()[-1]

    done = reload("config_reloaded")
    assert (done["added"], done["changed"], done["removed"]) == (["b"], [], [])
    assert '"b"' in program.get("/v1/models")[1]
    document["models"]["c"] = {"prot": 1}
    refused = reload("config_rejected")
    assert any("did you mean port?" in problem for problem in refused["problems"])
    assert '"c"' not in program.get("/v1/models")[1]
    assert answer.read(6) == b"first "  # its model was not touched
    assert program.process.poll() is None


def test_reload_keeps_options(
    config: Callable[..., Path], programs: list[Program], environment: dict[str, str]
) -> None:
    """--port goes on to win over the file when it is read again, wherever twistd has gone."""
    path = config()
    port = free_port()
    options = ["--config", path.name, "--port", str(port), "--log-format", "json"]
    rundir = path.parent / "elsewhere"
    rundir.mkdir()
    words = ["twistd", "-n", "--pidfile=", f"--rundir={rundir}", "llmux", *options]
    program = Program(words, port, environment, path.parent / "log", cwd=path.parent)
    programs.append(program)
    program.wait_until_it_serves()
    program.process.send_signal(signal.SIGHUP)
    wait_until(lambda: program.events()[-1]["event"].startswith("config_re"))
    done = program.events()[-1]
    assert (done["event"], done["needs_restart"]) == ("config_reloaded", [])


class Systemd:
    """
    What hears the program's messages, as systemd does.

    :ivar address: where.
    """

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(WAIT)

    def until(self, message: str) -> list[str]:
        """Wait for a message; give all that came up to it, each by its first line."""
        heard = [""]
        while heard[-1] != message:
            heard.append(self._socket.recv(4096).decode().splitlines()[0])
        return heard[1:]

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    """Be systemd."""
    with tempfile.TemporaryDirectory(prefix="llmux") as directory:
        systemd = Systemd(Path(directory))
        yield systemd
        systemd.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Listen, so that a program can be started to answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        yield listening


def test_messages(
    config: Callable[..., Path],
    run: Callable[..., Program],
    environment: dict[str, str],
    systemd: Systemd,
) -> None:
    """The service manager hears that llmux is ready, lives, reads its file, and ends."""
    environment.update(NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="200000")
    program = run(config())
    assert systemd.until("READY=1") == ["READY=1"]
    systemd.until("WATCHDOG=1")
    systemd.until("WATCHDOG=1")
    program.process.send_signal(signal.SIGHUP)
    systemd.until("RELOADING=1")
    systemd.until("READY=1")
    program.process.send_signal(signal.SIGTERM)
    systemd.until("STOPPING=1")
    systemd.until("EXTEND_TIMEOUT_USEC=30000000")
    assert ended(program) == 0


def test_hooks_see_nothing_of_it(
    config: Callable[..., Path],
    run: Callable[..., Program],
    environment: dict[str, str],
    systemd: Systemd,
    listening: socket.socket,
    backend: Backend,
    tmp_path: Path,
) -> None:
    """Hooks get neither systemd's variables nor its sockets."""
    environment.update(NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="200000", LISTEN_FDNAMES="x")
    printed = tmp_path / "printed"
    wake = f"(printenv | cut -d= -f1; ls -l /proc/self/fd) > '{printed}'"
    path = config(port=listening.getsockname()[1], model={"wake": wake})
    program = run(path, sockets=[listening])
    backend.go_on.set()
    Client(program).ask().read()
    seen = printed.read_text()
    assert "LLMUX_MODEL" in seen
    for word in ("LISTEN_", "NOTIFY_", "WATCHDOG_", "socket:"):
        assert word not in seen


def test_restart_with_sockets(
    config: Callable[..., Path], run: Callable[..., Program], listening: socket.socket
) -> None:
    """With sockets from systemd a restart refuses no connection, and leaves none unanswered."""
    address = listening.getsockname()
    path = config(port=address[1])
    answers: list[object] = []
    enough = threading.Event()

    def attempt() -> None:
        while not enough.is_set():
            try:
                with socket.create_connection(address, WAIT) as client:
                    client.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    received = b"".join(iter(lambda: client.recv(4096), b""))
                answers.append(received[:12])
            except OSError as error:
                answers.append(error)

    clients = [threading.Thread(target=attempt) for _ in range(4)]
    first = run(path, sockets=[listening])
    for client in clients:
        client.start()
    try:
        wait_until(lambda: len(answers) > 50)
        assert first.terminate() == 0
        before = len(answers)
        second = run(path, sockets=[listening])
        wait_until(lambda: len(answers) > before + 50)
    finally:
        enough.set()
        for client in clients:
            client.join(WAIT)
    assert set(answers) == {b"HTTP/1.1 200"}, set(answers)
    assert second.terminate() == 0


def test_several_sockets(
    config: Callable[..., Path],
    run: Callable[..., Program],
    listening: socket.socket,
    environment: dict[str, str],
    backend: Backend,
) -> None:
    """Every socket that it gets is served, UNIX sockets too, whose files it leaves alone."""
    with (
        tempfile.TemporaryDirectory(prefix="llmux") as directory,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(f"{directory}/clients")
        os.chmod(f"{directory}/clients", 0o660)
        unix.listen(100)
        environment["LISTEN_FDNAMES"] = "llmux.socket:llmux.socket"
        path = config(port=listening.getsockname()[1], forwarded=True)
        program = run(path, "twistd", "--log-format", "json", sockets=[unix, listening])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(unix.getsockname())
            client.sendall(
                b"POST /v1/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
                b'Content-Length: 14\r\n\r\n{"model": "a"}'
            )
            backend.go_on.set()
            received = b"".join(iter(lambda: client.recv(4096), b""))
            assert received.startswith(b"HTTP/1.1 200 "), received
            assert received.endswith(b"last\r\n0\r\n\r\n")
        assert program.get("/health")[0] == 200
        urls = [event["url"] for event in program.events() if event["event"] == "listening"]
        assert urls == [f"unix:{directory}/clients", program.url]
        assert program.terminate() == 0
        assert Path(directory, "clients").stat().st_mode & 0o777 == 0o660


def test_port_wins_over_sockets(
    config: Callable[..., Path], run: Callable[..., Program], listening: socket.socket
) -> None:
    """--port wins over a socket from systemd."""
    path = config()
    port = json.loads(path.read_text())["port"]
    run(path, "twistd", "--port", str(port), sockets=[listening])


def test_what_is_no_socket(
    config: Callable[..., Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    """A file from systemd that nobody can listen on is an error, with status 1."""
    words = ["twistd", "-n", "--pidfile=", "llmux", "--config", str(config())]
    with socket.socket() as idle:
        program = Program(words, 1, environment, tmp_path / "log", sockets=[idle])
        assert ended(program) == 1
    assert program.printed() == (
        "llmux: cannot listen on file 3 from systemd: it is no listening socket;"
        " give it streams that listen: ListenStream=, Accept=no\n"
    )
