"""WebSockets through llmux, byte for byte both ways."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import TestCase

from llmux.proxy import tunnel
from llmux.test.loopback import (
    BackendWire,
    RawBackend,
    Served,
    Wire,
    relayed,
    split,
    unsent,
    until,
    until_steady,
)
from llmux.test.stacks import on_each_stack

ASK = (
    b"GET /v1/realtime?model=a&x=1 HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


@on_each_stack
class TunnelTests(TestCase):
    def setUp(self) -> None:
        """Serve one model, whose backend the test plays."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})

    async def tunnel(self, served: Served | None = None) -> tuple[Wire, BackendWire]:
        """Open a tunnel; give its two ends."""
        client = await (served or self.served).client()
        client.send(ASK)
        wire = await self.backend.wire(len(self.backend.wires))
        await wire.until(b"\r\n\r\n")
        wire.send(SWITCH)
        await client.until(b"\r\n\r\n")
        return client, wire

    async def test_switch(self) -> None:
        """Both sides see the other's part of the handshake."""
        client, wire = await self.tunnel()
        line, headers, _ = split(bytes(wire.received))
        self.assertEqual(line, b"GET /v1/realtime?model=a&x=1 HTTP/1.1")
        self.assertEqual(headers[b"upgrade"], [b"websocket"])
        self.assertEqual(headers[b"connection"], [b"Upgrade"])
        self.assertEqual(headers[b"sec-websocket-key"], [b"dGhlIHNhbXBsZSBub25jZQ=="])
        line, headers, rest = split(bytes(client.received))
        self.assertEqual((line, rest), (b"HTTP/1.1 101 Switching Protocols", b""))
        self.assertEqual(headers[b"connection"], [b"Upgrade"])
        self.assertEqual(headers[b"upgrade"], [b"websocket"])
        self.assertEqual(headers[b"sec-websocket-accept"], [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="])
        self.assertEqual(headers[b"sec-websocket-protocol"], [b"chat"])
        self.assertIn(b"x-request-id", headers)

    async def test_both_ways(self) -> None:
        """What either side says arrives at the other, also what comes along with the handshake."""
        client = await self.served.client()
        client.send(ASK + b"\x81\x00early")
        wire = await self.backend.wire()
        await wire.until(b"\r\n\r\n")
        for byte in SWITCH + b"\x82early":
            wire.send(bytes([byte]))
        await client.until(b"\x82early")
        await wire.until(b"\x81\x00early")
        wire.received.clear()
        client.received.clear()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        await wire.until(b"GET / HTTP/1.1\r\n\r\n")
        wire.send(b"x" * 3_000_000)
        await until(lambda: len(client.received) == 3_000_000)
        client.send(b"y" * 3_000_000)
        await until(lambda: len(wire.received) == 3_000_018)

    async def test_lease(self) -> None:
        """A tunnel holds a lease until it is closed, by whichever side."""
        for side in (0, 1):
            ends = await self.tunnel()
            self.assertEqual(self.served.app.switcher.in_flight("a"), 1)
            ends[side].send(b"last words")
            ends[side].close()
            await ends[1 - side].until(b"last words")
            await ends[1 - side].until_lost()
            await until(lambda: self.served.app.switcher.in_flight("a") == 0)

    async def test_refused_by_the_backend(self) -> None:
        """A backend that does not switch answers like any other."""
        client = await self.served.client()
        client.send(ASK.replace(b"keep-alive", b"close"))
        wire = await self.backend.wire()
        await wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        wire.send(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\nUpgrade: x\r\n\r\nnope")
        status, headers, body = relayed(await client.until_lost())
        self.assertEqual((status, body), (b"HTTP/1.1 426 Upgrade Required", b"nope"))
        self.assertEqual(headers, {b"content-length": [b"4"]})

    async def test_backend_that_closes(self) -> None:
        """A backend that closes instead of switching is a 502."""
        client = await self.served.client()
        client.send(ASK)
        (await self.backend.wire()).close()
        await client.until(b'"code": "backend_closed"')
        self.assertTrue(client.received.startswith(b"HTTP/1.1 502 "))

    async def test_idle(self) -> None:
        """A tunnel through which nothing goes is closed, so that it cannot hold its model."""
        served = Served(self, {"a": self.backend.address}, tunnel_idle_secs=0.2)
        client, wire = await self.tunnel(served)
        await client.until_lost()
        await wire.until_lost()
        await until(lambda: served.app.switcher.in_flight("a") == 0)
        self.assertEqual(served.sample("llmux_requests_cut_total", model="a", reason="timeout"), 1)

    async def test_slow_reader(self) -> None:
        """A side that does not read holds the other one back, and nothing piles up."""
        for side in (0, 1):
            ends = await self.tunnel()
            reader, writer = ends[side], ends[1 - side]
            reader.transport.pauseProducing()  # type: ignore[attr-defined]  # a TCP connection can
            writer.send(b"z" * 60_000_000)
            held_back = await until_steady(lambda: unsent(writer))  # noqa: B023  # awaited here
            self.assertGreater(held_back, 30_000_000)
            reader.transport.resumeProducing()  # type: ignore[attr-defined]  # a TCP connection can
            await until(lambda: len(reader.received) >= 60_000_000)  # noqa: B023  # awaited here

    async def test_client_leaves_a_backend_that_does_not_read(self) -> None:
        """A tunnel whose client has gone does not hold its model for what nobody reads."""
        self.patch(tunnel, "LAST_WORDS_SECS", 0.1)
        client, wire = await self.tunnel()
        IPushProducer(wire.transport).pauseProducing()
        client.send(b"z" * 60_000_000)
        await until_steady(lambda: unsent(client))
        client.abort()
        await until(lambda: self.served.app.switcher.in_flight("a") == 0)
        cut = self.served.sample("llmux_requests_cut_total", model="a", reason="client")
        self.assertEqual(cut, 1)

    async def test_other_protocols_are_not_tunnelled(self) -> None:
        """Other upgrades are dropped and the request, with its body, is relayed."""
        client = await self.served.client()
        client.send(
            b"POST /v1/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
            b"Content-Length: 14\r\n\r\n"
            b'{"model": "a"}'
        )
        wire = await self.backend.asked()
        _, headers, body = split(bytes(wire.received))
        self.assertEqual(set(headers), {b"host", b"content-length", b"x-request-id"})
        self.assertEqual(body, b'{"model": "a"}')
