"""Tests of :mod:`llmux.engine.client`, and of what all its kind have in common."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import (
    RequestGenerationFailed,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from llmux.engine.choice import HTTP
from llmux.engine.chunks import IChunksConsumer
from llmux.engine.connection import IClientConnection, IClientResponse, Switched
from llmux.engine.outgoing import ClientRequest
from llmux.proxy.client import connection_maker
from llmux.test.stacks import NO_LLHTTP, on_each_stack

HOST = Headers({b"Host": [b"server"]})
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Wire(StringTransport):
    """
    A connection in memory.

    :ivar aborted: whether it has been broken off.
    """

    aborted = False

    def abortConnection(self) -> None:
        """See :meth:`ITCPTransport.abortConnection`."""
        self.aborted = self.disconnecting = True


class Sink(Protocol):
    """
    Takes a body.

    :ivar received: what has come of it.
    :ivar lost: why no more comes.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        assert self.lost is None
        self.received += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        assert self.lost is None
        self.lost = reason.value


@implementer(IChunksConsumer)
class ChunksSink(Sink):
    """
    Takes a chunked body with its framing.

    :ivar size: how many bytes of the body there were.
    """

    size = 0

    def chunksReceived(self, data: bytes, size: int) -> None:
        """See :meth:`IChunksConsumer.chunksReceived`."""
        self.received += data
        self.size += size


@implementer(IBodyProducer)
class Body:
    """
    A body that the test produces.

    :param length: what it says of its length.
    :ivar stopped: whether it is wanted no more.
    """

    def __init__(self, length: Any) -> None:
        self.length = length
        self.produced: Deferred[None] = Deferred()
        self.stopped = False

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """See :meth:`IBodyProducer.startProducing`."""
        self.consumer = consumer
        return self.produced

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`."""
        self.stopped = True

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""


class ConnectionCase(SynchronousTestCase):
    """A connection in memory, and who is told of it."""

    http: str

    def setUp(self) -> None:
        """Connect."""
        self.freed: list[object] = []
        self.closed_idle: list[object] = []
        self.wire = Wire()
        self.connection = connection_maker(self.http)(self.freed.append, self.closed_idle.append)
        self.connection.makeConnection(self.wire)

    def send(self, method: bytes = b"GET", body: Any = None) -> Deferred[Any]:
        """Send a request."""
        answered: Deferred[Any] = self.connection.send(ClientRequest(method, b"/x", HOST, body))
        return answered

    def answer(self, data: bytes, method: bytes = b"GET") -> Any:
        """Have a request answered; give what comes of it."""
        answered = self.send(method)
        self.connection.dataReceived(data)
        return self.successResultOf(answered)

    def lose(self, reason: Exception | None = None) -> None:
        """End the connection."""
        self.connection.connectionLost(Failure(reason or ConnectionDone()))

    def body(self, response: Any) -> Sink:
        """Ask for a body."""
        sink = Sink()
        response.deliverBody(sink)
        return sink


@on_each_stack
class ConnectionTests(ConnectionCase):
    """What both stacks do."""

    def test_interfaces(self) -> None:
        """Connection and answer are what they are said to be."""
        self.assertTrue(verifyObject(IClientConnection, self.connection))
        self.assertTrue(verifyObject(IClientResponse, self.answer(OK + b"\r\n")))

    def test_request(self) -> None:
        """A request goes out as it is, and says that it has no body where one is to be expected."""
        self.send()
        self.assertEqual(self.wire.value(), b"GET /x HTTP/1.1\r\nHost: server\r\n\r\n")
        self.setUp()
        self.send(b"POST")
        self.assertIn(b"\r\nContent-Length: 0\r\n", self.wire.value())

    def test_one_after_another(self) -> None:
        """When an answer has come to its end, the connection serves the next request."""
        for answer, body in (
            (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
            (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (OK + b"Content-Length: 0\r\n\r\n", b""),
            (b"HTTP/1.1 204 No\r\n\r\n", b""),
        ):
            sink = self.body(self.answer(answer))
            self.assertEqual(sink.received, body)
            self.assertIsInstance(sink.lost, ResponseDone)
            self.assertTrue(self.connection.idle)
            self.assertEqual(self.freed.pop(), self.connection)

    def test_fields(self) -> None:
        """An answer tells all headers, each as often as it came, those of its framing too."""
        response = self.answer(
            OK + b"Content-Length: 1\r\nA:  b \r\nSet-Cookie: 2\r\nSet-Cookie: 1\r\n\r\n"
        )
        fields = dict(response.received.getAllRawHeaders())
        self.assertEqual(fields[b"Set-Cookie"], [b"2", b"1"])
        self.assertEqual((fields[b"Content-Length"], fields[b"A"]), ([b"1"], [b"b"]))
        self.assertEqual(response.headers.getRawHeaders(b"a"), [b"b"])
        self.assertEqual((response.code, response.phrase, response.length), (200, b"OK", 1))
        self.assertEqual(response.version, (b"HTTP", 1, 1))

    def test_until_the_end(self) -> None:
        """Where nothing says how long a body is, its end is the connection's."""
        response = self.answer(OK + b"\r\nall")
        sink = self.body(response)
        self.connection.dataReceived(b" of it")
        self.assertEqual((sink.received, sink.lost), (b"all of it", None))
        self.assertEqual(response.length, UNKNOWN_LENGTH)
        self.lose()
        self.assertIsInstance(sink.lost, PotentialDataLoss)
        self.assertFalse(response.was_reset)

    def test_reset(self) -> None:
        """An answer tells whether its end was a reset."""
        response = self.answer(OK + b"\r\nall")
        sink = self.body(response)
        self.lose(ConnectionLost())
        self.assertIsInstance(sink.lost, PotentialDataLoss)
        self.assertTrue(response.was_reset)

    def test_cut_short(self) -> None:
        """A body that ends before its end has failed, whether it was asked for before or after."""
        for answer in (OK + b"Content-Length: 5\r\n\r\nhel", CHUNKED + b"5\r\nhel"):
            for early in (True, False):
                self.setUp()
                response = self.answer(answer)
                if early:
                    sink = self.body(response)
                self.lose()
                if not early:
                    sink = self.body(response)
                self.assertEqual(sink.received, b"hel")
                self.assertIsInstance(sink.lost, ResponseFailed)

    def test_asked_for_later(self) -> None:
        """A body waits until somebody wants it, and the server meanwhile."""
        response = self.answer(OK + b"Content-Length: 5\r\n\r\nhel")
        self.assertEqual(self.wire.producerState, "paused")
        sink = self.body(response)
        self.assertEqual((sink.received, self.wire.producerState), (b"hel", "producing"))
        self.connection.dataReceived(b"lo")
        self.assertEqual(sink.received, b"hello")
        self.assertRaises(RuntimeError, response.deliverBody, Sink())

    def test_all_of_it_asked_for_later(self) -> None:
        """A connection is read again when all of a body was there before anybody wanted it."""
        for answer in (
            OK + b"Content-Length: 5\r\n\r\nhello",
            CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        ):
            sink = self.body(self.answer(answer))
            self.assertEqual(sink.received, b"hello")
            self.assertEqual(self.freed.pop(), self.connection)
            self.assertEqual(self.wire.producerState, "producing")

    def test_lost_behind_all_of_it(self) -> None:
        """A body that was all there when its connection ended is whole for who asks for it then."""
        for answer in (
            OK + b"Content-Length: 5\r\n\r\nhello",
            CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        ):
            self.setUp()
            response = self.answer(answer)
            self.lose(ConnectionLost())
            freed = len(self.freed)
            sink = self.body(response)
            self.assertEqual(sink.received, b"hello")
            self.assertIsInstance(sink.lost, ResponseDone)
            self.assertEqual(len(self.freed), freed)  # it is of no use any more

    def test_back_pressure(self) -> None:
        """Who takes a body can have it wait; the next answer comes all the same."""
        sink = self.body(self.answer(OK + b"Content-Length: 5\r\n\r\nhel"))
        IPushProducer(sink.transport).pauseProducing()
        self.assertEqual(self.wire.producerState, "paused")
        IPushProducer(sink.transport).resumeProducing()
        self.assertEqual(self.wire.producerState, "producing")
        IPushProducer(sink.transport).pauseProducing()
        self.connection.dataReceived(b"lo")
        self.assertEqual(self.wire.producerState, "producing")
        IPushProducer(sink.transport).pauseProducing()
        self.assertEqual(self.wire.producerState, "producing")

    def test_stopped(self) -> None:
        """Who takes a body can end the connection."""
        sink = self.body(self.answer(OK + b"Content-Length: 5\r\n\r\nhel"))
        IPushProducer(sink.transport).stopProducing()
        self.assertEqual(self.wire.producerState, "stopped")

    def test_hung_up(self) -> None:
        """Or hang up; when the body has come to its end, that is no affair of its protocol's."""
        sink = self.body(self.answer(OK + b"Content-Length: 5\r\n\r\nhello"))
        assert sink.transport is not None
        sink.transport.loseConnection()
        self.assertFalse(self.wire.disconnecting)
        sink = self.body(self.answer(OK + b"Content-Length: 5\r\n\r\nhel"))
        assert sink.transport is not None
        sink.transport.loseConnection()
        self.assertTrue(self.wire.disconnecting)

    def test_several_wait_for_its_end(self) -> None:
        """All who wait for a connection's end hear of it, whoever is cancelled meanwhile."""
        heard: list[str] = []

        async def wait(name: str) -> None:
            await self.connection.closing.wait()
            heard.append(name)

        waiting = [Deferred.fromCoroutine(wait(name)) for name in "abc"]
        waiting[0].addErrback(lambda failure: failure.trap(CancelledError))
        waiting[0].cancel()
        self.assertEqual(heard, [])
        self.lose()
        self.assertEqual(sorted(heard), ["a", "b", "c"])

    def test_interim_answers(self) -> None:
        """Answers before the answer are skipped."""
        early = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
        response = self.answer(b"HTTP/1.1 100 Continue\r\n\r\n" + early * 2 + OK + b"A: b\r\n\r\n")
        self.assertEqual(dict(response.received.getAllRawHeaders()), {b"A": [b"b"]})

    def test_not_used_again(self) -> None:
        """A connection of which one cannot be sure is closed behind the answer."""
        for method, answer in (
            (b"GET", OK + b"Content-Length: 0\r\nConnection: x, Close\r\n\r\n"),
            (b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"),
            (b"GET", OK + b"Content-Length: 0\r\n\r\nx"),
            (b"GET", CHUNKED + b"0\r\n\r\nx"),
            (b"HEAD", OK + b"Content-Length: 4\r\n\r\n"),
            (b"HEAD", CHUNKED),
            (b"GET", b"HTTP/1.1 304 Same\r\nContent-Length: 4\r\n\r\n"),
        ):
            self.setUp()
            sink = self.body(self.answer(answer, method))
            self.assertIsInstance(sink.lost, ResponseDone)
            self.assertEqual((self.freed, self.wire.disconnecting), ([], True), answer)
            self.lose()
            self.assertEqual(self.closed_idle, [])

    def test_closed_while_idle(self) -> None:
        """A server that closes a connection that nobody uses is told of as such."""
        self.body(self.answer(OK + b"Content-Length: 0\r\n\r\n"))
        self.lose()
        self.assertEqual(self.closed_idle, [self.connection])
        self.assertTrue(self.connection.closing.over)
        self.failureResultOf(self.send(), RequestNotSent)

    def test_closed_by_us(self) -> None:
        """A connection that we close while it is idle was not closed by the server."""
        self.connection.abort()
        self.assertTrue(self.wire.disconnecting)
        self.lose()
        self.assertEqual(self.closed_idle, [])

    def test_no_answer(self) -> None:
        """A connection that ends before anything was answered says so, or that half a head came."""
        answered = self.send()
        self.lose()
        self.failureResultOf(answered, ResponseNeverReceived)
        self.assertTrue(self.connection.failed)
        self.setUp()
        answered = self.send()
        self.connection.dataReceived(b"HTT")
        self.lose()
        failed = self.failureResultOf(answered, ResponseFailed)
        self.assertIsNone(failed.check(ResponseNeverReceived))

    def test_no_http(self) -> None:
        """What is no HTTP, or nothing that can be understood, ends the connection at once."""
        for answer in (
            b"garbage\r\n", b"HTTP/1.1 OK\r\n\r\n", OK + b"no colon\r\n\r\n",
            OK + b"Transfer-Encoding: gzip\r\n\r\n",
            OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            OK + b"Content-Length: +1\r\n\r\n", OK + b"X: " + b"x" * 70_000,
        ):  # fmt: skip
            self.setUp()
            answered = self.send()
            self.connection.dataReceived(answer)
            self.lose()
            failed = self.failureResultOf(answered, ResponseFailed)
            self.assertIsNone(failed.check(ResponseNeverReceived))
            self.assertTrue(self.wire.disconnecting)

    def test_cancelled(self) -> None:
        """Who cancels a request ends the connection."""
        answered = self.send()
        answered.cancel()
        self.assertTrue(self.wire.aborted)
        failed = self.failureResultOf(answered, ResponseFailed)
        self.assertIsNotNone(failed.value.reasons[0].check(CancelledError))
        self.lose()

    def test_broken_off(self) -> None:
        """A connection that was broken off has not failed."""
        answered = self.send()
        self.connection.break_off()
        self.lose()
        self.assertFalse(self.connection.failed)
        self.failureResultOf(answered)

    def test_upgrade(self) -> None:
        """A connection that speaks another protocol hands on what comes, from the head's end on."""
        asked = ClientRequest(b"GET", b"/", Headers({b"Host": [b"x"], b"Upgrade": [b"y"]}))
        upgraded = self.connection.upgrade(asked)
        switch = b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n"
        for byte in b"HTTP/1.1 103 Early\r\n\r\n" + switch:
            self.assertNoResult(upgraded)
            self.connection.dataReceived(bytes([byte]))
        switched = self.successResultOf(upgraded)
        assert isinstance(switched, Switched)
        self.assertEqual(switched.reason, b"Yes")
        self.assertEqual(switched.headers.getRawHeaders(b"upgrade"), [b"y"])
        self.assertEqual(self.wire.producerState, "paused")
        received: list[bytes] = []
        lost: list[Failure] = []
        self.connection.tunnel(received.append, lost.append)
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        self.lose()
        self.assertEqual((received, len(lost)), ([b"HTTP/1.1 200 OK\r\n\r\n"], 1))

    def test_no_upgrade(self) -> None:
        """A server that answers instead of switching has answered."""
        for answer, body in (
            (b"HTTP/1.1 426 No\r\nContent-Length: 2\r\nUpgrade: y\r\n\r\nno", b"no"),
            (CHUNKED + b"2\r\nno\r\n0\r\n\r\n", b"no"),
        ):
            upgraded = self.connection.upgrade(ClientRequest(b"GET", b"/", HOST))
            self.connection.dataReceived(answer)
            self.assertEqual(self.body(self.successResultOf(upgraded)).received, body)
        self.assertEqual(len(self.freed), 2)

    def test_early_answer(self) -> None:
        """An answer comes while the body is being sent; then nobody wants the rest of that."""
        body = Body(10)
        answered = self.send(b"POST", body)
        body.consumer.write(b"12345")
        self.connection.dataReceived(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\n")
        sink = self.body(self.successResultOf(answered))
        self.connection.dataReceived(b"no")
        self.assertIsInstance(sink.lost, ResponseDone)
        self.assertEqual((sink.received, self.freed), (b"no", []))
        self.assertTrue(self.wire.disconnecting)
        self.lose()

    def test_lost_while_sending(self) -> None:
        """A connection that ends while a body is being sent ends that, too."""
        body = Body(10)
        answered = self.send(b"POST", body)
        self.lose()
        self.failureResultOf(answered, RequestTransmissionFailed)
        self.assertTrue(body.stopped)


class UploadTests(ConnectionCase):
    """How a body is sent."""

    http = HTTP.name
    skip = NO_LLHTTP

    def test_small(self) -> None:
        """A body that is there at once goes out with its head in one piece."""
        writes: list[bytes] = []
        self.wire.write = writes.append  # type: ignore[method-assign]  # to see each
        body = Body(5)
        body.startProducing = lambda consumer: consumer.write(b"hello") or body.produced  # type: ignore[method-assign]  # at once
        self.send(b"POST", body)
        self.assertEqual(
            writes, [b"POST /x HTTP/1.1\r\nContent-Length: 5\r\nHost: server\r\n\r\nhello"]
        )
        self.assertIsNone(self.wire.producer)

    def test_piece_by_piece(self) -> None:
        """A body that is produced piece by piece is held back by the transport, to its end."""
        body = Body(10)
        self.send(b"POST", body)
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))
        self.assertIs(self.wire.producer, body)
        body.consumer.write(b"01234")
        body.consumer.write(b"56789")
        body.produced.callback(None)
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n0123456789"))
        self.assertIsNone(self.wire.producer)

    def test_unknown_length(self) -> None:
        """A body whose length nobody knows goes out in chunks."""
        body = Body(UNKNOWN_LENGTH)
        self.send(b"POST", body)
        body.consumer.write(b"hello")
        body.consumer.write(b"")
        body.produced.callback(None)
        head, _, sent = self.wire.value().partition(b"\r\n\r\n")
        self.assertIn(b"\r\nTransfer-Encoding: chunked", head)
        self.assertEqual(sent, b"5\r\nhello\r\n0\r\n\r\n")

    def test_wrong(self) -> None:
        """A body that is not as long as it says, or fails, is no request."""

        def too_short(body: Body) -> None:
            body.produced.callback(None)

        def too_long(body: Body) -> None:
            body.consumer.write(b"x" * 20)

        def failing(body: Body) -> None:
            body.produced.errback(OSError())

        for go_wrong in (too_short, too_long, failing):
            self.setUp()
            body = Body(10)
            answered = self.send(b"POST", body)
            go_wrong(body)
            self.failureResultOf(answered, RequestGenerationFailed)
            self.assertTrue(self.wire.aborted)
            self.assertNotIn(b"x", self.wire.value().partition(b"\r\n\r\n")[2])
            self.lose()

    def test_cannot_begin(self) -> None:
        """A body that cannot even be begun is no request."""
        body = Body(10)

        def fail(consumer: object) -> Deferred[None]:
            raise OSError

        body.startProducing = fail  # type: ignore[method-assign]  # the test's own
        self.failureResultOf(self.send(b"POST", body), RequestGenerationFailed)

    def test_framing_is_ours(self) -> None:
        """Headers that speak of the body's framing are not taken from elsewhere."""
        headers = Headers({b"Host": [b"x"], b"Content-Length": [b"7"]})
        headers.setRawHeaders(b"transfer-encoding", [b"chunked"])
        self.assertEqual(
            ClientRequest(b"GET", b"/", headers).head(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        )

    def test_refused(self) -> None:
        """What no request line can hold is refused, and so is a request without its Host."""
        for method, target, headers in (
            (b"G T", b"/", HOST), (b"", b"/", HOST), (b"GET", b"/ x", HOST), (b"GET", b"", HOST),
            (b"GET", b"/\xff", HOST), (b"GET\r\n", b"/", HOST), (b"GET", b"/\n", HOST),
            (b"GET", b"/", Headers()), (b"GET", b"/", Headers({b"host": [b"a", b"b"]})),
        ):  # fmt: skip
            self.assertRaises(ValueError, ClientRequest, method, target, headers)


class StrictTests(ConnectionCase):
    """What llhttp and we do in another way than Twisted's client."""

    http = HTTP.name
    skip = NO_LLHTTP

    def test_chunks_as_they_are(self) -> None:
        """A protocol that can take chunks gets them as they came, one call for each read."""
        sink = ChunksSink()
        self.answer(CHUNKED).deliverBody(sink)
        reads = (b"5\r\nhello\r\n", b"1\r\nx\r\n2\r\nyz", b"\r\n")
        for read in reads:
            self.connection.dataReceived(read)
        self.assertEqual((sink.received, sink.size), (b"".join(reads), 8))
        self.connection.dataReceived(b"0\r\nA: b\r\n\r\n")
        self.assertIsInstance(sink.lost, ResponseDone)
        self.assertEqual(self.freed, [self.connection])

    def test_aborted(self) -> None:
        """Who takes a body can break the connection off, as long as it has not ended."""
        for answer, aborted in ((b"hello", False), (b"hel", True)):
            self.setUp()
            sink = self.body(self.answer(OK + b"Content-Length: 5\r\n\r\n" + answer))
            transport: Any = sink.transport
            transport.abortConnection()
            self.assertIs(self.wire.aborted, aborted)

    def test_other_bodies(self) -> None:
        """It gets other bodies as everybody does."""
        sink = ChunksSink()
        self.answer(OK + b"Content-Length: 5\r\n\r\nhello").deliverBody(sink)
        self.assertEqual((sink.received, sink.size), (b"hello", 0))

    def test_bad_chunks(self) -> None:
        """What comes before framing that is none is delivered; then the body has failed."""
        sink = self.body(self.answer(CHUNKED))
        self.connection.dataReceived(b"5\r\nhello\r\nzz\r\n")
        self.assertEqual(sink.received, b"hello")
        self.assertIsInstance(sink.lost, ResponseFailed)
        self.assertTrue(self.wire.aborted)
        self.lose()

    def test_unasked(self) -> None:
        """A server that speaks out of turn is left."""
        self.connection.dataReceived(b"HTTP/1.1 408 Timeout\r\n\r\n")
        self.assertFalse(self.connection.idle)
        self.assertEqual(self.closed_idle, [self.connection])
        self.assertTrue(self.wire.disconnecting)

    def test_unasked_switch(self) -> None:
        """A switch for which nobody asked is no answer."""
        answered = self.send()
        self.connection.dataReceived(b"HTTP/1.1 101 Yes\r\nUpgrade: y\r\n\r\n")
        self.failureResultOf(answered, ResponseFailed)

    def test_tunnel_that_nobody_has_opened_yet(self) -> None:
        """What comes on a switched connection is kept for whoever opens the tunnel."""
        upgraded = self.connection.upgrade(ClientRequest(b"GET", b"/", HOST))
        self.connection.dataReceived(b"HTTP/1.1 101 Yes\r\nUpgrade: y\r\n\r\nearly")
        self.successResultOf(upgraded)
        self.connection.dataReceived(b" and late")
        received: list[bytes] = []
        self.connection.tunnel(received.append, lambda reason: None)
        self.connection.dataReceived(b" and on")
        self.assertEqual(received, [b"early and late", b" and on"])

    def test_nothing_is_left(self) -> None:
        """An answer is given back at once, also if its connection ended before it was wanted."""
        self.addCleanup(gc.enable)
        gc.disable()
        response = self.answer(OK + b"Content-Length: 5\r\n\r\nhello")
        self.lose(ConnectionLost())
        self.body(response)
        left = weakref.ref(response)
        del response
        self.assertIsNone(left())

    def test_from_within(self) -> None:
        """The next request can be sent while one hears of its answer's end."""
        answers: list[Any] = []

        class Next(Sink):
            def connectionLost(sink, reason: Failure) -> None:  # type: ignore[override]
                self.send().addCallback(answers.append)

        self.answer(OK + b"Content-Length: 1\r\n\r\nx").deliverBody(Next())
        self.connection.dataReceived(OK + b"Content-Length: 0\r\n\r\n")
        self.assertEqual([answer.code for answer in answers], [200])

    def test_line_ends(self) -> None:
        """A head whose lines end in LF alone is one."""
        sink = self.body(self.answer(b"HTTP/1.1 200 OK\nContent-Length: 4\n\nbody"))
        self.assertEqual(sink.received, b"body")

    def test_chunks_overrule_a_length(self) -> None:
        """A chunked body is chunked, whatever its length is said to be."""
        answer = OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        self.assertEqual(self.body(self.answer(answer)).received, b"ok")

    @given(
        st.sampled_from(
            (
                OK + b"Content-Length: 5\r\n\r\nhello",
                CHUNKED + b"2;a\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
                b"HTTP/1.1 100 Go\r\n\r\n" + OK + b"A:\r\nContent-Length: 5\r\n\r\nhello",
                OK.replace(b"\r", b"") + b"\nhello",
            )
        ),
        st.lists(st.integers(0, 100)),
        st.booleans(),
    )
    def test_any_cut(self, answer: bytes, places: list[int], late: bool) -> None:
        """However an answer is cut, and whenever its body is asked for, it is the same."""
        self.setUp()
        answered = self.send()
        sink = Sink()
        if not late:
            answered.addCallback(lambda response: response.deliverBody(sink))
        ends = sorted({*(place % len(answer) for place in places), len(answer)})
        begin = 0
        for end in ends:
            self.connection.dataReceived(answer[begin:end])
            begin = end
        if late:
            answered.addCallback(lambda response: response.deliverBody(sink))
        self.assertEqual(sink.received, b"hello")
        self.lose()
        self.assertIsInstance(sink.lost, ResponseDone | PotentialDataLoss)


class WholeTests(ConnectionCase):
    """Bodies that come along with their head."""

    http = HTTP.name
    skip = NO_LLHTTP

    def answer(self, *pieces: bytes, method: bytes = b"GET") -> Any:
        """Have an answer come; nobody wants its body yet."""
        answered = self.send(method)
        for piece in pieces:
            self.connection.dataReceived(piece)
        return self.successResultOf(answered)

    def test_whole(self) -> None:
        """It is given at once, and the connection is free; nobody else gets it."""
        response = self.answer(OK + b"Content-Length: 3\r\n\r\nabc")
        self.assertEqual(response.take_whole(), b"abc")
        self.assertEqual(self.freed, [self.connection])
        self.assertIsNone(response.take_whole())
        self.assertRaises(RuntimeError, response.deliverBody, Sink())

    def test_none(self) -> None:
        """Where there is no body it is empty."""
        for head, method in (
            (OK + b"Content-Length: 0\r\n\r\n", b"GET"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET"),
            (OK + b"Content-Length: 5\r\n\r\n", b"HEAD"),
        ):
            self.setUp()
            self.assertEqual(self.answer(head, method=method).take_whole(), b"")

    def test_more_behind(self) -> None:
        """What comes behind it belongs to nobody, and the connection is not used again."""
        response = self.answer(OK + b"Content-Length: 3\r\n\r\nabcdef")
        self.assertEqual(response.take_whole(), b"abc")
        self.assertEqual(self.freed, [])
        self.assertTrue(self.wire.disconnecting)

    def test_not_all_there(self) -> None:
        """If a part is missing, or its end cannot be told yet, it is delivered as ever."""
        for head, part in (
            (b"Content-Length: 4\r\n\r\n", b"abc"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
            (b"\r\n", b"abc"),
        ):
            self.setUp()
            response = self.answer(OK + head + part)
            self.assertIsNone(response.take_whole())
            sink = Sink()
            response.deliverBody(sink)
            self.assertEqual(sink.received, b"abc")

    def test_lost(self) -> None:
        """A body whose connection has ended before all of it had come is not whole."""
        response = self.answer(OK + b"Content-Length: 4\r\n\r\nabc")
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(response.take_whole())
