"""Backends and clients that break the rules of HTTP or of good manners; nobody else pays for it."""

from __future__ import annotations

import json
import socket
import struct

from twisted.internet import reactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from llmux.test.loopback import (
    BackendWire,
    RawBackend,
    Served,
    Wire,
    http_answer,
    http_post,
    split,
    unsent,
    until,
    until_steady,
)
from llmux.test.stacks import on_each_stack

UPGRADE = b"GET /x?model=a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
LARGE = b'{"model": "a", "x": "' + b"x" * 30_000_000 + b'"}'


def reset(wire: BackendWire) -> None:
    """End a connection by a reset, whatever is still to be sent over it."""
    handle = wire.transport.getHandle()  # type: ignore[attr-defined]  # a TCP connection's
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.abort()


@on_each_stack
class EarlyAnswerTests(TestCase):
    """The backend answers while it is still being sent a large body, and reads no more of it."""

    def setUp(self) -> None:
        """Serve one model, whose backend the test plays."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})

    async def upload(self) -> tuple[Wire, BackendWire]:
        """Send a large request, and let the backend stop reading in the midst of it."""
        client = await self.served.client()
        client.send(http_post(body=LARGE))
        wire = await self.backend.wire(len(self.backend.wires))
        await wire.until(b"\r\n\r\n")
        IPushProducer(wire.transport).pauseProducing()
        return client, wire

    async def test_in_two_pieces(self) -> None:
        """Its answer is relayed as it comes, head and body."""
        client, wire = await self.upload()
        wire.send(b"HTTP/1.1 413 Too Big\r\nContent-Length: 5\r\n\r\n")
        await client.until(b"HTTP/1.1 413 Too Big\r\n")
        wire.send(b"large")
        self.assertTrue((await client.until_lost()).endswith(b"\r\n\r\nlarge"))
        await until(lambda: not self.served.app.switcher.in_flight("a"))

    async def test_cut_short(self) -> None:
        """An early answer that the backend breaks off looks broken."""
        client, wire = await self.upload()
        wire.send(b"HTTP/1.1 413 Too Big\r\nContent-Length: 5\r\n\r\nla")
        await client.until(b"\r\n\r\nla")
        reset(wire)
        self.assertTrue((await client.until_lost()).endswith(b"\r\n\r\nla"))
        await until(lambda: not self.served.app.switcher.in_flight("a"))
        self.assertEqual(
            self.served.sample("llmux_requests_cut_total", model="a", reason="backend"), 1
        )

    async def test_no_http(self) -> None:
        """What is no HTTP is a 502 at once, and the lease ends."""
        for nonsense in (
            b"garbage\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000,
        ):  # fmt: skip
            client, wire = await self.upload()
            wire.send(nonsense)
            answer = await client.until_lost()
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
            self.assertIn(b"backend_broke", answer)
            await until(lambda: not self.served.app.switcher.in_flight("a"))

    async def test_closed(self) -> None:
        """A backend that closes meanwhile is a 502 that says so."""
        client, wire = await self.upload()
        reset(wire)
        answer = await client.until_lost()
        self.assertIn(b'"code": "backend_closed"', answer)


@on_each_stack
class SurplusTests(TestCase):
    """What a backend says too much never becomes another request's answer."""

    def setUp(self) -> None:
        """Serve one model."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address})

    async def test_behind_an_answer(self) -> None:
        """A connection with bytes behind an answer is not used again."""
        self.backend.answer = http_answer(b"ok") + b"X"
        for _ in range(2):
            self.assertTrue((await self.served.exchange(http_post())).endswith(b"ok"))
        self.assertEqual(len(self.backend.wires), 2)

    async def test_where_no_body_comes(self) -> None:
        """Nor is one on which an answer without a body has promised one."""
        head = http_post(method=b"HEAD")
        for request, answer in (
            (head, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
            (http_post(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
        ):
            self.backend.wires.clear()
            self.backend.answer = answer
            for _ in range(2):
                await self.served.exchange(request)
            self.assertEqual(len(self.backend.wires), 2)

    async def test_no_content(self) -> None:
        """One that has promised nothing is."""
        self.backend.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        for _ in range(2):
            await self.served.exchange(http_post())
        self.assertEqual(len(self.backend.wires), 1)


@on_each_stack
class BrokenAnswerTests(TestCase):
    def setUp(self) -> None:
        """Serve one model, whose backend the test plays."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})

    async def test_reset_is_no_end(self) -> None:
        """An answer without a length that ends in a reset looks broken."""
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await client.until(b"abc\r\n")
        reset(wire)
        self.assertFalse((await client.until_lost()).endswith(b"0\r\n\r\n"))
        self.assertEqual(
            self.served.sample("llmux_requests_cut_total", model="a", reason="backend"), 1
        )

    async def test_status_lines_that_are_none(self) -> None:
        """A status that is no number of three digits, or a control character, is a 502."""
        for status in (b"0 Zero", b"-1 Minus", b"1000 Many", b"200 O\x00K"):
            self.backend.answer = http_answer(b"x", status=status)
            answer = await self.served.exchange(http_post())
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
            self.assertIn(b"backend_broke", answer)

    async def test_long_headers(self) -> None:
        """A header of sixty thousand bytes is relayed."""
        self.backend.answer = http_answer(b"x", b"X-Long: %s\r\n" % (b"y" * 60_000))
        answer = await self.served.exchange(http_post())
        self.assertEqual(split(answer)[1][b"x-long"], [b"y" * 60_000])

    async def test_half_an_upgrade(self) -> None:
        """A backend that closes in the midst of answering an upgrade has broken off."""
        client = await self.served.client()
        client.send(UPGRADE)
        wire = await self.backend.wire()
        await wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 101 Swi")
        wire.close()
        await client.until(b'"code": "backend_broke"')


@on_each_stack
class GreedyClientTests(TestCase):
    async def test_client_that_pipelines_and_reads_nothing(self) -> None:
        """Its further requests wait until it has taken the answers to those before."""
        backend = RawBackend(self)
        backend.answer = http_answer(b"x" * 60_000)  # each comes before its producer can be paused
        served = Served(self, {"a": backend.address})
        client = await served.client()
        handle = client.transport.getHandle()  # type: ignore[attr-defined]  # a TCP connection's
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        IPushProducer(client.transport).pauseProducing()
        for _ in range(150):
            client.send(http_post(head=b""))
        await until(lambda: backend.requests)
        begun = await until_steady(lambda: len(backend.requests))
        self.assertLess(begun, 120)
        IPushProducer(client.transport).resumeProducing()
        await until(lambda: len(backend.requests) > begun, "the next request's turn")

    async def test_client_that_sends_without_end_and_reads_nothing(self) -> None:
        """What it sends meanwhile is left where it is, and does not pile up here."""
        backend = RawBackend(self)
        backend.answer = http_answer(b"x" * 10_000_000)
        served = Served(self, {"a": backend.address})
        client = await served.client()
        IPushProducer(client.transport).pauseProducing()
        client.send(http_post(head=b"") + b"y" * 100_000_000)
        self.assertGreater(await until_steady(lambda: unsent(client)), 80_000_000)

    async def test_close_with_much_behind(self) -> None:
        """A client that sends on behind its last request gets the whole answer all the same."""
        backend = RawBackend(self)
        backend.answer = http_answer(b"x" * 3_000_000)
        served = Served(self, {"a": backend.address})
        client = await served.client()
        client.send(http_post() + b"y" * 2_000_000)
        await until(lambda: client.received.endswith(b"x"))
        await until(lambda: len(split(bytes(client.received))[2]) == 3_000_000)

    async def test_chatty_reader_of_nothing(self) -> None:
        """A tunnel whose client only sends is closed when its model is wanted to go."""
        backends = {"a": RawBackend(self), "b": RawBackend(self)}
        backends["a"].answer = None
        served = Served(
            self, {name: one.address for name, one in backends.items()}, client_stall_secs=0.2
        )
        client = await served.client()
        client.send(UPGRADE)
        wire = await backends["a"].wire()
        await wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        await client.until(b"\r\n\r\n")
        IPushProducer(client.transport).pauseProducing()
        wire.send(b"z" * 30_000_000)
        other = await served.client()
        other.send(http_post("b"))
        while not other.received:
            client.send(b"p")
            await deferLater(reactor, 0.02)
        self.assertIn(b"hello", await other.until_lost())
        self.assertEqual(served.sample("llmux_requests_cut_total", model="a", reason="stalled"), 1)

    async def test_own_answers_are_counted(self) -> None:
        """The log tells how long llmux's own errors are, and what went through a tunnel."""
        served = Served(self, {"a": RawBackend(self).address})
        told: list[int] = []
        served.app.events.request_ended = lambda **fields: told.append(fields["bytes_out"])  # type: ignore[method-assign]  # the test's own
        body = split(await served.exchange(http_post("nobody")))[2]
        await until(lambda: told)
        self.assertEqual(told, [len(body)])
        self.assertIn("error", json.loads(body))
