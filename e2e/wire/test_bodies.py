"""Bodies of requests: exact, bounded, and gone when the request ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from e2e.program import wait_until
from e2e.wire.case import Case, Told, check
from e2e.wire.conftest import House
from e2e.wire.peer import Await, End, Pause, connect
from e2e.wire.requests import BODY, answer, chunks, get, post, sent_on

CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
EXPECTING = b"Expect: 100-continue\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LARGE = b'{"x": "%s", "model": "llama"}' % (b"0123456789abcdef" * 200_000)
BYTES = b'{"model": "llama", "x": "' + bytes(range(256)) * 300

EXACT = [
    Case(name="every byte", sends=post(BYTES), arrives=(sent_on(BYTES),)),
    Case(name="3 MB, the model last", sends=post(LARGE), arrives=(sent_on(LARGE),)),
    Case(
        name="3 MB in chunks",
        sends=CHUNKED + b"\r\n" + chunks(LARGE, 50_000),
        arrives=(sent_on(LARGE),),
    ),
    Case(name="chunks of a byte", sends=CHUNKED + b"\r\n" + chunks(BODY, 1), arrives=(sent_on(),)),
    Case(
        name="chunked in capitals",
        sends=CHUNKED.replace(b"chunked", b"ChunKed") + b"\r\n" + chunks(BODY, 5),
        arrives=(sent_on(),),
    ),
    Case(
        name="sizes with zeros in front, in capitals",
        sends=CHUNKED
        + b"\r\n"
        + b"000C\r\n"
        + BODY[:12]
        + b"\r\n06\r\n"
        + BODY[12:]
        + b"\r\n0\r\n\r\n",
        arrives=(sent_on(),),
    ),
    Case(
        name="extensions of chunks",
        sends=CHUNKED + b"\r\n" + chunks(BODY, 7, b';a="b\xff";c'),
        arrives=(sent_on(),),
    ),
    Case(
        name="trailers are dropped",
        sends=CHUNKED + b"Trailer: X-Sum\r\n\r\n" + chunks(BODY, 9, trailers=b"X-Sum: 1\r\n"),
        arrives=(sent_on(),),
    ),
    Case(
        name="an empty chunked body",
        sends=CHUNKED.replace(b"completions", b"completions?model=llama") + b"\r\n0\r\n\r\n",
        arrives=(sent_on(b"", target=b"/v1/chat/completions?model=llama"),),
    ),
    Case(
        name="a body with GET",
        sends=post(method=b"GET"),
        arrives=(sent_on(method=b"GET"),),
    ),
    *(
        Case(name=f"a body with {m.decode()}", sends=post(method=m), arrives=(sent_on(method=m),))
        for m in (b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
    ),
    Case(
        name="a byte at a time",
        sends=tuple(post()[at : at + 1] for at in range(len(post()))),
        arrives=(sent_on(),),
    ),
    Case(
        name="a chunked request a byte at a time",
        sends=tuple(
            (CHUNKED + b"\r\n" + chunks(BODY, 4))[at : at + 1]
            for at in range(len(CHUNKED + b"\r\n" + chunks(BODY, 4)))
        ),
        arrives=(sent_on(),),
    ),
    Case(
        name="HTTP/1.0",
        sends=b"POST /v1/x HTTP/1.0\r\nContent-Length: 18\r\n\r\n" + BODY,
        arrives=(sent_on(target=b"/v1/x"),),
        gets=(answer(head=b"Connection: close\r\n", version=b"1.0"),),
        closed=True,
    ),
    Case(
        name="an empty line first",
        sends=b"\r\n" + post(),
        arrives=(sent_on(),),
    ),
]

CONTINUED = [
    Case(
        name="100 Continue before the body",
        sends=(post(b"", EXPECTING)[:-21] + b"Content-Length: 18\r\n\r\n", Await(CONTINUE), BODY),
        gets=(CONTINUE, answer()),
        arrives=(sent_on(),),
    ),
    Case(
        name="100 Continue before chunks",
        sends=(CHUNKED + EXPECTING + b"\r\n", Await(CONTINUE), chunks(BODY, 3)),
        gets=(CONTINUE, answer()),
        arrives=(sent_on(),),
    ),
    Case(
        name="100-Continue in capitals",
        sends=(CHUNKED + b"expect: 100-CONTINUE\r\n\r\n", Await(CONTINUE), chunks(BODY, 3)),
        gets=(CONTINUE, answer()),
        arrives=(sent_on(),),
    ),
    Case(
        name="no 100 Continue where there is no body",
        sends=get(b"/v1/x?model=llama", EXPECTING),
        arrives=(b"GET /v1/x?model=llama HTTP/1.1\r\n\r\n",),
    ),
    Case(
        name="no 100 Continue for HTTP/1.0",
        sends=b"POST /v1/x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n" + BODY,
        arrives=(sent_on(target=b"/v1/x"),),
        gets=(answer(head=b"Connection: close\r\n", version=b"1.0"),),
        closed=True,
    ),
]

BOUNDED = [
    Case(
        name="as long as it may be",
        sends=post(BODY.ljust(1000)),
        arrives=(sent_on(BODY.ljust(1000)),),
    ),
    Case(
        name="a byte too long",
        sends=post(BODY.ljust(1001)),
        gets=(Told(413, "1000 bytes"),),
        closed=True,
    ),
    Case(
        name="too long, told before the body",
        sends=b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n",
        gets=(Told(413, "too large"),),
        closed=True,
    ),
    Case(
        name="too long, told before 100 Continue",
        sends=b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n",
        gets=(Told(413, "too large"),),
        closed=True,
    ),
    Case(
        name="too long, sent all the same",
        sends=post(b"x" * 3_000_000),
        gets=(Told(413, "too large"),),
        closed=True,
    ),
    Case(
        name="chunks as long as they may be",
        sends=CHUNKED + b"\r\n" + chunks(BODY.ljust(1000), 100),
        arrives=(sent_on(BODY.ljust(1000)),),
    ),
    Case(
        name="chunks, too long",
        sends=CHUNKED + b"\r\n" + chunks(BODY.ljust(1001), 100),
        gets=(Told(413, "too large"),),
        closed=True,
    ),
    Case(
        name="a chunk without end",
        sends=CHUNKED + b"\r\nfffffffffffffffff\r\n" + BODY.ljust(1001),
        gets=(Told(413, "too large"),),
        closed=True,
    ),
    Case(
        name="nothing of the body",
        sends=post()[: -len(BODY)],
        gets=(Told(408, "body"),),
        closed=True,
    ),
    Case(
        name="a body that stops",
        sends=post()[:-1],
        gets=(Told(408, "nothing for 0.4 s"),),
        closed=True,
    ),
    Case(
        name="chunks that stop",
        sends=CHUNKED + b"\r\n" + chunks(BODY, 5)[:-2],
        gets=(Told(408, "body"),),
        closed=True,
    ),
    Case(
        name="a body that is slow, and comes on",
        sends=(
            post()[:-9],
            Pause(0.25),
            BODY[-9:-6],
            Pause(0.25),
            BODY[-6:-3],
            Pause(0.25),
            BODY[-3:],
        ),
        arrives=(sent_on(),),
    ),
]


@pytest.mark.parametrize("case", [*EXACT, *CONTINUED], ids=str)
def test_exact(case: Case, plain: House) -> None:
    """The body arrives byte for byte, with its length, however it came."""
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("case", BOUNDED, ids=str)
def test_bounded(case: Case, tight: House) -> None:
    """A body that is too long or too slow is refused, and no backend hears of it."""
    check(case, tight.port, tight.backend)


@pytest.mark.parametrize("how", [End.CLOSE, End.RESET])
@pytest.mark.parametrize("sent", [post(LARGE)[:-10], CHUNKED + b"\r\n" + chunks(LARGE, 9999)[:-9]])
def test_client_that_leaves_in_the_midst(sent: bytes, how: End, plain: House) -> None:
    """A request whose client leaves before it is whole goes nowhere, and takes no room."""
    plain.backend.begin([answer()])
    client = connect(plain.port)
    client.play((sent, Pause(0.05), how))
    assert plain.program.get("/health")[0] == 200
    wait_until(lambda: not _spooled(plain), 5)
    assert plain.backend.received == b""


def test_spool_is_empty_after_each_request(plain: House) -> None:
    """A large body is in a file while it is needed, and in none when the request has ended."""
    answered = (Await(b"}"), Pause(0.0), answer())
    client = connect(plain.port)
    plain.backend.begin([answered])
    client.play(post(LARGE)[:-1])
    wait_until(lambda: bool(_spooled(plain)), 5)
    client.play((b"}", Await(b"ok")))
    wait_until(lambda: not _spooled(plain), 5)
    assert list(plain.spool.iterdir()) == []
    client.end()


def test_no_room_for_a_body(plain: House) -> None:
    """Where a body cannot be kept, its client is told so, and the next one is served."""
    shutil.rmtree(plain.spool)
    try:
        case = Case(
            name="no room",
            sends=post(LARGE),
            gets=(Told(507, "room"),),
            closed=True,
        )
        check(case, plain.port, plain.backend)
        check(Case(name="small", sends=post(), arrives=(sent_on(),)), plain.port, plain.backend)
    finally:
        plain.spool.mkdir()


def _spooled(house: House) -> list[str]:
    """List the files in the spool's directory that llmux has open; they have no names."""
    found = []
    for descriptor in Path(f"/proc/{house.program.process.pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith(str(house.spool)):
            found.append(target)
    return found
