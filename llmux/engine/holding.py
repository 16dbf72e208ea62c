"""What a connection has brought and its protocol does not want yet, or not all at once."""

from __future__ import annotations

from collections import deque
from typing import Any


class HeldReader:
    """
    Stands between uvloop's transport and ours while less is wanted than has come.

    A transport of uvloop's reads a quarter of a megabyte at once, and begins to read even if it is
    told to pause when it is made.

    :param transport: the :class:`~llmux.engine.transport.NativeTransport` that is given what comes,
        in pieces of its ``bufferSize`` and one in each turn of the loop, while it reads.
    :param native: uvloop's transport, whose protocol this becomes.
    """

    def __init__(self, transport: Any, native: Any) -> None:
        self._transport = transport
        self._native = native
        self._pending: deque[tuple[bytes, int]] = deque()  # and where in each the next piece begins
        self._ended = False
        self._scheduled = False
        self.connection_lost = transport.connection_lost
        self.pause_writing = transport.pause_writing
        self.resume_writing = transport.resume_writing
        native.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes; nothing more does until it has been handed on."""
        self._pending.append((data, 0))
        self._native.pause_reading()
        self.go_on()

    def eof_received(self) -> bool:
        """Keep in mind that nothing more comes."""
        self._ended = True
        self.go_on()
        return True

    def put_back(self, data: bytes, start: int) -> None:
        """Keep what was handed on and is not wanted yet, from some byte on."""
        self._pending.appendleft((data, start))
        self._native.pause_reading()
        self.go_on()

    def take(self) -> bytes:
        """Give what has not been handed on."""
        pending, self._pending = self._pending, deque()
        return b"".join(data[at:] for data, at in pending)

    def go_on(self) -> None:
        """Hand on the next piece, if it is wanted, in the next turn."""
        if not self._scheduled:
            self._scheduled = True
            self._transport.reactor.loop.call_soon(self._hand_on)

    def _hand_on(self) -> None:
        transport = self._transport
        if self._pending and transport.is_reading:
            data, at = self._pending.popleft()
            piece = data[at : at + transport.bufferSize]
            at += len(piece)
            if at < len(data):
                self._pending.appendleft((data, at))
            transport.data_received(piece)
        # Not before: what is asked for meanwhile is seen to here, and a second call would come when
        # another reader may stand there already.
        self._scheduled = False
        if not transport.is_reading:  # it has been paused, or has ended
            return
        if self._pending:
            self.go_on()
        elif self._ended:
            transport.eof_received()
        elif transport.is_slow:
            self._native.resume_reading()
        else:
            transport.release()


def first_of(data: bytes, size: int, transport: Any) -> bytes:
    """
    Take so many bytes of what a transport has brought, and have it bring the rest again.

    The rest comes in later turns, in pieces of the transport's ``bufferSize``.  It is for who sets
    that because of what the first bytes are, when others have come behind them.

    :param transport: brings them; if it is none of :mod:`llmux.engine.reactor`'s, all is taken.
    :returns: what is left to do now.
    """
    # of its class, as in llmux.engine.together: TLS must not be given back what it has decrypted
    put_back = getattr(type(transport), "put_back", None)
    if put_back is None or len(data) <= size:
        return data
    put_back(transport, data, size)  # whole: a copy of a quarter of a megabyte takes its time
    return data[:size]
