"""
The input and output of Twisted's stream transports, done by uvloop's.

How a connection comes about, its addresses, its states and what its protocol is told stay with
Twisted's own classes.  Replaced is what they do for each piece of data: the reactor's look at the
descriptor, ``recv``, the buffers, ``send``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor, _dataMustBeBytes
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from llmux.engine.holding import HeldReader

_HIGH_WATER = FileDescriptor.bufferSize
"""Bytes that may be left to be sent before a producer is paused."""

_RETRY_SECS = 0.01


class NativeTransport:
    """
    The input and output of a connected stream socket, by a transport of uvloop's.

    It stands before a class of Twisted's that has the rest, and is uvloop's protocol itself.  That
    transport is there one turn of the loop after the connection; until then nothing is read, and
    what is written is kept by Twisted's own buffer.

    A ``bufferSize`` below its default limits, as ever, how much the protocol is given at once.

    :ivar _native: uvloop's transport, from when it is there to the connection's end.
    :ivar _is_stock: whether input and output are Twisted's own, in spite of all this.
    :ivar _write: what takes plain bytes now.
    :ivar _reading: whether the protocol is to be given what comes.
    :ivar _writing: whether :meth:`doWrite` is wanted when everything has been sent.
    """

    _isSendBufferFull = FileDescriptor._isSendBufferFull
    _log = Logger()
    _native: Any = None
    _attached = False
    _is_stock = False
    _reading = False
    _writing = False
    _impatient = False  # whether any byte that is left to be sent counts as too many
    _held: HeldReader | None = None
    _buffer_size = FileDescriptor.bufferSize

    # what Twisted's classes have, or are asked for under these names
    reactor: Any
    socket: Any
    protocol: Any
    connected: int
    producer: Any
    producerPaused: bool
    streamingProducer: bool
    TLS: bool
    _write: Callable[[Any], object]
    _writeDisconnected: bool
    _tempDataLen: int
    dataBuffer: bytes
    offset: int
    doWrite: Callable[[], Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._write = self._write_buffered
        super().__init__(*arguments, **named)

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

    def startWriting(self) -> None:
        """See :class:`FileDescriptor`: have :meth:`doWrite` called when all has been sent."""
        if self._is_stock:
            FileDescriptor.startWriting(self)  # type: ignore[arg-type]  # it is one
            return
        if not self._writing:
            self._writing = True
            self._await_drained()

    def stopWriting(self) -> None:
        """See :class:`FileDescriptor`."""
        if self._is_stock:
            FileDescriptor.stopWriting(self)  # type: ignore[arg-type]  # it is one
            return
        self._writing = False

    def writeSomeData(self, data: bytes) -> int | BaseException:
        """See :class:`FileDescriptor`: take what Twisted's buffer holds."""
        if self._is_stock:
            return tcp.Connection.writeSomeData(self, data)  # type: ignore[arg-type]  # it is one
        if data:
            self._native.write(bytes(data))
        return len(data)

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

    @property
    def unsent(self) -> int:
        """How many bytes have been written that the kernel has not taken yet."""
        kept = 0 if self._native is None else self._native.get_write_buffer_size()
        return len(self.dataBuffer) - self.offset + self._tempDataLen + int(kept)

    def release(self) -> None:
        """Take what comes at once again."""
        self._held = None
        self._native.set_protocol(self)
        self._native.resume_reading()

    def write(self, data: bytes) -> None:
        """See :meth:`ITransport.write`."""
        if self.TLS:
            super().write(data)  # type: ignore[misc]  # Twisted's class behind this one has it
        else:
            self._write(data)

    def writeSequence(self, data: Any) -> None:
        """See :meth:`ITransport.writeSequence`."""
        if self.TLS:
            super().writeSequence(data)  # type: ignore[misc]  # as above
        else:
            data = tuple(data)
            for each in data:
                _dataMustBeBytes(each)
            self._write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See :meth:`IConsumer.registerProducer`."""
        super().registerProducer(producer, streaming)  # type: ignore[misc]  # as above
        if not self.TLS and self.producer is not None:
            self._choose_write()
            if streaming:  # not at once: whoever registers it may not be done with that
                self.reactor.loop.call_soon(self._pause_if_full)
            else:  # what was written before counts, too
                self.startWriting()

    def unregisterProducer(self) -> None:
        """See :meth:`IConsumer.unregisterProducer`."""
        super().unregisterProducer()  # type: ignore[misc]  # as above
        if not self.TLS:
            self._choose_write()

    def abortConnection(self) -> None:
        """See :meth:`ITCPTransport.abortConnection`."""
        self._write = _ignore
        super().abortConnection()  # type: ignore[misc]  # as above

    def connectionLost(self, reason: Failure) -> None:
        """See :class:`FileDescriptor`."""
        native, self._native = self._native, None
        if native is not None:
            native.abort()
        self._held = None
        self._write = _ignore
        self.reactor.forget_transport(self)
        super().connectionLost(reason)  # type: ignore[misc]  # as above

    def connection_made(self, native: Any) -> None:
        """Take over what has happened meanwhile."""
        if not self.connected:
            native.abort()
            return
        self._native = native
        native.set_write_buffer_limits(_HIGH_WATER, 0)
        self._choose_write()
        if self._writing:
            self._do_write()
            if not self.connected:
                return
        if not self._reading or self.is_slow:
            self._held = HeldReader(self, native)

    def data_received(self, data: bytes) -> None:
        """Hand on what has come."""
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
        if self._native is not None:
            self.end(CONNECTION_LOST, reading=False)

    def pause_writing(self) -> None:
        """Have the producer pause: more is left to be sent than ought to be."""
        if self.producer is not None and self.streamingProducer and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()

    def resume_writing(self) -> None:
        """Go on: everything has been sent."""
        if self._native is None:
            return
        if self._impatient:
            self._impatient = False
            self._native.set_write_buffer_limits(_HIGH_WATER, 0)
        self._can_write()

    def end(self, why: Exception, *, reading: bool) -> None:
        """
        End the connection, or one half of it.

        :param why: what a reactor would have been told by :meth:`doRead` or :meth:`doWrite`.
        :param reading: by which of them.
        """
        self.reactor._disconnectSelectable(self, why, reading)

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

    def _write_buffered(self, data: bytes) -> None:
        FileDescriptor.write(self, data)  # type: ignore[arg-type]  # it is one, behind this class

    def _write_pulled(self, data: bytes) -> None:
        """Write for a producer that wants to be asked for more when this has been sent."""
        self._native.write(data)
        self.startWriting()

    def _choose_write(self) -> None:
        if self._native is None or self._write is _ignore:
            return
        if isinstance(self.protocol, TLSMemoryBIOProtocol):
            # What TLS says when it is broken off goes the way of all that has not been sent: else
            # the other side would take the end for a good one.
            self._write = self._write_buffered
        elif self.producer is not None and not self.streamingProducer:
            self._write = self._write_pulled
        else:
            self._write = self._native.write

    def _pause_if_full(self) -> None:
        if self._native is not None and self.unsent > _HIGH_WATER:
            self.pause_writing()

    def _await_drained(self) -> None:
        """Have :meth:`_can_write` called when everything has been sent, and never at once."""
        if self._native is None:
            if not self._attached:  # nobody has ever wanted to read
                self.reactor.callLater(0, self._write_unattached)
        elif self._native.get_write_buffer_size():
            self._impatient = True
            self._native.set_write_buffer_limits(0, 0)
        else:
            self.reactor.loop.call_soon(self._can_write)

    def _can_write(self) -> None:
        if self._native is None or not (self._writing or self.producerPaused):
            return
        if self._native.get_write_buffer_size():
            self._await_drained()
            return
        self._do_write()

    def _do_write(self) -> None:
        try:
            why = self.doWrite()
        except Exception as error:
            self._log.failure("a producer failed")
            why = error
        if why:
            self.end(why, reading=False)
        elif self._writing:  # a descriptor that was to be sent found no room
            self.reactor.callLater(_RETRY_SECS, self._can_write)

    def _write_unattached(self) -> None:
        """Attach after all, if there is anything to send; else go on as if all had been sent."""
        if not self._writing or self._attached:
            return
        if self._tempDataLen:
            self._attach()
        else:
            self._do_write()


def _ignore(data: object) -> None:
    """Take what comes after the end."""


def _complete(attaching: Any) -> None:
    """Run a coroutine on whose last wait is over."""
    with suppress(StopIteration):
        attaching.send(None)
