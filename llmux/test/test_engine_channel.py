"""The server channel on llhttp, for any site: Twisted's own tests, and beside Twisted's channel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from llmux.clock import VirtualClock
from llmux.engine.channel import LLHTTPChannel
from llmux.engine.heads import read_whole
from llmux.engine.names import LONGEST

THEIRS: tuple[ModuleType, ...] = ()
LACKING = ""
try:
    from twisted.web.test import test_http, test_web
except ImportError as error:  # they need PyHamcrest
    LACKING = str(error)
else:
    THEIRS = (test_http, test_web)


class _OnLLHTTP(TestCase):
    """Has Twisted's tests make channels on llhttp."""

    def setUp(self) -> None:
        """Put one in the place of the other."""
        super().setUp()
        self.patch(http, "HTTPChannel", LLHTTPChannel)


def _on_llhttp() -> dict[str, type[TestCase]]:
    """Have all of Twisted's own tests of its channel and its sites run on ours."""
    cases = {}
    for module in THEIRS:
        for name, case in vars(module).items():
            own = isinstance(case, type) and case.__module__ == module.__name__
            if own and issubclass(case, SynchronousTestCase):
                whole = f"{module.__name__.rpartition('.')[2]}_{name}"
                cases[whole] = type(whole, (_OnLLHTTP, case), {"__module__": __name__})
    return cases


globals().update(_on_llhttp())


class TheirTests(TestCase):
    def test_they_are_run(self) -> None:
        """Twisted's own tests of its channel are there, and are run on ours."""
        if LACKING:
            raise SkipTest(LACKING)
        for name in ("test_http_ParsingTests", "test_http_HTTP1_1Tests", "test_web_SiteTest"):
            self.assertIn(name, globals())


class Echo(Resource):
    """Answers each request with what it was."""

    isLeaf = True  # noqa: N815  # Twisted's name

    def render(self, request: Request) -> bytes:
        """See :meth:`IResource.render`."""
        assert request.content is not None
        body: bytes = request.content.read()
        headers = list(request.requestHeaders.getAllRawHeaders())
        request.setHeader(b"Date", b"now")
        return b"%s %s %r " % (request.method, request.uri, headers) + body


def tell(protocol: Any, pieces: Sequence[bytes]) -> tuple[bytes, bool, int]:
    """Say something to a site; give what it says, whether it closes, and how many timers run."""
    clock = VirtualClock()
    site = Site(Echo(), timeout=60, reactor=clock)
    site.protocol = protocol  # type: ignore[method-assign]  # Twisted's is a function
    channel: Any = site.buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    for piece in pieces:
        if not transport.disconnecting:
            channel.dataReceived(piece)
    return transport.value(), transport.disconnecting, len(clock.getDelayedCalls())


_MESSAGES = st.sampled_from(
    [
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a?b=c HTTP/1.0\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nA: b\r\na: c \r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 501 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 20_000 + b"\r\n\r\n",
        b"\r\n",
        b"GET / HTTP/1.1\n\n",
    ]
)


class SameTests(SynchronousTestCase):
    @given(st.lists(_MESSAGES, min_size=1, max_size=4), st.sets(st.integers(1, 300), max_size=4))
    def test_beside_twisted(self, messages: list[bytes], places: set[int]) -> None:
        """What is said in the same pieces is answered in the same words as by Twisted's channel."""
        stream = b"".join(messages)
        edges = [0, *sorted(place for place in places if place < len(stream)), len(stream)]
        pieces = [stream[a:b] for a, b in pairwise(edges)]
        self.assertEqual(tell(LLHTTPChannel, pieces), tell(http.HTTPChannel, pieces))

    def test_depth(self) -> None:
        """Thousands of requests in one piece take no more stack than one."""
        said = tell(LLHTTPChannel, [b"GET /a HTTP/1.1\r\n\r\n" * 3000])[0]
        self.assertEqual(said.count(b"HTTP/1.1 200 OK\r\n"), 3000)

    def test_many(self) -> None:
        """What comes at once is looked at in several turns, wherever heads are cut by that."""

        class Patient(StringTransport):
            left = b""

            def put_back(self, data: bytes, start: int) -> None:
                self.left = data[start:] + self.left

        transport, turns = Patient(), 0
        site = Site(Echo(), reactor=VirtualClock())
        protocol: Any = LLHTTPChannel
        site.protocol = protocol  # type: ignore[method-assign]  # as above
        channel: Any = site.buildProtocol(None)
        channel.makeConnection(transport)
        transport.left = b"GET /a HTTP/1.1\r\n\r\n" * 6000
        while transport.left:
            piece, transport.left = transport.left, b""
            channel.dataReceived(piece)
            turns += 1
        self.assertEqual(transport.value().count(b"HTTP/1.1 200 OK\r\n"), 6000)
        self.assertGreaterEqual(turns, 4)


class HeadTests(SynchronousTestCase):
    def test_usual(self) -> None:
        """A head is read: its line, and its headers, without the white space around them."""
        head = read_whole(b"GET /x HTTP/1.1\r\nhost:h\r\nA: \tb c\t\r\na:\r\n\r\n")
        assert head is not None
        self.assertEqual((head.line, head.lines, head.size), (b"GET /x HTTP/1.1", 3, 41))
        headers = list(head.headers.getAllRawHeaders())
        self.assertEqual(headers, [(b"Host", [b"h"]), (b"A", [b"b c", b""])])

    def test_upgrade(self) -> None:
        """That a head asks for another protocol changes nothing about how it is read."""
        head = read_whole(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        assert head is not None
        self.assertEqual(head.lines, 2)

    def test_unusual(self) -> None:
        """What is no head, or could be read in two ways, is left to another reader."""
        for head in (
            b"\r\n\r\n", b"GET / HTTP/1.1\n\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\n\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA : b\r\n\r\n", b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
            b"GET / HTTP/1.1\r\nA\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n",
            b"SOURCE / ICE/1.0\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"\r\nGET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"x" * (LONGEST + 1) + b": 1\r\n\r\n",
        ):  # fmt: skip
            self.assertIsNone(read_whole(head), head)

    def test_many_names(self) -> None:
        """However many names clients make up, what is remembered of them is bounded."""
        for number in range(6000):
            head = read_whole(b"GET / HTTP/1.1\r\nx%d: y\r\n\r\n" % number)
            assert head is not None
            self.assertTrue(head.headers.hasHeader(b"X%d" % number))
