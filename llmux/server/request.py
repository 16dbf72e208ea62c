"""A request as the server takes it in: its body spooled and looked into on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from llmux.engine.names import raw_of
from llmux.engine.together import write_soon
from llmux.envelope import EnvelopeReader
from llmux.errors import RequestError
from llmux.server.head import RequestLine
from llmux.server.refusals import Refusal, Refused
from llmux.server.spool import open_spool

CLIENT_LEFT = 499
"""nginx's status for a client that left before there was an answer."""


def body_too_large(limit: int) -> Refused:
    """Make the refusal of a body that is longer than so many bytes."""
    return Refused(Refusal.BODY_SIZE, f"more than {limit} bytes")


class RelayRequest(Request):
    """
    A request whose body is kept in a spool, and whose answer is a backend's.

    :ivar arrived: when its head began, in the clock's seconds.
    :ivar refusal: why it is answered with an error and with nothing else, if it is.
    :ivar request_id: what it is called in the log, at the backend and at the client.
    :ivar envelope: finds the model in what the client sends; ``None`` until the head was taken.
    :ivar body_length: bytes of body that have come.
    :ivar when_lost: called when the client has gone before it has taken its answer; unlike what
        :meth:`notifyFinish` gives it costs nothing where that does not happen.
    :ivar bytes_sent: bytes of the answer's body that were handed to the connection.
    """

    when_lost: Callable[[], object] | None = None
    channel: Any  # a RelayChannel, which knows this class; None when the client has gone
    refusal: RequestError | None = None
    envelope: EnvelopeReader | None = None
    arrived = 0.0
    request_id = b""
    body_length = 0
    bytes_sent = 0
    _unsent = b""  # a head
    defaultContentType = None  # Twisted's: invent none (twisted#11902)

    def __init__(self, channel: Any) -> None:
        """Begin with what Twisted's request has at its begin, without the layers in which it is."""
        self.channel = channel
        self.transport = channel.transport
        self.client, self.host = channel.getPeer(), channel.getHost()
        self.responseHeaders = Headers()
        self.notifications = []
        self.cookies = []
        self.received_cookies = {}
        self.queued = False
        self._parsePOSTFormSubmission = False
        self._adapterCache: dict[str, object] = {}  # of Componentized

    @property
    def client_host(self) -> str:
        """The client's address; ``unix`` where it is a UNIX socket."""
        host: str = getattr(self.getClientAddress(), "host", "unix")
        return host

    def begin(self, line: RequestLine, headers: Headers, arrived: float) -> None:
        """
        Take in the head.

        :param line: its first line.
        :param headers: all of them, or those that were read before it was refused.
        :param arrived: when it began to come, in the clock's seconds.
        """
        self.requestHeaders = headers
        self.method, self.uri, self.clientproto = line.method, line.target, line.version
        self.path = self.uri.partition(b"?")[0]
        self.args = {}
        self.arrived = arrived

    def connectionLost(self, reason: Failure) -> None:
        """See :meth:`IRequest.connectionLost`."""
        super().connectionLost(reason)
        if self.when_lost is not None:
            self.when_lost()

    def gotLength(self, length: int | None) -> None:
        """Make room for the body: the head has been taken."""
        terms = self.channel.terms
        types = raw_of(self.requestHeaders).get(b"Content-Type")
        self.envelope = terms.read_envelope(self.uri, types[0] if types else None)
        self.content = open_spool(terms.limits.spool_dir, length)

    def handleContentChunk(self, data: bytes) -> None:
        """
        Take in a part of the body.

        :raises Refused: if it cannot be kept.
        """
        assert self.envelope is not None
        self.body_length += len(data)
        limit = self.channel.terms.limits.max_body_bytes
        if self.body_length > limit:
            raise body_too_large(limit)
        assert self.content is not None
        self.envelope.feed(data)
        try:
            self.content.write(data)
        except OSError as error:
            raise Refused(Refusal.SPOOL) from error

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer: the request is here, or what has come of it is refused; its line is known."""
        if self.content is not None:
            try:
                self.content.seek(0)  # which writes what is still in a buffer
            except OSError as error:
                self.refusal = Refused(Refusal.SPOOL)
                self.refusal.__cause__ = error
                self.channel.persistent = False
        self.process()

    def process(self) -> None:
        """Hand it to the site's one resource: nothing is looked up by its path here."""
        self.site = self.channel.site
        self.prepath, self.postpath = [], []
        try:
            self.render(self.site.resource)
        except Exception:
            self.processingFailed(Failure())

    def answer(self, status: int, reason: bytes, headers: Headers) -> None:
        """Begin an answer; its head goes out with the first of its body, or with :meth:`flush`."""
        self.setResponseCode(status, reason)
        self.responseHeaders = headers
        self._unsent = self._begin_answer(self.method == b"HEAD" or status in NO_BODY_CODES)

    def flush(self) -> None:
        """Send the head, if it has not been yet."""
        if self._unsent and self.channel is not None:
            head, self._unsent = self._unsent, b""
            self.channel.write(head)

    def end_short(self) -> bool:
        """
        End an answer before its end, in such a way that the client sees that.

        :returns: whether that could be done.  Where nothing but the connection's end is the end of
            the answer, it cannot.
        """
        framed = self.chunked or self.responseHeaders.hasHeader(b"Content-Length")
        if self.channel is None or not framed:
            return self.channel is None
        self.chunked = 0  # or the last chunk would be sent
        self.channel.persistent = False
        return True

    def switch_protocols(self, reason: bytes, headers: Headers) -> None:
        """Send the head of an answer that ends HTTP on this connection (101)."""
        self.code, self.startedWriting = 101, 1
        self.channel.persistent = False
        self.channel.writeHeaders(self.clientproto, b"101", reason, headers)

    def write(self, data: bytes) -> None:
        """See :meth:`IRequest.write`."""
        framed = self._framed(data)
        if framed:
            self.channel.write(framed)

    def write_whole(self, data: bytes) -> None:
        """Write all of a small answer's body, along with what others write in this turn."""
        framed = self._framed(data)
        if framed:
            write_soon(self.channel.transport, framed)

    def _framed(self, data: bytes) -> bytes:
        """Make what is sent for a part of the body, behind the head if that has not been sent."""
        if self.finished:
            raise RuntimeError("Request.write called on a request after Request.finish was called.")
        if self.channel is None or self._inFakeHead:
            return b""  # to be noticed elsewhere; rendered for its length
        bodiless = self.method == b"HEAD" or self.code in NO_BODY_CODES
        if self.startedWriting:
            head, self._unsent = self._unsent, b""
        else:
            head = self._begin_answer(bodiless)
        if not data or bodiless:
            return head
        self.bytes_sent += len(data)
        self.sentLength += len(data)
        return head + (b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _begin_answer(self, bodiless: bool) -> bytes:
        """Make the head of the answer; choose how the end of its body is told (RFC 9112, 6.3)."""
        self.startedWriting = 1
        headers = self.responseHeaders
        if self.etag is not None:
            headers.setRawHeaders(b"ETag", [self.etag])
        if self.lastModified is not None and not headers.hasHeader(b"Last-Modified"):
            headers.setRawHeaders(b"Last-Modified", [datetimeToString(self.lastModified)])
        if self.cookies:
            headers.setRawHeaders(b"Set-Cookie", self.cookies)
        if (
            self.clientproto == b"HTTP/1.1"
            and not bodiless
            and b"Content-Length" not in raw_of(headers)
        ):
            headers.setRawHeaders(b"Transfer-Encoding", [b"chunked"])
            self.chunked = 1
        if not self.channel.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])
        return write_head(self.clientproto, b"%d" % self.code, self.code_message, headers)

    def write_chunks(self, data: bytes, size: int) -> None:
        """
        Write a part of an answer that has been begun and whose body is :attr:`chunked`.

        :param data: chunks, or parts of them; one that has been begun has to be gone on with.
        :param size: bytes of the body that are in them.
        """
        if self.channel is not None:
            self.bytes_sent += size
            self.sentLength += size
            head, self._unsent = self._unsent, b""
            self.channel.write(head + data if head else data)

    def unregisterProducer(self) -> None:
        """See :meth:`IConsumer.unregisterProducer`; also right when the client has gone."""
        if self.channel is None:
            self.producer = None
        else:
            super().unregisterProducer()

    def getRequestHostname(self) -> bytes:
        """
        Give the same name for all: Klein chooses no route by it, but would refuse the request for
        one that it cannot decode.
        """
        return b"llmux"


def write_head(version: bytes, code: bytes, reason: bytes, headers: Headers) -> bytes:
    """Write the head of an answer."""
    lines = [b"%b %b %b" % (version, code, reason)]
    for name, values in headers.getAllRawHeaders():
        for value in values:
            lines.append(name + b": " + value)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)
