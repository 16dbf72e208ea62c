"""
The output of Twisted's stream transports, done by uvloop's.

What is written goes to uvloop's transport at once.  It goes to Twisted's own buffer, and from there
to uvloop's transport, as long as that is not there yet, where Twisted's classes have to say what
goes out with what, and where it is written with :func:`~llmux.engine.together.write_soon`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor, _dataMustBeBytes
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol

HIGH_WATER = FileDescriptor.bufferSize
"""Bytes that may be left to be sent before a producer is paused."""

_RETRY_SECS = 0.01


class NativeWriting:
    """
    The output of a connected stream socket, by a transport of uvloop's.

    It stands before a class of Twisted's that has the rest.

    :ivar _native: uvloop's transport, from when it is there to the connection's end.
    :ivar _is_stock: whether input and output are Twisted's own, in spite of all this.
    :ivar _write: what takes plain bytes now.
    :ivar _writing: whether :meth:`doWrite` is wanted when everything has been sent.
    """

    _isSendBufferFull = FileDescriptor._isSendBufferFull
    _log = Logger()
    _native: Any = None
    _attached = False
    _is_stock = False
    _writing = False
    _impatient = False  # whether any byte that is left to be sent counts as too many

    # what Twisted's classes have, or are asked for under these names
    reactor: Any
    protocol: Any
    producer: Any
    producerPaused: bool
    streamingProducer: bool
    TLS: bool
    _write: Callable[[Any], object]
    _plain: Callable[[Any], object] | None = None  # uvloop's, while nothing need be thought of
    _tempDataLen: int
    _tempDataBuffer: list[bytes]
    dataBuffer: bytes
    offset: int

    # what whoever reads has
    end: Callable[..., None]
    _attach: Callable[[], None]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._write = self._write_buffered
        super().__init__(*arguments, **named)

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

    def doWrite(self) -> Any:
        """See :class:`FileDescriptor`: what is in Twisted's buffer is sent before anything else."""
        if self._native is not None and (self._tempDataLen or len(self.dataBuffer) > self.offset):
            why = self._hand_over()
            if why or self.unsent:
                return why
        return super().doWrite()  # type: ignore[misc]  # Twisted's class behind this one has it

    def writeSomeData(self, data: bytes) -> int | BaseException:
        """See :class:`FileDescriptor`: take what Twisted's buffer holds."""
        if self._is_stock:
            return tcp.Connection.writeSomeData(self, data)  # type: ignore[arg-type]  # it is one
        if data:
            self._native.write(bytes(data))
        return len(data)

    @property
    def unsent(self) -> int:
        """How many bytes have been written that the kernel has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen + self._kept

    @property
    def _kept(self) -> int:
        """How many of them uvloop has."""
        return 0 if self._native is None else int(self._native.get_write_buffer_size())

    def write(self, data: bytes) -> None:
        """See :meth:`ITransport.write`."""
        if self.TLS:
            super().write(data)  # type: ignore[misc]  # Twisted's class behind this one has it
        else:
            self._write(data)

    def write_soon(self, data: bytes) -> None:
        """
        Write at the end of the reactor's turn; see :func:`~llmux.engine.together.write_soon`.

        What is written until then goes behind it, and whatever ends the connection sends it first.
        """
        if self.TLS or self._write is not self._plain:
            self.write(data)
            return
        self._tempDataBuffer.append(data)
        self._tempDataLen += len(data)
        self._write = self._write_buffered
        self.reactor.flush_soon(self)

    def flush(self) -> None:
        """Have uvloop send what was written with :meth:`write_soon`, if that is still to be."""
        if self._native is None or not self._tempDataLen:
            return
        try:
            self._hand_over()
        except Exception as error:
            self._log.failure("what was written cannot be sent")
            self.end(error, reading=False)

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
            self._native.set_write_buffer_limits(HIGH_WATER, 0)
        self._can_write()

    def _write_buffered(self, data: bytes) -> None:
        FileDescriptor.write(self, data)  # type: ignore[arg-type]  # it is one, behind this class

    def _write_pulled(self, data: bytes) -> None:
        """Write for a producer that wants to be asked for more when this has been sent."""
        self._native.write(data)
        self.startWriting()

    def _closeWriteConnection(self) -> None:
        self._write = ignore
        super()._closeWriteConnection()  # type: ignore[misc]  # as above

    def _hand_over(self) -> BaseException | None:
        """Have uvloop send what is in Twisted's buffer; what is written next need not go there."""
        data = b"".join((self.dataBuffer[self.offset :], *self._tempDataBuffer))
        self._tempDataBuffer, self._tempDataLen = [], 0
        self.dataBuffer, self.offset = data, 0
        taken = self.writeSomeData(data)
        if isinstance(taken, BaseException):
            return taken
        self.dataBuffer = data[taken:]
        self._choose_write()
        return None

    def _choose_write(self) -> None:
        if self._native is None or self._write is ignore:
            return
        self._plain = None
        left = self._tempDataLen or len(self.dataBuffer) > self.offset
        if left or isinstance(self.protocol, TLSMemoryBIOProtocol):
            # What TLS says when it is broken off goes the way of all that has not been sent: else
            # the other side would take the end for a good one.
            self._write = self._write_buffered
        elif self.producer is not None and not self.streamingProducer:
            self._write = self._write_pulled
        else:
            self._write = self._plain = self._native.write

    def _pause_if_full(self) -> None:
        if self._native is not None and self.unsent > HIGH_WATER:
            self.pause_writing()

    def _await_drained(self) -> None:
        """Have :meth:`_can_write` called when everything has been sent, and never at once."""
        if self._native is None:
            if not self._attached:  # nobody has ever wanted to read
                self.reactor.callLater(0, self._write_unattached)
        elif self._kept:
            self._impatient = True
            self._native.set_write_buffer_limits(0, 0)
        else:
            self.reactor.loop.call_soon(self._can_write)

    def _can_write(self) -> None:
        if self._native is None or not (self._writing or self.producerPaused):
            return
        if self._kept:
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
        elif self._writing and self._kept:
            self._await_drained()
        elif self._writing and len(self.dataBuffer) > self.offset:
            # A descriptor that was to be sent found no room.  What a producer has written in answer
            # to this is not meant: it sees to its sending itself.
            self.reactor.callLater(_RETRY_SECS, self._can_write)

    def _write_unattached(self) -> None:
        """Attach after all, if there is anything to send; else go on as if all had been sent."""
        if not self._writing or self._attached:
            return
        if self._tempDataLen:
            self._attach()
        else:
            self._do_write()


def ignore(data: object) -> None:
    """Take what comes after the end."""
