"""Answers: as the backend sent them, and what breaks looks broken."""

from __future__ import annotations

import gzip

import pytest

from e2e.program import wait_until
from e2e.wire.case import Case, Cut, Told, check
from e2e.wire.conftest import House
from e2e.wire.peer import Await, End, Pause, Script, connect
from e2e.wire.requests import BODY, answer, chunked_answer, chunks, get, post, sent_on

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OLD = b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: 18\r\n\r\n" + BODY
ZIPPED = gzip.compress(b"hello" * 100)
LARGE = bytes(range(256)) * 8000


def same(name: str, sent: bytes, request: bytes = b"") -> Case:
    """Make a case of an answer that goes through as it is."""
    return Case(
        name=name, sends=request or post(), arrives=(sent_on(),), answers=(sent,), gets=(sent,)
    )


def changed(name: str, sent: Script, got: bytes, closed: bool = False) -> Case:
    """Make a case of an answer that is not quite the same."""
    return Case(
        name=name, sends=post(), arrives=(sent_on(),), answers=(sent,), gets=(got,), closed=closed
    )


def bodiless(name: str, sent: bytes, got: bytes | None = None, method: bytes = b"HEAD") -> Case:
    """Make a case of an answer without a body to a request without one."""
    target = b"/v1/x?model=llama"
    return Case(
        name=name,
        sends=get(target, method=method),
        arrives=(b"%s %s HTTP/1.1\r\n\r\n" % (method, target),),
        answers=(sent,),
        gets=(got or sent,),
        head=method == b"HEAD",
    )


def broken(name: str, sent: Script, code: str, says: str = "") -> Case:
    """Make a case of a backend that sends no head."""
    return Case(
        name=name,
        sends=post(),
        arrives=(sent_on(),),
        answers=(sent,),
        gets=(Told(502, says, code),),
    )


def cut(name: str, sent: Script, got: bytes) -> Case:
    """Make a case of an answer that breaks off."""
    return Case(
        name=name,
        sends=post(),
        arrives=(sent_on(),),
        answers=(sent,),
        gets=(Cut(got),),
        closed=True,
    )


SAME = [
    *(
        same(f"status {status.decode('latin-1')}", answer(status=status))
        for status in (
            b"200 OK",
            b"201 Created",
            b"202 Odd words: \t(here)!",
            b"299 Whatever",
            b"301 Moved Permanently",
            b"400 Bad Request",
            b"404 \xc3\xa9\xff",
            b"418 I'm a teapot",
            b"429 Slow Down",
            b"500 Oops",
            b"503 Model is loading",
            b"599 Last",
            b"999 Beyond",
        )
    ),
    same("an empty reason", answer(status=b"200 ")),
    same("an empty body", answer(b"")),
    same("2 MB", answer(LARGE)),
    same("chunks", chunked_answer(b"hello")),
    same("chunks without any", chunked_answer(b"")),
    same("2 MB in a chunk", chunked_answer(LARGE)),
    same("Set-Cookie twice", answer(head=b"Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n")),
    same("headers of odd values", answer(head=b'X-A:\r\nX-B: \xff\xfe "\r\nX-C: a,,b ;\tc\r\n')),
    same("gzip stays as it is", answer(ZIPPED, b"Content-Encoding: gzip\r\nVary: Accept\r\n")),
    same("gzip in chunks", chunked_answer(ZIPPED, b"Content-Encoding: gzip\r\n")),
    same("a type is not invented", answer(b"<html>")),
    same("Date and Server", answer(head=b"Date: never\r\nServer: me/1.0\r\nETag: W/x\r\n")),
    same("Location is not followed", answer(b"", b"Location: /y\r\n", b"307 Go")),
    same("WWW-Authenticate", answer(b"", b"WWW-Authenticate: Basic\r\n", b"401 No")),
    bodiless("HEAD", answer(b"", status=b"200 OK").replace(b"h: 0", b"h: 1234")),
    bodiless("HEAD without a length", b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"),
    bodiless("204", b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", method=b"DELETE"),
    bodiless("304", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', method=b"GET"),
    bodiless("304, a length", b"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", method=b"GET"),
]

CHANGED = [
    bodiless("HEAD, chunked", CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n"),
    changed("no reason at all", answer(status=b"200"), answer(status=b"200 ")),
    changed("chunk by chunk", CHUNKED + chunks(b"hello world", 2), chunked_answer(b"hello world")),
    changed(
        "trailers are dropped",
        CHUNKED + chunks(b"hello", 5, b";x=y", b"X-Sum: 1\r\n"),
        chunked_answer(b"hello"),
    ),
    changed(
        "until the connection's end",
        (b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nhel", Pause(0.02), b"lo", End.CLOSE),
        chunked_answer(b"hello", b"X-A: b\r\n"),
    ),
    changed(
        "an answer of HTTP/1.0",
        (b"HTTP/1.0 200 Fine\r\n\r\nhello", End.CLOSE),
        chunked_answer(b"hello", status=b"200 Fine"),
    ),
    changed("an answer of HTTP/1.0 with a length", answer(version=b"1.0"), answer()),
    changed(
        "interim answers are dropped",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(),
        answer(),
    ),
    changed(
        "what is about the connection stops here",
        answer(
            head=b"Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n"
            b"Proxy-Authenticate: x\r\nUpgrade: h2c\r\nTrailer: x\r\nX-Other: 2\r\n"
        ),
        answer(head=b"X-Other: 2\r\n"),
    ),
    changed(
        "byte by byte",
        tuple(answer(b"hello")[at : at + 1] for at in range(len(answer(b"hello")))),
        answer(b"hello"),
    ),
    Case(
        name="chunks for HTTP/1.0",
        sends=OLD,
        arrives=(sent_on(),),
        answers=(CHUNKED + chunks(b"hello", 2),),
        gets=(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhello",),
        closed=True,
    ),
    Case(
        name="Connection: close",
        sends=post(head=b"Connection: close\r\n"),
        arrives=(sent_on(),),
        gets=(answer(head=b"Connection: close\r\n"),),
        closed=True,
    ),
]

BROKEN = [
    broken("closed before answering", (End.CLOSE,), "backend_closed", "before answering"),
    broken("reset before answering", (End.RESET,), "backend_closed", "before answering"),
    broken("half a head", (b"HTTP/1.1 200 OK\r\nContent-", End.CLOSE), "backend_broke", "broke"),
    broken("half a status line", (b"HTT", End.CLOSE), "backend_broke", "broke"),
    broken("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "backend_broke"),
    broken("no status", b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", "backend_broke"),
    broken("two lengths", answer(head=b"Content-Length: 3\r\n"), "backend_broke"),
    broken("a length that is none", answer().replace(b": 2", b": +2"), "backend_broke"),
    broken("a head of 1 MB", answer(head=b"X-A: %s\r\n" % (b"a" * 1_000_000)), "backend_broke"),
    cut("fewer bytes than it said", (answer(b"hello")[:-2], End.CLOSE), answer(b"hello")[:-2]),
    cut("reset", (answer(b"hello")[:-2], Pause(0.1), End.RESET), answer(b"hello")[:-2]),
    cut("no last chunk", (CHUNKED + b"5\r\nhello\r\n", End.CLOSE), CHUNKED + b"5\r\nhello\r\n"),
    cut("half a chunk", (CHUNKED + b"5\r\nhel", End.CLOSE), CHUNKED + b"3\r\nhel\r\n"),
    cut(
        "a bad chunk",
        (CHUNKED + b"5\r\nhello\r\n", Pause(0.1), b"zz\r\n"),
        CHUNKED + b"5\r\nhello\r\n",
    ),
    Case(
        name="a body that breaks off, for HTTP/1.0",
        sends=OLD,
        arrives=(sent_on(),),
        answers=((CHUNKED + b"5\r\nhello\r\n", Pause(0.1), End.CLOSE),),
        gets=(Cut(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhello"),),
        closed=True,
    ),
    Case(
        name="llmux's own error to HEAD",
        sends=get(b"/x", method=b"HEAD"),
        gets=(Told(404),),
        head=True,
    ),
    Case(
        name="refused",
        sends=post(b'{"model": "nobody-1"}'),
        gets=(Told(502, "refused", "backend_refused"),),
    ),
]


@pytest.mark.parametrize("case", [*SAME, *CHANGED], ids=str)
def test_relayed(case: Case, plain: House) -> None:
    """The client gets what the backend sent, but for what is about the connection."""
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_broken(case: Case, plain: House) -> None:
    """Before the head an error tells how it broke; after it the connection is cut."""
    check(case, plain.port, plain.backend)


def test_events_come_as_they_are_sent(plain: House) -> None:
    """A stream comes piece by piece, each at once, whatever follows."""
    client = connect(plain.port)
    plain.backend.begin(
        [
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
                *(piece for n in range(5) for piece in (b"data: %d\n\n" % n, Pause(0.1))),
                End.CLOSE,
            )
        ]
    )
    client.play(post())
    for number in range(5):
        client.wait_for(b"data: %d\n\n" % number)
        assert b"data: %d" % (number + 1) not in client.received
    client.wait_for(b"0\r\n\r\n")
    client.end()


def test_answer_before_the_request_was_read(plain: House) -> None:
    """A backend that answers and closes before it has read a large body is heard all the same."""
    large = b'{"model": "llama", "x": "%s"}' % (b"x" * 8_000_000)
    refusal = answer(b"too large", status=b"413 No")
    plain.backend.begin([(refusal, End.HALF)], hasty=True)
    client = connect(plain.port)
    client.play((post(large), Await(b"too large")))
    assert b"413 No" in client.received
    client.end()
    number = plain.backend.requests[0].connection
    wait_until(lambda: number in plain.backend.ended, 5)  # its bytes are no other test's
