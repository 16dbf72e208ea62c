"""Where a client connects to."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS


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
        endpoint = HostnameEndpoint(reactor, host, port, timeout)
    if tls:
        endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
    return endpoint
