"""How backends are connected to: deadlines, names, TLS."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web._newclient import RequestNotSent, ResponseNeverReceived
from twisted.web.http_headers import Headers
from zope.interface import implementer

from llmux.clock import VirtualClock
from llmux.config import Backend
from llmux.proxy.client import RelayClient, connection_maker, make_endpoint, make_pool
from llmux.test.certificates import make_certificate
from llmux.test.loopback import BackendWire, RawBackend, Served, http_answer, http_post, until
from llmux.test.stacks import on_each_stack
from llmux.test.test_tunnel import ASK, SWITCH


class EndpointTests(SynchronousTestCase):
    def test_connecting_has_a_deadline(self) -> None:
        """A backend that does not accept a connection is given up."""
        for host in ("127.0.0.1", "::1"):
            memory = MemoryReactorClock()
            make_endpoint(memory, Backend(host, 8001), 7.0).connect(Factory())
            ((found, port, _, timeout, _),) = memory.tcpClients
            self.assertEqual((found, port, timeout), (host, 8001, 7.0))


@implementer(IStreamClientEndpoint)
@attrs.frozen
class Endpoint:
    """
    Gives connections that are there already.

    :param connections: in order.
    """

    connections: list[Any]

    def connect(self, protocolFactory: object) -> Deferred[Any]:  # noqa: N803  # the interface's
        """See :meth:`IStreamClientEndpoint.connect`."""
        return succeed(self.connections.pop(0))


@on_each_stack
class NotSentTests(SynchronousTestCase):
    """A connection that turns out to be unusable before anything was handed to it."""

    http: str

    def ask(self, *connections: Any) -> Deferred[Any]:
        """Send a request to a backend to which these connections can be made, one by one."""
        pool = make_pool(Endpoint(list(connections)), VirtualClock(), 2.0, self.http)
        client = RelayClient(Backend("127.0.0.1", 1), pool)
        return client.request(b"POST", b"/", Headers({b"Host": [b"x"]}), None)

    def connection(self) -> tuple[Any, StringTransport]:
        """Make a connection, and the wire that it writes to."""
        connection = connection_maker(self.http)(lambda _: None, lambda _: None)
        transport = StringTransport()
        connection.makeConnection(transport)
        return connection, transport

    def test_tried_once_more(self) -> None:
        """The request goes out on a new connection."""
        spent, _ = self.connection()
        spent.connectionLost(Failure(ConnectionDone()))
        fresh, wire = self.connection()
        answered = self.ask(spent, fresh)
        self.assertTrue(wire.value().startswith(b"POST / HTTP/1.1\r\n"))
        fresh.dataReceived(http_answer(b"x"))
        self.assertEqual(self.successResultOf(answered).code, 200)

    def test_not_a_third_time(self) -> None:
        """If that one is unusable too, the request fails."""
        spent, _ = self.connection()
        spent.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.ask(spent, spent), RequestNotSent)

    def test_never_once_something_was_sent(self) -> None:
        """A request that has been handed to a connection is not sent again."""
        first, wire = self.connection()
        second, unused = self.connection()
        answered = self.ask(first, second)
        self.assertTrue(wire.value())
        first.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(answered, ResponseNeverReceived)
        self.assertEqual(unused.value(), b"")


@on_each_stack
class TLSTests(TestCase):
    """A backend that speaks HTTPS, with a certificate that nobody has signed."""

    http: str

    def setUp(self) -> None:
        """Serve over TLS, and keep what really comes."""
        self.came = b""

        class Wiretap(TLSMemoryBIOProtocol):
            def dataReceived(wire, data: bytes) -> None:
                self.came += data
                super().dataReceived(data)

        self.backend = RawBackend(self)
        self.backend.answer = http_answer(b"over TLS")
        self.certificate = make_certificate("localhost")
        wires = Factory.forProtocol(lambda: BackendWire(self.backend))
        factory: Any = TLSMemoryBIOFactory(self.certificate.options(), False, wires)
        factory.protocol = Wiretap
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.address = Backend("localhost", port.getHost().port, tls=True)

    def trusting(self) -> Served:
        """Serve on a machine that trusts the certificate."""
        trusted = Path(self.mktemp())
        trusted.write_bytes(self.certificate.dumpPEM())
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE", None)
        os.environ["SSL_CERT_FILE"] = str(trusted.absolute())
        return Served(self, {"a": self.address})

    async def test_certificate_is_verified(self) -> None:
        """A backend whose certificate cannot be trusted is not sent anything."""
        served = Served(self, {"a": self.address})
        answer = await served.exchange(http_post())
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
        self.assertEqual(self.backend.requests, [])
        self.assertNotIn(b"POST", self.came)

    async def test_trusted_certificate(self) -> None:
        """A backend with a certificate that the machine trusts is relayed to, twice on one line."""
        served = self.trusting()
        for _ in range(2):
            self.assertTrue((await served.exchange(http_post())).endswith(b"over TLS"))
        self.assertEqual(len(self.backend.wires), 1)
        self.assertNotIn(b"POST", self.came)

    async def test_tunnel_without_a_goodbye(self) -> None:
        """What was said in a tunnel arrives, although the backend does not end TLS in order."""
        served = self.trusting()
        client = await served.client()
        self.backend.answer = None
        client.send(ASK)
        wire = await self.backend.wire()
        await wire.until(b"\r\n\r\n")
        wire.send(SWITCH)
        await client.until(b"\r\n\r\n")
        client.received.clear()
        reader: Any = client.transport
        reader.pauseProducing()  # so that some of it is still to be sent when the backend closes
        reader.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(b"z" * 60_000)
        await deferLater(reactor, 0)  # TLS collects what is written
        encrypted: Any = wire.transport
        encrypted.transport.loseConnection()
        await until(lambda: served.app.switcher.in_flight("a") == 0)
        reader.resumeProducing()
        self.assertEqual(len(await client.until_lost()), 60_000)

    async def test_wedged(self) -> None:
        """A connection of which a backend does not take the end is closed all the same."""
        served = self.trusting()
        closed: list[object] = []
        made = connection_maker(self.http)
        lost = made.connectionLost

        def note(connection: object, reason: Failure) -> None:
            closed.append(connection)
            lost(connection, reason)

        self.patch(made, "connectionLost", note)
        await served.exchange(http_post())
        IPushProducer(self.backend.wires[0].transport).pauseProducing()
        served.app.clients["a"].close_idle()
        await until(lambda: closed, "the connection's end")
        IPushProducer(self.backend.wires[0].transport).resumeProducing()
        await self.backend.wires[0].until_lost()
