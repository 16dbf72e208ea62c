"""Connections to one backend, kept for the next request where that is safe."""

from __future__ import annotations

import socket
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from llmux.proxy.connection import BackendConnection


@attrs.define(eq=False)
class ConnectionPool:
    """
    Idle connections to one backend, the one that was used last first.

    Unlike :class:`twisted.web.client.HTTPConnectionPool` it keeps as many as there were requests at
    once, and looks at a connection's socket before it hands it out: a server that closed it a
    moment ago would otherwise swallow a request (https://github.com/twisted/twisted/issues/7843).
    A backend that was seen closing one without having announced it (llama-server does so after each
    stream) gets a new connection for each request, until :meth:`close`: the next time its closing
    might be on its way while a request goes out.

    :param endpoint: connects to the backend.
    :param clock: limits how long a connection is kept.
    :param reuse_secs: for so long; 0 keeps none.
    :ivar closes_silently: whether the backend was seen doing that.
    :ivar epoch: counts how often it was closed: what is older is not kept.
    """

    _endpoint: IStreamClientEndpoint
    _clock: IReactorTime
    _reuse_secs: float
    closes_silently: bool = attrs.field(default=False, init=False)
    epoch: int = attrs.field(default=0, init=False)
    _idle: dict[BackendConnection, IDelayedCall] = attrs.field(factory=dict, init=False)

    def get(self) -> Deferred[BackendConnection]:
        """Give a connection for one request; it comes back by itself when it can be reused."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.state == "QUIESCENT" and self._is_silent(connection):
                return succeed(connection)
            connection.abort()
        return self.connect()

    def connect(self) -> Deferred[BackendConnection]:
        """Give a new connection."""
        connected: Deferred[BackendConnection] = self._endpoint.connect(_ConnectionFactory(self))  # type: ignore[assignment]  # what the factory builds
        return connected

    def close(self) -> None:
        """Close all that are idle, and forget how the backend behaves: another may come."""
        self.epoch += 1
        self.closes_silently = False
        self._close_idle()

    def put(self, connection: BackendConnection, epoch: int) -> None:
        """
        Take a connection back.

        :param epoch: :attr:`epoch` when it was made.
        """
        if self.closes_silently or not self._reuse_secs or epoch != self.epoch:
            connection.abort()
        else:
            self._idle[connection] = self._clock.callLater(
                self._reuse_secs, self._expire, connection
            )

    def closed_idle(self, connection: BackendConnection) -> None:
        """Learn from a connection that the backend has closed while it was idle."""
        timer = self._idle.pop(connection, None)
        if timer is not None:  # else it was closed by ourselves
            timer.cancel()
            self._closing_seen()

    def _closing_seen(self) -> None:
        self.closes_silently = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            connection.abort()

    def _expire(self, connection: BackendConnection) -> None:
        del self._idle[connection]
        connection.abort()

    def _is_silent(self, connection: BackendConnection) -> bool:
        """
        Look whether nothing has come since the last answer: no end of file above all.

        The kernel may know of it before the reactor has told us.
        """
        transport: Any = connection.transport
        encrypted = getattr(transport, "transport", None)  # TLS wraps what has the socket
        handle = (encrypted or transport).getHandle()
        try:
            pending = handle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if pending == b"":
            self._closing_seen()
            return False
        return False  # whatever it is: nobody has asked for it


class _ConnectionFactory(Factory):
    """Makes the protocol of one connection."""

    noisy = False

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def buildProtocol(self, addr: IAddress | None) -> BackendConnection:
        pool, epoch = self._pool, self._pool.epoch
        return BackendConnection(lambda free: pool.put(free, epoch), pool.closed_idle)
