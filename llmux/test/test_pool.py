"""Connections to backends: reused where that is safe, and never where it is not."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.http_headers import Headers

from llmux.test.loopback import RawBackend, Served, http_answer, http_post, until
from llmux.test.stacks import on_each_stack


@on_each_stack
class ReuseTests(TestCase):
    def setUp(self) -> None:
        """Serve one model."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address})

    async def test_connection_is_reused(self) -> None:
        """Requests one after the other go over one connection to the backend."""
        for _ in range(5):
            await self.served.exchange(http_post())
        self.assertEqual(len(self.backend.wires), 1)
        self.assertEqual(len(self.backend.requests), 5)

    async def test_one_connection_for_each_request_at_once(self) -> None:
        """As many connections are kept as there were requests at once."""
        self.backend.answer = None
        clients = [await self.served.client() for _ in range(8)]
        for _ in range(2):
            for client in clients:
                client.received.clear()
                client.send(http_post(head=b""))
            wires = self.backend.wires
            await until(lambda: sum(b"}" in wire.received for wire in wires) == 8)  # noqa: B023  # awaited here
            for wire in wires:
                wire.received.clear()
                wire.send(http_answer(b"x"))
            for client in clients:
                await client.until(b"\r\n\r\nx")
        self.assertEqual(len(self.backend.wires), 8)

    async def test_connection_that_the_backend_asked_to_close(self) -> None:
        """A backend that says Connection: close gets a new connection for the next request."""
        self.backend.answer = http_answer(b"x", b"Connection: close\r\n")
        for _ in range(2):
            await self.served.exchange(http_post())
        self.assertEqual(len(self.backend.wires), 2)

    async def test_connection_that_the_backend_closed_silently(self) -> None:
        """A connection that the backend has closed a moment ago is not used, even unnoticed."""
        await self.served.exchange(http_post())
        # Closed in the same turn in which the next request is sent: the kernel knows, the reactor
        # has had no occasion to say so.
        self.backend.wires[0].transport.getHandle().shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # a TCP connection's
        client = self.served.app.clients["a"]
        answered = client.request(b"GET", b"/", Headers({"Host": ["x"]}), None)
        response = await answered
        self.assertEqual(response.code, 200)
        await response.content()
        self.assertEqual(len(self.backend.wires), 2)

    async def test_connection_that_said_something_unasked(self) -> None:
        """A connection on which the backend spoke out of turn is not used for another request."""
        await self.served.exchange(http_post())
        self.backend.wires[0].send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        answer = await self.served.exchange(http_post())
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"))
        self.assertEqual(len(self.backend.wires), 2)

    async def test_idle_connection_is_closed(self) -> None:
        """An idle connection is closed before a server would do it."""
        served = Served(self, {"a": self.backend.address}, reuse_secs=0.05)
        await served.exchange(http_post())
        await self.backend.wires[0].until_lost()
        await served.exchange(http_post())
        self.assertEqual(len(self.backend.wires), 2)

    async def test_aborted_connection_is_not_reused(self) -> None:
        """A connection whose answer a client did not want to the end is not used again."""
        self.backend.answer = None
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        await client.until(b"part")
        client.abort()
        await wire.until_lost()
        await deferLater(reactor, 0)
        self.backend.answer = http_answer(b"fresh")
        self.assertTrue((await self.served.exchange(http_post())).endswith(b"fresh"))
        self.assertEqual(len(self.backend.wires), 2)
