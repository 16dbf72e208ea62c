"""Several workers: one is killed, one hangs, their parent is killed; and all that goes well."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from e2e.faults.client import Client
from e2e.faults.house import House, is_running
from e2e.program import BIN, WAIT, Program, wait_until

COUNT = 2


@pytest.fixture
def crew(house: House) -> House:
    """Give a house with two workers, and a policy that does not wait for streams to end."""
    house.config["workers"] = COUNT
    house.config["policy"]["name"] = "fifo"
    house.start()
    wait_until(lambda: len(house.told("worker_began")) == COUNT)
    return house


def workers(house: House) -> list[dict[str, Any]]:
    """Give what is told of the workers."""
    told: list[dict[str, Any]] = house.status()["workers"]
    return told


def pids(house: House) -> list[int]:
    """Give the workers' processes."""
    return [worker["pid"] for worker in workers(house)]


def streams(house: House, model: str = "a") -> list[Client]:
    """Have streams begin until each worker has one at least."""
    clients: list[Client] = []

    def spread() -> bool:
        clients.append(house.stream(model))
        time.sleep(0.1)  # until the news of it has come
        return all(worker["in_flight"] for worker in workers(house))

    wait_until(spread)
    return clients


def ended(clients: list[Client]) -> tuple[int, int]:
    """Say how many of some streams come to their end, and how many are cut."""
    whole = cut = 0
    for client in clients:
        try:
            whole += client.answer().body == "last"
        except (http.client.HTTPException, ConnectionError):
            cut += 1
    return whole, cut


def test_killed(crew: House) -> None:
    """A worker that is killed loses its own streams and no others; another takes its place."""
    clients = streams(crew)
    crew.send("a").is_served("a")
    one, other = workers(crew)
    os.kill(one["pid"], signal.SIGKILL)
    wait_until(lambda: len(crew.told("worker_began")) == COUNT + 1)
    assert crew.look("a")["leases"] == other["in_flight"]
    crew.go_on.open()
    assert ended(clients) == (other["in_flight"], one["in_flight"])
    assert crew.told("worker_ended")[0]["in_flight"] == one["in_flight"]
    assert crew.program.metric("llmux_worker_restarts_total") == 1
    crew.serves("b", "a")


def test_killed_with_one_that_waits(crew: House) -> None:
    """Who waits there is gone, too: nobody is woken for them."""
    crew.serves("a")
    stream = crew.stream("a")
    waiting = crew.send("b")
    crew.waits("b")
    (pid,) = (worker["pid"] for worker in workers(crew) if worker["waiting"])
    (mine,) = (worker["in_flight"] for worker in workers(crew) if worker["waiting"])
    os.kill(pid, signal.SIGKILL)
    crew.waits("b", 0)
    crew.go_on.open()
    assert ended([stream]) == (1 - mine, mine)
    assert ended([waiting]) == (0, 1)
    assert "wake b request" not in crew.calls()
    crew.serves("b", "a")


def test_hangs(crew: House) -> None:
    """A worker that hangs is killed, and holds no switch up for longer."""
    clients = streams(crew)
    one, other = workers(crew)
    os.kill(one["pid"], signal.SIGSTOP)
    crew.go_on.open()
    wait_until(lambda: bool(crew.told("worker_killed")))
    wait_until(lambda: len(crew.told("worker_began")) == COUNT + 1)
    assert ended(clients) == (other["in_flight"], one["in_flight"])
    crew.serves("b", "a")


def test_parent_killed(crew: House) -> None:
    """When the parent is killed its workers cut their clients and end; the next start goes on."""
    clients = streams(crew)
    members = pids(crew)
    crew.kill()
    assert ended(clients) == (0, len(clients))
    wait_until(lambda: not any(map(is_running, members)))
    crew.go_on.open()
    crew.start()
    crew.serves("a", "b")


def test_switches_under_load(crew: House) -> None:
    """Requests for both models, on many connections at once, are all served."""
    crew.have("a", max_concurrency=3)
    crew.write()
    crew.reload()
    failures: list[object] = []

    def ask(model: str) -> None:
        for _ in range(15):
            answer = crew.ask(model)
            if answer.status != 200 or answer.served_by != model:
                failures.append(answer)

    threads = [threading.Thread(target=ask, args=(model,)) for model in "aabbaabb"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    wait_until(lambda: crew.program.metric('llmux_requests_total{model="a",status="200"}') == 60)
    assert crew.program.metric('llmux_requests_total{model="b",status="200"}') == 60
    wait_until(lambda: crew.look("a")["leases"] == crew.look("b")["leases"] == 0)
    wait_until(lambda: len(crew.told("request_ended")) == 120)


def test_drain(crew: House) -> None:
    """A model is put to sleep when what was in flight at all workers has ended, and not before."""
    clients = streams(crew)
    waiting = crew.send("b")
    crew.waits("b")
    crew.is_("a", "draining")
    assert crew.calls() == ["wake a request"]
    crew.go_on.open()
    assert ended(clients) == (len(clients), 0)
    waiting.is_served("b")
    assert crew.calls() == ["wake a request", "sleep a request", "wake b request"]


def test_drain_timeout(crew: House) -> None:
    """Streams that hold a switch up for too long are cut at whatever worker."""
    crew.have("a", drain_timeout_secs=0.5)
    crew.write()
    crew.reload()
    clients = streams(crew)
    crew.send("b").is_served("b")
    assert ended(clients) == (0, len(clients))
    wait_until(lambda: crew.hows("a") == ["drain_timeout"] * len(clients))


def test_reload(crew: House) -> None:
    """Another configuration reaches all workers."""
    crew.have("a", aliases=["other"])
    crew.write()
    assert crew.reload()["changed"] == ["a"]
    for _ in range(10):
        crew.send("other").is_served("a")
    crew.config["workers"] = 3
    crew.write()
    assert crew.reload()["needs_restart"] == ["workers"]
    assert len(workers(crew)) == COUNT


def test_backend_gone(crew: House) -> None:
    """A request that finds nobody waits for the model to be woken again, whoever relays it."""
    crew.serves("a")
    crew.crash("a")
    for client in [crew.send("a") for _ in range(6)]:
        client.is_served("a")
    assert crew.calls()[-1] == "wake a request"


def test_operators(crew: House) -> None:
    """Orders are taken wherever clients are served, and pages are kept out there, too."""
    crew.serves("a")
    url = f"{crew.program.url}/llmux/models/a/sleep"
    headers = {"Content-Type": "application/json"}
    order = urllib.request.Request(url, b"{}", headers)
    assert json.loads(crew.program.ask(order)[1])["done"]
    assert crew.look("a")["state"] == "asleep"
    order.add_header("Origin", "http://evil.example")
    assert crew.program.ask(order)[0] == 403
    assert crew.program.get("/llmux/nothing")[0] == 404
    wait_until(lambda: len(crew.told("operator_asked")) == 1)


def test_reservation(crew: House) -> None:
    """A reservation whose asker leaves while it waits is given up, as with one process."""
    stream = crew.stream("a")
    connection = http.client.HTTPConnection("127.0.0.1", crew.port, timeout=WAIT)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/llmux/reservations", b"{}", headers)
    wait_until(lambda: bool(crew.status()["reservations"]))
    connection.close()
    wait_until(lambda: not crew.status()["reservations"])
    crew.go_on.open()
    stream.comes_to_its_end()


def test_end(crew: House) -> None:
    """At the end streams go on to theirs, nobody else is let in, and no worker is left."""
    clients = streams(crew)
    members = pids(crew)
    crew.program.process.terminate()
    wait_until(lambda: bool(crew.told("stopping")))
    assert crew.told("stopping")[0]["in_flight"] == len(clients)

    def refused() -> bool:
        try:
            crew.program.get("/health")
        except OSError:
            return True
        return False

    wait_until(refused)
    crew.go_on.open()
    assert ended(clients) == (len(clients), 0)
    assert crew.program.process.wait(WAIT) == 0
    assert not any(map(is_running, members))
    assert [each["again_secs"] for each in crew.told("worker_ended")] == [None] * COUNT


def test_end_after_the_grace(crew: House) -> None:
    """What is in flight for longer than it may is cut, at all workers."""
    crew.config["shutdown"] = {"grace_secs": 0.5}
    crew.write()
    crew.reload()
    clients = streams(crew)
    crew.end()
    assert ended(clients) == (0, len(clients))
    assert crew.hows("a") == ["shutdown"] * len(clients)


def test_end_at_once(crew: House) -> None:
    """A second TERM cuts all workers off."""
    clients = streams(crew)
    members = pids(crew)
    crew.program.process.terminate()
    wait_until(lambda: bool(crew.told("stopping")))
    assert crew.program.terminate() == 1
    assert ended(clients) == (0, len(clients))
    wait_until(lambda: not any(map(is_running, members)))


def test_interrupt(crew: House) -> None:
    """Workers leave what a terminal sends to all of them to their parent."""
    for pid in pids(crew):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    crew.serves("a", "b")
    assert not crew.told("worker_ended")


def test_handed_over(house: House) -> None:
    """Sockets that are handed over, as by systemd, are the workers' to accept on."""
    house.config["workers"] = COUNT
    with socket.create_server(("127.0.0.1", house.port), backlog=64) as listening:
        house.launch(sockets=[listening])
        house.program.wait_until_it_serves()
        clients = streams(house)
        house.go_on.open()
        assert ended(clients) == (len(clients), 0)
        house.end()


def test_daemon(house: House) -> None:
    """The log of a daemon's workers is in its file, whole, and its pid file leads to its end."""
    house.config["workers"] = COUNT
    house.write()
    log, pid_file = house.directory / "twistd.log", house.directory / "twistd.pid"
    command = [str(BIN / "twistd"), f"--logfile={log}", f"--pidfile={pid_file}", "llmux"]
    command += ["--config", str(house.path), "--log-format", "json"]
    subprocess.run(command, env=house.environment, cwd=house.directory, check=True, timeout=WAIT)
    house.programs.append(_Daemon(house.port, log))
    wait_until(lambda: _answers(house.program))
    house.serves("a")
    wait_until(lambda: bool(house.told("request_ended")))
    (ended,) = house.told("request_ended")
    assert (ended["model"], ended["status"], ended["level"]) == ("a", 200, "info")
    pid = int(pid_file.read_text())
    members = pids(house)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not any(map(is_running, (pid, *members))))
    assert not pid_file.exists()


class _Daemon(Program):
    """
    A llmux that has gone into the background.

    :param port: where it listens.
    :param log: what it writes.
    """

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log, self.url = port, log, f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        """Do nothing: it is found by its environment."""


def _answers(program: Program) -> bool:
    try:
        return program.get("/health")[0] == 200
    except OSError:
        return False
