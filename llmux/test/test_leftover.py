"""Hooks that outlive the llmux that started them: waited for, and ended at their deadline."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from llmux.clock import VirtualClock
from llmux.hooks.contract import Hook, Leftover, ProcessId
from llmux.hooks.identity import age, identify
from llmux.hooks.runner import HookRunner
from llmux.test.fakes import model_config
from llmux.test.processes import ProcessTests, end, python, runs, until

# Starts a hook as llmux does, says which process it is, and waits to be killed.
LLMUX = """
import sys
from pathlib import Path
from twisted.internet import reactor
from llmux.hooks.contract import Hook, HookCall, Reason
from llmux.hooks.runner import HookRunner
from llmux.test.fakes import model_config

def started(call, process, deadline):
    print(call.hook.value, process.pid, process.started, process.boot, deadline, flush=True)

def begin():
    config = model_config("llama", wake=sys.argv[2], wake_timeout_secs=1000.0)
    runner = HookRunner(reactor, reactor, {"llama": config}, Path(sys.argv[1]), started)
    runner.run(HookCall("llama", Hook.WAKE, "idle", "llama", Reason.REQUEST))

reactor.callWhenRunning(begin)
reactor.run()
"""


class LeftoverTests(ProcessTests):
    if not Path("/proc/self/stat").exists():
        skip = "there is no /proc here"

    def setUp(self) -> Any:
        """Make a runner of which the time stands still."""
        self.clock = VirtualClock()
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.state = self.place / "state"
        self.runner = HookRunner(reactor, self.clock, {"llama": model_config("llama")}, self.state)
        os.environ["PLACE"] = str(self.place)
        self.addCleanup(os.environ.pop, "PLACE")
        return super().setUp()

    async def leave(self, script: str) -> Leftover:
        """Let another llmux start a hook, wait until the hook is ready, and kill that llmux."""
        other = python(LLMUX, str(self.state), script)
        assert other.stdout is not None
        self.addCleanup(other.communicate)
        self.addCleanup(other.kill)
        hook, pid, started, boot, limit = other.stdout.readline().split()
        self.addCleanup(end, int(pid))
        await until((self.place / "ready").exists)
        other.kill()
        other.wait()
        process = ProcessId(int(pid), int(started), boot)
        return Leftover("llama", Hook(hook), process, float(limit))

    async def pass_until(self, finished: Deferred[None], step: float = 0.1) -> None:
        """Let time pass until nothing is left."""
        for _ in range(1000):
            if finished.called:
                return
            self.clock.advance(step)
            await deferLater(reactor, 0.01)
        raise AssertionError("it is not finished")

    def pid(self) -> int:
        """Read the process id that the hook has left."""
        return int((self.place / "pid").read_text())

    async def test_waited_for(self) -> None:
        """A hook that another llmux has left is run to its own end, and no longer waited for."""
        wait = 'while [ ! -e "$PLACE/go" ]; do sleep 0.02; done'
        leftover = await self.leave(f'touch "$PLACE/ready"; {wait}; touch "$PLACE/done"')
        finished = self.runner.finish(leftover)
        self.clock.advance(500)
        self.assertNoResult(finished)
        self.assertTrue(runs(leftover.process.pid))
        (self.place / "go").touch()
        await self.pass_until(finished)
        self.assertTrue((self.place / "done").exists())

    async def test_what_it_started_goes_on(self) -> None:
        """A server that it leaves in the background neither holds it up nor is ended."""
        script = 'sleep 60 & echo $! > "$PLACE/pid"; touch "$PLACE/ready"'
        leftover = await self.leave(script)
        self.addCleanup(end, self.pid())
        await self.pass_until(self.runner.finish(leftover))
        self.assertTrue(runs(self.pid()))

    async def test_ended_at_its_deadline(self) -> None:
        """Past its deadline it is ended with all that it started in its group."""
        script = 'sleep 60 & echo $! > "$PLACE/pid"; touch "$PLACE/ready"; sleep 60; true'
        leftover = await self.leave(script)
        self.addCleanup(end, self.pid())
        finished = self.runner.finish(leftover)
        self.clock.advance(900)
        self.assertTrue(runs(self.pid()))
        self.clock.advance(100)
        await self.pass_until(finished)
        self.assertFalse(runs(self.pid()))
        self.assertFalse(runs(leftover.process.pid))

    async def test_time_before(self) -> None:
        """Its deadline counts from its own start, not from that of the new llmux."""
        leftover = await self.leave('touch "$PLACE/ready"; exec sleep 60')
        due = attrs.evolve(leftover, deadline=age(leftover.process))
        finished = self.runner.finish(due)  # no time passes on the new one's clock
        await until(lambda: not runs(leftover.process.pid))
        await self.pass_until(finished)

    async def test_killed_after_a_grace(self) -> None:
        """One that ignores TERM is killed five seconds later."""
        script = "trap '' TERM; touch \"$PLACE/ready\"; while :; do sleep 0.02; done"
        leftover = await self.leave(script)
        finished = self.runner.finish(leftover)
        self.runner.stop("llama")
        self.clock.advance(4.9)
        await deferLater(reactor, 0.1)
        self.assertTrue(runs(leftover.process.pid))
        self.assertNoResult(finished)
        await self.pass_until(finished)
        self.assertFalse(runs(leftover.process.pid))

    async def test_stopped(self) -> None:
        """It is ended before its deadline if nobody needs it any more, and others are not."""
        leftover = await self.leave('touch "$PLACE/ready"; exec sleep 60')
        finished = self.runner.finish(leftover)
        self.runner.stop("another")
        self.clock.advance(1)
        self.assertTrue(runs(leftover.process.pid))
        self.runner.stop("llama")
        self.runner.stop("llama")
        await self.pass_until(finished)
        self.assertFalse(runs(leftover.process.pid))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_ended_already(self) -> None:
        """What has ended in the meantime holds nobody up."""
        leftover = await self.leave('touch "$PLACE/ready"; exec sleep 60')
        os.kill(leftover.process.pid, signal.SIGKILL)
        await until(lambda: not runs(leftover.process.pid))
        self.successResultOf(self.runner.finish(leftover))

    async def test_number_that_came_again(self) -> None:
        """A process that has got the number of a hook is left alone, whatever the deadline."""
        stranger = python("import os, sys, time; os.setsid(); print(); time.sleep(60)")
        self.addCleanup(stranger.communicate)
        self.addCleanup(end, stranger.pid)
        process = identify(stranger.pid)
        assert process is not None
        for other in (
            attrs.evolve(process, started=process.started - 1),
            attrs.evolve(process, boot="another"),
        ):
            self.successResultOf(self.runner.finish(Leftover("llama", Hook.WAKE, other, 0.0)))
            self.clock.advance(60)
        self.assertTrue(runs(stranger.pid))
