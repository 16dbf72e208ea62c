"""Upgrades: WebSockets are tunnelled, all else is stripped."""

from __future__ import annotations

import pytest

from e2e.wire.case import Case, Cut, Told, check
from e2e.wire.conftest import House
from e2e.wire.peer import Await, End, Pause
from e2e.wire.requests import BODY, answer, get, post, sent_on

SOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
ASKED = (
    b"GET %s HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
BYTES = bytes(range(256)) * 100
TARGET = b"/v1/realtime?model=llama"


def h2c(name: str, head: bytes) -> Case:
    """Make a case of an upgrade that is stripped; the request and its body are relayed."""
    return Case(name=name, sends=post(head=head), arrives=(sent_on(),))


TUNNELLED = [
    Case(
        name="both ways, the backend closes",
        sends=(get(TARGET, SOCKET), Await(b"\r\n\r\n"), b"hello", Await(b"HELLO"), BYTES),
        answers=((SWITCHED, Await(b"hello"), b"HELLO", Await(BYTES), BYTES[::-1], End.CLOSE),),
        gets=(SWITCHED + b"HELLO" + BYTES[::-1],),
        arrives=(ASKED % TARGET,),
        behind=b"hello" + BYTES,
        closed=True,
    ),
    Case(
        name="/upstream/",
        sends=(get(b"/upstream/llama/ws?x", SOCKET), Await(b"\r\n\r\n"), b"hello"),
        answers=((SWITCHED, Await(b"hello"), End.CLOSE),),
        gets=(SWITCHED,),
        arrives=(ASKED % b"/ws?x",),
        behind=b"hello",
        closed=True,
    ),
    Case(
        name="the client closes",
        sends=(get(TARGET, SOCKET), Await(b"\r\n\r\n"), b"hello", Await(b"HELLO"), End.CLOSE),
        answers=((SWITCHED, Await(b"hello"), b"HELLO"),),
        arrives=(ASKED % TARGET,),
        behind=b"hello",
    ),
    Case(
        name="the backend speaks first, with its head",
        sends=(get(TARGET, SOCKET), Await(b"welcome"), b"thanks"),
        answers=((SWITCHED + b"welcome", Await(b"thanks"), End.CLOSE),),
        gets=(SWITCHED + b"welcome",),
        arrives=(ASKED % TARGET,),
        behind=b"thanks",
        closed=True,
    ),
    Case(
        name="the client does not wait for the head",
        sends=get(TARGET, SOCKET) + b"early",
        answers=((SWITCHED, Await(b"early"), End.CLOSE),),
        gets=(SWITCHED,),
        arrives=(ASKED % TARGET,),
        behind=b"early",
        closed=True,
    ),
    Case(
        name="what looks like a request is none of llmux's business",
        sends=(get(TARGET, SOCKET), Await(b"\r\n\r\n"), b"GET /sleep HTTP/1.1\r\n"),
        answers=((SWITCHED, Await(b"/sleep"), End.CLOSE),),
        gets=(SWITCHED,),
        arrives=(ASKED % TARGET,),
        behind=b"GET /sleep HTTP/1.1\r\n",
        closed=True,
    ),
    Case(
        name="WebSocket in capitals, behind an interim answer",
        sends=get(TARGET, SOCKET.replace(b"websocket", b"WebSocket")) + b"x!",
        answers=((b"HTTP/1.1 103 Early\r\n\r\n" + SWITCHED, Await(b"x!"), End.CLOSE),),
        gets=(SWITCHED,),
        arrives=(ASKED % TARGET,),
        behind=b"x!",
        closed=True,
    ),
    Case(
        name="refused by the backend",
        sends=get(TARGET, SOCKET),
        answers=(answer(b"no", status=b"403 Forbidden"),),
        gets=(answer(b"no", status=b"403 Forbidden"),),
        arrives=(ASKED % TARGET,),
    ),
    Case(
        name="the backend answers with chunks",
        sends=get(TARGET, SOCKET),
        answers=(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",),
        gets=(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",),
        arrives=(ASKED % TARGET,),
    ),
    Case(
        name="the backend closes without a word",
        sends=get(TARGET, SOCKET),
        answers=((End.CLOSE,),),
        gets=(Told(502, "before answering", "backend_closed"),),
        arrives=(ASKED % TARGET,),
    ),
    Case(name="no model", sends=get(b"/v1/realtime", SOCKET), gets=(Told(404, "No model"),)),
]

STRIPPED = [
    h2c(
        "h2c, as JDK clients send it",
        b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\nUpgrade: h2c\r\n",
    ),
    h2c("TLS", b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"),
    h2c("a WebSocket with POST", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    h2c("Upgrade alone", b"Upgrade: h2c\r\n"),
    Case(
        name="h2c with GET",
        sends=get(b"/x?model=llama", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        arrives=(b"GET /x?model=llama HTTP/1.1\r\n\r\n",),
    ),
    Case(
        name="a WebSocket in HTTP/1.0",
        sends=b"GET /x?model=llama HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        arrives=(b"GET /x?model=llama HTTP/1.1\r\n\r\n",),
        gets=(answer(head=b"Connection: close\r\n", version=b"1.0"),),
        closed=True,
    ),
    Case(
        name="a 101 that nobody asked for",
        sends=post(BODY),
        answers=((SWITCHED, Pause(0.05), End.CLOSE),),
        gets=(Told(502, "", "backend_broke"),),
        arrives=(sent_on(),),
    ),
]

IDLE = [
    Case(
        name="nothing at all",
        sends=(get(TARGET, SOCKET), Await(b"\r\n\r\n")),
        answers=((SWITCHED, Await(b"what never comes")),),
        gets=(Cut(SWITCHED),),
        arrives=(ASKED % TARGET,),
        closed=True,
    ),
    Case(
        name="nothing any more",
        sends=(
            get(TARGET, SOCKET),
            Await(b"\r\n\r\n"),
            *(step for _ in range(4) for step in (b"ping", Await(b"pong"), Pause(0.2))),
        ),
        answers=(
            (SWITCHED, *(s for _ in range(4) for s in (Await(b"ping"), b"pong")), Await(b"never")),
        ),
        gets=(Cut(SWITCHED + b"pong" * 4),),
        arrives=(ASKED % TARGET,),
        behind=b"ping" * 4,
        closed=True,
    ),
]


@pytest.mark.parametrize("case", TUNNELLED, ids=str)
def test_tunnelled(case: Case, plain: House) -> None:
    """After the backend's 101 bytes go both ways, and the end of one side is the other's."""
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("case", STRIPPED, ids=str)
def test_stripped(case: Case, plain: House) -> None:
    """Any other upgrade is not asked for; the request and its body are relayed."""
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("case", IDLE, ids=str)
def test_idle(case: Case, tight: House) -> None:
    """A tunnel through which nothing goes is closed, so that it holds its model no longer."""
    check(case, tight.port, tight.backend)
