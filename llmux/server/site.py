"""The server's settings, and how many connections it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import IResource
from twisted.web.server import Site

from llmux.config import Limits
from llmux.server.channel import IDLE_SECS, RelayChannel
from llmux.server.request import RelayRequest
from llmux.server.terms import Terms


class RelaySite(Site):
    """
    twisted.web's site with a strict channel, and without its access log: llmux logs how each
    request ended.

    :param resource: answers all requests.
    :param reactor: tells the time.
    :param limits: of bodies and connections.
    :param is_model: tells whether a name is a model's.
    :param refused: called for each connection that is one too many.
    :param abandoned: called with each request whose client has gone before all of it had come.
    :ivar max_connections: how many may be open.
    :ivar connections: how many are open.
    """

    protocol = RelayChannel  # type: ignore[assignment]  # Twisted's is a function
    displayTracebacks = False
    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: Any,
        limits: Limits,
        is_model: Callable[[str], bool],
        refused: Callable[[], None],
        abandoned: Callable[[RelayRequest], None],
    ) -> None:
        super().__init__(resource, RelayRequest, timeout=IDLE_SECS, reactor=reactor)
        self._terms = Terms(reactor, limits, is_model)
        self.max_connections = limits.max_connections
        self.connections = 0
        self._connection_refused = refused
        self._request_abandoned = abandoned

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Take a connection, or close it if there are too many."""
        if self.connections >= self.max_connections:
            self._connection_refused()
            return None
        self.connections += 1
        channel = super().buildProtocol(addr)
        channel.terms = self._terms
        return channel

    def connection_lost(self, abandoned: RelayRequest | None) -> None:
        """
        Have room for one more connection.

        :param abandoned: the request of which the body has not come to its end, if there is one.
        """
        self.connections -= 1
        if abandoned is not None:
            self._request_abandoned(abandoned)

    def log(self, request: HTTPRequest) -> None:
        """Write nothing."""
