"""The head of a request: what is taken, and what is refused for which reason."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.engine.names import LONGEST
from llmux.headers import tokens
from llmux.server.head import (
    MAX_HEADERS,
    METHODS,
    Head,
    RequestLine,
    read_request_line,
)
from llmux.server.head_reader import HeadReader
from llmux.server.refusals import Refusal, Refused

HOST = b"Host: h"
TOKEN = "!#$%&'*+-.^_`|~09azAZ"


@attrs.frozen
class Bad:
    """
    A head that is refused.

    :param refusal: why.
    :param lines: its headers, beside a Host.
    :param line: its first line.
    """

    refusal: Refusal
    lines: tuple[bytes, ...] = ()
    line: bytes = b"POST / HTTP/1.1"


REFUSED = [
    *(
        Bad(Refusal.REQUEST_LINE, line=line)
        for line in (
            b"",
            b" ",
            b"GET",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"G\x00T / HTTP/1.1",
            b"\xc3\xa9 / HTTP/1.1",
            b"GET / x HTTP/1.1",
            b" / HTTP/1.1",
        )
    ),
    *(
        Bad(Refusal.METHOD, line=line)
        for line in (
            b"CONNECT h:1 HTTP/1.1",
            b"TRACE / HTTP/1.1",
            b"get / HTTP/1.1",
            b"! / HTTP/1.0",
        )
    ),
    *(
        Bad(Refusal.TARGET, line=b"GET " + target + b" HTTP/1.1")
        for target in (
            b"",
            b"*",
            b"h:80",
            b"a/b",
            b"?x",
            b"#",
            b"/#",
            b"/\x00",
            b"/\x1f",
            b"/\x7f",
            b"/\xff",
            b"/\t",
            b"http:/x",
            b"http://",
            b"http:///x",
            b"http://?x",
            b"http://u@h/",
            b"ftp://h/",
            b"://h/",
            b"http//h/",
        )
    ),
    *(
        Bad(Refusal.VERSION, line=b"GET / " + version)
        for version in (
            b"HTTP/1.2",
            b"HTTP/2.0",
            b"HTTP/0.9",
            b"HTTP/2",
            b"HTTP/1.1x",
            b"HTTP/11",
            b"http/1.1",
            b"HTTP/1.01",
            b"",
            b"ICY/1.1",
        )
    ),
    *(
        Bad(Refusal.LINE_END, line=line)
        for line in (b"GET / HTTP/1.1\n", b"GET /\r HTTP/1.1", b"\r")
    ),
    *(Bad(Refusal.LINE_END, (line,)) for line in (b"A: 1\nB: 2", b"A: 1\r", b"A\r: 1", b"A\n")),
    *(Bad(Refusal.FOLDED, (b"A: 1", line)) for line in (b" b", b"\tb: c", b" ", b" Host: i")),
    *(
        Bad(Refusal.HEADER_NAME, (line,))
        for line in (
            b": 1",
            b"A",
            b"A : 1",
            b"A\t: 1",
            b"A B: 1",
            b"A(: 1",
            b"\xe9: 1",
            b"A\x00: 1",
            b'"A": 1',
        )
    ),
    *(
        Bad(Refusal.HEADER_VALUE, (b"A: x" + bytes([byte]) + b"y",))
        for byte in (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F)
    ),
    Bad(Refusal.HOST, (b"Host: h",)),
    Bad(Refusal.HOST, (b"host: i",)),
    Bad(Refusal.HEADER_COUNT, (b"A: 1",) * MAX_HEADERS),
    *(
        Bad(Refusal.LENGTH, (b"Content-Length:" + value,))
        for value in (
            b"",
            b" ",
            b"+1",
            b"-1",
            b"1 1",
            b"1,1",
            b"1, 1",
            b"0x1",
            b"1_0",
            b"1.0",
            b"\xb2",
            b"1;",
            b"\xd9\xa1",
        )
    ),
    Bad(Refusal.LENGTHS, (b"Content-Length: 1", b"content-length: 1")),
    Bad(Refusal.LENGTHS, (b"Content-Length: 1", b"Transfer-Encoding: chunked")),
    Bad(Refusal.LENGTHS, (b"Transfer-Encoding: x", b"Content-Length: x")),
    *(
        Bad(Refusal.CODING, (b"Transfer-Encoding: " + value,))
        for value in (
            b"",
            b"gzip",
            b"chunked,",
            b"gzip, chunked",
            b"chunked, chunked",
            b"chunked;a",
        )
    ),
    Bad(Refusal.CODING, (b"Transfer-Encoding: chunked",) * 2),
    Bad(Refusal.CODING, (b"Transfer-Encoding: chunked",), b"POST / HTTP/1.0"),
    Bad(Refusal.BODY_SIZE, (b"Content-Length: " + b"9" * 19,)),
    Bad(Refusal.BODY_SIZE, (b"Content-Length: " + b"0" * 9999,)),
    *(Bad(Refusal.EXPECTATION, (b"Expect: " + one,)) for one in (b"", b"x", b"100-continue, x")),
    Bad(Refusal.EXPECTATION, (b"Expect: 100-continue",) * 2),
]

ELSEWHERE = {
    Refusal.HEAD_SIZE,
    Refusal.HEAD_SLOW,
    Refusal.CHUNK,
    Refusal.BODY_SLOW,
    Refusal.SPOOL,
}
"""Those that a head cannot have by itself; the tests of the channel have them."""


def read(line: bytes, *lines: bytes) -> tuple[RequestLine, Head]:
    """Read a head."""
    reader = HeadReader()
    for one in (b"", line, *lines):  # an empty line in front of it is overlooked
        reader.take(one)
    head = reader.take(b"")
    assert head is not None
    assert reader.line is not None
    return reader.line, head


class RefusedTests(SynchronousTestCase):
    def test_table(self) -> None:
        """What could be read in two ways is refused, each for its own reason."""
        for bad in REFUSED:
            with self.subTest(repr(bad)[:200]):
                refused = self.assertRaises(Refused, read, bad.line, HOST, *bad.lines)
                self.assertIs(refused.refusal, bad.refusal)
                self.assertEqual(refused.status, bad.refusal.status)
                self.assertIn(bad.refusal.message, refused.message)

    def test_table_is_complete(self) -> None:
        """Each reason for which a head can be refused is seen."""
        self.assertEqual({bad.refusal for bad in REFUSED} | ELSEWHERE, set(Refusal))

    def test_statuses(self) -> None:
        """Refusals use the statuses that clients know for them, and say why in words."""
        for refusal in Refusal:
            self.assertIn(refusal.status, (400, 408, 413, 417, 431, 501, 507), refusal)
            self.assertFalse(refusal.message.endswith("."), refusal)

    def test_host_is_needed_since_1_1(self) -> None:
        """A request without Host is refused, if it is not one of HTTP/1.0."""
        self.assertIs(self.assertRaises(Refused, read, b"GET / HTTP/1.1").refusal, Refusal.HOST)
        self.assertEqual(read(b"GET / HTTP/1.0")[1].length, 0)

    def test_who_asks_is_known(self) -> None:
        """What stands before a refused header has been read, and what follows a refused line."""
        reader = HeadReader()
        reader.take(b"GET / HTTP/1.1")
        reader.take(b"X-Request-Id: mine")
        self.assertRaises(Refused, reader.take, b"bad")
        self.assertEqual(reader.headers.getRawHeaders(b"x-request-id"), [b"mine"])
        line = read_request_line(b"BREW /pot HTTP/1.1")
        assert line.refused is not None
        self.assertIs(line.refused.refusal, Refusal.METHOD)

    @given(st.binary(max_size=40))
    def test_any_request_line(self, line: bytes) -> None:
        """Whatever comes, it is refused or is a method, a visible target and a version."""
        try:
            read = read_request_line(line)
        except Refused:
            return
        if read.refused is not None:
            return
        self.assertIn(read.method, METHODS)
        self.assertIn(read.version, (b"HTTP/1.1", b"HTTP/1.0"))

    @given(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
    def test_any_headers(self, lines: list[bytes]) -> None:
        """Whatever comes, it is refused or holds nothing that could end a line."""
        try:
            head = read(b"GET / HTTP/1.1", HOST, *lines)[1]
        except Refused:
            return
        for name, values in head.headers.getAllRawHeaders():
            self.assertRegex(name, rb"\A[!-9;-~]+\Z")
            for value in values:
                self.assertRegex(value, rb"\A[\t\x20-\x7e\x80-\xff]*\Z")

    @given(st.text("+-,._ x0123456789٣²", max_size=6))
    def test_any_length(self, text: str) -> None:
        """A length is digits of ASCII alone."""
        value = text.encode()
        plain = value.strip(b" ")
        line = b"Content-Length: " + value
        if plain and all(byte in b"0123456789" for byte in plain):
            self.assertEqual(read(b"POST / HTTP/1.1", HOST, line)[1].length, int(plain))
        else:
            refused = self.assertRaises(Refused, read, b"POST / HTTP/1.1", HOST, line)
            self.assertIs(refused.refusal, Refusal.LENGTH)


class TakenTests(SynchronousTestCase):
    def test_targets(self) -> None:
        """Paths are taken as they are; of a URL its path and query are."""
        for sent, target in (
            (b"/", b"/"),
            (b"//x/../y", b"//x/../y"),
            (b"/%2F%00?a=b?c", b"/%2F%00?a=b?c"),
            (b'/|"<>[]{}\\^`', b'/|"<>[]{}\\^`'),
            (b"http://h", b"/"),
            (b"HTTPS://h:1/x?y", b"/x?y"),
            (b"http://h?x/y", b"/?x/y"),
            (b"http://[::1]/x//y", b"/x//y"),
        ):
            line = read_request_line(b"GET %s HTTP/1.1" % sent)
            self.assertEqual(line, RequestLine(b"GET", target, b"HTTP/1.1"))

    def test_asterisk(self) -> None:
        """OPTIONS may be about the whole server."""
        self.assertEqual(read_request_line(b"OPTIONS * HTTP/1.1").target, b"*")

    def test_methods(self) -> None:
        """Each method that is about a resource is taken."""
        for method in METHODS:
            self.assertEqual(read_request_line(method + b" / HTTP/1.0").method, method)

    def test_lengths(self) -> None:
        """A length is a number, chunks have none, and without both there is no body."""
        for lines, length in (
            ((), 0),
            ((b"Content-Length: 0",), 0),
            ((b"content-length:\t 0012 ",), 12),
            ((b"Content-Length: " + b"9" * 18,), 10**18 - 1),
            ((b"Transfer-Encoding: chunked",), None),
            ((b"transfer-encoding:CHUNKED ",), None),
        ):
            self.assertEqual(read(b"POST / HTTP/1.1", HOST, *lines)[1].length, length, lines)

    def test_persistence(self) -> None:
        """A connection goes on unless the client says that it ends, or speaks HTTP/1.0."""
        for version, lines, persistent in (
            (b"1.1", (), True),
            (b"1.1", (b"Connection: close",), False),
            (b"1.1", (b"Connection: x , CLOSE",), False),
            (b"1.1", (b"Connection: x", b"Connection: close"), False),
            (b"1.1", (b"Connection: closed",), True),
            (b"1.1", (b"Connection: keep-alive",), True),
            (b"1.0", (), False),
            (b"1.0", (b"Connection: keep-alive",), False),
        ):
            head = read(b"GET / HTTP/" + version, HOST, *lines)[1]
            self.assertEqual(head.persistent, persistent, (version, lines))

    def test_expectations(self) -> None:
        """Who waits for 100 Continue is told so, where there is a body and HTTP knows of it."""
        for version, lines, awaits in (
            (b"1.1", (b"Expect: 100-continue", b"Content-Length: 1"), True),
            (b"1.1", (b"expect:100-Continue ", b"Transfer-Encoding: chunked"), True),
            (b"1.1", (b"Expect: 100-continue",), False),
            (b"1.1", (b"Expect: 100-continue", b"Content-Length: 0"), False),
            (b"1.0", (b"Expect: 100-continue", b"Content-Length: 1"), False),
            (b"1.0", (b"Expect: anything", b"Content-Length: 1"), False),
            (b"1.1", (b"Content-Length: 1",), False),
        ):
            head = read(b"POST / HTTP/" + version, HOST, *lines)[1]
            self.assertEqual(head.awaits_continue, awaits, (version, lines))

    def test_most_headers(self) -> None:
        """As many headers are taken as may be."""
        head = read(b"GET / HTTP/1.1", HOST, *[b"A: 1"] * (MAX_HEADERS - 1))[1]
        self.assertEqual(len(head.headers.getRawHeaders(b"a", [])), MAX_HEADERS - 1)

    def test_longest_name(self) -> None:
        """A header's name may only be so long: each that is new is remembered for good."""
        longest = b"x" * LONGEST
        head = read(b"GET / HTTP/1.1", HOST, longest + b": 1")[1]
        self.assertTrue(head.headers.hasHeader(longest))
        refused = self.assertRaises(Refused, read, b"GET / HTTP/1.1", HOST, b"x" + longest + b": 1")
        self.assertIs(refused.refusal, Refusal.HEADER_NAME)

    def test_connection_tokens(self) -> None:
        """What Connection names is found in all its lines, whatever the case and white space."""
        head = read(b"GET / HTTP/1.1", HOST, b"Connection: A,\tb ,", b"connection: C")[1]
        self.assertEqual(tokens(head.headers, b"connection"), {b"a", b"b", b"c", b""})

    @given(
        st.lists(
            st.tuples(
                st.text(TOKEN, min_size=1, max_size=8).map(str.encode),
                st.text(
                    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
                ).map(lambda text: text.encode("latin-1")),
            ),
            max_size=8,
        )
    )
    def test_any_good_headers(self, lines: list[tuple[bytes, bytes]]) -> None:
        """Any token with any value is taken as it is, but for white space around the value."""
        head = read(b"GET / HTTP/1.1", HOST, *(b"x%s:%s" % line for line in lines))[1]
        for name in {name.lower() for name, _ in lines}:
            values = [value.strip(b" \t") for other, value in lines if other.lower() == name]
            self.assertEqual(head.headers.getRawHeaders(b"x" + name), values)
