"""One request to a backend and its answer back: bytes up, bytes down, with back-pressure."""

from __future__ import annotations

import enum
from typing import Any, BinaryIO

from treq.response import _Response
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http import NO_BODY_CODES
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from twisted.web.server import Request
from zope.interface import implementer

from llmux.errors import BackendError, BadTarget
from llmux.headers import for_backend, for_client
from llmux.proxy.client import BackendResponse, RelayClient

_BROKEN = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)
_CHUNK = 64 * 1024  # bytes read from a request's body at once


class Ending(enum.Enum):
    """How an answer ended after its head had been sent."""

    COMPLETE = "complete"
    CLIENT = "client"
    """The client left."""
    BACKEND = "backend"
    """The backend broke off."""


class Relay:
    """
    Relays one client's request to a backend, whose model must be awake and leased.

    :param client: sends to the backend.
    :param request: the client's request, its body received.
    """

    def __init__(self, client: RelayClient, request: Request) -> None:
        self._client = client
        self._request = request

    async def begin(self) -> Answer:
        """
        Send the request, and the head of the answer back as soon as it comes.

        Cancelling it aborts the connection to the backend.

        :raises BackendError: if no head came.
        :raises BadTarget: if the request line cannot be sent on as it is.
        """
        request = self._request
        headers = for_backend(request.requestHeaders, self._client.host)
        body = _body_of(request)
        try:
            answered = self._client.request(request.method, origin_form(request.uri), headers, body)
        except ValueError as error:
            raise BadTarget("The request line holds characters that HTTP does not allow") from error
        try:
            response = await answered
        except ConnectingCancelledError as error:  # of an endpoint, and no CancelledError
            raise CancelledError from error
        except (ConnectError, DNSLookupError) as error:
            raise BackendError(f"it cannot be reached ({error})") from error
        except _BROKEN as error:
            reasons = [reason.value for reason in error.reasons]
            if any(isinstance(reason, CancelledError) for reason in reasons):
                raise CancelledError from error  # Twisted wraps it as if the backend had failed
            raise BackendError(f"it broke before it answered ({reasons[0]})") from error
        return Answer(request, response, body)


class Answer:
    """
    An answer whose head has been sent to the client.

    :ivar status: its HTTP status.
    """

    def __init__(self, request: Request, response: _Response, sent: SpooledBody | None) -> None:
        self.status: int = response.code
        self._sent = sent
        self._request = request
        self._response = response
        assert isinstance(response.original, BackendResponse)
        self._abort = response.original.abort
        framing = response.original.framing
        length = None if response.length is UNKNOWN_LENGTH else response.length
        if self.status in NO_BODY_CODES or request.method == b"HEAD":
            length = None  # where there is no body, the client parser's 0 says nothing
        request.setResponseCode(response.code, response.phrase)
        request.defaultContentType = None  # invent none (twisted#11902)
        request.responseHeaders = for_client(response.headers, framing, length)
        request.write(b"")

    async def end(self) -> Ending:
        """
        Relay the body to its end.

        Cancelling it says that the client has left: the backend's connection is aborted, and it
        ends when that is closed.  An answer that the backend broke off is cut: the client does not
        see a clean end.
        """
        body = _BodyRelay(self._request)
        self._response.deliverBody(body)
        try:
            complete = await body.ended
        except CancelledError:
            body.client_left()
            self._abort()
            await body.closed
            return Ending.CLIENT
        finally:
            if self._sent is not None and not self._sent.complete:
                # answered before it was read to its end: nobody will read the rest
                self._sent.stopProducing()
                self._abort()
        if complete:
            return Ending.COMPLETE
        await cut(self._request)
        return Ending.BACKEND


async def cut(request: Request) -> None:
    """Close a client's connection at once, so that its answer does not look complete."""
    if request.channel is None:  # it has gone by itself
        return
    gone = request.notifyFinish()
    gone.addErrback(lambda _: None)  # the loss of the connection is what is waited for
    transport: Any = request.transport
    transport.abortConnection()
    await gone


def origin_form(uri: bytes) -> bytes:
    """
    Take the path and query out of a request target (RFC 9112, 3.2).

    :raises BadTarget: if it has neither.
    """
    if uri.startswith(b"/"):
        return uri
    scheme, separator, rest = uri.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        authority, slash, path = rest.partition(b"/")
        if authority and b"?" not in authority:
            return slash + path or b"/"
    raise BadTarget("The request target must be a path")


class _BodyRelay(Protocol):
    """
    Hands a body to the client as it comes, no faster than the client takes it.

    :ivar ended: becomes whether the body came to its proper end.
    :ivar closed: the same, and cannot be cancelled.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._client_gone = False
        self.ended: Deferred[bool] = Deferred()
        self.closed: Deferred[bool] = Deferred()

    def client_left(self) -> None:
        """Let nothing more go to the client: its request has no channel any more."""
        self._client_gone = True

    def connectionMade(self) -> None:
        self._request.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        if not self._client_gone:
            self._request.write(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if not self._client_gone:
            self._request.unregisterProducer()
        complete = reason.check(ResponseFailed) is None
        if not self.ended.called:
            self.ended.callback(complete)
        self.closed.callback(complete)


def _body_of(request: Request) -> SpooledBody | None:
    content = request.content
    assert content is not None
    length = content.seek(0, 2)
    content.seek(0)
    return SpooledBody(content, length) if length else None


@implementer(IBodyProducer, IPushProducer)
class SpooledBody:
    """
    A request's body that has been received, read no faster than the backend takes it.

    :param file: where it is, from its beginning.
    :param length: in bytes.
    :ivar complete: whether all of it has been handed on.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.length = length
        self.complete = False
        self._file = file
        self._consumer: IConsumer | None = None
        self._paused = False
        self._produced: Deferred[None] = Deferred()

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See :meth:`IBodyProducer.startProducing`."""
        self._consumer = consumer
        self.resumeProducing()
        return self._produced

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""
        self._paused = False
        while self._consumer is not None and not self._paused:
            chunk = self._file.read(_CHUNK)
            if not chunk:
                self._consumer = None
                self.complete = True
                self._produced.callback(None)
                return
            self._consumer.write(chunk)

    def stopProducing(self) -> None:
        """See :meth:`IBodyProducer.stopProducing`: the Deferred does not fire any more."""
        self._consumer = None
