"""Tests of the hooks in ``examples/demo``, with real backends."""

import os
from subprocess import Popen

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.utils import getProcessOutputAndValue

from llmux.test.examples import EXAMPLES, NO_EXAMPLES, ExampleTests, Server


class Hasty(Protocol):
    """Hangs up on everybody."""

    def connectionMade(self) -> None:
        """Hang up."""
        assert self.transport is not None
        self.transport.loseConnection()


class DemoTests(ExampleTests):
    """The demo's hooks."""

    example = "demo"
    skip = NO_EXAMPLES  # they do without curl

    @property
    def pid(self) -> int:
        """The number in the pid file."""
        return int((self.state / "backend.pid").read_text())

    async def test_life(self) -> None:
        """A model wakes, stays the same when it is woken again, and sleeps, once and again."""
        await self.assert_hook_fails("alive")
        await self.assert_hook("wake", LOAD_SECS="0")
        pid = self.pid
        await self.assert_hook("alive")
        await self.assert_hook("wake")
        self.assertEqual(self.pid, pid)
        await self.assert_hook("sleep")
        await self.assert_hook_fails("alive")
        await self.assert_hook("sleep")

    async def test_too_slow(self) -> None:
        """A backend that loads too long fails the wake; the next one waits for the same backend."""
        self.hurry()
        pids = set()
        for _attempt in range(2):
            output = await self.assert_hook_fails("wake", LOAD_SECS="60", LLMUX_DEADLINE="2.5")
            self.assertIn("not healthy within 2.5 seconds", output)
            pids.add(self.pid)
        self.assertEqual(len(pids), 1)
        await self.assert_hook("sleep")

    async def test_dies(self) -> None:
        """A backend that ends while it starts fails the wake at once."""
        self.serve(Factory.forProtocol(Hasty))
        self.assertIn("ended while it was starting", await self.assert_hook_fails("wake"))

    async def test_stale_pid(self) -> None:
        """A number that belongs to another program by now is left alone."""
        other = Popen(["sleep", "60"])  # it returns at once
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        (self.state / "backend.pid").write_text(f"{other.pid}\n")
        await self.assert_hook("sleep")
        self.assertIsNone(other.poll())

    async def test_stranger(self) -> None:
        """A server that the hooks did not start cannot be put to sleep, and the hook says so."""
        server = Server({"/health": lambda: (200, {})})
        self.serve(server)
        await self.assert_hook("wake")
        self.assertIn("did not start", await self.assert_hook_fails("sleep"))

    async def test_stop_all(self) -> None:
        """One script ends every backend that is found below a directory."""
        await self.assert_hook("wake", LOAD_SECS="0")
        script = str(EXAMPLES / "demo" / "stop-all.sh")
        _out, errors, status = await getProcessOutputAndValue(script, [str(self.place)], os.environ)
        self.assertEqual((status, errors.count(b"ended process")), (0, 1))
        await self.assert_hook_fails("alive")
