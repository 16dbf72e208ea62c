"""Tests of :mod:`llmux.hooks.identity`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from llmux.hooks.identity import age, identify, lives


class IdentityTests(SynchronousTestCase):
    if not Path("/proc/self/stat").exists():
        skip = "there is no /proc here"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the test."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE)

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def test_same(self) -> None:
        """A process is recognized for as long as it runs."""
        process = self.start("cat")
        found = identify(process.pid)
        assert found is not None
        self.assertEqual(found.pid, process.pid)
        self.assertEqual(identify(process.pid), found)
        self.assertTrue(lives(found))

    def test_other_program(self) -> None:
        """It stays the same when it becomes another program, as a shell does with exec."""
        process = self.start("sh", "-c", "read -r line; exec cat")
        found = identify(process.pid)
        assert found is not None
        assert process.stdin is not None
        before = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        while Path(f"/proc/{process.pid}/cmdline").read_bytes() in (b"", before):
            pass
        self.assertTrue(lives(found))

    def test_gone(self) -> None:
        """A process that has ended is not there, and nobody has its number."""
        process = self.start("true")
        found = identify(process.pid)
        process.wait()
        self.assertIsNone(identify(process.pid))
        assert found is not None
        self.assertFalse(lives(found))

    def test_zombie(self) -> None:
        """A process that has ended does not live on because its parent has not noticed."""
        process = self.start("cat")
        found = identify(process.pid)
        assert found is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual(identify(process.pid), found)
        self.assertFalse(lives(found))

    def test_number_that_came_again(self) -> None:
        """Another process with the same number is not taken for it, nor one of another boot."""
        found = identify(os.getpid())
        assert found is not None
        self.assertTrue(lives(found))
        self.assertFalse(lives(attrs.evolve(found, started=found.started - 1)))
        self.assertFalse(lives(attrs.evolve(found, boot="another")))

    def test_strange_name(self) -> None:
        """A program may be called as it likes."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        program = directory / "a) Z 1 (b"
        program.symlink_to("/bin/cat")
        process = self.start(str(program))
        found, own = identify(process.pid), identify(os.getpid())
        assert found is not None
        assert own is not None
        self.assertGreaterEqual(found.started, own.started)
        self.assertTrue(lives(found))

    def test_age(self) -> None:
        """What started later is younger, and nothing is from the future."""
        process = self.start("cat")
        found, own = identify(process.pid), identify(os.getpid())
        assert found is not None
        assert own is not None
        self.assertLessEqual(age(found), age(own))
        self.assertGreaterEqual(age(found), 0)
        self.assertGreater(age(attrs.evolve(found, started=found.started - 6000)), age(found))
