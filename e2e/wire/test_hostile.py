"""Hostile input: refused, each with its answer, and nothing of it at a backend."""

from __future__ import annotations

import pytest

from e2e.wire.case import Case, Told, check, next_answer
from e2e.wire.conftest import House
from e2e.wire.peer import connect

LINE = b"POST /v1/x HTTP/1.1\r\n"
HOST = b"Host: h\r\n"
BODY = b'{"model": "llama"}'
assert len(BODY) == 18


def refused(name: str, sends: bytes, status: int, says: str = "") -> Case:
    """Make a case: one error, the connection closed, nothing at the backend."""
    return Case(name=name, sends=sends, gets=(Told(status, says),), closed=True)


def headed(name: str, header: bytes, status: int, says: str = "") -> Case:
    """Make a case of a header among good ones."""
    return refused(name, LINE + HOST + header + b"\r\n\r\n" + BODY, status, says)


def measured(value: bytes, status: int = 400) -> Case:
    """Make a case of a Content-Length."""
    name = f"Content-Length is {value[:30]!r}"
    return headed(name, b"Content-Length: " + value, status)


def coded(value: bytes, status: int = 501) -> Case:
    """Make a case of a Transfer-Encoding before a chunked body."""
    head = LINE + HOST + b"Transfer-Encoding: " + value + b"\r\n\r\n"
    return refused(f"Transfer-Encoding is {value!r}", head + chunk(BODY), status)


def chunk(data: bytes) -> bytes:
    """Make a whole body of one chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


def chunked(name: str, body: bytes, status: int = 400) -> Case:
    """Make a case of a chunked body."""
    head = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    return refused(name, head + body, status, "chunked" if status == 400 else "")


def lined(name: str, line: bytes, status: int = 400, says: str = "") -> Case:
    """Make a case of a request line."""
    return refused(name, line + b"\r\n" + HOST + b"Content-Length: 18\r\n\r\n" + BODY, status, says)


LENGTHS = [
    headed(
        "a length and chunked",
        b"Content-Length: 18\r\nTransfer-Encoding: chunked",
        400,
        "says twice",
    ),
    headed(
        "chunked and a length",
        b"Transfer-Encoding: chunked\r\nContent-Length: 18",
        400,
        "says twice",
    ),
    headed("a length of 0 and chunked", b"Content-Length: 0\r\nTransfer-Encoding: chunked", 400),
    headed("two equal lengths", b"Content-Length: 18\r\nContent-Length: 18", 400, "says twice"),
    headed("two lengths", b"Content-Length: 18\r\ncontent-length: 2", 400, "says twice"),
    headed("chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
    headed("chunked and identity", b"Transfer-Encoding: chunked\r\ntransfer-encoding: x", 501),
    *map(
        measured,
        (
            b"+18",
            b"-18",
            b"1 8",
            b"18, 18",
            b"18,18",
            b"0x12",
            b"1e1",
            b"",
            b"18;",
            b"18.0",
            b"1_8",
        ),
    ),
    measured("١٨".encode()),
    measured(b"18\x0b"),
    measured(b"99999999999999999999", 413),
    measured(b"0" * 30 + b"18", 413),
    *map(
        coded,
        (
            b"xchunked",
            b"chunked, chunked",
            b"gzip, chunked",
            b"identity",
            b"chunked;q=1",
            b"",
            b"chunked,",
            b"chun ked",
            b'"chunked"',
            b"gzip",
        ),
    ),
    coded(b"\x0bchunked", 400),
    coded(b"chunked\x00", 400),
    refused(
        "chunked in HTTP/1.0",
        b"POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(BODY),
        501,
    ),
]

LINES = [
    refused("bare LF after the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400, "LF"),
    refused("bare LF after a header", LINE + b"Host: h\nX-A: 1\r\n\r\n", 400, "LF"),
    refused("bare LF at the head's end", LINE + HOST + b"\n", 400, "LF"),
    refused("bare LF everywhere", b"POST / HTTP/1.1\nHost: h\n\n", 400, "LF"),
    refused("bare LF before CRLF", LINE + b"Host: h\n\r\n\r\n", 400),
    refused("a smuggled header behind a bare LF", LINE + b"Host: h\r\nA: b\nC: d\r\n\r\n", 400),
    headed("bare CR in a value", b"X-A: 1\r2", 400, "CR"),
    headed("CR CR LF", b"X-A: 1\r", 400, "CR"),
    headed("bare CR in a name", b"X\r-A: 1", 400),
    lined("bare CR in the request line", b"POST /v1/x\r HTTP/1.1", 400, "CR"),
    headed("folded with a space", b"X-A: 1\r\n 2", 400, "folded"),
    headed("folded with a tab", b"X-A: 1\r\n\t2", 400, "folded"),
    refused("the first header folded", LINE + b" Host: h\r\n\r\n", 400, "folded"),
    headed("a folded Transfer-Encoding", b"X: 1\r\n Transfer-Encoding: chunked", 400, "folded"),
    refused("two empty lines first", b"\r\n\r\n" + LINE + HOST + b"\r\n", 400),
]

HEADERS = [
    headed("NUL in a value", b"X-A: a\x00b", 400, "control"),
    headed("NUL in a name", b"X\x00A: b", 400),
    *(
        headed(f"control byte {byte:#04x} in a value", b"X-A: a%cb" % byte, 400, "control")
        for byte in (0x01, 0x08, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)
    ),
    headed("an empty name", b": x", 400, "token"),
    headed("no colon", b"Hello", 400, "token"),
    headed("a space before the colon", b"X-A : 1", 400, "token"),
    headed("a space before Transfer-Encoding's colon", b"Transfer-Encoding : chunked", 400),
    headed("a tab before Transfer-Encoding's colon", b"Transfer-Encoding\t: chunked", 400),
    headed("a space before Content-Length's colon", b"Content-Length : 18", 400),
    headed("a space in a name", b"X A: 1", 400, "token"),
    headed("a control byte in a name", b"X\x01A: 1", 400),
    headed("a name that is not ASCII", b"X-\xe9: 1", 400, "token"),
    *(
        headed(f"{mark!r} in a name", b"X" + mark + b"A: 1", 400)
        for mark in (b"(", b"@", b"[", b"/", b'"')
    ),
    refused("no Host", LINE + b"\r\n", 400, "Host"),
    headed("two Hosts", b"Host: i", 400, "Host"),
    headed("the same Host twice", b"host: h", 400, "Host"),
    headed("another expectation", b"Expect: 200-ok\r\nContent-Length: 18", 417),
    headed("two expectations", b"Expect: 100-continue, x\r\nContent-Length: 18", 417),
    headed("an expectation twice", b"Expect: 100-continue\r\nExpect: 100-continue", 417),
    headed("a header of 100 KB", b"X-A: " + b"a" * 100_000, 431, "too large"),
    headed(
        "100 KB of headers", b"\r\n".join(b"X-%d: %s" % (n, b"a" * 990) for n in range(100)), 431
    ),
    headed("300 headers", b"\r\n".join(b"X-%d: a" % n for n in range(300)), 431, "too many"),
    headed("70 KB of a name", b"a" * 70_000 + b": 1", 431),
]

REQUEST_LINES = [
    lined("a line of 100 KB", b"POST /" + b"a" * 100_000 + b" HTTP/1.1", 431),
    lined("authority-form", b"POST h:80 HTTP/1.1", 400, "target"),
    lined("absolute-form with a user", b"POST http://u:p@h/v1/x HTTP/1.1", 400, "target"),
    lined("absolute-form without a host", b"POST http:///v1/x HTTP/1.1", 400, "target"),
    lined("absolute-form of another scheme", b"POST ftp://h/v1/x HTTP/1.1", 400, "target"),
    lined("a file's URL", b"POST file:///etc/passwd HTTP/1.1", 400, "target"),
    lined("a relative path", b"POST v1/x HTTP/1.1", 400, "target"),
    lined("asterisk-form of another method", b"POST * HTTP/1.1", 400, "target"),
    lined("a fragment", b"POST /v1/x#y HTTP/1.1", 400, "target"),
    lined("a target that is not ASCII", b"POST /v1/\xc3\xa9 HTTP/1.1", 400, "target"),
    lined("NUL in the target", b"POST /v1/\x00 HTTP/1.1", 400, "target"),
    lined("DEL in the target", b"POST /v1/\x7f HTTP/1.1", 400, "target"),
    lined("a tab in the target", b"POST /v1/\tx HTTP/1.1", 400, "target"),
    lined("a space in the target", b"POST /v1/x y HTTP/1.1", 400, "request line"),
    lined("two spaces", b"POST  /v1/x HTTP/1.1", 400, "request line"),
    lined("tabs for spaces", b"POST\t/v1/x\tHTTP/1.1", 400, "request line"),
    lined("a space first", b" POST /v1/x HTTP/1.1", 400, "request line"),
    lined("a space last", b"POST /v1/x HTTP/1.1 ", 400, "request line"),
    lined("no target", b"POST HTTP/1.1", 400, "request line"),
    lined("an empty target", b"POST  HTTP/1.1", 400, "target"),
    lined("a method that is no token", b"PO(ST /v1/x HTTP/1.1", 400, "request line"),
    lined("HTTP/0.9", b"GET /v1/x", 400),
    lined("HTTP/1.2", b"POST /v1/x HTTP/1.2", 400, "HTTP/1.1"),
    lined("HTTP/2.0", b"POST /v1/x HTTP/2.0", 400, "HTTP/1.1"),
    lined("HTTP/1.10", b"POST /v1/x HTTP/1.10", 400, "HTTP/1.1"),
    lined("HTTP/01.1", b"POST /v1/x HTTP/01.1", 400, "HTTP/1.1"),
    lined("http/1.1 in small letters", b"POST /v1/x http/1.1", 400, "HTTP/1.1"),
    lined("another protocol", b"DESCRIBE rtsp://h/x RTSP/1.0", 400, "HTTP/1.1"),
    refused("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/1.1"),
    refused("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\r\n\x03\x03\r\n", 400),
    *(
        lined(f"method {method.decode()}", method + b" /v1/x HTTP/1.1", 501, "method")
        for method in (b"BREW", b"post", b"Get", b"TRACE", b"PROPFIND", b"POST\x27")
    ),
    lined("CONNECT", b"CONNECT h:443 HTTP/1.1", 501, "method"),
]

CHUNKS = [
    chunked("a negative size", b"-1\r\nx\r\n0\r\n\r\n"),
    chunked("a size with a plus", b"+12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a size with 0x", b"0x12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a size with an underscore", b"1_2\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a space before the size", b" 12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a space behind the size", b"12 \r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("no size", b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("no hexadecimal size", b"xyz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("an extension without a size", b";a=b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a size of 2000 digits", b"0" * 2000 + b"12\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("an extension of 100 KB", b"12;" + b"a" * 100_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a control byte in an extension", b"12;a=\x01\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a bare LF behind the size", b"12\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a bare LF in an extension", b"12;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a bare CR in an extension", b"12;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a chunk that is longer than it says", b"11\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a chunk that is shorter than it says", b"13\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("a chunk that ends with LF", b"12\r\n" + BODY + b"\n0\r\n\r\n"),
    chunked(
        "100 KB of trailers", b"12\r\n" + BODY + b"\r\n0\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"
    ),
    chunked("digits that are not ASCII", b"\xef\xbc\x91\r\nx\r\n0\r\n\r\n"),
]

ALL = [*LENGTHS, *LINES, *HEADERS, *REQUEST_LINES, *CHUNKS]


@pytest.mark.parametrize("case", ALL, ids=str)
def test_refused(case: Case, plain: House) -> None:
    """It is answered with its error, the connection is closed, and no backend hears of it."""
    check(case, plain.port, plain.backend)


def test_reason(plain: House) -> None:
    """A refusal's status line has the reason phrase that belongs to its status."""
    client = connect(plain.port)
    client.play(LINE + HOST + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n")
    answered = next_answer(client)
    client.end()
    assert answered.start == b"HTTP/1.1 431 Request Header Fields Too Large"
