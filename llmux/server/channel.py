"""One client's connection: requests come in strictly, bounded in size and time, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, ITCPTransport
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, _ChunkedTransferDecoder, _IdentityTransferDecoder
from twisted.web.http import Request as HTTPRequest

from llmux.server.head import RequestLine, read_head, read_request_line
from llmux.server.refusals import Refusal, Refused
from llmux.server.request import RelayRequest, body_too_large
from llmux.server.tcp import closed_by_peer
from llmux.server.terms import Terms

MAX_HEAD = 64 * 1024
"""Bytes that the head of a request may have."""

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
    twisted.web's channel with a parser of its own for the head, limits and deadlines.

    Whatever is refused becomes a request with a :attr:`~RelayRequest.refusal`, so that it is
    answered, counted and logged like any other; nothing that follows it on the connection is looked
    at.

    What it relies on of Twisted is partly private, for the public part has no place for a parser, a
    limit or a pause: both transfer decoders, the buffer of what comes behind a request, whether one
    is being handled, and whether the transport is full.  The tests run with the oldest Twisted that
    is promised and with the newest.
    """

    MAX_LENGTH = MAX_HEAD
    site: Any  # a RelaySite, which knows this class
    terms: Terms
    timeOut = IDLE_SECS  # Twisted's name

    def __init__(self) -> None:
        super().__init__()
        self._line: RequestLine | None = None
        self._lines: list[bytes] = []
        self._head_size = 0
        self._in_head = False
        self._head_began = 0.0
        self._blank_seen = False
        self._request: RelayRequest | None = None  # the one whose body is being received
        self._asked = False  # whether a request has come
        self._refused = False
        self._closing = False
        self._parked: HTTPRequest | None = None  # answered, but its client takes nothing
        self._unread: IDelayedCall | None = None  # looks whether the client has gone
        self._tunnel: Callable[[bytes], None] | None = None

    def connectionMade(self) -> None:
        """See :meth:`IProtocol.connectionMade`."""
        super().connectionMade()
        self._read_size = getattr(self._network(), "bufferSize", SLICE)
        if self.site.ending:  # it was in the queue when the door was shut
            self.end()

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

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        if self._tunnel is not None:
            self._tunnel(data)
            return
        if self._request is not None:
            self.resetTimeout()  # a body makes progress
        elif not self._handlingRequest and not self._in_head:
            self._begin_head()
        outermost = not self._busyReceiving
        LineReceiver.dataReceived(self, data)
        if not outermost or not self.line_mode or not self._buffer:
            return
        if b"\n" in self._buffer:
            self._refuse(Refused(Refusal.LINE_END))  # or it would never be a line
        elif not self._in_head:
            self._begin_head()  # it came along with the end of the request before

    def _begin_head(self) -> None:
        self._in_head = True
        self._head_began = self.terms.clock.seconds()
        self.setTimeout(HEAD_SECS)  # from the first byte on, and not anew for each

    def lineReceived(self, line: bytes) -> None:
        """Take in a line of a head."""
        if self._refused:
            return
        if not self._in_head:  # several requests came at once
            self._begin_head()
        if not line and self._line is None and not self._blank_seen:
            self._blank_seen = True  # RFC 9112, 2.2: one is ignored
            return
        self._head_size += len(line) + len(self.delimiter)
        if self._head_size > MAX_HEAD:
            self.lineLengthExceeded(line)
            return
        try:
            if self._line is None:
                self._line = read_request_line(line)
            elif line:
                self._lines.append(line)
            else:
                self._begin(self._line)
        except Refused as refused:
            self._refuse(refused)

    def lineLengthExceeded(self, line: bytes) -> None:
        """See :meth:`LineReceiver.lineLengthExceeded`."""
        self._refuse(Refused(Refusal.HEAD_SIZE, f"more than {MAX_HEAD} bytes"))

    def rawDataReceived(self, data: bytes) -> None:
        """Take in a part of a body, or of what comes after it."""
        if self._refused:
            return
        try:
            super().rawDataReceived(data)
        except Refused as refused:
            self._refuse(refused)
        if sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self.stop_reading()  # Twisted does not if the client takes nothing, either

    def allContentReceived(self) -> None:
        """Hand the request on, whole."""
        if self._request is not None:
            self._network().bufferSize = self._read_size
        self._request = self._line = None
        self._asked = True
        self._lines = []
        self._head_size = 0
        self._in_head = self._blank_seen = False
        self.setTimeout(None)
        super().allContentReceived()

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
        self._savedTimeOut = IDLE_SECS
        super().requestDone(request)

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`: the client has taken all there was."""
        super().resumeProducing()
        parked, self._parked = self._parked, None
        if parked is not None:
            self.requestDone(parked)

    def loseConnection(self) -> None:
        """Close, after all that was written has been sent."""
        self._closing = True
        if any(self._dataBuffer):  # what came behind the last request is not looked at
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

    def _begin(self, line: RequestLine) -> None:
        """Begin a request: its head is whole."""
        request = self._new_request(line)
        self._request = request
        head = read_head(line.version, self._lines, request.requestHeaders)
        if line.refused is not None:
            raise line.refused
        self.persistent = head.persistent and not self.site.ending
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

    def _new_request(self, line: RequestLine) -> RelayRequest:
        self._command, self._path, self._version = line.method, line.target, line.version
        request = cast(RelayRequest, self.requestFactory(self))
        request.begin(line, self._head_began)
        self.requests.append(request)
        return request

    def _refuse(self, refused: Refused) -> None:
        """Answer a request that is not taken; look at nothing more on this connection."""
        if self._refused:
            return
        self._refused = True
        self.persistent = False
        request = self._request or self._new_request(self._line or _UNKNOWN)
        request.refusal = refused
        self.allContentReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Say in our own words what Twisted's chunked decoder has found."""
        self._refuse(Refused(Refusal.CHUNK))
