"""One request to a backend and its answer back: bytes up, bytes down, with back-pressure."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import attrs
from treq.response import _Response
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web._newclient import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import NO_BODY_CODES, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from llmux.config import ModelSettings
from llmux.errors import BackendBroke, BackendClosed, BackendRefused, BackendTimedOut
from llmux.headers import for_client
from llmux.proxy.body import SpooledBody
from llmux.proxy.client import BackendResponse, RelayClient
from llmux.proxy.closing import Closing
from llmux.proxy.stall import StalledClient
from llmux.proxy.watchdog import Watchdog
from llmux.server.request import RelayRequest

_Head = TypeVar("_Head")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BROKEN = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)
_NOT_ANSWERED = (RequestTransmissionFailed, ResponseNeverReceived)


class Ending(enum.Enum):
    """How an answer ended after its head had been sent."""

    COMPLETE = "complete"
    CLIENT = "client"
    """The client left."""
    BACKEND = "backend"
    """The backend broke off."""
    TIMEOUT = "timeout"
    """The backend sent nothing for too long, or nothing went through a tunnel."""
    STALLED = "stalled"
    """The client took nothing for too long, while its model was wanted to go."""


@attrs.frozen
class Relay:
    """
    Relays a client's request to a backend, whose model must be awake and leased.

    :param client: sends to the backend.
    :param request: the client's request, its body received.
    :param clock: tells the time.
    :param settings: how long the backend and the client may take.
    :param leaving_since: tells since when the model is wanted to go, in the clock's seconds;
        ``None`` while it may stay.
    """

    client: RelayClient
    request: RelayRequest
    clock: IReactorTime
    settings: ModelSettings
    leaving_since: Callable[[], float | None]

    async def begin(self, target: bytes, headers: Headers) -> Answer:
        """
        Send the request and wait for the head of its answer.

        Cancelling it aborts the connection to the backend.

        :param target: path and query as the backend is to see them.
        :param headers: as the backend is to see them, but for the body's framing.
        :raises BackendError: if no head came.
        """
        body = SpooledBody.of(self.request)
        answered = self.client.request(self.request.method, target, headers, body)
        return Answer(self, await self.first_byte(answered, body), body)

    async def first_byte(self, answered: Deferred[_Head], body: SpooledBody | None) -> _Head:
        """
        Wait for the head of an answer, as long as it may take.

        :param answered: becomes it.
        :param body: what the backend is being sent; the time counts from when it last took any.
        :raises BackendError: if no head came.
        """
        limit = self.settings.first_byte_timeout_secs
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            answered.cancel()

        watchdog = Watchdog(self.clock, limit, expire)
        if body is not None:
            body.progressed = watchdog.feed
        try:
            return await answered
        except Exception as error:
            if expired:
                raise BackendTimedOut(f"it has not begun to answer within {limit:g} s") from error
            raise backend_error(error, self.settings.connect_timeout_secs) from error
        finally:
            watchdog.stop()


class Answer:
    """
    An answer whose head has come, and of which nothing has been sent to the client yet.

    :raises BackendBroke: if its head is no HTTP.
    :ivar status: its HTTP status.
    :ivar reason: its reason phrase.
    :ivar headers: as the client is to see them.
    """

    def __init__(self, relay: Relay, response: _Response, sent: SpooledBody | None) -> None:
        self.status: int = response.code
        self.reason: bytes = response.phrase
        assert isinstance(response.original, BackendResponse)
        self._original = response.original
        if not 200 <= self.status <= 999 or _CONTROL.search(self.reason):
            self._original.abort()
            raise BackendBroke(f"its status line says {self.status} {self.reason!r:.100}")
        self._relay = relay
        self._sent = sent
        self._response = response
        framing = response.original.framing
        length = None if response.length is UNKNOWN_LENGTH else response.length
        if self.status in NO_BODY_CODES or relay.request.method == b"HEAD":
            length = None  # where there is no body, the client parser's 0 says nothing
        self.headers = for_client(response.headers, framing, length)

    async def send(self) -> Ending:
        """
        Send it to the client: the head, unless something has been sent already, and the body.

        Cancelling it says that the client has left: the backend's connection is aborted, and it
        ends when that is closed.  An answer that the backend broke off is cut: the client does not
        see a clean end.
        """
        request = self._relay.request
        if not request.startedWriting:
            request.answer(self.status, self.reason, self.headers)
        body = _BodyRelay(self._relay, self._original)
        self._response.deliverBody(body)
        ending = Ending.CLIENT
        with suppress(CancelledError):
            ending = await body.ended
        self._let_go(complete=ending is Ending.COMPLETE)
        if ending is not Ending.COMPLETE:
            await body.closing.wait()
        if ending is Ending.STALLED:
            await cut(request)  # who takes nothing does not take an end
        elif ending is not Ending.COMPLETE and ending is not Ending.CLIENT:
            await cut_behind(request)
        return ending

    async def read(self, limit: int) -> bytes:
        """
        Read its body instead of sending it to anybody.

        :param limit: bytes; no more are read.
        :returns: what there was, complete or not.
        """
        body = _BodyReader(limit)
        watchdog = Watchdog(self._relay.clock, self._relay.settings.idle_timeout_secs, body.end)
        body.progressed = watchdog.feed
        self._response.deliverBody(body)
        complete = False
        try:
            complete = await body.ended
        finally:
            watchdog.stop()
            self._let_go(complete=complete)
        return bytes(body.collected[:limit])

    def _let_go(self, *, complete: bool) -> None:
        """Close the connection to the backend, unless both ways have come to their end."""
        if self._sent is not None and not self._sent.complete:
            self._sent.stopProducing()  # answered before it was read: nobody will read the rest
            complete = False
        if not complete:
            self._original.abort()


def backend_error(error: Exception, connect_timeout: float) -> Exception:
    """
    Tell in our words why no head came, or give back what is none of the backend's doing.

    :param error: what the HTTP client raised.
    :param connect_timeout: seconds that it was given to accept a connection.
    """
    if isinstance(error, ConnectingCancelledError):  # of an endpoint, and no CancelledError
        return CancelledError()
    if isinstance(error, TimeoutError):
        return BackendTimedOut(f"it has not accepted a connection within {connect_timeout:g} s")
    if isinstance(error, ConnectError | DNSLookupError):
        return BackendRefused(str(error))
    if not isinstance(error, _BROKEN):
        return error
    reasons = [reason.value for reason in error.reasons]
    if any(isinstance(reason, CancelledError) for reason in reasons):
        return CancelledError()  # Twisted wraps it as if the backend had failed
    if isinstance(error, _NOT_ANSWERED):
        return BackendClosed(str(reasons[0]))
    return BackendBroke(str(reasons[0]))


async def cut(request: RelayRequest) -> None:
    """Close a client's connection at once, so that its answer does not look complete."""
    if request.channel is None:  # it has gone by itself
        return
    gone = request.notifyFinish()
    gone.addErrback(lambda _: None)  # the loss of the connection is what is waited for
    transport: Any = request.transport
    transport.abortConnection()
    await gone


async def cut_behind(request: RelayRequest) -> None:
    """Close a client's connection behind what has been relayed: the answer looks cut short."""
    if not request.end_short():
        await cut(request)


@implementer(IPushProducer)
class _BodyRelay(Protocol):
    """
    Hands a body to the client as it comes, no faster than the client takes it.

    :ivar ended: becomes how the body ended.
    :ivar closing: when nothing more comes from the backend.
    """

    def __init__(self, relay: Relay, response: BackendResponse) -> None:
        self._response = response
        self._request = relay.request
        self._watchdog = Watchdog(
            relay.clock,
            relay.settings.idle_timeout_secs,
            lambda: self._end(Ending.TIMEOUT),
        )
        self._stall = StalledClient(
            relay.request,
            relay.clock,
            relay.settings.client_stall_secs,
            relay.leaving_since,
            lambda: self._end(Ending.STALLED),
        )
        self.ended: Deferred[Ending] = Deferred()
        self.closing = Closing()

    def connectionMade(self) -> None:
        """See :meth:`IProtocol.connectionMade`."""
        self._request.registerProducer(self, True)  # type: ignore[no-untyped-call]  # Twisted's

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        self._watchdog.feed()
        self._request.write(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        self._request.unregisterProducer()
        cut_off = reason.check(ResponseFailed) is not None or (
            self._response.was_reset and reason.check(PotentialDataLoss) is not None
        )
        self._end(Ending.BACKEND if cut_off else Ending.COMPLETE)
        self.closing.end()

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`: the client does not keep up."""
        self._watchdog.pause()
        self._stall.begin()
        self.transport.pauseProducing()  # type: ignore[union-attr]  # a body's transport can

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`: the client has taken all there was."""
        self._stall.end()
        if not self.ended.called:
            self._watchdog.resume()
        self.transport.resumeProducing()  # type: ignore[union-attr]  # a body's transport can

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`: the client has gone."""
        self.transport.stopProducing()  # type: ignore[union-attr]  # a body's transport can

    def _end(self, ending: Ending) -> None:
        self._watchdog.stop()
        self._stall.end()
        if not self.ended.called:
            self.ended.callback(ending)


class _BodyReader(Protocol):
    """
    Collects a body, up to a limit.

    :param limit: bytes.
    :ivar collected: what has come, and perhaps a little more than the limit.
    :ivar progressed: called for each piece.
    :ivar ended: becomes whether the whole body has come.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.collected = bytearray()
        self.progressed: Callable[[], object] = lambda: None
        self.ended: Deferred[bool] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        self.progressed()
        self.collected += data
        if len(self.collected) > self._limit:
            self.end()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        self.end(complete=reason.check(ResponseFailed) is None)

    def end(self, *, complete: bool = False) -> None:
        """Wait for no more."""
        if not self.ended.called:
            self.ended.callback(complete)
