"""
Processes that lead a session of their own.

A session is a process group too, so that a hook can be ended with all that it started; and the
terminal's Ctrl-C, meant for llmux, does not reach the servers that hooks leave running.

Twisted's ``spawnProcess`` knows no sessions.  So a process is spawned here by the system's own call
for it, and Twisted takes in its end as it does with those of its own.  Where that call knows no
sessions either, or nobody can tell which descriptors it would hand on, Twisted spawns another
program, which makes a session and then becomes what was asked for.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.process import registerReapProcessHandler, unregisterReapProcessHandler
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

# Where there is no setsid(1), as on macOS, Python does the same in some ten milliseconds.
_SETSID = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
_STANDARD = 3  # descriptors that every process has
# A process begins with the signals that Python ignores as it is used to.
_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


@attrs.frozen
class Sessions:
    """
    Starts processes, each in a session of its own.

    :param reactor: spawns where the system's call does not do all that it has to.
    :param descriptors: a directory that lists those of this process; the call needs to know them.
    """

    _reactor: IReactorProcess
    _descriptors: Path = Path("/dev/fd")

    def start(
        self,
        protocol: ProcessProtocol,
        command: Sequence[bytes],
        environment: Mapping[bytes, bytes],
        stdin: int,
        output: int,
    ) -> None:
        """
        Start a process, which has no descriptors but the three.

        :param protocol: hears of its beginning and of its exit; there are no pipes to hear of.
        :param command: begins with the path of a program.
        :param environment: all of it.
        :param stdin: its stdin.
        :param output: its stdout, and its stderr.
        :raises OSError: if it cannot be started.
        """
        try:
            pid = self._spawn(command, environment, stdin, output)
        except NotImplementedError:
            command = [*_session_command(), *command]
            self._reactor.spawnProcess(
                protocol,
                command[0],
                command,
                env=environment,
                childFDs={0: stdin, 1: output, 2: output},
            )
        else:
            child = _Child(pid, protocol)
            protocol.makeConnection(child)
            registerReapProcessHandler(pid, child)

    def _spawn(
        self, command: Sequence[bytes], environment: Mapping[bytes, bytes], stdin: int, output: int
    ) -> int:
        """
        Start a process, which leads a session.

        :returns: its number.
        :raises NotImplementedError: where that cannot be had.
        """
        inherited = _inherited(self._descriptors)
        with ExitStack() as done:
            kept = [
                (os.POSIX_SPAWN_DUP2, _above(descriptor, done), number)
                for number, descriptor in enumerate((stdin, output, output))
            ]
            return os.posix_spawn(
                command[0],
                list(command),
                environment,
                file_actions=[*kept, *((os.POSIX_SPAWN_CLOSE, each) for each in inherited)],
                setsigdef=_SIGNALS,
                setsid=True,
            )


@attrs.frozen(eq=False)
class _Child:
    """
    A process as Twisted looks after it until it has exited.

    :ivar pid: its number.
    :param protocol: hears of its exit.
    """

    pid: int
    _protocol: ProcessProtocol

    def reapProcess(self) -> None:  # noqa: N802  # Twisted's name
        """Look whether it has exited; called whenever any process of ours has."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has waited for it, who alone knows the status
            pid, status = self.pid, 0xFF00
        if pid:
            unregisterReapProcessHandler(pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:  # Twisted's name
        """Tell its protocol that it has exited."""
        code = os.waitstatus_to_exitcode(status)
        ended: Exception = ProcessDone(status)
        if code:
            number = -code if code < 0 else None
            ended = ProcessTerminated(None if number else code, number, status)
        self._protocol.processExited(Failure(ended))


def _above(descriptor: int, done: ExitStack) -> int:
    """Give a descriptor that is none of those that are about to be overwritten."""
    if descriptor < _STANDARD:
        descriptor = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STANDARD)
        done.callback(os.close, descriptor)
    return descriptor


def _inherited(directory: Path) -> list[int]:
    """
    Give the descriptors that any program would have, as whoever started us has left them.

    :raises NotImplementedError: where nobody lists them, as without ``/proc`` on Linux.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        raise NotImplementedError from None
    found = []
    for name in names:
        try:
            if int(name) >= _STANDARD and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:  # it was that of the list
            pass
    return found


def _session_command() -> list[bytes]:
    """Give the command that starts another one in a session of its own."""
    setsid = shutil.which("setsid")
    if setsid is not None:
        return [os.fsencode(setsid)]
    return [os.fsencode(sys.executable), b"-I", b"-S", b"-c", os.fsencode(_SETSID)]
