"""Tests of :mod:`llmux.engine.endpoint`."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from llmux.engine.endpoint import server_endpoint


class UndecidedResolver:
    """
    Looks names up for as long as the test likes.

    :ivar receiver: is told of the addresses, by the test.
    """

    receiver: Any = None

    def resolveHostName(  # noqa: N802  # Twisted's name
        self, receiver: Any, *_: object, **named: object
    ) -> None:
        """See :meth:`IHostnameResolver.resolveHostName`."""
        self.receiver = receiver
        receiver.resolutionBegan(None)


class NamedEndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have a reactor that looks a name up for as long as the test likes."""
        self.resolver = UndecidedResolver()
        reactor: Any = MemoryReactorClock()
        reactor.nameResolver = self.resolver
        self.reactor = reactor

    def connect(self, *, tls: bool = False) -> Any:
        """Connect to a server by its name."""
        endpoint = server_endpoint(self.reactor, "gpu2.example", 8000, 5, tls=tls)
        return endpoint.connect(Factory.forProtocol(Protocol))

    def test_left_while_the_name_is_looked_up(self) -> None:
        """Whoever leaves meanwhile is not told that the server is gone."""
        for tls in (False, True):
            connecting = self.connect(tls=tls)
            connecting.cancel()
            self.failureResultOf(connecting, ConnectingCancelledError)
            self.resolver.receiver.resolutionComplete()
            self.assertEqual(self.reactor.tcpClients, [])

    def test_no_such_name(self) -> None:
        """A name that has no address is told as such."""
        connecting = self.connect()
        self.resolver.receiver.resolutionComplete()
        self.failureResultOf(connecting, DNSLookupError)
