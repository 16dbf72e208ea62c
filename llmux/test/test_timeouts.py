"""Backends and clients that take too long: each has a limit, and each ends in its own way."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectBindError,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web._newclient import RequestNotSent

from llmux.clock import VirtualClock
from llmux.engine.connection import IClientResponse
from llmux.errors import BackendRefused, BackendTimedOut, NoSocket
from llmux.lease import Lease
from llmux.proxy.answer import _BodyRelay
from llmux.proxy.body import SpooledBody
from llmux.proxy.relay import Ending, Relay, backend_error
from llmux.proxy.stall import StalledClient
from llmux.server.spool import IN_MEMORY
from llmux.test.loopback import RawBackend, Served, http_answer, http_post, split, until
from llmux.test.stacks import on_each_stack


class BackendErrorTests(SynchronousTestCase):
    def test_connecting_takes_too_long(self) -> None:
        """A backend that does not accept in time is a 504 that names the limit."""
        told = backend_error(TimeoutError(), 2.5)
        assert isinstance(told, BackendTimedOut)
        self.assertEqual(told.status, 504)
        self.assertIn("within 2.5 s", told.message)

    def test_not_reached(self) -> None:
        """A backend that refuses, or whose name nobody knows, is a 502."""
        errors = (ConnectionRefusedError(), DNSLookupError("no such host"), RequestNotSent())
        for error in errors:
            told = backend_error(error, 5)
            assert isinstance(told, BackendRefused)
            self.assertEqual((told.status, told.code), (502, "backend_refused"))

    def test_nothing_to_connect_with(self) -> None:
        """Where llmux itself has no file left, that is not taken for the backend's refusal."""
        told = backend_error(ConnectBindError(24, "Too many open files"), 5)
        assert isinstance(told, NoSocket)
        self.assertEqual((told.status, told.code, told.retry_after), (503, "no_socket", 5))
        self.assertIn("Too many open files", told.message)

    def test_others(self) -> None:
        """What is none of the backend's doing stays what it is."""
        for error in (CancelledError(), ValueError("a bug")):
            self.assertIs(backend_error(error, 5), error)


@on_each_stack
class OwnDiskTests(TestCase):
    http: str

    async def test_unreadable(self) -> None:
        """A body that cannot be read again is no fault of the backend's."""

        def fail(body: SpooledBody) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.patch(SpooledBody, "_read", fail)
        backend = RawBackend(self)
        served = Served(self, {"a": backend.address})
        large = json.dumps({"model": "a", "x": "x" * IN_MEMORY}).encode()
        status, _, body = split(await served.exchange(http_post(body=large)))
        self.assertEqual(status, b"HTTP/1.1 500 Internal Server Error")
        error = json.loads(body)["error"]
        self.assertEqual(error["code"], "body_lost")
        self.assertIn("Input/output error", error["message"])


class BackendTests(TestCase):
    def setUp(self) -> None:
        """Serve a model whose backend the test plays."""
        self.backend = RawBackend(self)
        self.backend.answer = None

    async def test_first_byte(self) -> None:
        """A backend that does not begin to answer in time is a 504, and is not kept."""
        served = Served(self, {"a": self.backend.address}, first_byte_timeout_secs=0.1)
        status, headers, body = split(await served.exchange(http_post()))
        self.assertEqual(status, b"HTTP/1.1 504 Gateway Timeout")
        self.assertIn(b"retry-after", headers)
        error = json.loads(body)["error"]
        self.assertEqual(error["code"], "backend_timeout")
        self.assertIn("within 0.1 s", error["message"])
        await self.backend.wires[0].until_lost()
        self.assertEqual(served.app.switcher.in_flight("a"), 0)
        failed = served.sample("llmux_backend_failures_total", model="a", reason="backend_timeout")
        self.assertEqual(failed, 1)

    async def test_no_timer_outlives_its_request(self) -> None:
        """A request that ends in time leaves no deadline behind; trial fails where one is left."""
        self.backend.answer = http_answer(b"x")
        served = Served(
            self,
            {"a": self.backend.address},
            first_byte_timeout_secs=60,
            idle_timeout_secs=60,
            keepalive_secs=60,
        )
        body = b'{"model": "a", "stream": true}'
        self.assertTrue((await served.exchange(http_post(body=body))).endswith(b"x"))

    async def test_silence_in_an_answer(self) -> None:
        """A backend that falls silent in the midst of an answer is given up, and the client cut."""
        served = Served(self, {"a": self.backend.address}, idle_timeout_secs=0.2)
        client = await served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nword\r\n")
        answer = await client.until_lost()
        self.assertTrue(answer.endswith(b"word\r\n"), answer)
        await wire.until_lost()
        self.assertEqual(served.sample("llmux_requests_cut_total", model="a", reason="timeout"), 1)

    async def test_client_that_is_slow_is_not_the_backends_silence(self) -> None:
        """While the client does not keep up, the backend's time does not count."""
        served = Served(self, {"a": self.backend.address}, idle_timeout_secs=0.2)
        client = await served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        producer = IPushProducer(client.transport)
        producer.pauseProducing()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)
        await until(lambda: served.sample("llmux_requests_total", model="a", status="200"))
        await deferLater(reactor, 0.5)
        producer.resumeProducing()
        answer = await client.until_lost()
        self.assertEqual(len(split(answer)[2]), 20_000_000)


class StalledTests(TestCase):
    async def test_stalled_client_is_cut_for_a_switch(self) -> None:
        """A client that takes nothing is cut when its model is wanted to go, and not before."""
        first, second = RawBackend(self), RawBackend(self)
        first.answer = None
        served = Served(self, {"a": first.address, "b": second.address}, client_stall_secs=0.2)
        client = await served.client()
        client.send(http_post())
        wire = await first.asked()
        IPushProducer(client.transport).pauseProducing()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n" + b"x" * 20_000_000)
        await until(lambda: served.sample("llmux_requests_total", model="a", status="200"))
        await deferLater(reactor, 0.6)
        self.assertEqual(served.app.switcher.in_flight("a"), 1)
        answer = await served.exchange(http_post("b"))
        self.assertTrue(answer.endswith(b"hello"))
        await wire.until_lost()
        self.assertEqual(served.sample("llmux_requests_cut_total", model="a", reason="stalled"), 1)


class _Transport:
    """A connection of which the test says how much its peer has taken."""

    def __init__(self) -> None:
        self.taken = 0

    def getHandle(self) -> _Transport:
        return self

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return bytes(size - 8) + self.taken.to_bytes(8, "little")


class _Request:
    def __init__(self) -> None:
        self.transport = _Transport()


class StallRuleTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Watch a client that may block a switch for ten seconds."""
        self.clock = VirtualClock()
        self.request = _Request()
        self.leaving: float | None = None
        self.cut_at: list[float] = []
        self.stall = StalledClient(
            self.request,  # type: ignore[arg-type]  # all that is looked at is its transport
            self.clock,
            10.0,
            lambda: self.leaving,
            lambda: self.cut_at.append(self.clock.seconds()),
        )

    def test_nobody_is_in_its_way(self) -> None:
        """As long as the model may stay, a client may take its time."""
        self.stall.begin()
        self.clock.advance(1000)
        self.assertEqual(self.cut_at, [])
        self.stall.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """Stopped, it leaves no timer behind."""
        self.stall.begin()
        self.stall.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answer_has_ended(self) -> None:
        """A client that takes nothing is not watched when its answer has timed out already."""
        relay = SimpleNamespace(
            request=self.request,
            clock=self.clock,
            settings=SimpleNamespace(idle_timeout_secs=5.0, client_stall_secs=10.0),
            leaving_since=lambda: None,
            lease=Lease("a", 1, 0.0, 0.0, lambda lease, outcome: None),
        )
        body = _BodyRelay(cast(Relay, relay), cast(IClientResponse, None), None)
        body.transport = cast(ITransport, SimpleNamespace(pauseProducing=lambda: None))
        self.clock.advance(5)
        self.assertEqual(body.ended.result, Ending.TIMEOUT)
        body.pauseProducing()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_model_is_wanted_to_go(self) -> None:
        """The time counts from when the model was first wanted to go."""
        self.stall.begin()
        self.clock.advance(25)
        self.leaving = 25.0
        self.clock.advance(30)
        self.assertEqual(self.cut_at, [35.0])

    def test_stalls_during_a_drain(self) -> None:
        """The time counts from when the client stopped taking, if that came later."""
        self.leaving = 0.0
        self.clock.advance(7)
        self.stall.begin()
        self.clock.advance(30)
        self.assertEqual(self.cut_at, [17.0])

    def test_slow_but_alive(self) -> None:
        """A client that takes a little now and then is left alone."""
        self.leaving = 0.0
        self.stall.begin()
        for _ in range(20):
            self.clock.advance(9)
            self.request.transport.taken += 1
        self.assertEqual(self.cut_at, [])
        self.clock.advance(21)
        self.assertEqual(len(self.cut_at), 1)
