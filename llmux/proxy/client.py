"""The HTTP client: treq's face over an agent that changes nothing."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from treq.response import _Response
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from llmux.config import Backend
from llmux.engine.choice import HTTP
from llmux.engine.connection import HandingOver, IClientResponse, Switched, unheard
from llmux.engine.endpoint import server_endpoint
from llmux.engine.outgoing import ClientRequest
from llmux.engine.pool import ConnectionPool
from llmux.proxy.connection import BackendConnection


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
    ) -> Deferred[IResponse]:
        """
        See :meth:`IAgent.request`.

        :param uri: the backend's address and, behind it, the target as it goes into the request
            line, with all its oddities.
        :raises ValueError: if method or target hold what no request line can.
        """
        target = uri.removeprefix(self._base)
        request = ClientRequest(method, target, headers or Headers(), bodyProducer)
        answered: Deferred[Any] = self._pool.send(request)
        return answered


class RelayResponse(_Response):
    """treq's response."""

    original: IClientResponse


class RelayClient(HTTPClient):
    """
    treq's client without what treq adds: no URL parsing, no cookies, no redirects, no decoding.

    The lower layers of treq change what goes through (they ask for gzip and undo it, keep one
    cookie jar for all, rewrite ``|"[]`` in targets), so they are not entered.

    :param backend: where it sends requests to.
    :param pool: its connections.
    """

    def __init__(self, backend: Backend, pool: ConnectionPool) -> None:
        super().__init__(BackendAgent(backend, pool))
        self._pool = pool
        self.host = backend.authority.encode("ascii")

    def request(  # type: ignore[override]  # bytes that are sent as they are, not values to encode
        self, method: bytes, target: bytes, headers: Headers, body: IBodyProducer | None
    ) -> Deferred[RelayResponse]:
        """
        Send a request, and have its answer as treq gives it; see :meth:`send`.

        :returns: treq's response, its body unread and unbuffered.
        """
        answered = self.send(method, target, headers, body)
        return answered.addCallback(RelayResponse, self._cookiejar)

    def send(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: IBodyProducer | None,
        handing_over: HandingOver = unheard,
    ) -> Deferred[IClientResponse]:
        """
        Send a request.

        :param method: as it goes into the request line.
        :param target: path and query, as they go into the request line.
        :param headers: all headers but those of the body's framing; one ``Host`` among them.
        :param body: the body, with its length, or ``None``.
        :param handing_over: see :meth:`ConnectionPool.send`.
        """
        return self._pool.send(ClientRequest(method, target, headers, body), handing_over)

    def upgrade(
        self, target: bytes, headers: Headers, handing_over: HandingOver = unheard
    ) -> Deferred[Switched | IClientResponse]:
        """
        Ask for another protocol, on a connection of its own.

        :param target: path and query, as they go into the request line.
        :param headers: all of them, ``Connection`` and ``Upgrade`` too.
        :param handing_over: see :meth:`send`.
        :returns: what the backend made of it.
        """
        return self._pool.upgrade(ClientRequest(b"GET", target, headers), handing_over)

    def close_idle(self) -> None:
        """Close the connections on which nothing is under way."""
        self._pool.close()


def make_endpoint(reactor: Any, backend: Backend, timeout: float) -> IStreamClientEndpoint:
    """
    Make the endpoint of a backend; a literal address is not looked up.

    :param reactor: connects, and for a name looks it up.
    :param timeout: seconds that the backend may take to accept a connection.
    """
    return server_endpoint(reactor, backend.host, backend.port, timeout, tls=backend.tls)


def connection_maker(http: str) -> Any:
    """
    Give what makes a pool's connections.

    :param http: what of :data:`llmux.engine.choice.HTTP` there is to be.
    """
    if http == HTTP.name:
        from llmux.engine.client import ClientConnection  # which needs httptools

        return ClientConnection
    return BackendConnection


def make_pool(
    endpoint: IStreamClientEndpoint, clock: IReactorTime, reuse_secs: float, http: str
) -> ConnectionPool:
    """
    Make a pool of connections to a backend.

    :param endpoint: connects to the backend.
    :param clock: limits how long a connection is kept.
    :param reuse_secs: for so long; 0 keeps none.
    :param http: see :func:`connection_maker`.
    """
    return ConnectionPool(endpoint, clock, reuse_secs, connection_maker(http))
