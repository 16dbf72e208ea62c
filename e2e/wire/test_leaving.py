"""Clients that leave, and clients that take nothing."""

from __future__ import annotations

import pytest

from e2e.program import wait_until
from e2e.wire.backend import OK
from e2e.wire.case import next_answer
from e2e.wire.conftest import House
from e2e.wire.peer import Await, End, Pause, connect
from e2e.wire.requests import get, post

OTHER = post(b'{"model": "org/other"}')
ENDLESS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    Await(b"what never comes"),
)
WAYS = [End.CLOSE, End.RESET, End.HALF]


def ended(house: House, request_id: str) -> dict[str, object] | None:
    """Give what the log says of a request that has ended."""
    for event in house.program.events():
        if event.get("event") == "request_ended" and event["request_id"] == request_id:
            return event
    return None


def rest(house: House) -> None:
    """Let the other model be awake."""
    client = connect(house.port)
    client.play(OTHER)
    assert next_answer(client).status == 200
    client.end()


@pytest.mark.parametrize("how", WAYS)
def test_while_waiting(how: End, plain: House) -> None:
    """A client that leaves while its model wakes is forgotten at once, and no backend is asked."""
    rest(plain)
    plain.backend.begin([OK])
    name = f"left-{how.name}-waiting"
    client = connect(plain.port)
    client.play((post(b'{"model": "slow"}', b"X-Request-Id: %s\r\n" % name.encode()), Pause(0.1)))
    client.end(how)
    wait_until(lambda: ended(plain, name) is not None, 5)
    event = ended(plain, name)
    assert event is not None
    assert (event["status"], event["how"]) == (499, "client")
    rest(plain)
    assert plain.backend.received == b""
    client.end()


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(post(), id="little"),
        pytest.param(post(b" " * 100_000), id="much"),
    ],
)
def test_while_waiting_with_more_behind(behind: bytes, plain: House) -> None:
    """A client that has sent further requests is seen leaving all the same."""
    rest(plain)
    plain.backend.begin([OK])
    name = f"left-behind-{len(behind)}"
    client = connect(plain.port)
    client.play(post(b'{"model": "slow"}', b"X-Request-Id: %s\r\n" % name.encode()) + behind)
    client.play((Pause(0.1), End.RESET))
    wait_until(lambda: ended(plain, name) is not None, 5)
    event = ended(plain, name)
    assert event is not None
    assert (event["status"], event["how"]) == (499, "client")
    rest(plain)
    assert plain.backend.received == b""


@pytest.mark.parametrize("how", WAYS)
def test_before_the_head(how: End, plain: House) -> None:
    """A client that leaves before the answer's head ends the backend's work at once."""
    plain.backend.begin([(Await(b"what never comes"),)])
    client = connect(plain.port)
    name = f"left-{how.name}-head"
    client.play(post(head=b"X-Request-Id: %s\r\n" % name.encode()))
    plain.backend.wait_for_requests(1)
    client.end(how)
    number = plain.backend.requests[0].connection
    wait_until(lambda: number in plain.backend.ended, 2)
    wait_until(lambda: ended(plain, name) is not None, 5)
    event = ended(plain, name)
    assert event is not None
    assert (event["status"], event["how"], event["bytes_out"]) == (499, "client", 0)
    client.end()


@pytest.mark.parametrize("how", WAYS)
def test_while_streaming(how: End, plain: House) -> None:
    """A client that leaves in the midst of an answer ends the backend's work at once."""
    before = plain.program.metric('llmux_requests_cut_total{model="llama",reason="client"}')
    plain.backend.begin([ENDLESS])
    client = connect(plain.port)
    name = f"left-{how.name}-streaming"
    client.play((post(head=b"X-Request-Id: %s\r\n" % name.encode()), Await(b"hello")))
    client.end(how)
    number = plain.backend.requests[0].connection
    wait_until(lambda: number in plain.backend.ended, 2)
    wait_until(lambda: ended(plain, name) is not None, 5)
    event = ended(plain, name)
    assert event is not None
    assert (event["status"], event["how"], event["bytes_out"]) == (200, "client", 5)
    cut = 'llmux_requests_cut_total{model="llama",reason="client"}'
    assert plain.program.metric(cut) == before + 1
    client.end()


def test_the_next_one_is_served(plain: House) -> None:
    """Whoever comes after one that left is served on a connection of its own."""
    plain.backend.begin([ENDLESS, OK])
    first = connect(plain.port)
    first.play((post(), Await(b"hello"), End.RESET))
    second = connect(plain.port)
    second.play((post(), Await(b"ok"), End.CLOSE))
    one, other = plain.backend.requests
    assert one.connection != other.connection


def test_pipelined_client_that_leaves(plain: House) -> None:
    """Of requests that came at once none is sent on after their client has left."""
    plain.backend.begin([(Await(b"what never comes"),)])
    client = connect(plain.port)
    client.play(post() + post(target=b"/second"))
    plain.backend.wait_for_requests(1)
    client.end(End.RESET)
    wait_until(lambda: plain.backend.requests[0].connection in plain.backend.ended, 2)
    rest(plain)
    assert len(plain.backend.requests) == 1


def test_client_that_takes_nothing(tight: House) -> None:
    """A client that takes nothing is cut when its model is wanted to go, and not before."""
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000_000
    tight.backend.begin([large])
    stalled = connect(tight.port)
    stalled.play((post(head=b"X-Request-Id: stalled\r\n"), Await(b"xxx"), Pause(0.6)))
    assert ended(tight, "stalled") is None
    other = connect(tight.port)
    other.play(OTHER)
    assert next_answer(other).status == 200
    event = ended(tight, "stalled")
    assert event is not None
    assert event["how"] == "stalled"
    cut = 'llmux_requests_cut_total{model="llama",reason="stalled"}'
    assert tight.program.metric(cut) == 1
    stalled.read_to_the_end()
    assert stalled.broken
    assert len(stalled.received) < 100_000_000
    stalled.end()
    other.end()


def test_slow_head_is_not_waited_for(plain: House) -> None:
    """Others are served while clients send nothing, or a byte now and then."""
    rude = [connect(plain.port) for _ in range(50)]
    for number, client in enumerate(rude):
        client.play(get(b"/")[: number % 10])
    assert plain.program.get("/health")[0] == 200
    for client in rude:
        client.end(End.RESET)
