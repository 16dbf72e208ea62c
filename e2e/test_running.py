"""Starting and ending: twistd, the llmux command, daemons, ports that are taken, bad files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from e2e.program import BIN, WAIT, Gate, Program, answering, free_port, start, wait_until

OLD_YAML = """\
models:
  qwen:
    port: {first}
    wake: ./scripts/wake.sh
    sleep: ./scripts/sleep.sh
    alive: ./scripts/alive.sh
  facebook/opt-125m:
    port: {second}
    wake: ./scripts/wake.sh
    sleep: true
    alive: true
policy:
  request_timeout_secs: 30
  drain_before_switch: true
  min_active_secs: 0
port: {port}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration with hooks that do nothing."""
    path = tmp_path / "config.yaml"
    model = "{port: 1, wake: 'true', sleep: 'true'}"
    path.write_text(f"port: {free_port()}\nmodels:\n  a: {model}\n")
    return path


def port_of(config: Path) -> int:
    """Read the port out of such a configuration."""
    return int(config.read_text().splitlines()[0].partition(":")[2])


def run(*command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


def test_twistd_describes_it(environment: dict[str, str]) -> None:
    """`twistd --help` lists llmux, and `twistd llmux --help` its options."""
    assert "  llmux  " in run("twistd", "--help", environment=environment).stdout
    described = run("twistd", "llmux", "--help", environment=environment).stdout
    for option in ("--config", "--port", "--host", "--log-format", "--log-level"):
        assert option in described


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag: str, environment: dict[str, str]) -> None:
    """`llmux --version` says the version, as 2.4.0 does."""
    done = run("llmux", flag, environment=environment)
    assert done.returncode == 0
    assert done.stdout.startswith("llmux ")


def test_flags_of_2_4_0(
    config: Path, tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> None:
    """`llmux -c config -p port -v` runs in the foreground on that port and says more."""
    port = free_port()
    command = ["llmux", "-c", str(config), "-p", str(port), "-v"]
    program = Program(command, port, environment, tmp_path / "log")
    programs.append(program)
    program.wait_until_it_serves()
    program.post("/v1/x", {"model": "a"})
    assert "a is awake" in program.printed()


def test_options_win(config: Path, programs: list[Program], environment: dict[str, str]) -> None:
    """--port and --host win over the configuration."""
    port = free_port()
    program = start(programs, config, port, environment, "--port", str(port), "--host", "127.0.0.1")
    assert program.get("/v1/models")[0] == 200


def test_listens_on_loopback_alone(
    config: Path, programs: list[Program], environment: dict[str, str]
) -> None:
    """Without a host in the configuration nobody but this machine can connect."""
    program = start(programs, config, port_of(config), environment)
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert f"0100007F:{program.port:04X}" in listening
    assert f"00000000:{program.port:04X}" not in listening


@pytest.mark.parametrize("command", [["twistd", "-n", "--pidfile=", "llmux"], ["llmux"]])
def test_port_that_is_taken(command: list[str], config: Path, environment: dict[str, str]) -> None:
    """A port that is taken is an error with a non-zero status, not a deaf server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of(config)))
        taken.listen()
        done = run(*command, "--config", str(config), environment=environment)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port_of(config)}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_daemon(config: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Daemonized it serves, logs into its file, reads its file again, and ends, when told to."""
    pid_file, log = tmp_path / "llmux.pid", tmp_path / "daemon.log"
    daemon = ["twistd", f"--pidfile={pid_file}", f"--logfile={log}", "llmux"]
    done = run(*daemon, "--config", str(config), "--log-format", "json", environment=environment)
    assert done.returncode == 0, done.stderr
    pid = int(pid_file.read_text())
    try:
        wait_until(lambda: _answers(port_of(config)))
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "config_reloaded" in log.read_text())
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pid_file.exists())
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events.index("stopping") < events.index("stopped")


@pytest.mark.parametrize(
    ("asked", "options", "used"),
    [
        (None, [], "llmux.engine.reactor.UvloopReactor"),
        ("uvloop", [], "llmux.engine.reactor.UvloopReactor"),
        ("default", [], "twisted.internet.epollreactor.EPollReactor"),
        (None, ["--reactor=poll"], "twisted.internet.pollreactor.PollReactor"),
        ("uvloop", ["--reactor=poll"], "twisted.internet.pollreactor.PollReactor"),
        ("default", ["--reactor=uvloop"], "llmux.engine.reactor.UvloopReactor"),
    ],
)
@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_reactor(
    asked: str | None,
    options: list[str],
    used: str,
    daemon: bool,
    config: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """It is the one over uvloop; LLMUX_REACTOR says otherwise, and twistd's --reactor overrules."""
    environment.pop("LLMUX_REACTOR", None)
    if asked is not None:
        environment["LLMUX_REACTOR"] = asked
    pid_file, log = tmp_path / "llmux.pid", tmp_path / "twistd.log"
    words = ["twistd", f"--pidfile={pid_file}", f"--logfile={log}", *options]
    words += [] if daemon else ["-n"]
    program = Program(
        [*words, "llmux", "-c", str(config)], port_of(config), environment, tmp_path / "log"
    )
    try:
        wait_until(lambda: _answers(port_of(config)))
        assert f"reactor class: {used}." in log.read_text()
        assert program.post("/v1/x", {"model": "a"})[0] == 502  # hooks have run; nobody is there
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        wait_until(lambda: not pid_file.exists())
    program.process.wait(WAIT)


def test_reactor_unknown(config: Path, environment: dict[str, str]) -> None:
    """A reactor that is not known is an error that names those that are."""
    environment["LLMUX_REACTOR"] = "fast"
    done = run("twistd", "-n", "--pidfile=", "llmux", "-c", str(config), environment=environment)
    assert done.returncode == 1
    assert done.stderr == "llmux: LLMUX_REACTOR=fast: must be default or uvloop\n"


def test_daemon_with_everything(config: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """A daemon takes its sockets along, speaks for no watchdog that is not its own, and cuts."""
    pid_file, log = tmp_path / "llmux.pid", tmp_path / "daemon.log"
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(f"\0llmux-{tmp_path.name}-{os.getpid()}")
    told.settimeout(WAIT)
    environment["NOTIFY_SOCKET"] = "@" + told.getsockname()[1:].decode()
    environment["WATCHDOG_USEC"] = "100000"
    environment["WATCHDOG_PID"] = str(os.getpid())  # any process but the daemon
    woken, gate = tmp_path / "woken", Gate(tmp_path / "gate")
    wake = f"touch {woken}; until test -e {gate.path}; do sleep 0.05; done"
    config.write_text(config.read_text().replace("wake: 'true'", f"wake: '{wake}'"))
    words = ["twistd", f"--pidfile={pid_file}", f"--logfile={log}", "llmux", "-c", str(config)]
    with socket.create_server(("127.0.0.1", 0)) as listening, told:
        port = listening.getsockname()[1]
        program = Program(words, port, environment, tmp_path / "log", sockets=[listening])
        assert program.process.wait(WAIT) == 0, program.printed()
        pid = int(pid_file.read_text())
        try:
            wait_until(lambda: _answers(port))
            assert told.recv(100) == b"READY=1"
            with socket.create_connection(("127.0.0.1", port), WAIT) as client:
                client.sendall(b"GET /x?model=a HTTP/1.1\r\nHost: h\r\n\r\n")
                wait_until(woken.exists)
                os.kill(pid, signal.SIGTERM)
                assert client.recv(12) == b"HTTP/1.1 503"
            assert told.recv(100) == b"STOPPING=1"
        finally:
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pid_file.exists())
    gate.open()


def test_twist(
    config: Path, tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> None:
    """`twist llmux` serves too, with its own log and without a log file of twistd's."""
    command = ["twist", "llmux", "--config", str(config)]
    program = Program(command, port_of(config), environment, tmp_path / "log", cwd=tmp_path)
    programs.append(program)
    program.wait_until_it_serves()
    assert '"event": "listening"' in program.printed()  # twist's own format, away from a terminal
    program.terminate()
    assert not (tmp_path / "twistd.log").exists()


def test_daemon_whose_port_is_taken(
    config: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A daemon that cannot listen says so on the terminal, before it leaves it."""
    pid_file = tmp_path / "llmux.pid"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of(config)))
        taken.listen()
        daemon = ["twistd", f"--pidfile={pid_file}", f"--logfile={tmp_path / 'log'}", "llmux"]
        done = run(*daemon, "--config", str(config), environment=environment)
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert not pid_file.exists()


BAD = """\
port: 3000
models:
  llama:
    prot: 8001
    wake: ""
    sleep: ./sleep.sh
  qwen:
    port: 3000
    wake: ./wake.sh
    sleep: ./sleep.sh
policy:
  min_active_sec: 5
"""


@pytest.mark.parametrize(
    "command",
    [["twistd", "-n", "--pidfile=", "llmux"], ["twistd", "llmux"], ["llmux"], ["llmux", "check"]],
)
def test_bad_configuration(command: list[str], tmp_path: Path, environment: dict[str, str]) -> None:
    """All that is wrong with a file is said in one go, with status 1 and no traceback."""
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    done = run(*command, "-c", str(path), environment=environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    complaints = done.stderr.splitlines()
    assert len(complaints) == 5, done.stderr
    for line, key, words in (
        (4, "models.llama.prot", "did you mean port?"),
        (3, "models.llama", "needs a port or a url"),
        (5, "models.llama.wake", "this is empty"),
        (8, "models.qwen.port", "llmux's own address"),
        (12, "policy.min_active_sec", "did you mean min_active_secs?"),
    ):
        assert any(
            complaint.startswith(f"{path}:{line}: {key}: ") and words in complaint
            for complaint in complaints
        ), (line, key, words, complaints)


def test_good_configuration(config: Path, environment: dict[str, str]) -> None:
    """`llmux check` says that a good file is good, and starts nothing."""
    done = run("llmux", "check", "-c", str(config), environment=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_configuration(tmp_path: Path, environment: dict[str, str]) -> None:
    """A file that is not there is an error that names it."""
    path = tmp_path / "nowhere.yaml"
    done = run("llmux", "-c", str(path), environment=environment)
    assert done.returncode == 1
    assert f"{path}: cannot be read: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--log-format", "xml", "must be one of text, json"),
        ("--log-level", "loud", "must be one of debug, info, warn, error"),
        ("--port", "http", "a port is a whole number"),
        ("--port", "65536", "a port is a whole number"),
    ],
)
def test_bad_option(
    option: str, value: str, words: str, config: Path, environment: dict[str, str]
) -> None:
    """An option that makes no sense is an error with a non-zero status."""
    command = ["twistd", "-n", "--pidfile=", "llmux", "-c", str(config), option, value]
    done = run(*command, environment=environment)
    assert done.returncode == 1
    assert f"llmux: {option} {value}: " in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_configuration_of_2_4_0(
    ending: str, tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> None:
    """A configuration that was written for 2.4.0 runs unchanged, as YAML and as JSON."""
    with answering() as backend:
        run_old_configuration(ending, backend, tmp_path, programs, environment)


def run_old_configuration(
    ending: str,
    backend: int,
    tmp_path: Path,
    programs: list[Program],
    environment: dict[str, str],
) -> None:
    """Write the configuration and its scripts, and ask for both models."""
    ports = {"first": backend, "second": backend, "port": free_port()}
    text = OLD_YAML.format(**ports)
    if ending == "json":
        import yaml

        document = yaml.load(text, yaml.BaseLoader)
        for model in document["models"].values():
            model["port"] = int(model["port"])
        document["port"] = int(document["port"])
        document["policy"] = {
            "request_timeout_secs": 30, "drain_before_switch": True, "min_active_secs": 0,
        }  # fmt: skip
        text = json.dumps(document, indent=2)
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    mark = f'"{tmp_path}/awake-${{LLMUX_MODEL##*/}}"'
    does = {"wake": f"touch {mark}", "sleep": f"rm {mark}", "alive": f"test -e {mark}"}
    for name, command in does.items():
        script = scripts / f"{name}.sh"
        noted = f'echo "{name} $LLMUX_MODEL" >> "{tmp_path}/calls"'
        script.write_text(f"#!/bin/sh\n{noted}\n{command}\n")
        script.chmod(0o755)
    path = tmp_path / f"config.{ending}"
    path.write_text(text.replace("./scripts", str(scripts)))
    program = start(programs, path, ports["port"], environment)
    for model in ("qwen", "facebook/opt-125m", "qwen"):
        assert program.post("/v1/chat/completions", {"model": model})[0] == 200
    calls = (tmp_path / "calls").read_text().splitlines()
    asked = ["wake qwen", "alive qwen"]
    assert calls == ["alive qwen", *asked, "sleep qwen", "wake facebook/opt-125m", *asked]


def test_text_is_utf_8_in_any_locale(
    tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> None:
    """What the configuration says reaches hooks in UTF-8, in a locale that knows none of it too."""
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"port: {port}\nstate_dir: {tmp_path}/state\n"
        "models: {mod\u00e8le-\U0001f999: {port: 1, wake: 'printf \u00fc; printenv LLMUX_MODEL', "
        "sleep: 'true'}}\n",
        "utf-8",
    )
    environment.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    program = start(programs, config, port, environment)
    assert program.post("/v1/x", {"model": "mod\u00e8le-\U0001f999"})[0] == 502
    # which has woken it twice, for nobody listens there
    (printed,) = (tmp_path / "state").glob("models/*/hooks.log")
    assert printed.read_text("utf-8") == "\u00fcmod\u00e8le-\U0001f999\n" * 2


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            served: bool = answer.status == 200
            return served
    except OSError:
        return False
