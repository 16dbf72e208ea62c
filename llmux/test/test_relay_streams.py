"""Answers that come piece by piece over real sockets, and those who leave in their midst."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from llmux.engine.choice import STOCK
from llmux.lease import Lease, Outcome
from llmux.proxy.client import connection_maker
from llmux.test.loopback import (
    RawBackend,
    Served,
    http_answer,
    http_post,
    unaccepting,
    until,
    until_steady,
)
from llmux.test.messages import read_message
from llmux.test.stacks import on_each_stack

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@on_each_stack
class StreamTests(TestCase):
    """Answers that come piece by piece."""

    def setUp(self) -> None:
        """Serve one model whose backend the test answers for."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})

    async def test_pieces_come_at_once(self) -> None:
        """Head and pieces reach the client as the backend sends them, not at the end."""
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.until(b"\r\n\r\n")
        for piece in (b"data: one\n\n", b"data: two\n\n"):
            wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            await client.until(piece)
        self.assertEqual(self.served.app.switcher.in_flight("a"), 1)
        wire.send(b"0\r\n\r\n")
        self.assertTrue((await client.until_lost()).endswith(b"0\r\n\r\n"))
        self.assertEqual(self.served.app.switcher.in_flight("a"), 0)

    async def test_stalled_client_holds_the_backend_back(self) -> None:
        """A client that does not read makes the backend wait, not llmux grow."""
        client = await self.served.client()
        client.send(http_post())
        client.transport.pauseProducing()  # type: ignore[attr-defined]  # a TCP connection's
        wire = await self.backend.asked()
        size = 64 * 1024 * 1024
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        wire.transport.setTcpNoDelay(True)
        source = Source(size)
        wire.transport.registerProducer(source, True)  # type: ignore[attr-defined]  # a TCP connection's
        source.begin(wire)
        self.assertLess(await until_steady(lambda: source.written), size // 2)
        client.transport.resumeProducing()  # type: ignore[attr-defined]  # a TCP connection's
        answer = await client.until_lost()
        self.assertEqual(len(answer.partition(b"\r\n\r\n")[2]), size)

    async def test_client_that_leaves_mid_stream(self) -> None:
        """When the client leaves, the backend's connection is closed and the lease ends."""
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await client.until(b"one")
        client.abort()
        await wire.until_lost()
        await until(lambda: not self.served.app.switcher.in_flight("a"))
        cut = self.served.sample("llmux_requests_cut_total", model="a", reason="client")
        self.assertEqual(cut, 1)
        self.assertEqual(self.served.sample("llmux_requests_total", model="a", status="200"), 1)

    async def test_client_that_leaves_before_the_head(self) -> None:
        """When the client leaves before the answer begins, the backend's connection is closed."""
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        client.abort()
        await wire.until_lost()
        await until(lambda: not self.served.app.switcher.in_flight("a"))
        self.assertEqual(self.served.sample("llmux_requests_total", model="a", status="499"), 1)

    async def test_backend_that_breaks_mid_stream(self) -> None:
        """An answer that the backend breaks off looks broken to the client."""
        for head, piece in (
            (b"Transfer-Encoding: chunked\r\n", b"3\r\none\r\n"),
            (b"Content-Length: 100\r\n", b"one"),
        ):
            client = await self.served.client()
            client.send(http_post())
            wire = await self.backend.asked(len(self.backend.wires))
            wire.send(b"HTTP/1.1 200 OK\r\n%s\r\n%s" % (head, piece))
            await client.until(b"one")
            wire.abort()
            answer = await client.until_lost()
            self.assertFalse(answer.endswith(b"0\r\n\r\n"))
            self.assertTrue(answer.endswith(piece), "what has come is not thrown away")
            await until(lambda: not self.served.app.switcher.in_flight("a"))
        cut = self.served.sample("llmux_requests_cut_total", model="a", reason="backend")
        self.assertEqual(cut, 2)

    async def test_client_that_leaves_while_its_body_is_sent(self) -> None:
        """A client that leaves while its big body goes to a slow backend ends that, too."""
        client = await self.served.client()
        body = b'{"model": "a", "x": "' + b"0" * 30_000_000 + b'"}'
        client.send(http_post(body=body))
        wire = await self.backend.wire()
        wire.transport.pauseProducing()  # type: ignore[attr-defined]  # a TCP connection's
        await until(lambda: self.served.app.switcher.in_flight("a"))
        client.abort()
        await until(lambda: not self.served.app.switcher.in_flight("a"))
        wire.transport.resumeProducing()  # type: ignore[attr-defined]  # a TCP connection's
        await wire.until_lost()


@on_each_stack
class LeavingTests(TestCase):
    """Clients and backends that do not wait for each other."""

    http: str

    def setUp(self) -> None:
        """Serve one model whose backend the test answers for."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})

    async def test_lease_outlasts_the_connection(self) -> None:
        """When a client leaves, its lease ends only when the backend's connection is closed."""
        connections: list[Any] = []
        maker = connection_maker(self.http)
        made = maker.connectionMade

        def remember(connection: object) -> None:
            connections.append(connection)
            made(connection)

        self.patch(maker, "connectionMade", remember)
        release = Lease.release
        connected: list[bool] = []

        def look(lease: Lease, outcome: Outcome) -> None:
            connected.extend(bool(connection.transport.connected) for connection in connections)
            release(lease, outcome)

        self.patch(Lease, "release", look)
        for part in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"):
            client = await self.served.client()
            client.send(http_post())
            wire = await self.backend.asked(len(self.backend.wires))
            wire.send(part)
            await client.until(part[-4:])
            client.abort()
            await until(lambda: connected, "the lease's end")
            self.assertEqual(connected, [False])
            connections.clear()
            connected.clear()

    async def test_answer_before_the_body_is_sent(self) -> None:
        """A backend that answers without reading the body is heard, and left alone then."""
        client = await self.served.client()
        body = b'{"model": "a", "x": "' + b"0" * 30_000_000 + b'"}'
        client.send(http_post(body=body))
        wire = await self.backend.wire()
        await wire.until(b"HTTP/1.1")
        wire.transport.pauseProducing()  # type: ignore[attr-defined]  # a TCP connection's
        wire.send(http_answer(b"too large", status=b"413 Content Too Large"))
        answer = await client.until_lost()
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "))
        self.assertTrue(answer.endswith(b"too large"))
        self.assertEqual(self.served.app.switcher.in_flight("a"), 0)
        wire.transport.resumeProducing()  # type: ignore[attr-defined]  # a TCP connection's
        await wire.until_lost()
        self.assertLess(len(wire.received), len(body))

    async def test_client_that_leaves_while_llmux_connects(self) -> None:
        """A client that leaves before the backend has accepted is a 499, and no bug."""
        served = Served(self, {"a": unaccepting(self)})
        client = await served.client()
        client.send(http_post())
        await until(lambda: served.app.switcher.in_flight("a"))
        client.abort()
        await until(lambda: not served.app.switcher.in_flight("a"))
        self.assertEqual(served.sample("llmux_requests_total", model="a", status="499"), 1)


@on_each_stack
class ChunksTests(TestCase):
    """Answers in chunks, whose framing is the client's affair and the backend's."""

    http: str

    def setUp(self) -> None:
        """Serve one model whose backend the test answers for."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})
        self.told: list[int] = []
        self.served.app.events.request_ended = lambda **fields: self.told.append(  # type: ignore[method-assign]  # the test's own
            fields["bytes_out"]
        )

    async def stream(self, *pieces: bytes) -> bytes:
        """
        Have the backend answer in pieces.

        :param pieces: each is followed by what the client has to see of it.
        :returns: the body as it came.
        """
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked(len(self.backend.wires))
        wire.send(CHUNKED)
        await client.until(b"\r\n\r\n")
        head_length = len(client.received)
        for piece, seen in zip(pieces[::2], pieces[1::2], strict=True):
            wire.send(piece)
            await client.until(seen)
        got = await client.until_lost()
        await until(lambda: self.told, "the end of the request")
        return got[head_length:]

    async def test_sizes(self) -> None:
        """The log tells how many bytes of the body there were, framing aside."""
        await self.stream(
            b"5\r\nhello\r\n", b"hello", b"6\r\n world\r\n1\r\n!\r\n", b"!",
            b"0\r\nX-Sum: 1\r\n\r\n", b"0\r\n\r\n",
        )  # fmt: skip
        self.assertEqual(self.told, [12])

    async def test_in_the_midst(self) -> None:
        """Reads that end anywhere in a chunk or in its framing come out as the same body."""
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(CHUNKED)
        body = b"a;x=y\r\n0123456789\r\n000003\r\nabc\r\n0;z\r\nX: y\r\n\r\n"
        for at in range(len(body)):
            wire.send(body[at : at + 1])
            await deferLater(reactor, 0)
        got = await client.until_lost()
        message = read_message(got, ended=True)
        assert message is not None
        self.assertEqual((message[0].body, message[0].whole), (b"0123456789abc", True))
        self.assertNotIn(b"x=y", got)
        self.assertNotIn(b"X: y", got)
        await until(lambda: self.told, "the end of the request")
        self.assertEqual(self.told, [13])

    async def test_framing_is_kept(self) -> None:
        """Where both sides are in chunks, llhttp's stack hands on the backend's."""
        chunks = b"5\r\nhello\r\n3\r\nall\r\n"
        got = await self.stream(chunks, b"all\r\n", b"0\r\n\r\n", b"0\r\n\r\n")
        self.assertEqual(read_message(CHUNKED + got, ended=True)[0].body, b"helloall")  # type: ignore[index]  # it is whole
        if self.http != STOCK:
            self.assertEqual(got, chunks + b"0\r\n\r\n")

    async def test_a_client_without_chunks(self) -> None:
        """A client of HTTP/1.0 gets the body without any framing."""
        client = await self.served.client()
        client.send(http_post().replace(b"HTTP/1.1", b"HTTP/1.0"))
        wire = await self.backend.asked()
        wire.send(CHUNKED + b"5\r\nhello\r\n3\r\nall\r\n0\r\n\r\n")
        self.assertTrue((await client.until_lost()).endswith(b"\r\n\r\nhelloall"))

    async def test_bad_chunks(self) -> None:
        """What comes before framing that is none is handed on; then the answer is cut."""
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(CHUNKED + b"5\r\nhello\r\nzz\r\n")
        got = await client.until_lost()
        self.assertTrue(got.endswith(b"\r\n\r\n5\r\nhello\r\n"), got)
        self.assertEqual(
            self.served.sample("llmux_requests_cut_total", model="a", reason="backend"), 1
        )


class Source:
    """Writes as fast as it is let."""

    def __init__(self, size: int) -> None:
        self.written = 0
        self._size = size
        self._paused = False

    def begin(self, wire: object) -> None:
        """Write from now on."""
        self._wire = wire
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Write until it is too much."""
        self._paused = False
        while not self._paused and self.written < self._size:
            self.written += 65536
            self._wire.send(b"x" * 65536)  # type: ignore[attr-defined]  # a Wire
        if self.written >= self._size:
            self._wire.transport.unregisterProducer()  # type: ignore[attr-defined]  # a Wire

    def pauseProducing(self) -> None:
        """Stop for now."""
        self._paused = True

    def stopProducing(self) -> None:
        """Stop for good."""
        self._paused = True
