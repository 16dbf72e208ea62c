"""
The input and output of Twisted's stream transports, done by uvloop's.

How a connection comes about, its addresses, its states and what its protocol is told stay with
Twisted's own classes.  Replaced is what they do for each piece of data: the reactor's look at the
descriptor, ``recv``, the buffers, ``send``.
"""

from __future__ import annotations

from contextlib import suppress
from socket import MSG_DONTWAIT
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from llmux.engine.holding import HeldReader
from llmux.engine.writing import HIGH_WATER, NativeWriting, ignore

LARGE = 128 * 1024
"""
Bytes read at once after which others have their turn.  uvloop reads up to 250 KB, and up to 32
times in a row from whoever sends as fast: 8 MB for which all others would wait.
"""


class NativeTransport(NativeWriting):
    """
    The input and output of a connected stream socket, by a transport of uvloop's.

    It stands before a class of Twisted's that has the rest, and is uvloop's protocol itself.  That
    transport is there one turn of the loop after the connection; until then nothing is read, and
    what is written is kept by Twisted's own buffer.

    A ``bufferSize`` below its default limits, as ever, how much the protocol is given at once.

    :ivar _reading: whether the protocol is to be given what comes.
    """

    _reading = False
    _held: HeldReader | None = None
    _buffer_size = FileDescriptor.bufferSize

    # what Twisted's classes have, or are asked for under these names
    socket: Any
    connected: int

    def startReading(self) -> None:
        """See :class:`FileDescriptor`."""
        if self._is_stock:
            FileDescriptor.startReading(self)  # type: ignore[arg-type]  # it is one
            return
        if not self._reading:
            self._reading = True
            self.reactor.remember_transport(self)
        if self._held is not None:
            self._held.go_on()
        elif self._native is not None:
            self._native.resume_reading()
        elif not self._attached:  # in the next turn, if it is still so then
            self.reactor.loop.call_soon(self._attach_reading)

    def stopReading(self) -> None:
        """See :class:`FileDescriptor`."""
        if self._is_stock:
            FileDescriptor.stopReading(self)  # type: ignore[arg-type]  # it is one
            return
        self._reading = False
        if self._native is not None:
            self._native.pause_reading()

    @property
    def bufferSize(self) -> int:
        """How many bytes the protocol is given at once, at most, if it is less than the default."""
        return self._buffer_size

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._buffer_size = size
        if self._held is not None:
            self._held.go_on()
        elif self.is_slow and self._native is not None:
            self._held = HeldReader(self, self._native)

    @property
    def is_slow(self) -> bool:
        """Whether the protocol wants to be given less at once than there may be."""
        return self._buffer_size < FileDescriptor.bufferSize

    @property
    def is_reading(self) -> bool:
        """Whether the protocol is to be given what comes."""
        return self._reading

    def put_back(self, data: bytes, start: int) -> None:
        """Bring again what was brought, from some byte on; see :mod:`llmux.engine.holding`."""
        if self._native is not None:  # else nobody wants it any more
            if self._held is None:
                self._held = HeldReader(self, self._native)
            self._held.put_back(data, start)

    def release(self) -> None:
        """Take what comes at once again."""
        self._held = None
        self._native.set_protocol(self)
        self._native.resume_reading()

    def abortConnection(self) -> None:
        """See :meth:`ITCPTransport.abortConnection`."""
        self._write = ignore
        self._tempDataBuffer, self._tempDataLen = [], 0
        super().abortConnection()  # type: ignore[misc]  # as above

    def connectionLost(self, reason: Failure) -> None:
        """See :class:`FileDescriptor`."""
        native, self._native = self._native, None
        if native is not None:
            native.abort()
        self._held = None
        self._write = ignore
        self.reactor.forget_transport(self)
        super().connectionLost(reason)  # type: ignore[misc]  # as above

    def connection_made(self, native: Any) -> None:
        """Take over what has happened meanwhile."""
        if not self.connected:
            native.abort()
            return
        self._native = native
        native.set_write_buffer_limits(HIGH_WATER, 0)
        self._choose_write()
        if self._writing:
            self._do_write()
            if not self.connected:
                return
        if not self._reading or self.is_slow:
            self._held = HeldReader(self, native)

    def data_received(self, data: bytes) -> None:
        """Hand on what has come."""
        if len(data) >= LARGE and self._native is not None:
            self._native.pause_reading()
            self.reactor.loop.call_soon(self._read_on)
        try:
            self.protocol.dataReceived(data)
        except Exception as error:
            self._log.failure("a protocol failed to take data")
            self.end(error, reading=True)

    def eof_received(self) -> bool:
        """Tell that nothing more comes."""
        self.end(CONNECTION_DONE, reading=True)
        return True  # the transport stays open: what becomes of it is said in other ways

    def connection_lost(self, error: Exception | None) -> None:
        """Tell that the connection has ended, unless it was we who ended it."""
        if error is not None:  # nothing could be sent any more: what has come is still there
            self._read_rest()
        if self._native is not None:
            self.end(CONNECTION_LOST, reading=False)

    def end(self, why: Exception, *, reading: bool) -> None:
        """
        End the connection, or one half of it.

        :param why: what a reactor would have been told by :meth:`doRead` or :meth:`doWrite`.
        :param reading: by which of them.
        """
        if reading:
            self.flush()  # it was written before that was noticed
        self.reactor._disconnectSelectable(self, why, reading)

    def _read_on(self) -> None:
        if self._reading:
            self.startReading()

    def _read_rest(self) -> None:
        """
        Hand on what the other side has said before it closed.

        A server that refuses a request while it is being sent does so; Twisted's own reactors read
        before they write, and uvloop does not.
        """
        rest = b""
        while self._native is not None and self._reading:
            if self._held is not None:  # what is put back comes before the rest
                rest = self._held.take() + rest
            with suppress(OSError):  # there is nothing, or no end in order behind it
                rest = rest or self.socket.recv(self._buffer_size, MSG_DONTWAIT)
            if not rest:
                return
            piece, rest = rest[: self._buffer_size], rest[self._buffer_size :]
            self.data_received(piece)

    def _attach_reading(self) -> None:
        if self._reading and self.connected and not self._attached:
            self._attach()

    def _attach(self) -> None:
        """Have uvloop make its transport; it tells :meth:`connection_made` in the next turn."""
        self._attached = True
        attaching = self.reactor.loop.connect_accepted_socket(lambda: self, self.socket)
        # It is run as far as it goes by itself, for the descriptor has to be uvloop's at once; a
        # task would begin in the next turn, when the socket may have been closed.
        attaching.send(None).add_done_callback(lambda _: _complete(attaching))


def _complete(attaching: Any) -> None:
    """Run a coroutine on whose last wait is over."""
    with suppress(StopIteration):
        attaching.send(None)
