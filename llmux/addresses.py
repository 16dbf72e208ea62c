"""Which addresses only this machine reaches, and at which one the operator's face is."""

from __future__ import annotations

import ipaddress
import socket

from llmux.settings import Address, Admin

_LOOPBACK_NAMES = frozenset(("localhost", "ip6-localhost", "ip6-loopback"))


def is_loopback(host: str) -> bool:
    """
    Tell whether only programs on this machine reach what listens there.

    :param host: a name or an address, as a configuration has it; no name is looked up.
    """
    host = host.lower().rstrip(".")
    found = read_ip(host)
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    return host in _LOOPBACK_NAMES or (found is not None and found.is_loopback)


def operators_address(admin: Admin, host: str, port: int) -> Address | None:
    """
    Say where the operator's face is.

    :param admin: what the configuration says about it.
    :param host: where clients are served.
    :param port: there.
    :returns: ``None`` where it is nowhere.
    """
    if admin.off:
        return None
    if admin.listen is not None:
        return admin.listen
    return Address(host, port) if is_loopback(host) else None


def read_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address in any spelling that a connection could be made with."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1 and 0x7f000001, too
    except OSError:
        pass
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
