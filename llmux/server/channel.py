"""
One client's connection: its deadlines, what it is refused, and how it ends.

How its bytes become requests is another matter, of which there are two makes
(:mod:`llmux.server.strict`, :mod:`llmux.server.fast`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IDelayedCall, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, _ChunkedTransferDecoder, _IdentityTransferDecoder
from twisted.web.http import Request as HTTPRequest
from twisted.web.http_headers import Headers

from llmux.engine.deadline import Deadline
from llmux.engine.holding import first_of
from llmux.server.head import Head, RequestLine
from llmux.server.head_reader import HeadReader
from llmux.server.refusals import Refusal, Refused
from llmux.server.request import RelayRequest, body_too_large, write_head
from llmux.server.tcp import closed_by_peer
from llmux.server.terms import Terms

HEAD_SECS = 30.0
"""Seconds from the first byte of a request's head to its last."""

IDLE_SECS = 75
"""Seconds that a connection is kept without a request."""

LINGER_SECS = 5.0
"""
Seconds that a client may go on sending what was refused.  A connection that is closed on unread
bytes is reset, and the client may never see why (RFC 9112, 9.6).
"""

FIRST_SECS = 1.0
"""
Seconds in which a client that has just connected can send a request when llmux ends.  Its
connection was taken, so it is not closed without an answer if that can be helped.
"""

CLOSE_SECS = 300
"""Seconds in which a client has to take what was written for it, when nothing more is to come."""

SLICE = 16 * 1024
"""
Bytes of a body that are read at once.  Each piece is looked into as it comes; crafted ones take
about a microsecond a byte, in which nobody else is served.
"""

LOOK_SECS = 0.1
"""Seconds between two looks whether a client has gone that has sent too much to be read on."""

_UNKNOWN = RequestLine(b"-", b"-", b"HTTP/1.1")


class RelayChannel(HTTPChannel):
    """
    twisted.web's channel with limits and deadlines, and refusals of its own.

    Whatever is refused becomes a request with a :attr:`~RelayRequest.refusal`, so that it is
    answered, counted and logged like any other; nothing that follows it on the connection is looked
    at.

    What it relies on of Twisted is partly private, for the public part has no place for a parser, a
    limit or a pause: both transfer decoders, the buffer of what comes behind a request, whether one
    is being handled, and whether the transport is full.  The tests run with the oldest Twisted that
    is promised and with the newest.
    """

    site: Any  # a RelaySite, which knows this class
    terms: Terms
    timeOut: float | None = IDLE_SECS  # type: ignore[assignment]  # Twisted's; not whole ones only

    def __init__(self) -> None:
        super().__init__()
        self._reader = HeadReader()  # of the head that is coming
        self._in_head = False
        self._head_began = 0.0
        self._request: RelayRequest | None = None  # the one whose body is being received
        self._asked = False  # whether a request has come
        self._refused = False
        self._closing = False
        self._parked: HTTPRequest | None = None  # answered, but its client takes nothing
        self._unread: IDelayedCall | None = None  # looks whether the client has gone
        self._tunnel: Callable[[bytes], None] | None = None

    def connectionMade(self) -> None:
        """See :meth:`IProtocol.connectionMade`."""
        self._deadline = Deadline(self.terms.clock, self.timeoutConnection)
        self._peer: IAddress = self._network().getPeer()
        self._host: IAddress = self._network().getHost()
        super().connectionMade()
        self._read_size = getattr(self._network(), "bufferSize", SLICE)
        if self.site.ending:  # it was in the queue when the door was shut
            self.end()

    def setTimeout(self, period: float | None) -> float | None:  # noqa: N802  # Twisted's name
        """See :meth:`TimeoutMixin.setTimeout`."""
        before, self.timeOut = self.timeOut, period
        self._deadline.set(period)
        return before

    def resetTimeout(self) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`TimeoutMixin.resetTimeout`."""
        self._deadline.set(self.timeOut)

    def getPeer(self) -> IAddress:  # noqa: N802  # Twisted's name
        """Give the client's address, as it was when it connected."""
        return self._peer

    def getHost(self) -> IAddress:  # noqa: N802  # Twisted's name
        """Give the address that the client has connected to."""
        return self._host

    def end(self) -> None:
        """Close as soon as what has been asked is answered."""
        self.persistent = False
        if self._closing or self._handlingRequest or self._in_head or self._request is not None:
            return
        if self._asked:
            self.loseConnection()
        else:
            self.setTimeout(FIRST_SECS)

    def abort(self) -> None:
        """Close at once, in such a way that the client takes no answer for whole that is not."""
        self._network().abortConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """Take in a part of a body, or of what comes after it."""
        if self._refused:
            return
        if self._transferDecoder is not None:
            data = first_of(data, SLICE, self.transport)  # it may have come along with the head
        try:
            super().rawDataReceived(data)
        except Refused as refused:
            self._refuse(refused)
        if sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self.stop_reading()  # Twisted does not if the client takes nothing, either

    def allContentReceived(self) -> None:
        """Hand the request on, whole."""
        if self._transferDecoder is not None:
            self._transferDecoder = None
            self._network().bufferSize = self._read_size
        self._request = None
        self._asked = True
        self._in_head = False
        self.setTimeout(None)
        self._handlingRequest = True
        self.setRawMode()  # whatever comes is kept until the request is done
        request = self.requests[-1]
        request.requestReceived(request.method, request.uri, request.clientproto)

    def requestDone(self, request: HTTPRequest) -> None:
        """
        Go on with the next request, or close.

        A client that has not taken the answers so far gets no further ones: they would pile up.
        """
        self._stop_looking()
        if self._waitingForTransport and self.persistent:
            self._parked = request
            self.setTimeout(CLOSE_SECS)
            return
        self.requests.remove(request)
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()
        if not self.persistent:
            self.loseConnection()
            return
        self._handlingRequest = False
        self.setTimeout(IDLE_SECS)
        behind, self._dataBuffer = b"".join(self._dataBuffer), []
        self.setLineMode(behind)

    def writeHeaders(  # noqa: N802  # Twisted's name
        self, version: bytes, code: bytes, reason: bytes, headers: Headers
    ) -> None:
        """See :meth:`HTTPChannel.writeHeaders`."""
        self._network().write(write_head(version, code, reason, headers))

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`: the client has taken all there was."""
        super().resumeProducing()
        parked, self._parked = self._parked, None
        if parked is not None:
            self.requestDone(parked)

    def loseConnection(self) -> None:
        """Close, after all that was written has been sent."""
        self._closing = True
        if self._buffer or any(self._dataBuffer):  # nobody looks at what is behind the last one
            self._refused = True
        if self._refused and ITCPTransport.providedBy(self.transport):
            self._network().unregisterProducer()
            self._network().loseWriteConnection()
            self._network().resumeProducing()  # what comes is thrown away
            self.setTimeout(LINGER_SECS)
        else:
            self.setTimeout(CLOSE_SECS)
            super().loseConnection()

    def timeoutConnection(self) -> None:
        """End what takes too long: see the deadlines above."""
        if self._closing or self._parked is not None:
            self._network().abortConnection()
        elif self._request is not None:
            self._refuse(
                Refused(Refusal.BODY_SLOW, f"nothing for {self.terms.limits.body_timeout_secs:g} s")
            )
        elif self._in_head:
            self._refuse(Refused(Refusal.HEAD_SLOW, f"within {HEAD_SECS:g} s"))
        else:
            self.loseConnection()

    def _network(self) -> Any:
        """Give the transport, which can do more than Twisted's annotations say."""
        return self.transport

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        self._stop_looking()
        abandoned = self._request
        super().connectionLost(reason)
        self._transferDecoder = None  # which holds this, and is held
        self._deadline.stop()
        self.site.connection_lost(self, abandoned)

    def tunnel(self, received: Callable[[bytes], None]) -> None:
        """
        Hand on all that comes from now on, as it comes.

        :param received: takes it, beginning with what has come already.
        """
        self._tunnel = received
        self._stop_looking()
        early, self._dataBuffer = b"".join(self._dataBuffer), []
        self._networkProducer.resumeProducing()  # it may have been paused by too much of that
        if early:
            received(early)

    def stop_reading(self) -> None:
        """Read no more for now; that the client has gone is noticed all the same."""
        self._networkProducer.pauseProducing()
        if self._unread is None:
            self._unread = self.callLater(LOOK_SECS, self._look_for_end)

    def read_on(self) -> None:
        """Read again."""
        self._stop_looking()
        self._networkProducer.resumeProducing()

    def _look_for_end(self) -> None:
        """Notice that the client has gone, though nothing is read from it."""
        self._unread = None
        if closed_by_peer(self.transport):
            self._network().abortConnection()
        else:
            self._unread = self.callLater(LOOK_SECS, self._look_for_end)

    def _stop_looking(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _begin_head(self) -> None:
        self._in_head = True
        self._reader = HeadReader()
        self._head_began = self.terms.clock.seconds()
        self.setTimeout(HEAD_SECS)  # from the first byte on, and not anew for each

    def _begin(self, line: RequestLine, head: Head) -> None:
        """
        Begin a request: its head is whole.

        :raises Refused: if it cannot be taken.
        """
        request = self._open(line, head)
        if head.length is not None and head.length > self.terms.limits.max_body_bytes:
            raise body_too_large(self.terms.limits.max_body_bytes)
        request.gotLength(head.length)
        if head.length == 0:
            self.allContentReceived()
            return
        self.length = head.length
        self._transferDecoder = (
            _ChunkedTransferDecoder(request.handleContentChunk, self._finishRequestBody)
            if head.length is None
            else _IdentityTransferDecoder(
                head.length, request.handleContentChunk, self._finishRequestBody
            )
        )
        self.setTimeout(self.terms.limits.body_timeout_secs)
        self._network().bufferSize = SLICE
        if head.awaits_continue:
            self._send100Continue()
        self.setRawMode()

    def _open(self, line: RequestLine, head: Head) -> RelayRequest:
        """Make the request that is received from now on."""
        request = self._request = self._new_request(line, head.headers)
        self.persistent = head.persistent and not self.site.ending
        return request

    def _new_request(self, line: RequestLine, headers: Headers) -> RelayRequest:
        request = cast(RelayRequest, self.requestFactory(self))
        request.begin(line, headers, self._head_began)
        self.requests.append(request)
        return request

    def _refuse(self, refused: Refused) -> None:
        """Answer a request that is not taken; look at nothing more on this connection."""
        if self._refused:
            return
        self._refused = True
        self.persistent = False
        reader = self._reader
        request = self._request or self._new_request(reader.line or _UNKNOWN, reader.headers)
        request.refusal = refused
        self.allContentReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Say in our own words what Twisted's chunked decoder has found."""
        self._refuse(Refused(Refusal.CHUNK))
