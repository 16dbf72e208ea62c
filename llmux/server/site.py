"""The server's settings, how many connections it takes, and how they all come to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import IResource
from twisted.web.server import Site

from llmux.config import Limits
from llmux.engine.choice import STOCK
from llmux.server.channel import IDLE_SECS, RelayChannel
from llmux.server.request import RelayRequest
from llmux.server.strict import StrictChannel
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
    :param http: which HTTP stack reads the requests (:data:`llmux.engine.choice.HTTP`).
    :ivar max_connections: how many may be open.
    :ivar ending: whether each connection is closed as soon as its request has been answered.
    """

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
        http: str = STOCK,
    ) -> None:
        super().__init__(resource, RelayRequest, timeout=IDLE_SECS, reactor=reactor)
        self.protocol = _channel(http)  # type: ignore[assignment]  # Twisted's is a function
        self._terms = Terms(reactor, limits, is_model)
        self.max_connections = limits.max_connections
        self.ending = False
        self._channels: set[RelayChannel] = set()
        self._emptied: list[Deferred[None]] = []
        self._connection_refused = refused
        self._request_abandoned = abandoned

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._channels)

    def limit(self, limits: Limits) -> None:
        """Have other limits of bodies, for all connections and at once."""
        self._terms.limits = limits

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Take a connection, or close it if there are too many."""
        if self.connections >= self.max_connections:
            self._connection_refused()
            return None
        channel: Any = super().buildProtocol(addr)
        channel.terms = self._terms
        self._channels.add(channel)
        return channel

    def connection_lost(self, channel: RelayChannel, abandoned: RelayRequest | None) -> None:
        """
        Have room for one more connection.

        :param channel: the connection that has ended.
        :param abandoned: the request of which the body has not come to its end, if there is one.
        """
        self._channels.discard(channel)
        if abandoned is not None:
            self._request_abandoned(abandoned)
        if not self._channels:
            emptied, self._emptied = self._emptied, []
            for each in emptied:
                each.callback(None)

    def end(self) -> None:
        """Close each connection as soon as its request has been answered; idle ones at once."""
        self.ending = True
        for channel in tuple(self._channels):
            channel.end()

    def emptied(self) -> Deferred[None]:
        """Give a Deferred that fires when no connection is open; it may be cancelled."""
        if not self._channels:
            return succeed(None)
        emptied: Deferred[None] = Deferred(self._emptied.remove)
        self._emptied.append(emptied)
        return emptied

    def abort(self) -> None:
        """Cut every connection, visibly for whoever is in the midst of an answer."""
        for channel in tuple(self._channels):
            channel.abort()

    def log(self, request: HTTPRequest) -> None:
        """Write nothing."""


def _channel(http: str) -> type[RelayChannel]:
    """Choose the make of the connections; what only one of them needs may not be installed."""
    if http == STOCK:
        return StrictChannel
    from llmux.server.fast import FastChannel

    return FastChannel
