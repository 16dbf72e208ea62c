"""An answer, and the delivery of its body as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from llmux.engine.chunks import ChunkScanner, IChunksConsumer
from llmux.engine.connection import IClientResponse
from llmux.engine.outgoing import ClientRequest
from llmux.engine.response_head import BadResponse, ResponseHead


@implementer(IPushProducer)
class BodyTransport:
    """
    What a body's protocol has for a transport: the connection, up to the body's end.

    :param transport: the connection's; ``None`` when it is the body's no longer.
    :ivar paused: whether it has been paused.
    """

    disconnecting = False

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.paused = False

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""
        if self.transport is not None:
            self.paused = True
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""
        if self.transport is not None:
            self.paused = False
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`."""
        if self.transport is not None:
            self.transport.stopProducing()

    def loseConnection(self) -> None:
        """See :meth:`ITransport.loseConnection`."""
        if self.transport is not None:
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        """See :meth:`ITCPTransport.abortConnection`."""
        if self.transport is not None:
            self.transport.abortConnection()


@implementer(IClientResponse)
class ClientResponse:
    """
    An answer of which the head has come.

    A protocol that provides :class:`~llmux.engine.chunks.IChunksConsumer` gets a chunked body with
    its framing.

    :param head: its head.
    :param request: what it answers.
    :param transport: its connection.
    :param ended: called when all of its body has come, before the body's protocol hears of it, with
        what came behind it.
    :param broken: called, likewise, when what comes is no such body.
    :ivar wanted: whether somebody has asked for its body.
    """

    was_reset = False
    previousResponse: IResponse | None = None

    def __init__(
        self,
        head: ResponseHead,
        request: ClientRequest,
        transport: Any,
        ended: Callable[[bytes], None],
        broken: Callable[[], None],
    ) -> None:
        self.version, self.code, self.phrase = head.version, head.code, head.phrase
        self.received = head.headers
        self.length = UNKNOWN_LENGTH if head.length is None else head.length
        self.request = request
        self.wanted = False
        self._headers: Headers | None = None  # made only for whoever asks
        self._scanner = ChunkScanner() if head.chunked else None
        self._left = head.length
        self._transport = BodyTransport(transport)
        self._ended, self._broken = ended, broken
        self._protocol: Any = None
        self._deliver: Callable[..., None] | None = None
        self._framed = False
        self._kept = b""  # what came before anybody wanted it
        self._over = False  # whether no more comes
        # Why, until the body's protocol is told.  It may refer to this, so it is not held longer:
        # both would stay until Python's collector comes by.
        self._reason: Failure | None = None

    @property
    def headers(self) -> Headers:
        """All its headers; agents that wrap ours take some of them away."""
        headers = self._headers
        if headers is None:
            headers = self._headers = self.received.copy()
        return headers

    def setPreviousResponse(self, response: IResponse) -> None:
        """See :meth:`IResponse.setPreviousResponse`."""
        self.previousResponse = response

    def deliverBody(self, protocol: Any) -> None:
        """
        See :meth:`IResponse.deliverBody`.

        :raises RuntimeError: if somebody has asked for the body already.
        """
        if self.wanted:
            raise RuntimeError("the body is delivered only once")
        self.wanted = True
        lost, self._reason = self._reason, None  # which may have been behind the end of it
        if lost is not None:
            self._over = False
            self._ended = self._broken = _ignore
        elif self._transport.paused:
            self._transport.resumeProducing()  # at first: all of it may be here already
        protocol.makeConnection(self._transport)
        self._protocol = IProtocol(protocol)
        self._framed = self._scanner is not None and IChunksConsumer.providedBy(protocol)
        self._deliver = protocol.chunksReceived if self._framed else protocol.dataReceived
        kept, self._kept = self._kept, b""
        if kept:
            self.receive(kept)
        if lost is not None:
            self._finish(lost)

    def take_whole(self) -> bytes | None:
        """See :meth:`IClientResponse.take_whole`."""
        if self.wanted or self._scanner is not None or self._left is None:
            return None
        if self._reason is None and len(self._kept) < self._left:
            return None
        if self._reason is not None and self._reason.type is not ResponseDone:
            return None
        self.wanted = True
        body, rest = self._kept[: self._left], self._kept[self._left :]
        if self._reason is None:
            self._let_go(rest)
        return body

    def hold(self) -> None:
        """Have no more of it come until somebody asks for the body."""
        self._transport.pauseProducing()

    def complete(self) -> None:
        """Take it for whole: it has no body."""
        self._finish(Failure(ResponseDone("it has no body")))

    def receive(self, data: bytes) -> None:
        """Take what has come of the body, and perhaps of what is behind it."""
        deliver, scanner, left = self._deliver, self._scanner, self._left
        if deliver is None:
            self._kept += data
        elif scanner is not None:
            if self._framed:
                piece = scanner.framed(data)
                if piece:
                    deliver(piece, scanner.size)
            else:
                piece = scanner.decoded(data)
                if piece:
                    deliver(piece)
            if scanner.ended:
                self._end(scanner.rest)
            elif scanner.wrong:
                self._break(scanner.wrong)
        elif left is None:
            deliver(data)
        elif len(data) < left:
            self._left = left - len(data)
            deliver(data)
        else:
            self._left = 0
            rest = data[left:]
            deliver(data[:left] if rest else data)
            self._end(rest)

    def lost(self, reason: Failure, was_reset: bool) -> None:
        """
        Tell that the connection has ended before all of the body had come, as far as that is known.

        :param reason: why.
        :param was_reset: see :class:`IClientResponse`.
        """
        self.was_reset = was_reset
        if self._scanner is None and self._left is None:
            self._finish(Failure(PotentialDataLoss()))
        else:
            self._finish(Failure(ResponseFailed([reason], self)))

    def _end(self, rest: bytes) -> None:
        if not self._over:
            self._let_go(rest)
            self._finish(Failure(ResponseDone("all of it has come")))

    def _let_go(self, rest: bytes) -> None:
        """Give the connection back: all of the body has come."""
        transport = self._transport
        if transport.paused:
            transport.resumeProducing()
        transport.transport = None
        self._ended(rest)

    def _break(self, wrong: str) -> None:
        if not self._over:
            self._broken()
            self._finish(Failure(ResponseFailed([Failure(BadResponse(wrong))], self)))

    def _finish(self, reason: Failure) -> None:
        """Tell the body's protocol that nothing more comes, as soon as there is one."""
        if self._over:
            return
        self._over = True
        protocol = self._protocol
        if protocol is None:
            self._reason = reason
        else:
            self._transport.transport = self._protocol = None
            self._deliver = _ignore
            protocol.connectionLost(reason)


def _ignore(*data: object) -> None:
    """Take what comes of a body when its protocol has heard of its end."""
