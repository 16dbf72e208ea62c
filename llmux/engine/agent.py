"""An HTTP client for any server, on llhttp: what :class:`twisted.web.client.Agent` is."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from llmux.engine.client import ClientConnection
from llmux.engine.endpoint import server_endpoint
from llmux.engine.outgoing import ClientRequest
from llmux.engine.pool import ConnectionPool

_PORTS = {b"http": 80, b"https": 443}


@implementer(IAgentEndpointFactory)
@attrs.frozen
class EndpointFactory:
    """
    Connects to whatever a URI names, by TCP, with TLS for ``https``.

    :param reactor: connects.
    :param timeout: seconds that a server may take to accept a connection.
    """

    _reactor: Any
    _timeout: float = 30.0

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See :meth:`IAgentEndpointFactory.endpointForURI`."""
        if uri.scheme not in _PORTS:
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        host = uri.host.decode("ascii")
        return server_endpoint(
            self._reactor, host, uri.port, self._timeout, tls=uri.scheme == b"https"
        )


@implementer(IAgent)
class LLHTTPAgent:
    """
    Sends requests to any server, over connections that it keeps for the next ones.

    It keeps a pool for each server, and as many connections as there were requests at once.  It can
    be wrapped as Twisted's can: ``treq.client.HTTPClient(LLHTTPAgent(reactor))``.

    :param reactor: connects and tells the time.
    :param reuse_secs: for how long an idle connection is kept; 0: not at all.
    :param endpoints: connects to the servers, instead of by TCP.
    """

    def __init__(
        self,
        reactor: Any,
        reuse_secs: float = 2.0,
        endpoints: IAgentEndpointFactory | None = None,
    ) -> None:
        self._reactor = reactor
        self._reuse_secs = reuse_secs
        self._endpoints = EndpointFactory(reactor) if endpoints is None else endpoints
        self._pools: dict[tuple[bytes, bytes, int], ConnectionPool] = {}

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """
        See :meth:`IAgent.request`.

        :raises ValueError: if it is no request.
        """
        parsed = URI.fromBytes(uri)
        try:
            pool = self._pool(parsed)
        except SchemeNotSupported:
            return fail()
        headers = Headers() if headers is None else headers.copy()
        if not headers.hasHeader(b"Host"):
            headers.setRawHeaders(b"Host", [_authority(parsed)])
        request = ClientRequest(method, parsed.originForm, headers, bodyProducer, uri)
        answered: Deferred[Any] = pool.send(request)
        return answered

    def close_idle(self) -> None:
        """Close the connections on which nothing is under way, and forget all servers."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def _pool(self, uri: URI) -> ConnectionPool:
        key = uri.scheme, uri.host, uri.port
        pool = self._pools.get(key)
        if pool is None:
            endpoint = self._endpoints.endpointForURI(uri)
            pool = ConnectionPool(endpoint, self._reactor, self._reuse_secs, ClientConnection)
            self._pools[key] = pool
        return pool


def _authority(uri: URI) -> bytes:
    host = b"[%s]" % uri.host if b":" in uri.host else uri.host
    return host if uri.port == _PORTS.get(uri.scheme) else b"%s:%d" % (host, uri.port)
