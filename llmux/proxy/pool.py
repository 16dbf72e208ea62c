"""Connections to one backend, kept for the next request where that is safe."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.web._newclient import HTTP11ClientProtocol  # what Agent itself uses

REUSE_SECS = 2.0
"""Seconds that an idle connection is kept: well below what servers wait before they close one."""


@attrs.define(eq=False)
class ConnectionPool:
    """
    Idle connections to one backend, the one that was used last first.

    Unlike :class:`twisted.web.client.HTTPConnectionPool` it keeps as many as there were requests at
    once, and looks at a connection's socket before it hands it out: a server that closed it a
    moment ago would otherwise swallow a request (https://github.com/twisted/twisted/issues/7843).

    :param endpoint: connects to the backend.
    :param clock: limits how long a connection is kept.
    """

    _endpoint: IStreamClientEndpoint
    _clock: IReactorTime
    _idle: dict[HTTP11ClientProtocol, IDelayedCall] = attrs.Factory(dict)

    def get(self) -> Deferred[HTTP11ClientProtocol]:
        """Give a connection for one request; it comes back by itself when it can be reused."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.state == "QUIESCENT" and _is_silent(connection):
                return succeed(connection)
            connection.abort()
        connected: Deferred[HTTP11ClientProtocol] = self._endpoint.connect(  # type: ignore[assignment]  # what the factory builds
            _ConnectionFactory(self._put)
        )
        return connected

    def close(self) -> None:
        """Close all that are idle."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            connection.abort()

    def _put(self, connection: HTTP11ClientProtocol) -> None:
        self._idle[connection] = self._clock.callLater(REUSE_SECS, self._expire, connection)

    def _expire(self, connection: HTTP11ClientProtocol) -> None:
        del self._idle[connection]
        connection.abort()


class _ConnectionFactory(Factory):
    """Makes the protocol of one connection."""

    noisy = False

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None]) -> None:
        self._quiescent = quiescent

    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:
        return HTTP11ClientProtocol(self._quiescent)


def _is_silent(connection: HTTP11ClientProtocol) -> bool:
    """
    Look whether nothing has come from the server since the last answer: no end of file above all.

    The kernel may know of it before the reactor has told us.
    """
    transport: Any = connection.transport
    encrypted = getattr(transport, "transport", None)  # TLS wraps the transport that has the socket
    handle = (encrypted or transport).getHandle()
    try:
        pending = handle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return encrypted is not None and pending != b""  # TLS has messages of its own (tickets)
