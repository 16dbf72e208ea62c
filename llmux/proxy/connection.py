"""One connection to a backend: Twisted's client protocol, which can be switched to another one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, Request  # what Agent itself uses
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

_MAX_HEAD = 64 * 1024  # bytes of the head that answers an upgrade
_SWITCHES = re.compile(rb"HTTP/1\.[01] 101(?: ([^\r\n]*))?\r\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d\b")


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
        self._early = b""
        self._tunnel: tuple[Callable[[bytes], None], Callable[[], None]] | None = None

    def upgrade(self, request: Request) -> Deferred[Switched | IResponse]:
        """
        Send a request that asks for another protocol.

        :param request: with its ``Connection`` and ``Upgrade`` headers.
        :returns: what the backend made of it: the switch, or an ordinary answer.
        """
        answered: Deferred[IResponse] = self.request(request)
        upgraded: Deferred[Switched | IResponse] = Deferred(lambda _: answered.cancel())
        self._upgraded = upgraded

        def settle(result: IResponse | Failure) -> None:
            self._upgraded = None
            if not upgraded.called:
                upgraded.callback(result)

        answered.addBoth(settle)
        return upgraded

    def tunnel(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """
        Hand on what comes after the switch.

        :param received: takes bytes as they come.
        :param lost: called when the connection has ended.
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
        idle = self.state == "QUIESCENT"
        super().connectionLost(reason)
        if self._tunnel is not None:
            self._tunnel[1]()
        elif idle:
            self._closed_idle(self)

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

    def _quiescent(self, connection: HTTP11ClientProtocol) -> None:
        """Be used again, if the answer says nothing against it (RFC 9112, 9.3)."""
        parser: Any = self._parser
        tokens = {
            token.strip().lower()
            for line in parser.connHeaders.getRawHeaders(b"connection", [])
            for token in line.split(b",")
        }
        if parser.response.version[1:] < (1, 1) or b"close" in tokens:
            self.abort()
        else:
            self._free(self)


def _headers(lines: list[bytes]) -> Headers:
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers.addRawHeader(name.strip(), value.strip())
    return headers
