"""A backend that records each byte, and answers what it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import attrs

from e2e.program import wait_until
from e2e.wire.peer import End, Gone, Peer, Script
from llmux.test.messages import read_message

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@attrs.frozen
class Arrived:
    """
    A request that has arrived.

    :param connection: the number of the connection on which it came, counted from 0.
    :param bytes: all of it.
    """

    connection: int
    bytes: bytes


class RecordingBackend:
    """
    A server on a port of loopback; each connection has a thread of its own.

    :ivar port: where it listens.
    :ivar requests: all that have arrived whole, since :meth:`begin`.
    :ivar received: all bytes that have arrived since then, of whatever connection.
    :ivar ended: the numbers of the connections that llmux has closed.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._connections: list[Peer] = []
        self.ended: set[int] = set()
        self.begin([OK])
        threading.Thread(target=self._accept, daemon=True).start()

    def begin(self, answers: Sequence[Script], *, hasty: bool = False) -> None:
        """
        Forget what has arrived.

        :param answers: how the next requests are answered; the last one is repeated.
        :param hasty: whether they are answered before their bodies have been read.
        """
        with self._lock:
            self._hasty = hasty
            self.answers = list(answers)
            self.requests: list[Arrived] = []
            self.received = b""

    def wait_for_requests(self, count: int) -> None:
        """Wait until so many have arrived."""
        wait_until(lambda: len(self.requests) >= count, 5)

    def wait_for_bytes(self, expected: bytes) -> None:
        """Wait until these bytes have arrived."""
        wait_until(lambda: expected in self.received, 5)

    def close(self) -> None:
        """Stop."""
        self._listening.close()
        for peer in self._connections:
            peer.end()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            number = len(self._connections)
            peer = Peer(connection)
            connection.settimeout(None)
            self._connections.append(peer)
            threading.Thread(target=self._serve, args=(number, peer), daemon=True).start()

    def _serve(self, number: int, peer: Peer) -> None:
        seen = 0  # bytes of this connection that have been recorded
        rest = b""
        try:
            while not peer.left:
                with self._lock:
                    self.received += peer.received[seen:]
                    rest += peer.received[seen:]
                    seen = len(peer.received)
                    taken = read_message(rest, ended=self._hasty)
                    if taken is not None:
                        whole = rest[: len(rest) - len(taken[1])]
                        rest = taken[1]
                        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
                        self.requests.append(Arrived(number, whole))
                if taken is not None:
                    peer.play(answer)
                elif not peer.read():
                    break
        except (Gone, OSError):
            pass
        with self._lock:
            self.received += peer.received[seen:]
            self.ended.add(number)
        peer.end(End.CLOSE)
