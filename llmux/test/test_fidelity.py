"""
Random exchanges over real sockets: what goes in comes out, but for the documented header rules.

``LLMUX_EXAMPLES`` says how many (2,000), ``LLMUX_SEED`` which ones.
"""

from __future__ import annotations

import os
import random
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from llmux.config import Backend
from llmux.test.exchanges import Exchange, carried, exchanges, pieces
from llmux.test.loopback import Served, listen
from llmux.test.messages import Message, read_message

EXAMPLES = int(os.environ.get("LLMUX_EXAMPLES", "2000"))
SEED = int(os.environ.get("LLMUX_SEED", random.getrandbits(32)))
WAIT = 10.0  # seconds for one exchange


class Talker(Protocol):
    """One end of a connection that says pieces, and reads messages."""

    transport: ITCPTransport

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self.ended_well = False
        self._more: Deferred[None] | None = None

    def connectionMade(self) -> None:
        """Send each piece at once."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self._tell()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default is a Failure
        """Remember it."""
        self.ended = True
        self._tell()

    async def say(self, some: list[bytes]) -> None:
        """Say some pieces, each in a turn of its own."""
        for piece in some:
            self.transport.write(piece)
            await deferLater(reactor, 0)

    async def hear(self, *, bodiless: bool = False) -> Message:
        """Give the next message."""
        while True:
            found = read_message(self.received, ended=self.ended, bodiless=bodiless)
            if found is not None:
                message, self.received = found
                return message
            assert not self.ended, f"nothing came but {self.received!r}"
            self._more = Deferred()
            self._more.addTimeout(WAIT, reactor)
            await self._more

    def _tell(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.callback(None)


class AnsweringBackend:
    """
    Answers each request as the exchange says that is under way.

    :ivar exchange: that one.
    :ivar requests: what came of it.
    """

    def __init__(self, test: TestCase) -> None:
        self.exchange: Exchange | None = None
        self.requests: list[Message] = []
        self.talkers: list[Talker] = []
        port = listen(Factory.forProtocol(self._build))
        test.addCleanup(port.stopListening)
        test.addCleanup(self.abort)
        self.address = Backend("127.0.0.1", port.getHost().port)

    def abort(self) -> None:
        """End all connections."""
        for talker in self.talkers:
            talker.transport.abortConnection()

    def _build(self) -> Talker:
        return _AnsweringTalker(self)


class _AnsweringTalker(Talker):
    def __init__(self, backend: AnsweringBackend) -> None:
        super().__init__()
        self._backend = backend

    def connectionMade(self) -> None:
        super().connectionMade()
        self._backend.talkers.append(self)
        Deferred.fromCoroutine(self._serve())

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default is a Failure
        self._backend.talkers.remove(self)
        super().connectionLost(reason)

    async def _serve(self) -> None:
        backend = self._backend
        while True:
            while (found := read_message(self.received, ended=False)) is None:
                if self.ended:
                    return
                self._more = Deferred()
                await self._more
            message, self.received = found
            backend.requests.append(message)
            exchange = backend.exchange
            assert exchange is not None
            await self.say(pieces(exchange.answer, exchange.answer_cuts))
            if exchange.ends_with_connection:
                self.transport.loseConnection()
                return


class FidelityTests(TestCase):
    timeout = 24 * 3600  # for all examples of the test

    def setUp(self) -> None:
        """Serve one model, without blocked paths: any target may be drawn."""
        self.backend = AnsweringBackend(self)
        self.served = Served(self, {"a": self.backend.address}, {"blocked_paths": ()})
        self.client: Talker | None = None
        self.addCleanup(self.leave)

    def leave(self) -> None:
        """End the client's connection."""
        client, self.client = self.client, None
        if client is not None:
            client.transport.abortConnection()

    def test_random_exchanges(self) -> Deferred[None]:
        """Random requests arrive as they were sent, and random answers come back as they were."""

        @seed(SEED)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(exchanges())
        def check(exchange: Exchange) -> None:
            blockingCallFromThread(reactor, self._begin, exchange)  # type: ignore[arg-type]  # Twisted's are not exact

        if "LLMUX_EXAMPLES" in os.environ:
            print(f"{EXAMPLES} exchanges, LLMUX_SEED={SEED}")
        checked: Deferred[None] = deferToThread(check)
        return checked.addErrback(self._with_seed)

    def _with_seed(self, failure: Failure) -> Failure:
        print(f"LLMUX_SEED={SEED}")
        return failure

    def _begin(self, exchange: Exchange) -> Deferred[None]:
        return Deferred.fromCoroutine(self.exchanged(exchange))

    async def exchanged(self, exchange: Exchange) -> None:
        """Let one exchange happen, and compare both ends."""
        try:
            await self._exchanged(exchange)
        except BaseException:
            self.leave()  # so that the next example begins anew
            self.backend.abort()
            raise

    async def _exchanged(self, exchange: Exchange) -> None:
        backend = self.backend
        backend.exchange, backend.requests = exchange, []
        if self.client is None or self.client.ended:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.served.port)
            made: Any = await endpoint.connect(Factory.forProtocol(Talker))
            self.client = made
        client = self.client
        assert client is not None
        await client.say(pieces(exchange.request, exchange.cuts))
        answer = await client.hear(bodiless=exchange.bodiless)
        if answer.start.startswith(b"HTTP/1.1 100 "):
            assert exchange.expects
            answer = await client.hear(bodiless=exchange.bodiless)
        compare_answer(exchange, answer)
        (request,) = backend.requests
        compare_request(exchange, request)
        if exchange.old:
            assert "close" in str(answer.headers["connection"])
            self.leave()
        else:
            assert not client.received, client.received


def compare_request(exchange: Exchange, request: Message) -> None:
    """Fail if the backend did not get what was sent."""
    assert request.start == b"%s %s HTTP/1.1" % (exchange.method, exchange.target), request
    assert request.body == exchange.body, request
    headers = dict(request.headers)
    assert len(headers.pop("host")) == 1, request
    assert len(headers.pop("x-request-id")) == 1, request
    length = headers.pop("content-length", (b"0",))
    assert length == (b"%d" % len(exchange.body),), request
    assert headers == carried(exchange.lines, exchange.named), request


def compare_answer(exchange: Exchange, answer: Message) -> None:
    """Fail if the client did not get what the backend sent."""
    version = b"HTTP/1.0" if exchange.old else b"HTTP/1.1"
    assert answer.start == b"%s %d %s" % (version, exchange.status, exchange.reason), answer
    assert answer.whole, answer
    assert answer.body == (b"" if exchange.bodiless else exchange.answer_body), answer
    headers = dict(answer.headers)
    assert len(headers.pop("x-request-id")) == 1, answer
    *timings, ours = headers.pop("server-timing")
    assert ours.startswith(b"queue;dur="), answer
    if timings:
        headers["server-timing"] = tuple(timings)
    if exchange.old:
        assert headers.pop("connection") == (b"close",), answer
    chunked = headers.pop("transfer-encoding", None)
    assert headers.pop("content-length", ()) == exchange.announced, answer
    assert (chunked is None) == bool(exchange.announced or exchange.bodiless or exchange.old)
    assert headers == carried(exchange.answer_lines, exchange.answer_named), answer
