"""Which process has which TCP connections, by what Linux says in /proc."""

from __future__ import annotations

import os
from pathlib import Path

from bench.processes import children

_ESTABLISHED, _LISTEN = "01", "0A"  # proc(5), include/net/tcp_states.h


def connections(pid: int, port: int) -> int:
    """Give how many connections of a process came to a port."""
    return len(_inodes(pid) & _sockets(port, _ESTABLISHED))


def listening_children(pid: int, port: int) -> set[int]:
    """Give the child processes that take connections to a port, be it together with others."""
    listeners = _sockets(port, _LISTEN)
    return {child for child in children(pid) if _inodes(child) & listeners}


def _sockets(port: int, state: str) -> set[int]:
    """Give the inodes of sockets with a local port, in some state."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(int(fields[9]))
    return found


def _inodes(pid: int) -> set[int]:
    """Give the inodes of the sockets that a process has open; none if it has gone."""
    found: set[int] = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found
