"""
A reactor whose stream transports are uvloop's.

It is Twisted's asyncio reactor on uvloop's event loop.  Processes, signals, threads, timers and
UDP are Twisted's; TCP and UNIX connections, and TLS over them, are those of
:mod:`llmux.engine.connections`.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
from contextlib import suppress
from typing import Any

import uvloop
from twisted.internet import tcp, unix
from twisted.internet._signals import (
    SignalHandling,
    _ChildSignalHandling,
    _MultiSignalHandling,
    _SIGCHLDWaker,
)
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import BaseConnector, ReactorBase
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python.failure import Failure

from llmux.engine.connections import Client, Server, UnixClient, UnixServer
from llmux.engine.transport import NativeTransport

_TICK = 0.001  # seconds: what uvloop's timers count
_TOGETHER = 16  # transports that are flushed before others have their turn


class UvloopReactor(AsyncioSelectorReactor):
    """
    Twisted's asyncio reactor on uvloop, with uvloop's transports.

    It may be made before a process becomes a daemon: what the kernel watches for it is shared with
    the process that was forked from, which does not use it any more, and ends.

    :ivar loop: uvloop's event loop.
    :cvar unix_server: the transport of accepted UNIX connections, for listening ports of others.
    """

    unix_server = UnixServer
    _log = Logger()
    _scheduledAt: float | None  # type: ignore[assignment]  # Twisted says None
    _timerHandle: asyncio.TimerHandle | None  # type: ignore[assignment]  # Twisted says None

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._transports: set[NativeTransport] = set()
        self._unflushed: list[NativeTransport] = []
        super().__init__(self.loop)

    # Streams

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See :meth:`IReactorTCP.listenTCP`."""
        listening = _Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> Any:
        """See :meth:`IReactorTCP.connectTCP`."""
        connector = _Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """See :meth:`IReactorUNIX.listenUNIX`."""
        listening = _UnixPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> Any:
        """See :meth:`IReactorUNIX.connectUNIX`."""
        connector = _UnixConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See :meth:`IReactorSocket.adoptStreamPort`."""
        self._check_family(addressFamily)
        listening: Any
        if addressFamily == socket.AF_UNIX:
            listening = _UnixPort._fromListeningDescriptor(self, fileDescriptor, factory)
        else:
            listening = _Port._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        listening.startListening()
        return listening

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See :meth:`IReactorSocket.adoptStreamConnection`."""
        self._check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return UnixServer._fromConnectedSocket(fileDescriptor, factory, self)
        return Server._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

    def _check_family(self, family: Any) -> None:
        if family not in self._supportedAddressFamilies:
            raise UnsupportedAddressFamily(family)

    def remember_transport(self, transport: NativeTransport) -> None:
        """Take in that a transport is uvloop's from now on: it has no reader for its descriptor."""
        self._transports.add(transport)

    def forget_transport(self, transport: NativeTransport) -> None:
        """Take in that a transport has ended."""
        self._transports.discard(transport)

    def flush_soon(self, transport: NativeTransport) -> None:
        """Have a transport flushed at the end of this turn, or before if there are many."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(transport)
        if len(self._unflushed) == _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        transports, self._unflushed = self._unflushed, []
        for transport in transports:
            try:
                transport.flush()
            except Exception:  # nobody else would flush those behind it
                self._log.failure("a protocol failed at the end of its connection")

    def removeAll(self) -> list[Any]:
        """See :meth:`IReactorFDSet.removeAll`."""
        transports = list(self._transports)
        for transport in transports:
            transport.stopReading()
        self._transports.clear()
        others: list[Any] = super().removeAll()
        return others + transports

    def getReaders(self) -> list[Any]:
        """See :meth:`IReactorFDSet.getReaders`."""
        readers: list[Any] = super().getReaders()
        return readers + [each for each in self._transports if each.is_reading]

    # Time

    def _reschedule(self) -> None:
        """
        Have timers called when they are due; Twisted would be called a little too early.

        uvloop rounds to the nearest millisecond.  What is called too early finds nothing to do and
        asks to be called at once, over and over, until it is time.
        """
        timeout = self.timeout()
        if timeout is None:
            return
        if timeout > 0:
            timeout = math.ceil(timeout / _TICK) * _TICK
        now = self.loop.time()
        if self._timerHandle is not None:
            self._timerHandle.cancel()
        self._scheduledAt = now + timeout
        self._timerHandle = self.loop.call_later(timeout, self._onTimer)

    # Signals

    def _signalsFactory(self) -> SignalHandling:
        """Be told of children's ends: the descriptor that Python writes signals to is uvloop's."""
        return _MultiSignalHandling(
            (
                ReactorBase._signalsFactory(self),
                _ChildEnds(self._addInternalReader, self._removeInternalReader),
            )
        )


class _ChildEnds(_ChildSignalHandling):
    """Has the reactor look for children that have ended, at each signal that says so."""

    def install(self) -> None:
        """See :class:`SignalHandling`."""
        super().install()
        waker = self._childWaker
        assert waker is not None
        signal.signal(signal.SIGCHLD, lambda *_: _wake(waker))


def _wake(waker: _SIGCHLDWaker) -> None:
    with suppress(BlockingIOError, AttributeError):  # it is awake already, or gone
        os.write(waker.o, b"x")


class _Port(tcp.Port):
    transport = Server


class _UnixPort(unix.Port):
    transport = UnixServer


class _Letting(BaseConnector):
    """Lets go of a connection that has ended, which holds it: so neither waits for a collector."""

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        if self.state == "disconnected":  # else it is connecting anew
            self.transport = None


class _Connector(_Letting, tcp.Connector):
    def _makeTransport(self) -> Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)


class _UnixConnector(_Letting, unix.Connector):
    def _makeTransport(self) -> UnixClient:  # type: ignore[override]  # Twisted says tcp.Client
        return UnixClient(self.address, self, self.reactor, self.checkPID)


def install() -> UvloopReactor:
    """
    Make it the process's reactor.

    :raises ReactorAlreadyInstalledError: if there is one.
    """
    reactor = UvloopReactor()
    installReactor(reactor)
    return reactor
