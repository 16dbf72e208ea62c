"""The gate before a hook's script: it does not begin before its process is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from llmux.hooks.contract import Hook, HookCall, HookResult, ProcessId
from llmux.hooks.identity import identify
from llmux.hooks.runner import HookRunner
from llmux.test.fakes import model_config
from llmux.test.hook_contract import call
from llmux.test.processes import ProcessTests, python, runs, until

# An llmux that has spawned a hook, and is to be killed before it lets the script begin.
LLMUX = """
import sys, time
from pathlib import Path
from twisted.internet import reactor
from llmux.hooks.contract import Hook, HookCall, Reason
from llmux.hooks.runner import HookRunner
from llmux.test.fakes import model_config

def started(call, process, deadline):
    print(process.pid, flush=True)
    time.sleep(600)

def begin():
    config = model_config("llama", wake=sys.argv[2])
    runner = HookRunner(reactor, reactor, {"llama": config}, Path(sys.argv[1]), started)
    runner.run(HookCall("llama", Hook.WAKE, "idle", "llama", Reason.REQUEST))

reactor.callWhenRunning(begin)
reactor.run()
"""


def without_sessions(*arguments: object, **settings: object) -> int:
    """Spawn as a system does that knows no sessions there."""
    raise NotImplementedError


class GateTests(ProcessTests):
    if not Path("/proc/self/stat").exists():
        skip = "there is no /proc here"

    def setUp(self) -> Any:
        """Make a place for what hooks leave, and a list of what is told about them."""
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.told: list[Any] = []
        return super().setUp()

    def make_runner(self, started: Callable[..., None] | None = None, **hooks: Any) -> HookRunner:
        """Make a runner that tells of its hooks."""
        config = model_config("llama", **hooks)
        started = started or self.started
        return HookRunner(
            reactor, reactor, {"llama": config}, self.place / "state", started, self.ended
        )

    def started(self, call: HookCall, process: ProcessId, deadline: float) -> None:
        """Take in that a hook is there."""
        self.told.append(("started", call.hook, deadline))

    def ended(self, call: HookCall) -> None:
        """Take in that a hook has ended."""
        self.told.append(("ended", call.hook))

    def printed(self) -> str:
        """Give what the hooks printed."""
        return (self.place / "state/models/llama/hooks.log").read_text("utf-8", "surrogateescape")

    async def test_order(self) -> None:
        """It is told when its process is there, then the script runs, then its end is told."""
        mark = self.place / "mark"

        def started(call: HookCall, process: ProcessId, deadline: float) -> None:
            self.told.append(("started", process, runs(process.pid), mark.exists(), deadline))
            self.assertEqual(identify(process.pid), process)

        runner = self.make_runner(started, wake=f"echo $$ > {mark}")
        result = await runner.run(call()).addCallback(self.look)
        self.assertTrue(result.success)
        (_, process, alive, begun, deadline), *rest = self.told
        self.assertEqual((alive, begun, deadline), (True, False, 600.0))
        self.assertEqual(rest, [("ended", Hook.WAKE), "result"])
        self.assertEqual(int(mark.read_text()), process.pid)

    def look(self, result: HookResult) -> HookResult:
        """Take in the result."""
        self.told.append("result")
        return result

    async def test_which(self) -> None:
        """Hooks that change something are told of, those that only look are not."""
        hooks: dict[str, Any] = {hook.value: f'test "$LLMUX_HOOK" = {hook.value}' for hook in Hook}
        runner = self.make_runner(**hooks)
        results = [await runner.run(call(hook)) for hook in Hook]
        self.assertTrue(all(result.success for result in results))
        told = [each[1] for each in self.told if each[0] == "started"]
        self.assertEqual(told, [Hook.WAKE, Hook.SLEEP, Hook.KILL, Hook.STOP, Hook.PREPARE])
        self.assertEqual(len(self.told), 10)

    async def test_killed_before_the_script(self) -> None:
        """When llmux is killed before it has recorded a hook, the script never runs."""
        mark = self.place / "mark"
        other = python(LLMUX, str(self.place / "state"), f"touch {mark}")
        self.addCleanup(other.communicate)
        self.addCleanup(other.kill)
        assert other.stdout is not None
        pid = int(other.stdout.readline())
        self.assertTrue(runs(pid))
        other.kill()
        await until(lambda: not runs(pid))
        self.assertFalse(mark.exists())
        self.assertEqual(self.printed(), "")

    async def test_not_inherited(self) -> None:
        """A gate that is shut for one hook is not held open by another that began meanwhile."""
        inner: list[Deferred[HookResult]] = []

        def started(call: HookCall, process: ProcessId, deadline: float) -> None:
            if call.hook is Hook.WAKE:
                for hook in (Hook.SLEEP, Hook.ALIVE):
                    inner.append(runner.run(HookCall("llama", hook, "", "", call.reason)))

        look = "ls -l /proc/$$/fd"
        runner = self.make_runner(started, wake=look, sleep=look, alive=look)
        results = [await runner.run(call()), *[await ended for ended in inner]]
        self.assertEqual([result.success for result in results], [True] * 3)
        self.assertNotIn("pipe:", self.printed())
        self.assertEqual(self.printed().count("/dev/null"), 3)

    async def test_nothing_left_of_it(self) -> None:
        """The script finds nothing of the gate: no variable, no descriptor, no other name."""
        look = "env; set -- $0 /proc/$$/fd/*; echo descriptors $(echo $* | sed s:/proc/$$/fd/::g)"
        runner = self.make_runner(wake=look, alive=look)
        await runner.run(call())
        gated = self.printed()
        await runner.run(call(Hook.ALIVE))
        plain = self.printed().removeprefix(gated)
        plain = plain.replace("LLMUX_HOOK=alive", "LLMUX_HOOK=wake")
        plain = plain.replace("LLMUX_DEADLINE=10\n", "LLMUX_DEADLINE=600\n")
        self.assertEqual(sorted(gated.splitlines()), sorted(plain.splitlines()))
        self.assertIn("LLMUX_HOOK=wake\n", gated)

    async def test_every_byte(self) -> None:
        """A script goes through the gate as it is, whatever bytes and quotes it holds."""
        text = bytes(set(range(1, 256)) - {0x27}).decode("utf-8", "surrogateescape")
        runner = self.make_runner(wake=f"cat <<'END'\n{text}\nEND\n")
        result = await runner.run(call())
        self.assertTrue(result.success, result)
        raw = (self.place / "state/models/llama/hooks.log").read_bytes()
        self.assertEqual(raw, text.encode("utf-8", "surrogateescape") + b"\n")

    async def test_as_without_it(self) -> None:
        """A script ends and prints as it does without the gate, whatever is wrong with it."""
        scripts = (
            "", "# nothing", "\n\nexit 3", "; echo x", "&& echo x", "}", "echo 'x", "echo x\n)",
            "no_such_command_at_all", "kill -9 $$", "set -e; false; echo x", "exit 7 # done",
            "echo $0 $# $LINENO\necho $LINENO", "trap 'echo out' EXIT; exit 4",
            "sh -c 'kill -9 $$'", "return 5", "cat; echo $?", "set -u; echo $nothing", "echo x \\",
        )  # fmt: skip
        for script in scripts:
            runner = self.make_runner(wake=script, alive=script)
            gated, plain = await runner.run(call()), await runner.run(call(Hook.ALIVE))
            self.assertEqual(
                (gated.exit_code, gated.signal, gated.output),
                (plain.exit_code, plain.signal, plain.output),
                script,
            )

    async def test_signal_at_the_gate(self) -> None:
        """A hook that is ended while it waits at the gate ends, and its script never runs."""

        def started(call: HookCall, process: ProcessId, deadline: float) -> None:
            os.kill(process.pid, 9)
            while runs(process.pid):
                pass

        result = await self.make_runner(started, wake="echo ran").run(call())
        self.assertEqual((result.signal, result.success), (9, False))
        self.assertEqual((self.printed(), self.told), ("", [("ended", Hook.WAKE)]))

    async def test_recorder_that_fails(self) -> None:
        """A hook runs even where it cannot be recorded."""

        def started(*told: object) -> None:
            raise OSError(28, "No space left on device")

        def ended(*told: object) -> None:
            raise OSError(28, "No space left on device")

        config = model_config("llama", wake="echo ran")
        models: Any = {"llama": config}
        runner = HookRunner(reactor, reactor, models, self.place / "state", started, ended)
        self.assertTrue((await runner.run(call())).success)
        self.assertEqual(self.printed(), "ran\n")

    async def test_without_setsid(self) -> None:
        """The gate is there where it takes a program to make a session, be it setsid or Python."""
        self.patch(os, "posix_spawn", without_sessions)
        empty = self.place / "empty"
        empty.mkdir()
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        os.environ["PATH"] = str(empty)
        pids: list[int] = []
        runner = self.make_runner(
            lambda call, process, deadline: pids.append(process.pid), wake="echo $$"
        )
        self.assertTrue((await runner.run(call())).success)
        os.environ["PATH"] = path
        self.assertTrue((await runner.run(call())).success)
        self.assertEqual([int(line) for line in self.printed().split()], pids)
        self.assertEqual(len(pids), 2)
