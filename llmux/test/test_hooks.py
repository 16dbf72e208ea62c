"""Hooks as real processes: their surroundings, their end, and what outlives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from txaio.tx import make_logger

from llmux.clock import VirtualClock
from llmux.config import Backend
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner, Reason
from llmux.hooks.output import KEPT, LONGEST, OutputFile
from llmux.hooks.process import HookProcess
from llmux.hooks.runner import HookRunner
from llmux.statedir import model_directory
from llmux.test.fakes import FakeHookRunner, model_config
from llmux.test.hook_contract import HookRunnerContract, call
from llmux.test.processes import ProcessTests, end, python, runs, until


class Scripts:
    """
    A real hook runner for one model, and what it leaves behind.

    :param directory: takes the state.
    :param clock: tells the time.
    :param settings: the model's configuration.
    """

    def __init__(self, directory: str, clock: IReactorTime = reactor, **settings: object) -> None:
        self.state = Path(directory).absolute()
        self.directory = model_directory(self.state, "llama")
        self.output = OutputFile(self.directory)
        config = model_config("llama", **settings)
        self.runner = HookRunner(reactor, clock, {"llama": config}, self.state)

    def run(self, hook: Hook = Hook.WAKE) -> Deferred[HookResult]:
        """Run one of its hooks."""
        return self.runner.run(call(hook))

    def pid(self, name: str = "pid") -> int:
        """Read a process id that a hook has left in a file."""
        return int((self.directory / name).read_text())

    def printed(self) -> str:
        """Give all that was printed into the model's file."""
        return self.output.path.read_text()


class RealRunnerContractTests(HookRunnerContract, ProcessTests):
    def make_runner(self) -> IHookRunner:
        """Make a runner of real scripts."""
        models = {
            "llama": model_config("llama", wake="true", sleep="echo broken; exit 3"),
            "silent": model_config("silent", wake="sleep 60", wake_timeout_secs=0.05),
            "patient": model_config("patient", wake="sleep 60"),
        }
        return HookRunner(reactor, reactor, models, Path(self.mktemp()))


class FakeRunnerContractTests(HookRunnerContract, TestCase):
    def make_runner(self) -> IHookRunner:
        """Make a runner that only pretends."""
        self.clock = VirtualClock()
        runner = FakeHookRunner(self.clock)
        runner.script = self.plan
        runner.deadlines["silent"] = 0.5
        runner.output = "broken"
        self.runner = runner
        return runner

    def plan(self, call: HookCall) -> tuple[int, float]:
        """Say how a hook ends, and after how many seconds."""
        if call.model == "patient":
            return 0, 60.0
        return (3, 1.0) if call.hook is Hook.SLEEP else (0, 1.0)

    def let(self, ended: Deferred[HookResult]) -> None:
        """Let time pass at once."""
        self.clock.advance(10)

    def finish(self) -> None:
        """End what another llmux has left."""
        for _, finished in self.runner.finishing:
            finished.callback(None)

    def test_stubborn(self) -> None:
        """A hook that does not mind being stopped ends when the test says so, and is no success."""
        runner = self.make_runner()
        assert isinstance(runner, FakeHookRunner)
        runner.stubborn.add("patient")
        ended = runner.run(call(model="patient"))
        runner.stop("patient")
        self.assertNoResult(ended)
        runner.running[0].exit(0)
        result = self.successResultOf(ended)
        self.assertEqual((result.success, result.exit_code, result.stopped), (False, 0, True))

    def test_optional_hooks(self) -> None:
        """It has the hooks that the test gives it."""
        runner = FakeHookRunner(VirtualClock(), frozenset({"a"}))
        runner.freed.add("b")
        runner.kill.add("c")
        found = {model: [hook for hook in Hook if runner.has(model, hook)][2:] for model in "abc"}
        self.assertEqual(found, {"a": [Hook.ALIVE], "b": [Hook.FREED], "c": [Hook.KILL]})


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

    async def test_not_for_hooks(self) -> None:
        """What systemd tells llmux alone is not told to hooks: they would answer in its name."""
        names = (
            "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
            "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
        )  # fmt: skip
        for name in names:
            os.environ[name] = "1"
            self.addCleanup(os.environ.pop, name)
        scripts = Scripts(self.mktemp(), wake="env", alive="env")
        await scripts.run()
        await scripts.run(Hook.ALIVE)
        told = [line.partition("=")[0] for line in scripts.printed().splitlines()]
        self.assertEqual(told.count("LLMUX_HOOK"), 2)
        self.assertEqual([name for name in names if name in told], [])

    async def test_limit(self) -> None:
        """A hook is told the time that it really has: its deadline, or less if less is left."""
        scripts = Scripts(self.mktemp(), wake='echo "$LLMUX_DEADLINE"', wake_timeout_secs=20.0)
        for limit in (30.0, 10.5, None):
            await scripts.runner.run(attrs.evolve(call(), limit=limit))
        self.assertEqual(scripts.printed(), "20\n10.5\n20\n")

    async def test_no_time_left(self) -> None:
        """A hook for which no time is left at all is ended at once."""
        scripts = Scripts(self.mktemp(), wake="sleep 60")
        result = await scripts.runner.run(attrs.evolve(call(), limit=-1.0))
        self.assertTrue(result.timed_out)

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


class PrintingTests(ProcessTests):
    """What a hook prints, for whoever asks why a model did not come up."""

    async def test_last_run(self) -> None:
        """What each hook printed in its last run can be asked for, and nothing of others."""
        scripts = Scripts(self.mktemp(), wake='echo "$LLMUX_FROM"; echo error >&2', sleep="echo s")
        self.assertEqual(scripts.runner.output("llama", Hook.WAKE), "")
        for source in ("a", "b"):
            await scripts.runner.run(attrs.evolve(call(), source=source))
        await scripts.run(Hook.SLEEP)
        self.assertEqual(scripts.runner.output("llama", Hook.WAKE), "b\nerror\n")
        self.assertEqual(scripts.runner.output("llama", Hook.SLEEP), "s\n")
        self.assertEqual(scripts.runner.output("llama", Hook.ALIVE), "")
        self.assertEqual(scripts.runner.output("nobody", Hook.WAKE), "")

    async def test_while_it_runs(self) -> None:
        """What a hook has printed so far can be asked for while it runs."""
        scripts = Scripts(self.mktemp(), wake="echo loading; exec sleep 60")
        ended = scripts.run()
        await until(lambda: scripts.runner.output("llama", Hook.WAKE) == "loading\n")
        scripts.runner.stop("llama")
        await ended

    async def test_sixty_four_kibibytes(self) -> None:
        """Of a long output the last 64 KiB can be asked for, of which the result has 20 lines."""
        wake = "i=0; while [ $i -lt 9000 ]; do echo $i ........; i=$((i+1)); done"
        scripts = Scripts(self.mktemp(), wake=wake)
        result = await scripts.run()
        whole = "".join(f"{number} ........\n" for number in range(9000))
        self.assertEqual(scripts.runner.output("llama", Hook.WAKE), whole[-KEPT:])
        self.assertEqual(result.output, "\n".join(whole.splitlines()[-20:]))

    async def test_gigabyte(self) -> None:
        """A hook that prints without end fills neither the disk nor the memory, nor holds us up."""
        clock = VirtualClock()
        wake = 'echo $$ > "$LLMUX_STATE_DIR/pid"; exec yes $(head -c 900 /dev/zero | tr "\\0" x)'
        scripts = Scripts(self.mktemp(), clock, wake=wake)
        ended = scripts.run()
        await until(lambda: scripts.output.size() > LONGEST)
        printed = 0
        while printed < 1_000_000_000:
            os.kill(scripts.pid(), signal.SIGSTOP)  # so that it can be said what llmux has done
            await until(lambda: stopped(scripts.pid()))
            printed += scripts.output.size()
            tracemalloc.start()
            clock.advance(0.2)  # llmux looks
            grown = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertLess(grown, 16 * KEPT)
            self.assertLessEqual(scripts.output.size(), LONGEST)
            os.kill(scripts.pid(), signal.SIGCONT)
            await deferLater(reactor, 0.02)
        self.assertLessEqual(len(scripts.runner.output("llama", Hook.WAKE)), KEPT)
        scripts.runner.stop("llama")
        while not ended.called:
            clock.advance(0.1)
            await deferLater(reactor, 0.01)
        self.assertTrue((await ended).stopped)

    async def test_log_is_not_flooded(self) -> None:
        """Of lines without number the log gets the last, and a word about the others."""
        seen: list[LogEvent] = []
        logger = make_logger(level="debug", observer=seen.append)
        before = HookProcess._log
        self.addCleanup(setattr, HookProcess, "_log", before)
        HookProcess._log = logger
        await Scripts(self.mktemp(), VirtualClock(), wake="yes | head -n 2000; echo last").run()
        lines = [event["line"] for event in seen]  # of the one look at its end
        self.assertEqual(lines, ["[1501 lines are left out here]", *["y"] * 499, "last"])

    async def test_file_that_cannot_be_read(self) -> None:
        """A hook whose output cannot be read or cut, though written, is as good as it is."""
        wake = 'rm "$LLMUX_STATE_DIR/hooks.log"; mkdir "$LLMUX_STATE_DIR/hooks.log"; sleep 0.5'
        scripts = Scripts(self.mktemp(), wake=wake)
        result = await scripts.run()
        self.assertEqual((result.success, result.output), (True, ""))


class StopTests(ProcessTests):
    """Hooks that nobody needs any more."""

    async def test_whole_group(self) -> None:
        """A hook that is stopped is ended with all that it started in its group."""
        wake = 'sleep 60 & echo $! > "$LLMUX_STATE_DIR/pid"; touch "$LLMUX_STATE_DIR/ok"; wait'
        scripts = Scripts(self.mktemp(), wake=wake)
        ended = scripts.run()
        await until((scripts.directory / "ok").exists)
        scripts.runner.stop("another")
        self.assertTrue(runs(scripts.pid()))
        scripts.runner.stop("llama")
        scripts.runner.stop("llama")
        result = await ended
        self.assertEqual((result.stopped, result.timed_out, result.success), (True, False, False))
        await until(lambda: not runs(scripts.pid()))

    async def test_tidies_up(self) -> None:
        """A hook that exits 0 when it is stopped has not done what it is for."""
        wake = "trap 'echo tidy; exit 0' TERM; echo ok; sleep 60 & wait"
        scripts = Scripts(self.mktemp(), wake=wake)
        ended = scripts.run()
        await until(lambda: scripts.output.size())
        scripts.runner.stop("llama")
        result = await ended
        self.assertEqual((result.exit_code, result.stopped, result.success), (0, True, False))
        self.assertEqual(result.output, "ok\ntidy")

    async def test_all_hooks_of_a_model(self) -> None:
        """All hooks of a model that run are stopped."""
        scripts = Scripts(self.mktemp(), wake="exec sleep 60", alive="exec sleep 60")
        ended = [scripts.run(), scripts.run(Hook.ALIVE)]
        scripts.runner.stop("llama")
        self.assertEqual([(await each).stopped for each in ended], [True, True])


class ReloadTests(ProcessTests):
    """Configurations that change while llmux runs."""

    async def test_new_scripts(self) -> None:
        """A model's scripts and deadlines are the new ones from the next hook on."""
        wait = 'while [ ! -e "$LLMUX_STATE_DIR/go" ]; do sleep 0.02; done'
        scripts = Scripts(self.mktemp(), wake=f"{wait}; echo old $LLMUX_DEADLINE")
        ended = scripts.run()
        scripts.runner.configure(
            model_config("llama", wake="echo new $LLMUX_DEADLINE", alive="true",
                         wake_timeout_secs=5.0)
        )  # fmt: skip
        await scripts.run()
        (scripts.directory / "go").touch()
        self.assertTrue((await ended).success)
        self.assertEqual(scripts.printed(), "new 5\nold 600\n")
        self.assertTrue(scripts.runner.has("llama", Hook.ALIVE))

    async def test_new_model(self) -> None:
        """A model that is new has hooks from now on."""
        scripts = Scripts(self.mktemp())
        self.assertFalse(scripts.runner.has("qwen", Hook.WAKE))
        scripts.runner.configure(model_config("qwen", wake="true"))
        self.assertTrue((await scripts.runner.run(call(model="qwen"))).success)

    async def test_removed_model(self) -> None:
        """A model that is removed has no hooks any more; one that runs goes on to its end."""
        scripts = Scripts(self.mktemp(), wake="exec sleep 60")
        ended = scripts.run()
        scripts.runner.forget("llama")
        self.assertFalse(scripts.runner.has("llama", Hook.WAKE))
        result = await scripts.run()
        self.assertEqual(result.describe(), "could not be run: there is no such hook")
        self.assertEqual(scripts.runner.output("llama", Hook.WAKE), "")
        self.assertNoResult(ended)
        scripts.runner.stop("llama")
        self.assertTrue((await ended).stopped)
        scripts.runner.forget("llama")


class ShortageTests(ProcessTests):
    """No descriptors, no memory, no disk: a failed hook, and nothing left behind."""

    async def test_nothing_can_be_spawned(self) -> None:
        """Where nothing can be spawned a hook has failed, it is said what to do, nothing leaks."""
        told: list[object] = []
        for number, remedy in ((11, "ulimit -u"), (12, "no memory left"), (24, "LimitNOFILE=")):
            config = model_config("llama", alive="true")
            sessions: Any = NoProcesses(number)
            runner = HookRunner(
                reactor,
                reactor,
                {"llama": config},
                Path(self.mktemp()),
                lambda *a: told.append(a),
                sessions=sessions,
            )
            before = descriptors()
            for hook in (Hook.WAKE, Hook.ALIVE):
                result = await runner.run(call(hook))
                self.assertFalse(result.success)
                self.assertIn(os.strerror(number), result.describe())
                self.assertIn(remedy, result.describe())
            self.assertEqual(descriptors(), before)
            self.assertEqual((told, runner.output("llama", Hook.WAKE)), ([], ""))
            runner.stop("llama")

    async def test_script_that_no_system_takes(self) -> None:
        """A script that cannot be handed over is a failed hook, too."""
        for script in ("echo \0", "x" * 10_000_000):
            before = descriptors()
            result = await Scripts(self.mktemp(), wake=script).run()
            self.assertIn("could not be run: ", result.describe())
            self.assertEqual(descriptors(), before)

    def test_few_descriptors(self) -> None:
        """With however few descriptors left, a hook runs or fails with a word, and leaves none."""
        directory = str(Path(self.mktemp()).absolute())
        child = python(FEW_DESCRIPTORS, directory)
        said, _ = child.communicate()
        self.assertEqual(child.returncode, 0)
        outcomes = [line.split(" ", 1)[1] for line in said.splitlines()]
        self.assertEqual(len(outcomes), 12)
        self.assertIn("too many files open", outcomes[0])
        self.assertEqual(outcomes[-1], "exited with status 0")


def stopped(pid: int) -> bool:
    """Tell whether a process has been stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


FEW_DESCRIPTORS = """
import os, resource, sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from llmux.hooks.contract import Hook
from llmux.hooks.runner import HookRunner
from llmux.test.fakes import model_config
from llmux.test.hook_contract import call

async def main():
    config = model_config("llama", wake="true")
    runner = HookRunner(reactor, reactor, {"llama": config}, Path(sys.argv[1]))
    assert (await runner.run(call())).success
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for left in range(12):
        taken = []
        try:
            while True:
                taken.append(os.dup(1))
        except OSError:
            pass
        for _ in range(left):
            os.close(taken.pop())
        result = await runner.run(call())
        room = 0
        try:
            while True:
                taken.append(os.dup(1))
                room += 1
        except OSError:
            pass
        assert room == left, (room, left)
        for descriptor in taken:
            os.close(descriptor)
        print(left, result.describe(), flush=True)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass
        else:
            raise AssertionError("a process is left")

def begin():
    Deferred.fromCoroutine(main()).addErrback(failed).addBoth(lambda _: reactor.stop())

def failed(failure):
    status.append(1)
    failure.printTraceback()

status = []
reactor.callWhenRunning(begin)
reactor.run()
sys.exit(len(status))
"""


def descriptors() -> int:
    """Say how many files this process has open."""
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0


class NoProcesses:
    """
    Cannot start a process.

    :param number: the error that it meets.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def start(self, *arguments: object) -> None:
        """Fail."""
        raise OSError(self._number, os.strerror(self._number))


class DeadlineTests(ProcessTests):
    """Hooks past their deadline: real processes, but nobody waits for real."""

    def start(self, wake: str, sessions: Any = None) -> Deferred[HookResult]:
        """Start a hook that has ten seconds, of a time that stands still."""
        self.clock = VirtualClock()
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        models = {"llama": model_config("llama", wake=wake, wake_timeout_secs=10.0)}
        state = self.place / "state"
        runner = HookRunner(reactor, self.clock, models, state, sessions=sessions)
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

    def start(
        self,
        protocol: ProcessProtocol,
        command: list[bytes],
        environment: object,
        stdin: int,
        output: int,
    ) -> None:
        """Start a process."""
        self.protocol = protocol
        self.process = subprocess.Popen(command, stdin=stdin, start_new_session=True)
        transport = SimpleNamespace(pid=self.process.pid)
        protocol.makeConnection(transport)

    def report(self) -> None:
        """Report its end."""
        assert self.protocol is not None
        self.protocol.processExited(Failure(ProcessDone(None)))
