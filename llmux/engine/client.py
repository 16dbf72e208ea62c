"""One connection of an HTTP client, on llhttp."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import (
    RequestGenerationFailed,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from zope.interface import implementer

from llmux.engine.closing import Closing
from llmux.engine.connection import (
    HandingOver,
    IClientConnection,
    IClientResponse,
    Switched,
    unheard,
)
from llmux.engine.outgoing import ClientRequest, Upload
from llmux.engine.response import ClientResponse
from llmux.engine.response_head import BadResponse, ResponseHead
from llmux.engine.together import write_soon

_MAX_HEAD = 64 * 1024  # bytes
_SHOWN = 50  # bytes of what a server said that an error repeats
_HTTP = b"HTTP/"
_END = re.compile(rb"\n\r?\n").search


class _Phase(enum.Enum):
    IDLE = enum.auto()
    HEAD = enum.auto()
    """A request has been sent, or is being sent, and the head of its answer is what comes next."""
    BODY = enum.auto()
    TUNNEL = enum.auto()
    OVER = enum.auto()
    """Whatever comes is of no use any more."""


@implementer(IClientConnection)
class ClientConnection(Protocol):
    """
    A connection to a server.

    :param free: called with it when it could be used for another request.
    :param closed_idle: called with it when the server has closed it while nothing was under way.
    """

    transport: Any

    def __init__(
        self,
        free: Callable[[ClientConnection], object],
        closed_idle: Callable[[ClientConnection], object],
    ) -> None:
        self._free = free
        self._closed_idle = closed_idle
        self.was_reset = False
        self.failed = False
        self.closing = Closing()
        self._broken_off = False
        self._phase = _Phase.IDLE
        self._request: ClientRequest | None = None
        self._upload: Upload | None = None
        self._upgrading = False
        self._answered: Deferred[Any] | None = None
        self._response: ClientResponse | None = None
        self._received = b""  # of a head, or for a tunnel that nobody has opened yet
        self._heard = False  # whether anything has come of the answer
        self._persistent = True  # as far as its last answer goes
        self._tunnel: tuple[Callable[[bytes], None], Callable[[Failure], None]] | None = None

    @property
    def idle(self) -> bool:
        """Whether it could be used for a request."""
        return self._phase is _Phase.IDLE

    def connectionMade(self) -> None:
        """See :meth:`IProtocol.connectionMade`."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)

    def send(
        self, request: ClientRequest, handing_over: HandingOver = unheard
    ) -> Deferred[IClientResponse]:
        """See :meth:`IClientConnection.send`."""
        if self._phase is not _Phase.IDLE:
            return fail(RequestNotSent())
        handing_over(self)
        self._phase = _Phase.HEAD
        self._request = request
        self._heard = False
        answered: Deferred[IClientResponse] = Deferred(self._cancel)
        self._answered = answered
        whole = request.take_whole()
        if whole is not None:
            write_soon(self.transport, whole)
        else:
            self._upload = Upload(self.transport, request, self._uploaded)
            self._upload.begin()
        return answered

    def upgrade(
        self, request: ClientRequest, handing_over: HandingOver = unheard
    ) -> Deferred[Switched | IClientResponse]:
        """See :meth:`IClientConnection.upgrade`."""
        self._upgrading = True
        return self.send(request, handing_over)  # type: ignore[return-value]  # now it can be both

    def tunnel(self, received: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        """See :meth:`IClientConnection.tunnel`."""
        self._tunnel = received, lost
        early, self._received = self._received, b""
        if early:
            received(early)

    def abort(self) -> None:
        """See :meth:`IClientConnection.abort`."""
        self._phase = _Phase.OVER
        self.transport.loseConnection()
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()

    def break_off(self) -> None:
        """See :meth:`IClientConnection.break_off`."""
        self._broken_off = True
        self.transport.abortConnection()

    def hang_up(self) -> None:
        """See :meth:`IClientConnection.hang_up`."""
        self._broken_off = True
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        if self._response is not None:
            self._response.receive(data)
        elif self._phase is _Phase.HEAD:
            self._heard = True
            self._read_head(data)
        elif self._phase is _Phase.TUNNEL:
            if self._tunnel is None:
                self._received += data
            else:
                self._tunnel[0](data)
        elif self._phase is _Phase.IDLE:  # nobody has asked for anything
            self._closed_idle(self)
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See :meth:`IProtocol.connectionLost`."""
        self.was_reset = reason.check(ConnectionDone) is None
        self.failed = not self._broken_off
        phase, self._phase = self._phase, _Phase.OVER
        upload = self._stop_upload()
        try:
            if phase is _Phase.IDLE:
                self._closed_idle(self)
            elif phase is _Phase.TUNNEL:
                tunnel, self._tunnel = self._tunnel, None
                if tunnel is not None:
                    tunnel[1](reason)
            elif self._response is not None:
                response, self._response = self._response, None
                response.lost(reason, self.was_reset)
            elif upload is not None:
                self._fail(RequestTransmissionFailed([reason]))
            elif self._heard:
                self._fail(ResponseFailed([reason]))
            else:
                self._fail(ResponseNeverReceived([reason]))
        finally:
            self.closing.end()

    def _read_head(self, data: bytes) -> None:
        """Take a piece of a head, and perhaps of what is behind it."""
        start = max(0, len(self._received) - 2)  # the end of a line may have come before
        data = self._received + data
        while data:
            found = _END(data, start)
            end = len(data) if found is None else found.end()
            if end > _MAX_HEAD:
                self._give_up(f"its head is too long: {data[:_SHOWN]!r}")
            elif not _HTTP.startswith(data[: len(_HTTP)]):
                self._give_up(f"it is no HTTP: {data[:_SHOWN]!r}")
            elif found is None:
                self._received = data
            elif (head := self._parse(data[:end])) is not None:
                data, start = data[end:], 0
                self._received = b""
                if 100 <= head.code < 200 and head.code != 101:
                    continue  # an interim answer, such as 103
                self._take(head, data)
            return

    def _parse(self, raw: bytes) -> ResponseHead | None:
        assert self._request is not None
        try:
            return ResponseHead(raw, self._request.method)
        except BadResponse as error:
            self._give_up(f"{error}: {raw[:_SHOWN]!r}")
            return None

    def _take(self, head: ResponseHead, rest: bytes) -> None:
        """Give the head of an answer to whoever waits for it."""
        answered, self._answered = self._answered, None
        assert answered is not None
        assert self._request is not None
        if head.code == 101:
            if self._upgrading:
                self._switch(head, rest, answered)
            else:
                self._answered = answered
                self._give_up("it switches to a protocol for which nobody has asked")
            return
        self._upgrading = False
        self._persistent = head.persistent
        response = ClientResponse(
            head, self._request, self.transport, self._ended, self.transport.abortConnection
        )
        if head.length == 0:
            self._ended(rest)
            response.complete()
            answered.callback(response)
            return
        self._phase = _Phase.BODY
        self._response = response
        if rest:
            response.receive(rest)
        answered.callback(response)
        if not response.wanted:
            response.hold()

    def _switch(self, head: ResponseHead, rest: bytes, switched: Deferred[Any]) -> None:
        self._phase = _Phase.TUNNEL
        self._received = rest
        self.transport.pauseProducing()  # until somebody takes what comes
        switched.callback(Switched(self, head.phrase, head.headers))

    def _ended(self, rest: bytes) -> None:
        """Take the end of an answer; what comes behind it belongs to no other one."""
        self._response = self._request = None
        if self._stop_upload() is not None:  # nobody will read the rest of it
            self._phase = _Phase.OVER
            self.transport.abortConnection()
        elif rest or not self._persistent:
            self.abort()
        else:
            self._phase = _Phase.IDLE
            self._free(self)

    def _uploaded(self, failure: Failure | None) -> None:
        """Take the end of the request."""
        self._upload = None
        if failure is not None:
            self.transport.abortConnection()
            if self._answered is not None:
                self._phase = _Phase.OVER
                self._fail(RequestGenerationFailed([failure]))

    def _stop_upload(self) -> Upload | None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.stop()
        return upload

    def _give_up(self, wrong: str) -> None:
        """End the connection, since nobody can tell what comes on it."""
        self._phase = _Phase.OVER
        self._received = b""
        self._stop_upload()
        self.transport.abortConnection()
        self._fail(ResponseFailed([Failure(BadResponse(wrong))]))

    def _cancel(self, answered: Deferred[Any]) -> None:
        self._answered = None
        self._phase = _Phase.OVER
        self._stop_upload()
        self.transport.abortConnection()
        answered.errback(ResponseNeverReceived([Failure(CancelledError())]))

    def _fail(self, error: Exception) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.errback(error)
