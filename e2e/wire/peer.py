"""One end of a connection that does what a script says, byte for byte."""

from __future__ import annotations

import enum
import socket
import struct
import time

import attrs

PATIENCE = 10.0  # seconds after which a test gives up


@attrs.frozen
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@attrs.frozen
class Await:
    """Go on when these bytes have come in (since the last time that something was awaited)."""

    expected: bytes


class End(enum.Enum):
    """A way to leave."""

    CLOSE = enum.auto()
    """In order."""
    HALF = enum.auto()
    """Send nothing more, and go on reading."""
    RESET = enum.auto()
    """At once."""


Step = bytes | Pause | Await | End
Script = bytes | tuple[Step, ...]


class Gone(Exception):
    """The other end has gone while something was awaited."""


class Peer:
    """
    One end of a connection.

    :param connection: its socket.
    :ivar received: all that has come in.
    :ivar ended: whether the other end sends nothing more.
    :ivar broken: whether that was not in order.
    :ivar left: whether this end has closed.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PATIENCE)
        self.received = b""
        self.ended = self.broken = self.left = False
        self._connection = connection
        self._awaited = 0

    def play(self, script: Script) -> None:
        """Do what a script says."""
        for step in (script,) if isinstance(script, bytes) else script:
            match step:
                case bytes():
                    self._connection.sendall(step)
                case Pause():
                    time.sleep(step.seconds)
                case Await():
                    self.wait_for(step.expected)
                case End():
                    self.end(step)

    def wait_for(self, expected: bytes) -> None:
        """Read until these bytes have come."""
        while (found := self.received.find(expected, self._awaited)) < 0:
            if not self.read():
                raise Gone(f"{expected!r} has not come: {self.received!r}")
        self._awaited = found + len(expected)

    def read(self) -> bool:
        """
        Take in what comes next.

        :returns: whether there may be more.
        """
        if self.ended:
            return False
        try:
            data = self._connection.recv(1 << 16)
        except ConnectionError:
            data = b""
            self.broken = True
        self.received += data
        self.ended = not data
        return bool(data)

    def read_to_the_end(self) -> bytes:
        """Take in all that comes until the other end closes."""
        while self.read():
            pass
        return self.received

    def end(self, how: End = End.CLOSE) -> None:
        """Leave."""
        if self.left:
            return
        if how is End.HALF:
            self._connection.shutdown(socket.SHUT_WR)
            return
        if how is End.RESET:
            linger = struct.pack("ii", 1, 0)
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.left = True
        self._connection.close()


def connect(port: int) -> Peer:
    """Connect to a port of loopback."""
    return Peer(socket.create_connection(("127.0.0.1", port), PATIENCE))
