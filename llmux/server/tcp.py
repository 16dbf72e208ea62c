"""
What the kernel knows of a connection and the reactor does not tell, or not yet.

Of what is in the kernel's book about TCP there is nothing elsewhere than on Linux.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

# struct tcp_info (linux/tcp.h): tcpi_state comes first, tcpi_bytes_acked at 120.
_TCP_INFO = struct.Struct("=B119xQ")
_CLOSED_BY_PEER = frozenset({7, 8})  # TCP_CLOSE: reset; TCP_CLOSE_WAIT: its end of file is here


def bytes_taken(transport: Any) -> int | None:
    """Say how many bytes the peer has taken, ever; ``None`` if that cannot be told."""
    info = _tcp_info(transport)
    return None if info is None else info[1]


def closed_by_peer(transport: Any) -> bool:
    """Tell whether the peer has closed a connection that is not being read."""
    info = _tcp_info(transport)
    return info is not None and info[0] in _CLOSED_BY_PEER


def has_gone(transport: Any) -> bool:
    """Tell whether the peer of a connection has closed it, also if the reactor has yet to see."""
    try:
        pending: bytes = transport.getHandle().recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return pending == b""


def _tcp_info(transport: Any) -> tuple[int, int] | None:
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except (OSError, AttributeError):  # not a TCP connection, or gone
        return None
    if len(info) < _TCP_INFO.size:
        return None
    state, taken = _TCP_INFO.unpack(info)
    return state, taken
