"""Hooks as real processes: their surroundings, their end, and what outlives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from llmux.clock import VirtualClock
from llmux.config import Backend
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner, Reason
from llmux.hooks.output import OutputFile
from llmux.hooks.runner import HookRunner
from llmux.statedir import model_directory
from llmux.test.fakes import FakeHookRunner, model_config
from llmux.test.hook_contract import HookRunnerContract, call
from llmux.test.processes import ProcessTests


class Scripts:
    """
    A real hook runner for one model, and what it leaves behind.

    :param directory: takes the state.
    :param settings: the model's configuration.
    """

    def __init__(self, directory: str, **settings: object) -> None:
        self.state = Path(directory).absolute()
        self.directory = model_directory(self.state, "llama")
        self.output = OutputFile(self.directory)
        config = model_config("llama", **settings)
        self.runner = HookRunner(reactor, reactor, {"llama": config}, self.state)

    def run(self, hook: Hook = Hook.WAKE) -> Deferred[HookResult]:
        """Run one of its hooks."""
        return self.runner.run(call(hook))

    def pid(self, name: str = "pid") -> int:
        """Read a process id that a hook has left in a file."""
        return int((self.directory / name).read_text())

    def printed(self) -> str:
        """Give all that was printed into the model's file."""
        return self.output.path.read_text()


async def until(condition: object, seconds: float = 10.0) -> None:
    """Wait until something is so; it is a failure if it does not come about."""
    for _ in range(int(seconds / 0.02)):
        if condition():  # type: ignore[operator]  # a callable
            return
        await deferLater(reactor, 0.02)
    raise AssertionError("it did not come about")


def runs(pid: int) -> bool:
    """Tell whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def end(pid: int) -> None:
    """End a process that a test has started."""
    if runs(pid):
        os.kill(pid, signal.SIGKILL)


class RealRunnerContractTests(HookRunnerContract, ProcessTests):
    def make_runner(self) -> IHookRunner:
        """Make a runner of real scripts."""
        models = {
            "llama": model_config("llama", wake="true", sleep="echo broken; exit 3"),
            "silent": model_config("silent", wake="sleep 60", wake_timeout_secs=0.05),
        }
        return HookRunner(reactor, reactor, models, Path(self.mktemp()))


class FakeRunnerContractTests(HookRunnerContract, TestCase):
    def make_runner(self) -> IHookRunner:
        """Make a runner that only pretends."""
        self.clock = VirtualClock()
        runner = FakeHookRunner(self.clock)
        runner.script = lambda call: (3, 1.0) if call.hook is Hook.SLEEP else (0, 1.0)
        runner.deadlines["silent"] = 0.5
        runner.output = "broken"
        return runner

    def let(self, ended: Deferred[HookResult]) -> None:
        """Let time pass at once."""
        self.clock.advance(10)


class SurroundingsTests(ProcessTests):
    async def test_environment(self) -> None:
        """A hook gets the whole environment, and is told what it could want to know."""
        os.environ["LLMUX_TEST_INHERITED"] = "caf\u00e9"
        self.addCleanup(os.environ.pop, "LLMUX_TEST_INHERITED")
        show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
        scripts = Scripts(
            self.mktemp(), wake=show, backend=Backend("127.0.0.1", 8101), wake_timeout_secs=1e6
        )
        await scripts.runner.run(HookCall("llama", Hook.WAKE, "qwen", "llama", Reason.REQUEST))
        seen = json.loads(scripts.printed())
        expected = {
            "LLMUX_MODEL": "llama",
            "LLMUX_HOOK": "wake",
            "LLMUX_PORT": "8101",
            "LLMUX_URL": "http://127.0.0.1:8101",
            "LLMUX_FROM": "qwen",
            "LLMUX_TO": "llama",
            "LLMUX_REASON": "request",
            "LLMUX_DEADLINE": "1000000",
            "LLMUX_STATE_DIR": str(scripts.directory),
            "LLMUX_TEST_INHERITED": "caf\u00e9",
            "PATH": os.environ["PATH"],
        }
        self.assertEqual({name: seen.get(name) for name in expected}, expected)

    async def test_fraction_of_a_deadline(self) -> None:
        """A deadline with a fraction is told as a plain decimal."""
        scripts = Scripts(self.mktemp(), wake='echo "$LLMUX_DEADLINE"', wake_timeout_secs=2.5)
        await scripts.run()
        self.assertEqual(scripts.printed(), "2.5\n")

    async def test_working_directory_and_stdin(self) -> None:
        """A hook runs in llmux's working directory, with nothing to read."""
        scripts = Scripts(self.mktemp(), wake="pwd; cat; echo end")
        await scripts.run()
        self.assertEqual(scripts.printed(), f"{os.getcwd()}\nend\n")

    async def test_group_of_its_own(self) -> None:
        """A hook leads a process group of its own."""
        scripts = Scripts(self.mktemp(), wake="echo $$ $(ps -o pgid= -p $$)")
        await scripts.run()
        pid, group = map(int, scripts.printed().split())
        self.assertEqual(pid, group)
        self.assertNotEqual(group, os.getpgrp())

    async def test_without_setsid(self) -> None:
        """Where the machine has no setsid command, a hook has a group of its own all the same."""
        empty = Path(self.mktemp())
        empty.mkdir()
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        os.environ["PATH"] = str(empty)
        scripts = Scripts(self.mktemp(), wake=f"PATH={path}; echo $$ $(ps -o pgid= -p $$)")
        await scripts.run()
        pid, group = map(int, scripts.printed().split())
        self.assertEqual(pid, group)

    async def test_path_of_a_script(self) -> None:
        """A hook can be the path of an executable file."""
        script = Path(self.mktemp())
        script.write_text("#!/bin/sh\necho from a file\n")
        script.chmod(0o755)
        scripts = Scripts(self.mktemp(), wake=str(script.absolute()))
        self.assertTrue((await scripts.run()).success)
        self.assertEqual(scripts.printed(), "from a file\n")

    async def test_command_that_does_not_exist(self) -> None:
        """A hook that names no command fails as the shell says."""
        result = await Scripts(self.mktemp(), wake="no-such-command-here").run()
        self.assertEqual(result.exit_code, 127)
        self.assertIn("not found", result.output)

    async def test_hook_ended_by_a_signal(self) -> None:
        """A hook that a signal ends has failed, and it is said by which."""
        result = await Scripts(self.mktemp(), wake="kill -KILL $$").run()
        self.assertFalse(result.success)
        self.assertEqual(result.describe(), "was ended by signal 9")

    async def test_state_directory_that_is_gone(self) -> None:
        """A hook that cannot be started is a failed hook, and no exception."""
        state = Path(self.mktemp())
        state.write_text("a file where the directory should be")
        runner = HookRunner(reactor, reactor, {"llama": model_config("llama")}, state)
        result = await runner.run(call())
        self.assertFalse(result.success)
        self.assertIn("could not be run: ", result.describe())


class BackgroundTests(ProcessTests):
    async def test_hook_ends_with_its_own_process(self) -> None:
        """A hook that starts a server with & has ended when the script has, not the server."""
        scripts = Scripts(self.mktemp(), wake='sleep 60 & echo $! > "$LLMUX_STATE_DIR/pid"')
        result = await scripts.run()
        self.addCleanup(end, scripts.pid())
        self.assertTrue(result.success)
        self.assertLess(result.seconds, 30)
        self.assertTrue(runs(scripts.pid()))

    async def test_server_goes_on_printing(self) -> None:
        """What a hook leaves running prints into the model's file after the hook has ended."""
        server = "while :; do echo tick; sleep 0.05; done"
        wake = f'({server}) & echo $! > "$LLMUX_STATE_DIR/pid"'
        scripts = Scripts(self.mktemp(), wake=wake)
        await scripts.run()
        self.addCleanup(end, scripts.pid())
        before = scripts.output.size()
        await until(lambda: scripts.output.size() > before + 20)

    async def test_two_hooks_print_into_one_file(self) -> None:
        """A later hook does not overwrite what an earlier one printed."""
        scripts = Scripts(self.mktemp(), wake="echo awake", sleep="echo asleep")
        await scripts.run()
        result = await scripts.run(Hook.SLEEP)
        self.assertEqual(scripts.printed(), "awake\nasleep\n")
        self.assertEqual(result.output, "asleep")

    async def test_output_is_cut(self) -> None:
        """A model's file is cut when it has grown too long, while a server has it open."""
        wake = 'head -c 9000000 /dev/zero | tr "\\0" "x"; echo; echo last'
        scripts = Scripts(self.mktemp(), wake=wake)
        result = await scripts.run()
        self.assertTrue(result.success)
        self.assertTrue(result.output.endswith("last"))
        self.assertLess(scripts.output.size(), 100_000)

    async def test_idle_output_is_cut(self) -> None:
        """A file that a server fills while no hook runs is cut as well."""
        scripts = Scripts(self.mktemp(), wake="true")
        await scripts.run()
        scripts.output.path.write_bytes(b"x" * 9_000_000 + b"\nlast\n")
        scripts.runner.cut_outputs()
        self.assertEqual(scripts.printed(), "[cut by llmux]\nlast\n")


class DeadlineTests(ProcessTests):
    """Hooks past their deadline: real processes, but nobody waits for real."""

    def start(self, wake: str, processes: Any = reactor) -> Deferred[HookResult]:
        """Start a hook that has ten seconds, of a time that stands still."""
        self.clock = VirtualClock()
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        models = {"llama": model_config("llama", wake=wake, wake_timeout_secs=10.0)}
        runner = HookRunner(processes, self.clock, models, self.place / "state")
        os.environ["PLACE"] = str(self.place)
        self.addCleanup(os.environ.pop, "PLACE")
        return runner.run(call())

    async def ready(self) -> None:
        """Wait until the hook says that it has come so far."""
        await until((self.place / "ready").exists)

    async def end(self, ended: Deferred[HookResult], step: float = 0.1) -> HookResult:
        """Let time pass until the hook has ended."""
        while not ended.called:
            self.clock.advance(step)
            await deferLater(reactor, 0.01)
        return await ended

    def pid(self) -> int:
        """Read the process id that the hook has left."""
        return int((self.place / "pid").read_text())

    async def test_whole_group_is_ended(self) -> None:
        """Past its deadline a hook is ended with all that it started in its group."""
        ended = self.start('sleep 60 & echo $! > "$PLACE/pid"; touch "$PLACE/ready"; sleep 60')
        await self.ready()
        self.clock.advance(9.9)
        self.assertTrue(runs(self.pid()))
        result = await self.end(ended)
        self.assertTrue(result.timed_out)
        self.assertFalse(result.success)
        await until(lambda: not runs(self.pid()))

    async def test_server_in_a_session_of_its_own_survives(self) -> None:
        """A server that a hook has put into a session of its own outlives the hook's deadline."""
        server = 'echo $$ > "$PLACE/pid"; touch "$PLACE/ready"; exec sleep 60'
        ended = self.start(f"setsid sh -c '{server}' & sleep 60")
        await self.ready()
        self.addCleanup(end, self.pid())
        await self.end(ended)
        self.assertTrue(runs(self.pid()))

    async def test_hook_that_tidies_up(self) -> None:
        """A hook that exits 0 when it is told to end has failed all the same."""
        wake = "trap 'echo tidy; exit 0' TERM; touch \"$PLACE/ready\"; sleep 60 & wait"
        ended = self.start(wake)
        await self.ready()
        self.clock.advance(10)
        result = await self.end(ended, step=0.01)  # so that KILL is far away
        self.assertFalse(result.success)
        self.assertEqual((result.exit_code, result.timed_out), (0, True))
        self.assertEqual(result.output, "tidy")

    async def test_killed_after_a_grace(self) -> None:
        """A hook that ignores TERM is killed five seconds later."""
        ended = self.start("trap '' TERM; touch \"$PLACE/ready\"; while :; do sleep 0.1; done")
        await self.ready()
        self.clock.advance(14.9)
        await deferLater(reactor, 0.2)
        self.assertFalse(ended.called)
        result = await self.end(ended)
        self.assertEqual((result.signal, result.timed_out), (signal.SIGKILL, True))

    async def test_given_up_when_it_hangs_in_the_kernel(self) -> None:
        """A hook whose end never comes is given up, so that others are not held up."""
        processes = SilentProcesses()
        ended = self.start("sleep 60", processes)
        self.clock.advance(19.9)
        self.assertFalse(ended.called)
        self.clock.advance(0.2)
        result = await ended
        self.assertEqual((result.exit_code, result.timed_out), (None, True))
        assert processes.process is not None
        self.assertLess(processes.process.wait(), 0)  # ended by the one signal or the other
        processes.report()  # nobody minds an end that comes after all


class SilentProcesses:
    """Starts real processes and does not report their end until it is asked to."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.protocol: ProcessProtocol | None = None

    def spawnProcess(  # noqa: N802  # Twisted's name
        self, protocol: ProcessProtocol, executable: bytes, args: list[bytes], **settings: object
    ) -> None:
        """Start a process."""
        self.protocol = protocol
        self.process = subprocess.Popen(args[-3:], start_new_session=True)
        transport = SimpleNamespace(pid=self.process.pid)
        protocol.makeConnection(transport)

    def report(self) -> None:
        """Report its end."""
        assert self.protocol is not None
        self.protocol.processExited(Failure(ProcessDone(None)))
