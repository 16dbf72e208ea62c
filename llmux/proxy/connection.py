"""One connection to a backend: Twisted's client protocol, which can be switched to another one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
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

from llmux.headers import tokens
from llmux.proxy.closing import Closing

_MAX_HEAD = 64 * 1024  # bytes of a line of a head, or of the head that answers an upgrade
_SHOWN = 50  # bytes of what a backend said that an error repeats
_SWITCHES = re.compile(rb"HTTP/1\.1 101(?: ([^\r\n]*))?\r\n")
_INTERIM = re.compile(rb"HTTP/1\.1 1\d\d\b")


@attrs.frozen
class Switched:
    """
    A backend's answer that the connection speaks another protocol from now on (101).

    :param connection: on which it came; it is paused.
    :param reason: its reason phrase.
    :param headers: of that answer.
    :param early: what has come behind it.
    """

    connection: BackendConnection
    reason: bytes
    headers: Headers
    early: bytes


class BackendConnection(HTTP11ClientProtocol):
    """
    A connection to a backend.

    :param free: called with it when it could be used for another request.
    :param closed_idle: called with it when the backend has closed it while nothing was under way.
    :ivar was_reset: whether the connection has ended in another way than by being closed.
    :ivar failed: whether it has ended, and not because we broke it off.
    :ivar closing: when it has ended.
    """

    def __init__(
        self,
        free: Callable[[BackendConnection], None],
        closed_idle: Callable[[BackendConnection], None],
    ) -> None:
        super().__init__(self._quiescent)
        self._free = free
        self._closed_idle = closed_idle
        self._upgraded: Deferred[Switched | IResponse] | None = None
        self._sending: Request | None = None
        self._surplus = False
        self.was_reset = False
        self.failed = False
        self.closing = Closing()
        self._broken_off = False
        self._early = b""
        self._tunnel: tuple[Callable[[bytes], None], Callable[[Failure], None]] | None = None

    def send(
        self, request: Request, handing_over: Callable[[BackendConnection], object]
    ) -> Deferred[IResponse]:
        """
        Send a request; its answer may begin before all of its body has been sent.

        Twisted's own :meth:`request` gives the answer only then.  A backend that refuses a large
        body at once and reads no more of it would never be heard, and one that breaks off meanwhile
        leaves Twisted's state in disorder.

        :param handing_over: called with the connection right before it is handed the request.
        :raises RequestNotSent: by the Deferred, if it cannot be, and has not been.
        """
        if self.state != "QUIESCENT":
            return fail(RequestNotSent())
        handing_over(self)
        self._sending = request
        self.was_reset = self._surplus = False
        finished: Deferred[IResponse] = self.request(request)
        answered: Deferred[IResponse] = Deferred(lambda _: finished.cancel())

        def settle(result: IResponse | Failure) -> None:
            if not answered.called:
                answered.callback(result)

        def begun(result: IResponse | Failure) -> IResponse | Failure | None:
            """Give the answer at once, if Twisted would wait; it hears of its failure only once."""
            if self.state == "TRANSMITTING":
                if isinstance(result, Failure):
                    self.break_off()
                settle(result)
            return None if isinstance(result, Failure) and answered.called else result

        if self._responseDeferred is not None:
            parser: Any = self._parser
            parser.MAX_LENGTH = _MAX_HEAD
            parser.lineLengthExceeded = _refuse_line
            self._responseDeferred.addBoth(begun)
        finished.addBoth(settle)
        return answered

    def upgrade(
        self, request: Request, handing_over: Callable[[BackendConnection], object]
    ) -> Deferred[Switched | IResponse]:
        """
        Send a request that asks for another protocol.

        :param request: with its ``Connection`` and ``Upgrade`` headers.
        :param handing_over: see :meth:`send`.
        :returns: what the backend made of it: the switch, or an ordinary answer.
        """
        answered = self.send(request, handing_over)
        upgraded: Deferred[Switched | IResponse] = Deferred(lambda _: answered.cancel())
        self._upgraded = upgraded

        def settle(result: IResponse | Failure) -> None:
            self._upgraded = None
            if not upgraded.called:
                upgraded.callback(result)

        answered.addBoth(settle)
        return upgraded

    def tunnel(self, received: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        """
        Hand on what comes after the switch.

        :param received: takes bytes as they come.
        :param lost: called with the reason when the connection has ended.
        """
        self._tunnel = received, lost

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        if self._tunnel is not None:
            self._tunnel[0](data)
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
        if self._early:  # of a head that has not come to its end
            early, self._early, self._upgraded = self._early, b"", None
            super().dataReceived(early)
        state = self.state
        if state == "TRANSMITTING":
            self._lost_while_sending(reason)
        else:
            super().connectionLost(reason)
        if self._tunnel is not None:
            self._tunnel[1](reason)
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

    def _look_for_switch(self, upgraded: Deferred[Switched | IResponse]) -> None:
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
            self._upgraded, self._early = None, b""
            transport.pauseProducing()  # until somebody takes what comes
            headers = _headers(head.split(b"\r\n")[1:])
            upgraded.callback(Switched(self, found[1] or b"", headers, rest))
            return
        undecided = len(self._early) < len(b"HTTP/1.1 1xx")
        if not (undecided and b"HTTP/1.1 1".startswith(self._early[: len(b"HTTP/1.1 1")])):
            early, self._early, self._upgraded = self._early, b"", None
            super().dataReceived(early)

    def abort(self) -> Deferred[None]:
        """Close it while nothing is under way; over TLS without the consent that it asks for."""
        closed: Deferred[None] = super().abort()
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()
        return closed

    def break_off(self) -> None:
        """Close it at once, whatever is still to be sent."""
        self._broken_off = True
        transport: Any = self.transport
        transport.abortConnection()

    def hang_up(self) -> None:
        """Break it off in order: what is still to be sent goes out first."""
        self._broken_off = True
        transport: Any = self.transport
        transport.loseConnection()

    def _finishResponse(self, rest: bytes) -> None:  # noqa: N802  # Twisted's
        """Take the end of an answer; what comes behind it belongs to no other one."""
        self._surplus = bool(rest)
        super()._finishResponse(rest)

    def _quiescent(self, connection: HTTP11ClientProtocol) -> None:
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
