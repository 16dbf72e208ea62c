"""Connections: to backends, reused where that is safe; from clients, one request after another."""

from __future__ import annotations

import socket

import pytest

from e2e.program import wait_until
from e2e.wire.backend import OK
from e2e.wire.case import Case, Cut, Told, check, next_answer
from e2e.wire.conftest import House
from e2e.wire.peer import Await, End, Pause, connect
from e2e.wire.requests import BODY, answer, get, post, sent_on

CLOSING = answer(head=b"Connection: close\r\n")
BAD = b"GET / HTTP/1.1\r\nno colon\r\n\r\n"
OTHER = post(b'{"model": "org/other"}')

PIPELINED = [
    Case(
        name="two good requests at once",
        sends=post() * 2,
        gets=(OK, answer(b"second")),
        answers=(OK, answer(b"second")),
        arrives=(sent_on(), sent_on()),
    ),
    Case(
        name="a good and a bad one",
        sends=post() + BAD,
        gets=(OK, Told(400)),
        arrives=(sent_on(),),
        closed=True,
    ),
    Case(name="a bad and a good one", sends=BAD + post(), gets=(Told(400),), closed=True),
    Case(
        name="one that is refused by its length and a good one",
        sends=b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n" + post(),
        gets=(Told(400),),
        closed=True,
    ),
    Case(
        name="a request in the body of another",
        sends=post(BODY + post(target=b"/smuggled")) + post(target=b"/next"),
        gets=(OK, OK),
        arrives=(sent_on(BODY + post(target=b"/smuggled")), sent_on(target=b"/next")),
    ),
    Case(
        name="a request behind the last chunk",
        sends=b"POST /a?model=llama HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + post(target=b"/b"),
        gets=(OK, OK),
        arrives=(sent_on(b"", target=b"/a?model=llama"), sent_on(target=b"/b")),
    ),
    Case(
        name="one behind Connection: close is not looked at",
        sends=post(head=b"Connection: close\r\n") + post(),
        gets=(CLOSING,),
        arrives=(sent_on(),),
        closed=True,
    ),
    Case(
        name="one without a model and a good one",
        sends=get(b"/x") + post(),
        gets=(Told(404), OK),
        arrives=(sent_on(),),
    ),
    Case(
        name="llmux's own answer does not overtake",
        sends=(post() + get(b"/v1/models/nope"), Pause(0.1)),
        gets=(OK, Told(404)),
        answers=((Pause(0.2), OK),),
        arrives=(sent_on(),),
    ),
]

SLOW = [
    Case(
        name="no first byte",
        sends=post(),
        answers=((Pause(0.6), End.CLOSE),),
        gets=(Told(504, "0.4 s", "backend_timeout", later=True),),
        arrives=(sent_on(),),
    ),
    Case(
        name="nothing more in the midst",
        sends=post(),
        answers=((answer(b"hello")[:-2], Await(b"never")),),
        gets=(Cut(answer(b"hello")[:-2]),),
        arrives=(sent_on(),),
        closed=True,
    ),
    Case(
        name="slow, and coming on",
        sends=post(),
        answers=((answer(b"hello")[:-3], Pause(0.3), b"l", Pause(0.3), b"l", Pause(0.3), b"o"),),
        gets=(answer(b"hello"),),
        arrives=(sent_on(),),
    ),
]


@pytest.mark.parametrize("case", PIPELINED, ids=str)
def test_pipelined(case: Case, plain: House) -> None:
    """Requests that come at once are answered in order, up to the first that is refused."""
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("case", SLOW, ids=str)
def test_slow_backend(case: Case, tight: House) -> None:
    """A backend that is too slow is given up: 504 before the head, a cut after it."""
    check(case, tight.port, tight.backend)


def ask(house: House, *requests: bytes) -> list[int]:
    """Ask one after another, and give the numbers of the backend's connections."""
    client = connect(house.port)
    for request in requests:
        client.play(request)
        assert next_answer(client).status == 200
    client.end()
    return [arrived.connection for arrived in house.backend.requests]


def test_reused(plain: House) -> None:
    """A connection to a backend serves one request after another."""
    plain.backend.begin([OK])
    assert ask(plain, OTHER) == []  # from here on new connections are made
    assert len(set(ask(plain, post(), post(), post()))) == 1


@pytest.mark.parametrize(
    "closing", [CLOSING, answer(version=b"1.0"), (CLOSING, End.CLOSE)], ids=["close", "1.0", "both"]
)
def test_not_reused_when_announced(closing: bytes, plain: House) -> None:
    """A connection of which the backend says that it ends, or of HTTP/1.0, is not used again."""
    plain.backend.begin([closing])
    assert len(set(ask(plain, post(), post(), post()))) == 3


def test_not_kept_if_so_configured(plain: House) -> None:
    """`reuse_secs: 0` makes a new connection for each request."""
    plain.backend.begin([OK])
    fresh = post(b'{"model": "fresh"}')
    assert len(set(ask(plain, fresh, fresh, fresh))) == 3


def test_not_kept_for_long(plain: House) -> None:
    """A connection that nobody used for two seconds is closed by llmux."""
    plain.backend.begin([OK])
    (number,) = set(ask(plain, OTHER, post()))
    wait_until(lambda: number in plain.backend.ended, 3)


def test_closed_silently(plain: House) -> None:
    """A backend that closes without a word gets a new connection for each request from then on."""
    ask(plain, OTHER)
    plain.backend.begin([(OK, End.CLOSE)])
    assert len(set(ask(plain, post(), post(), post()))) == 3
    plain.backend.begin([OK])
    assert len(set(ask(plain, post(), post()))) == 2
    ask(plain, OTHER)  # it sleeps, and another may come
    plain.backend.begin([OK])
    assert len(set(ask(plain, post(), post()))) == 1


def test_pool_is_closed_when_the_model_sleeps(plain: House) -> None:
    """The connections to a model that goes to sleep are closed before the other one answers."""
    ask(plain, OTHER)
    plain.backend.begin([OK])
    (number,) = set(ask(plain, post(), post()))
    assert number not in plain.backend.ended
    ask(plain, OTHER)
    wait_until(lambda: number in plain.backend.ended, 1)


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
def test_never_sent_twice(end: End, plain: House) -> None:
    """A request that was sent and not answered is a counted failure, and sent no second time."""
    series = 'llmux_backend_failures_total{model="llama",reason="backend_closed"}'
    before = plain.program.metric(series)
    ask(plain, OTHER)
    plain.backend.begin([OK, (end,), OK])
    client = connect(plain.port)
    client.play(post())
    assert next_answer(client).status == 200
    client.play(post(target=b"/once"))
    failed = next_answer(client)
    client.end()
    assert failed.status == 502
    assert b'"backend_closed"' in failed.body
    assert plain.program.metric(series) == before + 1
    assert [b"/once" in arrived.bytes for arrived in plain.backend.requests] == [False, True]


def test_backend_that_does_not_accept(tight: House) -> None:
    """A backend that takes no connection in time is a 504."""
    config = tight.program.log.parent / "config.json"
    port = int(config.read_text().partition('"nobody-5": {"port": ')[2].partition(",")[0])
    with socket.create_server(("127.0.0.1", port), backlog=0):
        full = [socket.socket() for _ in range(3)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        status, body = tight.program.post("/x", {"model": "nobody-5"})
        for one in full:
            one.close()
    assert status == 504
    assert "has not accepted a connection within 0.4 s" in body
