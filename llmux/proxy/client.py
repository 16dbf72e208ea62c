"""The HTTP client: treq's face over an agent that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treq.client import HTTPClient
from treq.response import _Response
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web._newclient import Request, RequestNotSent  # the only way to send any target
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from llmux.config import Backend
from llmux.proxy.connection import BackendConnection, Switched
from llmux.proxy.pool import ConnectionPool

HandingOver = Callable[[BackendConnection], object]


def _unheard(connection: BackendConnection) -> None:
    """Be told of a connection, and do nothing with that."""


class BackendResponse(proxyForInterface(IResponse)):  # type: ignore[misc]  # made at run time
    """
    An answer with what Twisted's client keeps for itself.

    :ivar framing: the headers about its connection and the framing of its body.
    """

    def __init__(
        self, original: IResponse, framing: Headers, connection: BackendConnection
    ) -> None:
        super().__init__(original)
        self.framing = framing
        self._connection = connection

    @property
    def was_reset(self) -> bool:
        """Whether its connection has ended in another way than by being closed."""
        return self._connection.was_reset


def _whole(connection: BackendConnection) -> Callable[[IResponse], BackendResponse]:
    """Make what adds to an answer what Twisted's client keeps for itself."""
    parser: Any = connection._parser  # which alone knows the headers that it set aside
    return lambda response: BackendResponse(response, parser.connHeaders, connection)


@implementer(IAgent)
class BackendAgent:
    """
    Sends requests to one backend over pooled connections.

    :param backend: where it listens.
    :param pool: its connections.
    """

    def __init__(self, backend: Backend, pool: ConnectionPool) -> None:
        self._base = backend.url.encode("ascii")
        self._pool = pool

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
        handing_over: HandingOver = _unheard,
    ) -> Deferred[IResponse]:
        """
        See :meth:`IAgent.request`.

        :param uri: the backend's address and, behind it, the target as it goes into the request
            line, with all its oddities.
        :param handing_over: see :meth:`RelayClient.request`.
        :raises ValueError: if method or target hold what no request line can.
        """
        target = uri.removeprefix(self._base)
        request = Request(method, target, headers or Headers(), bodyProducer, persistent=True)

        def send(connection: BackendConnection) -> Deferred[IResponse]:
            return connection.send(request, handing_over).addCallback(_whole(connection))

        def send_anew(failure: Failure) -> Deferred[IResponse]:
            failure.trap(RequestNotSent)  # nothing of it has been handed to the transport
            return self._pool.connect().addCallback(send)

        return self._pool.get().addCallback(send).addErrback(send_anew)


class RelayClient(HTTPClient):
    """
    treq's client without what treq adds: no URL parsing, no cookies, no redirects, no decoding.

    The lower layers of treq change what goes through (they ask for gzip and undo it, keep one
    cookie jar for all, rewrite ``|"[]`` in targets), so they are not entered.

    :param backend: where it sends requests to.
    :param pool: its connections.
    """

    def __init__(self, backend: Backend, pool: ConnectionPool) -> None:
        self._sender = BackendAgent(backend, pool)
        super().__init__(self._sender)
        self._pool = pool
        self._base = backend.url.encode("ascii")
        self.host = backend.authority.encode("ascii")

    def request(  # type: ignore[override]  # bytes that are sent as they are, not values to encode
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: IBodyProducer | None,
        handing_over: HandingOver = _unheard,
    ) -> Deferred[_Response]:
        """
        Send a request.

        :param method: as it goes into the request line.
        :param target: path and query, as they go into the request line.
        :param headers: all headers but those of the body's framing; one ``Host`` among them.
        :param body: the body, with its length, or ``None``.
        :param handing_over: called with the connection that is about to be handed the request.  As
            long as it has not been, the backend cannot know of the request.
        :returns: treq's response, its body unread and unbuffered.
        """
        answered = self._sender.request(method, self._base + target, headers, body, handing_over)
        return answered.addCallback(_Response, self._cookiejar)

    def upgrade(
        self, target: bytes, headers: Headers, handing_over: HandingOver = _unheard
    ) -> Deferred[Switched | _Response]:
        """
        Ask for another protocol, on a connection of its own.

        :param target: path and query, as they go into the request line.
        :param headers: all of them, ``Connection`` and ``Upgrade`` too.
        :param handing_over: see :meth:`request`.
        :returns: what the backend made of it.
        """
        request = Request(b"GET", target, headers, None, persistent=True)

        def send(connection: BackendConnection) -> Deferred[Switched | _Response]:
            upgraded = connection.upgrade(request, handing_over)
            whole = _whole(connection)

            def take(answer: Switched | IResponse) -> Switched | _Response:
                if isinstance(answer, Switched):
                    return answer
                return _Response(whole(answer), self._cookiejar)

            return upgraded.addCallback(take)

        return self._pool.connect().addCallback(send)

    def close_idle(self) -> None:
        """Close the connections on which nothing is under way."""
        self._pool.close()


def make_endpoint(reactor: Any, backend: Backend, timeout: float) -> IStreamClientEndpoint:
    """
    Make the endpoint of a backend; a literal address is not looked up.

    :param reactor: connects, and for a name looks it up.
    :param timeout: seconds that the backend may take to accept a connection.
    """
    endpoint: IStreamClientEndpoint
    if isIPAddress(backend.host):
        endpoint = TCP4ClientEndpoint(reactor, backend.host, backend.port, timeout)
    elif isIPv6Address(backend.host):
        endpoint = TCP6ClientEndpoint(reactor, backend.host, backend.port, timeout)
    else:
        endpoint = HostnameEndpoint(reactor, backend.host, backend.port, timeout)
    if backend.tls:
        endpoint = wrapClientTLS(optionsForClientTLS(backend.host), endpoint)
    return endpoint
