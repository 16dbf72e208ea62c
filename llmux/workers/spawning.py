"""How a worker's process is made, and what it says on its standard output."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol, connectionDone
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux import logs
from llmux.engine.choice import REACTOR, STOCK

LINE = 3
"""The file descriptor of a worker at which its parent is."""

BOARD = 4
"""The one at which the board is."""

_OURS = "llmux.engine."


@attrs.frozen
class Logs:
    """
    Where a worker's log goes.

    :param format: how it is written to the standard output, one of :data:`llmux.logs.FORMATS`;
        ``None``: its parent writes it.
    :param level: what is written.
    """

    format: str | None = None
    level: str = "info"

    def observer(self) -> ILogObserver:
        """Make what writes it, in the worker."""
        if self.format is None:
            return logs.make_passing_observer(sys.stdout, self.level)
        return logs.make_observer(sys.stdout, self.format, self.level)


@attrs.frozen
class Start:
    """
    What a worker is told on its command line.

    :param logs: where its log goes.
    :param number: which worker it is, from 1, and
    :param count: of how many.
    :param doors: the descriptors of the sockets to listen on.
    """

    logs: Logs
    number: int
    count: int
    doors: Sequence[int]

    def words(self) -> list[str]:
        """Write it."""
        numbers = (self.number, self.count, *self.doors)
        return [self.logs.format or "", self.logs.level, *map(str, numbers)]

    @classmethod
    def from_words(cls, words: Sequence[str]) -> Start:
        """Read it."""
        format, level, *numbers = words
        number, count, *doors = map(int, numbers)
        return cls(Logs(format or None, level), number, count, doors)


class WorkerProcess(ProcessProtocol):
    """
    A worker's process.

    :param ended: called with how it has ended, in words.
    :ivar longest: bytes of a line of its output; what is longer is logged in pieces.
    """

    longest = 1024 * 1024
    _log = make_logger()

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._rest = {1: b"", 2: b""}
        self.transport: IProcessTransport | None = None

    @property
    def pid(self) -> int | None:
        """Its number, while it runs."""
        return None if self.transport is None else self.transport.pid

    def kill(self) -> None:
        """End it."""
        if self.transport is not None and self.transport.pid:
            self.transport.signalProcess("KILL")

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803  # Twisted's
        """Take what it says."""
        *lines, self._rest[childFD] = (self._rest[childFD] + data).split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "replace"))
        if len(self._rest[childFD]) > self.longest:
            self._take(self._rest[childFD].decode("utf-8", "replace"))
            self._rest[childFD] = b""

    def processEnded(self, reason: Failure = connectionDone) -> None:
        """Tell how it has ended."""
        for rest in filter(None, self._rest.values()):
            self._take(rest.decode("utf-8", "replace"))
        error: Any = reason.value
        signal, status = getattr(error, "signal", None), getattr(error, "exitCode", None)
        self._ended(f"by signal {signal}" if signal else f"with status {status}")

    def _take(self, line: str) -> None:
        event = logs.take_passed(line)
        if event is None:
            self._log.warn("a worker says: {said}", said=line)
        else:
            globalLogPublisher(event)


def spawn(
    reactor: Any,
    process: WorkerProcess,
    doors: Sequence[socket.socket],
    board: int,
    logs: Logs,
    which: tuple[int, int],
    environment: Mapping[str, str],
) -> socket.socket:
    """
    Start a worker.

    :param reactor: spawns it.
    :param process: watches over it.
    :param doors: the sockets to listen on, which it inherits.
    :param board: the board's descriptor.
    :param logs: where its log goes.
    :param which: which worker it is, of how many.
    :param environment: our own.
    :returns: our end of the line to it.
    :raises OSError: if it cannot be started.
    """
    numbers = range(BOARD + 1, BOARD + 1 + len(doors))
    start = Start(logs, *which, numbers)
    ours, theirs = socket.socketpair()
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    inherited: dict[int, Any] = dict(zip(numbers, (each.fileno() for each in doors), strict=True))
    said: dict[int, Any] = {1: "r", 2: "r"} if logs.format is None else {1: 1, 2: 2}
    try:
        reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, "-m", "llmux.workers", *start.words()],
            env=worker_environment(environment, reactor),
            childFDs={0: nothing, **said, LINE: theirs.fileno(), BOARD: board, **inherited},
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(nothing)
    return ours


def worker_environment(environment: Mapping[str, str], reactor: object) -> dict[str, str]:
    """
    Give a worker's environment: it imports what we import, and has the reactor that we have.

    :param environment: ours.
    :param reactor: ours.
    """
    told = dict(environment)
    told["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    told["PYTHONSAFEPATH"] = "1"
    fast = type(reactor).__module__.startswith(_OURS)
    told[REACTOR.variable] = REACTOR.name if fast else STOCK
    return told
