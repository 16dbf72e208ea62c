"""Twisted's transports of TCP and UNIX connections, with uvloop's input and output."""

from __future__ import annotations

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IFileDescriptorReceiver

from llmux.engine.transport import NativeTransport


class _Sending(NativeTransport):
    """
    A UNIX socket's: descriptors can be sent over it.

    Whoever wants to receive them, which uvloop's transports cannot do, has Twisted's own way.
    """

    _sendmsgQueue: list[int]
    _isSendBufferFull = unix._SendmsgMixin._isSendBufferFull

    def startReading(self) -> None:
        """See :class:`FileDescriptor`."""
        if self.connected or not self._is_stock:
            self._is_stock = IFileDescriptorReceiver.providedBy(self.protocol)
        super().startReading()

    def sendFileDescriptor(self, fileno: int) -> None:
        """See :meth:`IUNIXTransport.sendFileDescriptor`; it goes with the byte written next."""
        self._choose_write = lambda: None  # type: ignore[method-assign]  # Twisted's buffer, for good
        self._write = self._write_buffered
        super().sendFileDescriptor(fileno)  # type: ignore[misc]  # Twisted's class has it

    def writeSomeData(self, data: bytes) -> int | BaseException:
        """See :class:`FileDescriptor`: send descriptors, each with a byte of its own."""
        result: int | BaseException = unix._SendmsgMixin.writeSomeData(self, data)  # type: ignore[arg-type]  # it is one
        return result


class _Connecting(NativeTransport):
    """A client's: until it is connected, the reactor looks at its descriptor."""

    _is_stock = True

    def _connectDone(self) -> None:
        self._is_stock = False
        super()._connectDone()  # type: ignore[misc]  # Twisted's class has it


class Server(NativeTransport, tcp.Server):  # type: ignore[misc]  # what writeSomeData may give
    """An accepted TCP connection."""


class Client(_Connecting, tcp.Client):  # type: ignore[misc]  # what writeSomeData may give
    """A TCP connection to somebody."""


class UnixServer(_Sending, unix.Server):  # type: ignore[misc]  # what writeSomeData may give
    """An accepted UNIX connection."""

    _writeSomeDataBase = NativeTransport  # type: ignore[assignment]  # it stands before one


class UnixClient(_Sending, _Connecting, unix.Client):  # type: ignore[misc]  # what writeSomeData may give
    """A UNIX connection to somebody."""

    _writeSomeDataBase = NativeTransport  # type: ignore[assignment]  # it stands before one
