"""The makes of a client's connection: whatever is said to them, and however, they do the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.engine.choice import HTTP, STOCK
from llmux.server.refusals import Refusal
from llmux.server.request import RelayRequest
from llmux.test.test_channel import CHUNKED, GET, MAX_BODY, POST, Connection

MAKES = (STOCK, HTTP.name)
ODD = b'\x00\t\n\r "#%+,-/:;?@Aa1\x7f\x80\xff'  # bytes that mean something, or must not be there


@attrs.frozen
class Told:
    """
    What has come of something that a client said.

    :param said: what it was answered.
    :param requests: what each request was.
    :param refusals: why each was refused, if it was.
    :param connected: whether the connection has not ended.
    :param half_closed: whether nothing more is answered on it.
    """

    said: bytes
    requests: list[object]
    refusals: list[Refusal | None]
    connected: bool
    half_closed: bool


def seen(request: RelayRequest) -> object:
    """Give what can be seen of a request."""
    headers = list(request.requestHeaders.getAllRawHeaders())
    line = request.method, request.uri, request.path, request.clientproto
    model = None if request.envelope is None else request.envelope.model_span
    return line, headers, model, request.arrived, request.client_host


def tell(http: str, pieces: Sequence[bytes], *, slow: bool) -> Told:
    """Say something to a connection of one make."""
    connection = Connection(http)
    connection.clock.advance(7)
    desk = connection.desk
    desk.slow = slow
    connection.say(*pieces)
    answered = 0
    while len(desk.requests) > answered:  # the next one may come with the answer to this one
        request = desk.requests[answered]
        answered += 1
        if slow:
            request.write(desk.answer(request))
            request.finish()
    line = connection.line
    return Told(
        line.value(),
        [seen(request) for request in desk.requests],
        connection.refusals(),
        line.connected,
        line.half_closed,
    )


def cut(stream: bytes, places: set[int]) -> list[bytes]:
    """Cut something into pieces."""
    edges = [0, *sorted(place for place in places if place < len(stream)), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


_LINES = st.one_of(
    st.sampled_from(
        [
            b"GET / HTTP/1.1", b"POST /x?y=z HTTP/1.1", b"OPTIONS * HTTP/1.1", b"HEAD / HTTP/1.0",
            b"POST http://h/x HTTP/1.1", b"BREW / HTTP/1.1", b"GET  / HTTP/1.1", b"GET / HTTP/1.2",
            b"PRI * HTTP/2.0", b"SOURCE / ICE/1.0", b"GET /a#b HTTP/1.1", b"M-SEARCH * HTTP/1.1",
            b"GET /\xff HTTP/1.1", b"GET / HTTP/1.1 ", b"CONNECT h:1 HTTP/1.1", b"GET /\t HTTP/1.1",
        ]
    ),
    st.just(b"POST /v1/chat/completions HTTP/1.1"),
)  # fmt: skip
_HEADERS = st.lists(
    st.sampled_from(
        [
            b"Host: h", b"host:i", b"Content-Length: 5", b"content-length:\t0005 ",
            b"Content-Length: +5", b"Content-Length: 0", b"Content-Length: ",
            b"Content-Length: 9999999999999999999", b"Content-Length: %d" % (MAX_BODY + 1),
            b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED", b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue", b"Expect: x",
            b"Connection: close", b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c",
            b"Connection: keep-alive, close", b"A:", b"A: \t", b"A: b \t", b"A: \xff", b"A:b:c",
            b"A : b", b" folded", b"\tfolded", b": x", b"A", b"A: \x00", b"A: \x0b", b"A\xe9: b",
            b"x-A: 1", b"X-a: 2", b"A: b\rc", b"A: b\nc", b"Keep-Alive: 1", b"Proxy-Connection: x",
        ]
    ),
    max_size=4,
).map(lambda lines: [b"Host: h", *lines])  # fmt: skip
_BODIES = st.sampled_from(
    [
        b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n", b"x\r\n", b'{"model": "m"}', b"0\r\n\r\n", b"\r\n", b"hel",
    ]
)  # fmt: skip


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    lines = [draw(_LINES), *draw(_HEADERS)]
    end = draw(st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r"]))
    return end.join(lines) + end * 2 + draw(_BODIES)


@st.composite
def _streams(draw: st.DrawFn) -> bytes:
    """Draw some requests, with a few bytes of them changed."""
    usual = st.sampled_from([GET, POST, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"\r\n"])
    stream = bytearray(b"".join(draw(st.lists(usual | _messages(), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(stream)))
        stream[place : place + draw(st.integers(0, 1))] = draw(
            st.sampled_from([b"", *(ODD[at : at + 1] for at in range(len(ODD)))])
        )
    return bytes(stream)


class SameTests(SynchronousTestCase):
    @example(POST + GET + POST, set(), False)
    @example(GET + b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n" + GET, {len(GET)}, True)
    @example(POST.replace(b"Host", b"Connection: close\r\nHost") + GET, set(), False)
    @example(GET.replace(b"Host", b"Connection: close\r\nHost") + GET, set(), False)
    @example(POST.replace(b"Host", b"Expect: 100-continue\r\nHost") + GET, set(), False)
    @example(b"X" + GET, {1}, False)
    @example(b"GET / HTTP/1.1\r\nA: " + GET, {19}, False)
    @example(b"\r\n" + GET, {2}, False)
    @given(_streams(), st.sets(st.integers(1, 200), max_size=5), st.booleans())
    def test_any_stream(self, stream: bytes, places: set[int], slow: bool) -> None:
        """Requests, refusals and answers are the same for the same bytes, wherever they are cut."""
        whole = tell(STOCK, [stream], slow=slow)
        for http in MAKES:
            for pieces in ([stream], cut(stream, places)):
                self.assertEqual(tell(http, pieces, slow=slow), whole, (http, pieces))

    @given(st.lists(st.sampled_from(sorted({*b"GE /xHTP1.\r\n:h\x00"})), max_size=60), st.data())
    def test_noise(self, noise: list[int], data: st.DataObject) -> None:
        """Whatever comes behind a good request, it is answered the same in whatever pieces."""
        stream = GET + bytes(noise)
        pieces = cut(stream, data.draw(st.sets(st.integers(1, len(stream)), max_size=6)))
        whole = tell(STOCK, [stream], slow=False)
        for http in MAKES:
            self.assertEqual(tell(http, pieces, slow=False), whole, (http, pieces))

    @given(st.integers(0, 40), st.integers(0, 3), st.booleans())
    def test_many_at_once(self, number: int, tail: int, slow: bool) -> None:
        """Any number of requests in one piece is answered, each in its turn."""
        stream = (GET + POST) * number + GET[: tail * 5]
        told = [tell(http, [stream], slow=slow) for http in MAKES]
        self.assertEqual(told[0], told[1])
        self.assertEqual(len(told[0].requests), 2 * number)

    def test_thousands_at_once(self) -> None:
        """It takes no more stack than one."""
        for http in MAKES:
            self.assertEqual(len(tell(http, [GET * 3000], slow=False).requests), 3000)

    def test_limits(self) -> None:
        """Heads of just the longest size, and with the most headers, are taken by both, or not."""
        ends = (
            b"",
            b"x",
            b"\n",
            b"x\n",
            b"x" * 20 + b"\n",
            b"\nB: c\r\n",
            b"\r\n" + b"C: d\r\n" * 99,
        )
        for extra in (b"A: b\r\n" * 199, b"A: b\r\n" * 200, b"A: " + b"b" * 65_503 + b"\r\n"):
            for end in ends:
                stream = GET[:-2] + extra[:-2] + end + b"\r\n\r\n"
                place = len(GET + extra)
                whole = tell(STOCK, [stream], slow=False)
                for cuts in (set(), {place}, {place - 4, place - 3}, {place + 6}):
                    for http in MAKES:
                        told = tell(http, cut(stream, cuts), slow=False)
                        self.assertEqual(told, whole, (len(stream), end, cuts))
