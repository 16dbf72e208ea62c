"""Tests of processes that lead a session of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from llmux.hooks.session import Sessions
from llmux.test.processes import ProcessTests, python

# A program that has no stdin and no stdout of its own, so that what it opens gets their numbers.
CLOSED = """
import os, sys
from twisted.internet import reactor
from llmux.hooks.session import Sessions
from llmux.test.test_session import Exit

os.close(0)
os.close(1)
stdin = os.open(os.devnull, os.O_RDONLY)
output = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
assert (stdin, output) == (0, 1)

def begin():
    protocol = Exit()
    Sessions(reactor).start(protocol, [b"/bin/sh", b"-c", b"cat; echo ran"], {}, stdin, output)
    protocol.exited.addBoth(lambda ended: reactor.stop())

reactor.callWhenRunning(begin)
reactor.run()
"""


class Exit(ProcessProtocol):
    """Waits for the exit of a process."""

    def __init__(self) -> None:
        self.exited: Deferred[BaseException | None] = Deferred()

    def processExited(self, reason: Failure) -> None:
        """Take it in."""
        self.exited.callback(reason.value)


class SessionTests(ProcessTests):
    sessions = Sessions(reactor)

    async def run_script(self, script: str) -> tuple[BaseException | None, str]:
        """Run a script; give how it ended and what it printed."""
        path = Path(self.mktemp())
        protocol = Exit()
        stdin = os.open(os.devnull, os.O_RDONLY)
        output = os.open(path, os.O_WRONLY | os.O_CREAT)
        try:
            command = [b"/bin/sh", b"-c", script.encode()]
            self.sessions.start(protocol, command, {b"A": b"1"}, stdin, output)
        finally:
            os.close(stdin)
            os.close(output)
        return await protocol.exited, path.read_text()

    async def test_session(self) -> None:
        """A process leads a session, which is a process group, and has the environment it gets."""
        script = "echo $$ $A $HOME; echo $(cut -d' ' -f5,6 /proc/$$/stat) >&2"
        ended, printed = await self.run_script(script)
        self.assertIsInstance(ended, ProcessDone)
        pid, a, group, session = printed.split()
        self.assertEqual((group, session, a), (pid, pid, "1"))

    async def test_by_another_program(self) -> None:
        """It is all the same where nobody can tell which descriptors are open."""
        self.sessions = Sessions(reactor, Path("/no/such"))
        await self.test_session()
        await self.test_status()
        await self.test_descriptors()

    async def test_status(self) -> None:
        """Its status is told, or the signal that ended it."""
        ended, _ = await self.run_script("exit 3")
        assert isinstance(ended, ProcessTerminated)
        self.assertEqual((ended.exitCode, ended.signal), (3, None))
        ended, _ = await self.run_script("kill -9 $$")
        assert isinstance(ended, ProcessTerminated)
        self.assertEqual((ended.exitCode, ended.signal), (None, 9))

    async def test_somebody_else_has_waited(self) -> None:
        """A process whose status somebody else has taken has failed, as far as is known."""
        protocol = Exit()
        stdin, ours = os.pipe()
        Sessions(reactor).start(protocol, [b"/bin/sh", b"-c", b"read a; exit 0"], {}, stdin, 1)
        os.close(stdin)
        os.close(ours)  # it ends now, and not before Twisted looks after it
        assert protocol.transport is not None
        os.waitpid(protocol.transport.pid, 0)
        ended = await protocol.exited
        assert isinstance(ended, ProcessTerminated)
        self.assertEqual((ended.exitCode, ended.signal), (255, None))

    async def test_signals(self) -> None:
        """Signals that llmux ignores end it all the same."""
        for number in (signal.SIGPIPE, signal.SIGUSR2):
            before = signal.signal(number, signal.SIG_IGN)
            self.addCleanup(signal.signal, number, before)
            ended, _ = await self.run_script(f"kill -{int(number)} $$")
            assert isinstance(ended, ProcessTerminated)
            self.assertEqual(ended.signal, number)

    async def test_descriptors(self) -> None:
        """It has no other descriptors, not even such as any program would inherit."""
        first, second = os.pipe()
        for each in (first, second):
            os.set_inheritable(each, True)
            self.addCleanup(os.close, each)
        _, printed = await self.run_script("PATH=/usr/bin:/bin ls -l /proc/$$/fd")
        self.assertIn("/dev/null", printed)
        self.assertNotIn("pipe:", printed)

    def test_no_such_program(self) -> None:
        """What cannot be started says so at once."""
        begin = Sessions(reactor).start
        self.assertRaises(FileNotFoundError, begin, Exit(), [b"/no/such"], {}, 0, 1)

    def test_without_standard_descriptors(self) -> None:
        """A descriptor that has the number of one that is overwritten gets where it belongs."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(b"")
        child = python(CLOSED, str(path))
        child.communicate()
        self.assertEqual((child.returncode, path.read_text()), (0, "ran\n"))
