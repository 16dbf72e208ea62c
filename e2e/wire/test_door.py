"""Room at the door: how many may wait, be served at once, and be connected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import CHECKOUT
from e2e.program import Program, free_port, scratch_environment, wait_until
from e2e.wire.backend import OK
from e2e.wire.case import Case, Told, check, compare_error, next_answer
from e2e.wire.conftest import House, serve
from e2e.wire.peer import Await, End, Peer, connect
from e2e.wire.requests import get, post

SINGLE = post(b'{"model": "single"}', target=b"/%d")


def test_one_at_a_time(plain: House) -> None:
    """
    Where one request may be at the backend, the next ones wait in order, and one too many is told
    so.
    """
    answered = 'llmux_requests_total{model="single",status="429"}'
    waiting = 'llmux_request_queue_depth{model="single"}'
    before = plain.program.metric(answered)
    plain.backend.begin([(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Await(b"never")), OK])
    clients = [connect(plain.port) for _ in range(4)]
    first, second, third, fourth = clients
    try:
        first.play((SINGLE % 1, Await(b"hel")))
        second.play(SINGLE % 2)
        wait_until(lambda: plain.program.metric(waiting) == 1, 5)
        third.play(SINGLE % 3)
        wait_until(lambda: plain.program.metric(waiting) == 2, 5)
        fourth.play(SINGLE % 4)
        compare_error(Told(429, "single (2)", later=True), next_answer(fourth))
        assert len(plain.backend.requests) == 1
        first.end(End.RESET)
        assert next_answer(second).body == b"ok"
        assert next_answer(third).body == b"ok"
    finally:
        for client in clients:
            client.end()
    targets = [arrived.bytes[:7] for arrived in plain.backend.requests]
    assert targets == [b"POST /1", b"POST /2", b"POST /3"]
    assert plain.program.metric(answered) == before + 1


def test_waiting_too_long(plain: House) -> None:
    """A request that waits for longer than it may is a 504 that says when to try again."""
    case = Case(
        name="late",
        sends=post(b'{"model": "late"}'),
        gets=(Told(504, "timed out", later=True),),
    )
    check(case, plain.port, plain.backend)


@pytest.fixture
def small(tmp_path: Path, http: str) -> Iterator[House]:
    """Serve four clients at once."""
    yield from serve(tmp_path, http, {"limits": {"max_connections": 4}}, {})


def test_connections(small: House) -> None:
    """A client that is one too many is closed at once; when one leaves there is room again."""
    wait_until(lambda: serves(small), 5)
    clients = [connect(small.port) for _ in range(4)]
    for client in clients:
        client.play(get(b"/health"))
        assert next_answer(client).status == 200
    refused = connect(small.port)
    assert refused.read_to_the_end() == b""
    refused.end()
    clients[0].end()
    wait_until(lambda: serves(small), 5)
    clients[1].end()
    assert small.program.metric("llmux_connections_refused_total") >= 1
    for client in clients:
        client.end()


def serves(house: House) -> bool:
    """Tell whether a new client is served."""
    client: Peer = connect(house.port)
    try:
        client.play(get(b"/health"))
        client.wait_for(b"200 OK")
    except Exception:
        return False
    finally:
        client.end()
    return True


def test_fewer_files_than_connections(tmp_path: Path) -> None:
    """Where files may not be open for all connections, fewer are taken, and the log says so."""
    port = free_port()
    config = tmp_path / "config.json"
    model = {"port": free_port(), "wake": "true", "sleep": "true"}
    config.write_text(json.dumps({"port": port, "models": {"a": model}}))
    command = f"ulimit -n 400 && exec twistd -n --pidfile= llmux --config {config}"
    command += " --log-format json"
    program = Program(
        ["/bin/sh", "-c", command],
        port,
        scratch_environment(tmp_path),
        tmp_path / "log",
        cwd=CHECKOUT,
    )
    try:
        program.wait_until_it_serves()
        (event,) = (one for one in program.events() if one.get("event") == "connections_limited")
        assert "10000" in json.dumps(event)
        assert event["allowed"] < 400
    finally:
        program.kill()
