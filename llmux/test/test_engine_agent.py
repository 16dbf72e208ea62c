"""Tests of :mod:`llmux.engine.agent`, by itself and under treq."""

from __future__ import annotations

import gzip
from typing import Any

import attrs
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import URI, Agent
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from llmux.test.loopback import RawBackend, http_answer
from llmux.test.stacks import NO_LLHTTP

if NO_LLHTTP is None:
    from llmux.engine.agent import EndpointFactory, LLHTTPAgent


@implementer(IAgentEndpointFactory)
@attrs.define
class Endpoints:
    """
    Connects to nothing.

    :ivar asked: for which URIs.
    :ivar wires: what was written to.
    :ivar protocols: what reads.
    """

    asked: list[bytes] = attrs.Factory(list)
    wires: list[StringTransport] = attrs.Factory(list)
    protocols: list[Any] = attrs.Factory(list)

    def endpointForURI(self, uri: URI) -> Endpoints:
        """See :meth:`IAgentEndpointFactory.endpointForURI`."""
        self.asked.append(uri.toBytes())
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        """See :meth:`IStreamClientEndpoint.connect`."""
        self.wires.append(StringTransport())
        self.protocols.append(factory.buildProtocol(None))
        self.protocols[-1].makeConnection(self.wires[-1])
        return succeed(self.protocols[-1])


class AgentTests(SynchronousTestCase):
    skip = NO_LLHTTP

    def setUp(self) -> None:
        """Make an agent that connects to nothing."""
        self.endpoints = Endpoints()
        self.clock = Clock()
        self.agent = LLHTTPAgent(self.clock, endpoints=self.endpoints)

    def test_interfaces(self) -> None:
        """It is an agent, and connects by what agents connect by."""
        self.assertTrue(verifyObject(IAgent, self.agent))
        self.assertTrue(verifyObject(IAgentEndpointFactory, EndpointFactory(MemoryReactorClock())))

    def test_request(self) -> None:
        """It asks for what is behind the server's name, and calls the server as the URI does."""
        for uri, target, host in (
            (b"http://h/a?b=c#d", b"/a?b=c", b"h"),
            (b"http://h:80", b"/", b"h"),
            (b"https://h:80/", b"/", b"h:80"),
            (b"https://[::1]/", b"/", b"[::1]"),
        ):
            self.agent.request(b"GET", uri)
            head = b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host)
            self.assertEqual(self.endpoints.wires[-1].value(), head)

    def test_headers(self) -> None:
        """It sends the headers that it is given, and leaves those alone."""
        headers = Headers({b"X": [b"1"]})
        self.agent.request(b"GET", b"http://h/", headers)
        self.assertIn(b"\r\nX: 1\r\n", self.endpoints.wires[0].value())
        self.assertEqual(headers, Headers({b"X": [b"1"]}))
        self.agent.request(b"GET", b"http://h/", Headers({b"host": [b"other"]}))
        self.assertIn(b"\r\nHost: other\r\n", self.endpoints.wires[1].value())

    def test_answer(self) -> None:
        """An answer knows what it answers."""
        answered = self.agent.request(b"GET", b"http://h/x")
        self.endpoints.protocols[0].dataReceived(http_answer(b"x"))
        response = self.successResultOf(answered)
        self.assertEqual(response.request.absoluteURI, b"http://h/x")
        self.assertEqual(response.request.method, b"GET")
        response.setPreviousResponse(response)
        self.assertIs(response.previousResponse, response)

    def test_pools(self) -> None:
        """Each server has its connections; unused ones are closed after a while."""
        for uri in (b"http://h/", b"http://i/", b"http://h:81/", b"https://h/"):
            answered = self.agent.request(b"GET", uri)
            self.endpoints.protocols[-1].dataReceived(http_answer(b""))
            self.successResultOf(answered)
        self.assertEqual(len(self.endpoints.asked), 4)
        self.assertEqual(len(self.clock.getDelayedCalls()), 4)
        self.clock.advance(2)
        self.assertEqual([wire.disconnecting for wire in self.endpoints.wires], [True] * 4)

    def test_close_idle(self) -> None:
        """It can be told to close its idle connections; one in use is not kept afterwards."""
        for uri in (b"http://h/", b"http://i/"):
            self.agent.request(b"GET", uri)
        self.endpoints.protocols[0].dataReceived(http_answer(b""))
        self.agent.close_idle()
        self.assertEqual([wire.disconnecting for wire in self.endpoints.wires], [True, False])
        self.endpoints.protocols[1].dataReceived(http_answer(b""))
        self.assertTrue(self.endpoints.wires[1].disconnecting)

    def test_schemes(self) -> None:
        """It speaks HTTP, with TLS or without, and nothing else."""
        agent = LLHTTPAgent(MemoryReactorClock())
        self.failureResultOf(agent.request(b"GET", b"ftp://h/"), SchemeNotSupported)
        memory = MemoryReactorClock()
        LLHTTPAgent(memory).request(b"GET", b"https://127.0.0.1:1/")
        self.assertEqual(memory.tcpClients[0][:2], ("127.0.0.1", 1))


class TreqTests(TestCase):
    """Under treq it does what Twisted's agent does."""

    skip = NO_LLHTTP

    async def test_as_twisted(self) -> None:
        """Bodies in both directions, redirects and compressed answers are as with Twisted's."""
        agent = LLHTTPAgent(reactor)
        backend = RawBackend(self)
        base = f"http://127.0.0.1:{backend.address.port}"
        seen = []
        zipped = http_answer(gzip.compress(b"hello"), b"Content-Encoding: gzip\r\n")
        answers = (http_answer(b"\x1f\x8b", b"X: y\r\n", status=b"404 Gone"), zipped)
        for client in (HTTPClient(agent), HTTPClient(Agent(reactor))):
            for raw in answers:
                backend.requests.clear()
                backend.answer = raw
                answer = await client.post(f"{base}/a b?c=d", json={"x": 1})
                told = [answer.code, answer.phrase, answer.length, await answer.content()]
                told += [answer.headers.getRawHeaders(n) for n in (b"x", b"content-encoding")]
                sent = b"\r\n".join(sorted(b"".join(backend.requests).split(b"\r\n")))
                seen.append((told, sent.replace(b"Connection: close\r\n", b"")))
        agent.close_idle()
        self.assertEqual(seen[:2], seen[2:])
        self.assertIn(b"hello", seen[1][0])
