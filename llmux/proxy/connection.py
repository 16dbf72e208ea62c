"""One connection to a backend on Twisted's own client protocol."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web._newclient import (
    HTTP11ClientProtocol,
    ParseError,
    Request,
    RequestNotSent,
)  # what Agent itself uses
from twisted.web.http import NO_BODY_CODES
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface import implementer

from llmux.engine.closing import Closing
from llmux.engine.connection import (
    HandingOver,
    IClientConnection,
    IClientResponse,
    Switched,
    unheard,
)
from llmux.engine.outgoing import ClientRequest
from llmux.headers import tokens

_MAX_HEAD = 64 * 1024  # bytes of a line of a head, or of the head that answers an upgrade
_SHOWN = 50  # bytes of what a backend said that an error repeats
_SWITCHES = re.compile(rb"HTTP/1\.1 101(?: ([^\r\n]*))?\r\n")
_INTERIM = re.compile(rb"HTTP/1\.1 1\d\d\b")


@implementer(IClientResponse)
class BackendResponse(proxyForInterface(IResponse)):  # type: ignore[misc]  # made at run time
    """
    An answer with what Twisted's client keeps for itself.

    :param original: the answer.
    :param framing: the headers about its connection and the framing of its body.
    :param connection: on which it has come.
    """

    def __init__(
        self, original: IResponse, framing: Headers, connection: BackendConnection
    ) -> None:
        super().__init__(original)
        self._framing = framing
        self._connection = connection

    @property
    def received(self) -> Headers:
        """See :class:`IClientResponse`."""
        received: Headers = self.headers.copy()
        for name, values in self._framing.getAllRawHeaders():
            received.setRawHeaders(name, values)
        return received

    @property
    def was_reset(self) -> bool:
        """See :class:`IClientResponse`."""
        return self._connection.was_reset

    def take_whole(self) -> None:
        """See :meth:`IClientResponse.take_whole`: Twisted's client hands bodies over alone."""


@implementer(IClientConnection)
class BackendConnection(HTTP11ClientProtocol):
    """
    A connection to a backend.

    :param free: called with it when it could be used for another request.
    :param closed_idle: called with it when the backend has closed it while nothing was under way.
    """

    def __init__(
        self,
        free: Callable[[IClientConnection], None],
        closed_idle: Callable[[IClientConnection], None],
    ) -> None:
        super().__init__(BackendConnection._quiescent)  # which Twisted gives the connection
        self._free = free
        self._closed_idle = closed_idle
        self._upgraded: Deferred[Switched | IClientResponse] | None = None
        self._sending: Request | None = None
        self._surplus = False
        self.was_reset = False
        self.failed = False
        self.closing = Closing()
        self._broken_off = False
        self._early = b""  # of a head, or for a tunnel that nobody has opened yet
        self._switched = False
        self._tunnel: tuple[Callable[[bytes], None], Callable[[Failure], None]] | None = None

    @property
    def idle(self) -> bool:
        """Whether it could be used for a request."""
        return bool(self.state == "QUIESCENT")

    def send(
        self, request: ClientRequest, handing_over: HandingOver = unheard
    ) -> Deferred[IClientResponse]:
        """
        See :meth:`IClientConnection.send`.

        Twisted's own :meth:`request` gives the answer only when all of the request has been sent.
        A backend that refuses a large body at once and reads no more of it would never be heard,
        and one that breaks off meanwhile leaves Twisted's state in disorder.
        """
        if not self.idle:
            return fail(RequestNotSent())
        handing_over(self)
        sending = self._sending = Request(
            request.method, request.target, request.headers, request.body, persistent=True
        )
        self.was_reset = self._surplus = False
        finished: Deferred[IResponse] = self.request(sending)
        answered: Deferred[IClientResponse] = Deferred(lambda _: finished.cancel())
        parser: Any = self._parser  # which alone knows the headers that it set aside

        def settle(result: IResponse | Failure) -> None:
            if not answered.called:
                if not isinstance(result, Failure):
                    result = BackendResponse(result, parser.connHeaders, self)
                answered.callback(result)

        def begun(result: IResponse | Failure) -> IResponse | Failure | None:
            """Give the answer at once, if Twisted would wait; it hears of its failure only once."""
            if self.state == "TRANSMITTING":
                if isinstance(result, Failure):
                    self.break_off()
                settle(result)
            return None if isinstance(result, Failure) and answered.called else result

        if self._responseDeferred is not None:
            parser.MAX_LENGTH = _MAX_HEAD
            parser.lineLengthExceeded = _refuse_line
            self._responseDeferred.addBoth(begun)
        finished.addBoth(settle)
        return answered

    def upgrade(
        self, request: ClientRequest, handing_over: HandingOver = unheard
    ) -> Deferred[Switched | IClientResponse]:
        """See :meth:`IClientConnection.upgrade`."""
        answered = self.send(request, handing_over)
        upgraded: Deferred[Switched | IClientResponse] = Deferred(lambda _: answered.cancel())
        self._upgraded = upgraded

        def settle(result: IClientResponse | Failure) -> None:
            self._upgraded = None
            if not upgraded.called:
                upgraded.callback(result)

        answered.addBoth(settle)
        return upgraded

    def tunnel(self, received: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        """See :meth:`IClientConnection.tunnel`."""
        self._tunnel = received, lost
        early, self._early = self._early, b""
        if early:
            received(early)

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        if self._tunnel is not None:
            self._tunnel[0](data)
        elif self._switched:
            self._early += data
        elif self._upgraded is not None:
            self._early += data
            self._look_for_switch(self._upgraded)
        else:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        self.was_reset = reason.check(ConnectionDone) is None
        self.failed = not self._broken_off
        try:
            self._tell_of_end(reason)
        finally:
            self.closing.end()

    def _tell_of_end(self, reason: Failure) -> None:
        if self._early and not self._switched:  # a head that has not come to its end
            early, self._early, self._upgraded = self._early, b"", None
            super().dataReceived(early)
        state = self.state
        if state == "TRANSMITTING":
            self._lost_while_sending(reason)
        else:
            super().connectionLost(reason)
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel[1](reason)
        elif state == "QUIESCENT":
            self._closed_idle(self)

    def _lost_while_sending(self, reason: Failure) -> None:
        """End the answer, too, if it has begun; Twisted forgets it."""
        if self._finishedRequest is None:  # its parser has given up already
            self._state = "CONNECTION_LOST"
            assert self._sending is not None
            self._sending.stopWriting()
        else:
            super().connectionLost(reason)
            self._disconnectParser(reason)

    def _look_for_switch(self, upgraded: Deferred[Switched | IClientResponse]) -> None:
        """Take a 101 for ourselves, which Twisted's parser would drop; leave all else to it."""
        transport: Any = self.transport
        while _INTERIM.match(self._early):
            head, end, rest = self._early.partition(b"\r\n\r\n")
            if not end:
                if len(head) > _MAX_HEAD:
                    break
                return
            found = _SWITCHES.match(head + b"\r\n")
            if found is None:
                self._early = rest  # an interim answer, such as 103
                continue
            self._upgraded, self._early, self._switched = None, rest, True
            transport.pauseProducing()  # until somebody takes what comes
            headers = _headers(head.split(b"\r\n")[1:])
            upgraded.callback(Switched(self, found[1] or b"", headers))
            return
        undecided = len(self._early) < len(b"HTTP/1.1 1xx")
        if not (undecided and b"HTTP/1.1 1".startswith(self._early[: len(b"HTTP/1.1 1")])):
            early, self._early, self._upgraded = self._early, b"", None
            super().dataReceived(early)

    def abort(self) -> Deferred[None]:
        """See :meth:`IClientConnection.abort`."""
        closed: Deferred[None] = super().abort()
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()
        return closed

    def break_off(self) -> None:
        """See :meth:`IClientConnection.break_off`."""
        self._broken_off = True
        transport: Any = self.transport
        transport.abortConnection()

    def hang_up(self) -> None:
        """See :meth:`IClientConnection.hang_up`."""
        self._broken_off = True
        transport: Any = self.transport
        transport.loseConnection()

    def _finishResponse(self, rest: bytes) -> None:  # noqa: N802  # Twisted's
        """Take the end of an answer; what comes behind it belongs to no other one."""
        self._surplus = bool(rest)
        super()._finishResponse(rest)

    def _quiescent(self) -> None:
        """Be used again, if nothing speaks against it (RFC 9112, 9.3)."""
        if self._is_reusable():
            self._free(self)
        else:
            self.abort()

    def _is_reusable(self) -> bool:
        """
        Tell whether the connection is surely at the end of an answer, and stays.

        Where no body is to come a backend may send one all the same, a moment later; the next
        client would get it for an answer.
        """
        parser: Any = self._parser
        headers: Headers = parser.connHeaders
        lengths = (headers, parser.response.headers)  # where Twisted puts it for HEAD
        promised = headers.hasHeader(b"transfer-encoding") or any(
            one.hasHeader(b"content-length") for one in lengths
        )
        bodiless = parser.request.method == b"HEAD" or parser.response.code in NO_BODY_CODES
        return not (
            self._surplus
            or parser.response.version[1:] < (1, 1)
            or b"close" in tokens(headers, b"connection")
            or (promised and bodiless)
        )


def _refuse_line(line: bytes) -> None:
    """Break off at once; Twisted would wait until the whole request has been sent."""
    raise ParseError("a line of the head is too long", line[:_SHOWN])


def _headers(lines: list[bytes]) -> Headers:
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers.addRawHeader(name.strip(), value.strip())
    return headers
