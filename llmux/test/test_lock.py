"""Tests of :mod:`llmux.lock`."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import ConfigError
from llmux.lock import StateLock
from llmux.test.processes import python

HOLDER = """
import os, sys
from pathlib import Path
from llmux.lock import StateLock
lock = StateLock(Path(sys.argv[1]))
lock.take()
"""


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a state directory."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "lock"

    def take(self) -> StateLock:
        """Take the lock, and give it back after the test."""
        lock = StateLock(self.directory)
        lock.take()
        self.addCleanup(lock.release)
        return lock

    def refusal(self) -> str:
        """Give what is said to another one that wants it."""
        other = StateLock(self.directory, Path("c.yaml"))
        return str(self.assertRaises(ConfigError, other.take))

    def test_second(self) -> None:
        """A second llmux on the same state is refused, and told who has it and what to do."""
        self.take()
        self.assertEqual(
            self.refusal(),
            f"c.yaml: state_dir: {self.directory} is in use by another llmux,"
            f" process {os.getpid()}; end it, or give this one another state_dir",
        )

    def test_nobody_knows_who(self) -> None:
        """Where it is not written who has it, it is refused all the same."""
        self.take()
        for content in (b"", b"who?\n", b"\xff" * 100):
            self.path.write_bytes(content)
            self.assertIn("in use by another llmux; end it", self.refusal())

    def test_refused_leave_it_alone(self) -> None:
        """Being refused changes nothing, and leaves no file open."""
        self.take()
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
        self.refusal()
        after = len(os.listdir("/proc/self/fd")) if before else 0
        self.assertEqual(after, before)
        self.assertEqual(self.path.read_text(), f"{os.getpid()}\n")

    def test_released(self) -> None:
        """When it is given back, another one can have it; giving it back twice does no harm."""
        lock = self.take()
        lock.release()
        lock.release()
        self.take()

    def test_private(self) -> None:
        """It is its owner's alone, and no other program inherits it."""
        self.take()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        for name in os.listdir("/proc/self/fd") if Path("/proc/self/fd").is_dir() else ():
            try:
                same = os.path.samestat(os.fstat(int(name)), self.path.stat())
            except OSError:  # the listing's own
                continue
            if same:
                self.assertTrue(fcntl.fcntl(int(name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def test_killed(self) -> None:
        """A holder that is killed has it no longer, whatever it has written."""
        holder = python(HOLDER + "print(flush=True); sys.stdin.read()", str(self.directory))
        self.addCleanup(holder.communicate)
        assert holder.stdout is not None
        holder.stdout.readline()
        said = self.refusal()
        holder.kill()
        holder.wait()
        self.assertIn(f", process {holder.pid}; ", said)
        self.assertEqual(self.path.read_text(), f"{holder.pid}\n")
        self.take()
        self.assertEqual(self.path.read_text(), f"{os.getpid()}\n")

    def test_daemon(self) -> None:
        """A daemon that forks takes it along, and says so."""
        fork = (
            "child = os.fork()\n"
            "if child: os.waitpid(child, 0); os._exit(0)\n"
            "child = os.fork()\n"
            "if child: os._exit(0)\n"
            "lock.claim(); print(os.getpid(), flush=True); sys.stdin.read()\n"
        )
        holder = python(HOLDER + fork, str(self.directory))
        self.addCleanup(holder.communicate)
        assert holder.stdout is not None
        assert holder.stdin is not None
        daemon = int(holder.stdout.readline())
        holder.wait()
        said = self.refusal()
        self.assertNotEqual(daemon, holder.pid)
        self.assertIn(f", process {daemon}; ", said)

    def test_no_lock_to_be_had(self) -> None:
        """Where the lock cannot be made, it is said why, and what to do."""
        self.path.mkdir()
        self.assertEqual(
            self.refusal(),
            f"c.yaml: state_dir: {self.path} cannot be locked: Is a directory;"
            " set state_dir to a directory where it can",
        )
