"""Where a client connects to."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
@attrs.frozen
class NamedEndpoint:
    """
    The endpoint of a server whose name has to be looked up.

    Twisted's own says that there is no such name if it is cancelled while that is looked up.  Who
    has left would be taken for a server that is gone.

    :param reactor: looks the name up, and connects.
    :param host: the name.
    :param port: where the server listens.
    :param timeout: seconds that the server may take to accept a connection.
    """

    _reactor: Any
    _host: str
    _port: int
    _timeout: float

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """See :meth:`IStreamClientEndpoint.connect`."""
        endpoint = HostnameEndpoint(self._reactor, self._host, self._port, self._timeout)
        connecting = endpoint.connect(factory)

        def cancel(connected: Deferred[IProtocol]) -> None:
            address = HostnameAddress(self._host.encode("ascii", "replace"), self._port)
            connected.errback(ConnectingCancelledError(address))
            connecting.cancel()

        def settle(result: IProtocol | Failure) -> None:
            if not connected.called:
                connected.callback(result)

        connected: Deferred[IProtocol] = Deferred(cancel)
        connecting.addBoth(settle)
        return connected


def server_endpoint(
    reactor: Any, host: str, port: int, timeout: float, *, tls: bool = False
) -> IStreamClientEndpoint:
    """
    Make the endpoint of a server; a literal address is not looked up.

    :param reactor: connects, and for a name looks it up.
    :param timeout: seconds that the server may take to accept a connection.
    :param tls: whether to speak TLS; the server's certificate must be one that the machine trusts.
    """
    endpoint: IStreamClientEndpoint
    if isIPAddress(host):
        endpoint = TCP4ClientEndpoint(reactor, host, port, timeout)
    elif isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, port, timeout)
    else:
        endpoint = NamedEndpoint(reactor, host, port, timeout)
    if tls:
        endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
    return endpoint
