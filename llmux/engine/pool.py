"""Connections to one server, kept for the next request where that is safe."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web._newclient import RequestNotSent

from llmux.engine.connection import (
    HandingOver,
    IClientConnection,
    IClientResponse,
    Switched,
    unheard,
)
from llmux.engine.outgoing import ClientRequest

MakeConnection = Callable[
    [Callable[[IClientConnection], None], Callable[[IClientConnection], None]], Any
]
"""Makes the protocol of one connection; see :class:`IClientConnection`."""

_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT


@attrs.define(eq=False)
class ConnectionPool:
    """
    Idle connections to one server, the one that was used last first.

    Unlike :class:`twisted.web.client.HTTPConnectionPool` it keeps as many as there were requests at
    once, and looks at a connection's socket before it hands it out: a server that closed it a
    moment ago would otherwise swallow a request (https://github.com/twisted/twisted/issues/7843).
    A server that was seen closing one without having announced it (llama-server does so after each
    stream) gets a new connection for each request, until :meth:`close`: the next time its closing
    might be on its way while a request goes out.

    :param endpoint: connects to the server.
    :param clock: limits how long a connection is kept.
    :param reuse_secs: for so long; 0 keeps none.
    :param make: makes a connection's protocol.
    :ivar closes_silently: whether the server was seen doing that.
    :ivar epoch: counts how often it was closed: what is older is not kept.
    """

    _endpoint: IStreamClientEndpoint
    _clock: IReactorTime
    _reuse_secs: float
    _make: MakeConnection
    closes_silently: bool = attrs.field(default=False, init=False)
    epoch: int = attrs.field(default=0, init=False)
    _idle: dict[IClientConnection, float] = attrs.field(factory=dict, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)

    def send(
        self, request: ClientRequest, handing_over: HandingOver = unheard
    ) -> Deferred[IClientResponse]:
        """
        Send a request, over a connection that is idle or a new one.

        :param handing_over: called with the connection that is about to be handed the request.  As
            long as it has not been, the server cannot know of the request.
        :raises RequestNotSent: by the Deferred, if new connections are closed as soon as they are
            made.
        """
        connection = self._take()
        if connection is not None:
            return connection.send(request, handing_over)

        def send(connection: IClientConnection) -> Deferred[IClientResponse]:
            return connection.send(request, handing_over)

        def send_anew(failure: Failure) -> Deferred[IClientResponse]:
            if failure.check(RequestNotSent) is None:  # trap() would raise it, with this frame
                return fail(failure)
            return self.connect().addCallback(send)  # nothing of it was handed to the transport

        return self.connect().addCallback(send).addErrback(send_anew)

    def upgrade(
        self, request: ClientRequest, handing_over: HandingOver = unheard
    ) -> Deferred[Switched | IClientResponse]:
        """
        Ask for another protocol, on a connection of its own.

        :param request: with its ``Connection`` and ``Upgrade`` headers.
        :param handing_over: see :meth:`send`.
        :returns: what the server made of it.
        """
        return self.connect().addCallback(lambda made: made.upgrade(request, handing_over))

    def connect(self) -> Deferred[IClientConnection]:
        """Give a new connection; it comes back by itself when it can be used again."""
        connected: Deferred[IClientConnection] = self._endpoint.connect(_ConnectionFactory(self))  # type: ignore[assignment]  # what the factory builds
        return connected

    def close(self) -> None:
        """Close all that are idle, and forget how the server behaves: another may come."""
        self.epoch += 1
        self.closes_silently = False
        self._close_idle()

    def put(self, connection: IClientConnection, epoch: int) -> None:
        """
        Take a connection back.

        :param epoch: :attr:`epoch` when it was made.
        """
        if self.closes_silently or not self._reuse_secs or epoch != self.epoch:
            connection.abort()
            return
        self._idle[connection] = self._clock.seconds()
        if self._timer is None:
            self._timer = self._clock.callLater(self._reuse_secs, self._expire)

    def closed_idle(self, connection: IClientConnection) -> None:
        """Learn from a connection that the server has closed while it was idle."""
        if self._idle.pop(connection, None) is not None:  # else it was closed by ourselves
            self._closing_seen()

    def build(self) -> Any:
        """Make the protocol of a new connection."""
        epoch = self.epoch
        return self._make(lambda free: self.put(free, epoch), self.closed_idle)

    def _take(self) -> IClientConnection | None:
        """Take a connection that is idle and has said nothing."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.idle and self._is_silent(connection):
                return connection
            connection.abort()
        return None

    def _closing_seen(self) -> None:
        self.closes_silently = True
        self._close_idle()

    def _close_idle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            connection, _ = self._idle.popitem()
            connection.abort()

    def _expire(self) -> None:
        """Close what has been idle for too long; one timer serves for all."""
        self._timer = None
        now = self._clock.seconds()
        while self._idle:
            connection, since = next(iter(self._idle.items()))  # the one that is idle for longest
            left = since + self._reuse_secs - now
            if left > 0:
                self._timer = self._clock.callLater(left, self._expire)
                return
            del self._idle[connection]
            connection.abort()

    def _is_silent(self, connection: IClientConnection) -> bool:
        """
        Look whether nothing has come since the last answer: no end of file above all.

        The kernel may know of it before the reactor has told us.
        """
        transport: Any = connection.transport
        encrypted = getattr(transport, "transport", None)  # TLS wraps what has the socket
        handle = (encrypted or transport).getHandle()
        try:
            look = select.poll()
            look.register(handle.fileno(), select.POLLIN)
            if not look.poll(0):
                return True
            if handle.recv(1, _PEEK) == b"":
                self._closing_seen()
        except (OSError, ValueError):  # the latter if it has no number any more
            return False
        return False  # whatever it is: nobody has asked for it


class _ConnectionFactory(Factory):
    """Makes the protocol of one connection."""

    noisy = False

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._pool.build()
