"""Hooks that are expected: their shells wait, and nothing of them is seen before they run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import Budget
from llmux.clock import VirtualClock
from llmux.config import ModelConfig
from llmux.foresight import MOMENT
from llmux.hooks.contract import Hook, HookCall, HookResult, ProcessId, Reason
from llmux.hooks.runner import HookRunner
from llmux.hooks.session import Sessions
from llmux.statedir import model_directory
from llmux.test.fakes import model_config
from llmux.test.hook_contract import call
from llmux.test.processes import ProcessTests, runs, until
from llmux.test.switching import Bench


@attrs.frozen
class CountedSessions(Sessions):
    """
    Starts processes, and remembers them.

    :ivar pids: of all that were started, in order.
    """

    pids: list[int] = attrs.Factory(list)

    def start(self, protocol: ProcessProtocol, *others: Any, **named: Any) -> None:
        """See :meth:`Sessions.start`."""
        super().start(protocol, *others, **named)
        assert protocol.transport is not None
        self.pids.append(protocol.transport.pid)


class ExpectedTests(ProcessTests):
    """Real shells that wait; their time stands still."""

    def setUp(self) -> Any:
        """Make a runner for one model, whose wake says who it is."""
        self.clock = VirtualClock()
        self.state = Path(self.mktemp()).absolute()
        self.sessions = CountedSessions(reactor)
        self.recorded: list[tuple[HookCall, ProcessId, float]] = []
        self.runner = HookRunner(
            reactor,
            self.clock,
            {"llama": self.config()},
            self.state,
            lambda *what: self.recorded.append(what),
            sessions=self.sessions,
        )
        return super().setUp()

    def config(self, wake: str = "echo $$ from $LLMUX_FROM") -> ModelConfig:
        """Configure the model."""
        return model_config("llama", wake=wake, alive="true", wake_timeout_secs=10.0)

    async def run_hook(self, what: HookCall | None = None) -> HookResult:
        """Run the wake hook to its end."""
        return await self.runner.run(what or call())

    async def gone(self, pid: int) -> None:
        """Wait until nothing is left of a process, not even a zombie."""
        await until(lambda: not Path(f"/proc/{pid}").exists())

    async def test_process_that_waited_is_the_hooks(self) -> None:
        """An expected hook runs in the process that has waited for it, and there is no other."""
        self.runner.expect(call())
        self.assertEqual((len(self.sessions.pids), self.recorded), (1, []))
        result = await self.run_hook()
        self.assertEqual(result.output, f"{self.sessions.pids[0]} from idle")
        self.assertEqual((result.success, len(self.sessions.pids)), (True, 1))
        self.assertEqual([each[1].pid for each in self.recorded], self.sessions.pids)
        again = await self.run_hook()
        self.assertTrue(again.success)
        self.assertEqual(len(self.sessions.pids), 2)

    async def test_expected_twice(self) -> None:
        """A hook that is expected already needs no second process; for another call it does."""
        for _ in range(2):
            self.runner.expect(call())
        self.assertEqual(len(self.sessions.pids), 1)
        self.runner.expect(attrs.evolve(call(), source="gemma"))
        self.assertEqual(len(self.sessions.pids), 2)
        await self.gone(self.sessions.pids[0])
        self.runner.forgo("llama")
        await self.gone(self.sessions.pids[1])

    async def test_another_call(self) -> None:
        """A hook that runs for something else than was expected is told what that is."""
        self.runner.expect(call())
        result = await self.run_hook(attrs.evolve(call(), source="gemma"))
        self.assertEqual(result.output, f"{self.sessions.pids[1]} from gemma")
        await self.gone(self.sessions.pids[0])

    async def test_forgone(self) -> None:
        """A hook that is expected no more leaves no process, and its script has not begun."""
        self.runner.expect(call())
        self.runner.forgo("gemma")
        self.assertTrue(runs(self.sessions.pids[0]))
        self.runner.forgo("llama")
        await self.gone(self.sessions.pids[0])
        self.assertEqual((model_directory(self.state, "llama") / "hooks.log").read_text(), "")
        self.assertTrue((await self.run_hook()).success)

    async def test_ended_while_it_waited(self) -> None:
        """Whoever ends a process that waits does not keep the hook from running."""
        for noticed in (True, False):
            self.runner.expect(call())
            pid = self.sessions.pids[-1]
            os.kill(pid, signal.SIGKILL)
            if noticed:
                await self.gone(pid)
            else:  # it has gone, and nobody has asked after it yet
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            result = await self.run_hook()
            self.assertTrue(result.success)
            self.assertEqual(result.output, f"{self.sessions.pids[-1]} from idle")
            self.assertNotEqual(self.sessions.pids[-1], pid)
            self.assertEqual(self.recorded[-1][1].pid, self.sessions.pids[-1])

    async def test_new_scripts(self) -> None:
        """A model's new scripts are those that run, whatever was expected before."""
        self.runner.expect(call())
        self.runner.configure(self.config("echo new"))
        self.assertEqual((await self.run_hook()).output, "new")
        self.runner.expect(call())
        self.runner.forget("llama")
        for pid in self.sessions.pids:
            await self.gone(pid)
        self.assertIn("no such hook", (await self.run_hook()).describe())
        self.runner.expect(call())
        self.assertEqual(len(self.sessions.pids), 3)

    async def test_new_resources(self) -> None:
        """What the models share is told as it is when a script begins, whatever was so before."""
        self.runner.configure(self.config("echo ${LLMUX_RESOURCE_GPU-unknown}"))
        self.runner.expect(call())
        self.runner.configure_resources(["gpu"])
        self.assertEqual((await self.run_hook()).output, "")

    async def test_same_resources(self) -> None:
        """A reload that leaves them as they are leaves what stands ready where it is."""
        self.runner.configure(self.config("echo it ran"))
        self.runner.configure_resources(["gpu"])
        self.runner.expect(call())
        self.runner.configure_resources(["gpu"])
        self.assertEqual((await self.run_hook()).output, "it ran")
        self.assertEqual(len(self.sessions.pids), 1)

    async def test_what_others_print_meanwhile(self) -> None:
        """What is printed while a hook waits is not its own."""
        self.runner.expect(call())
        with (model_directory(self.state, "llama") / "hooks.log").open("a") as file:
            file.write("a server's line\n")
        self.assertEqual((await self.run_hook()).output, f"{self.sessions.pids[0]} from idle")

    async def test_time_counts_from_the_script(self) -> None:
        """The wait counts for nothing: neither as the hook's time nor towards its deadline."""
        self.runner.configure(self.config("sleep 60"))
        self.runner.expect(call())
        self.clock.advance(100)
        ended = self.runner.run(call())
        self.assertEqual([deadline for _, _, deadline in self.recorded], [110.0])  # of its process
        self.clock.advance(9)
        self.assertNoResult(ended)
        while not ended.called:
            self.clock.advance(1)
            await deferLater(reactor, 0.01)
        result = await ended
        self.assertTrue(result.timed_out)
        self.assertLess(result.seconds, 100)

    def test_hooks_that_only_look(self) -> None:
        """What begins at once is not started before it is to run."""
        self.runner.expect(call(Hook.ALIVE))
        self.assertEqual(self.sessions.pids, [])

    async def test_no_process_to_be_had(self) -> None:
        """Where none can be started it is the hook that fails, when it is to run."""
        self.state.mkdir()
        (self.state / "models").write_text("in the way")
        self.runner.expect(call())
        self.assertIn("could not be run", (await self.run_hook()).describe())
        (self.state / "models").unlink()
        self.assertTrue((await self.run_hook()).success)


BOTH = [("sleep", "a", "a", "b"), ("wake", "b", "a", "b")]


class SwitchTests(SynchronousTestCase):
    """What the switcher expects, and when."""

    def expected(self, bench: Bench) -> list[tuple[str, str, str, str]]:
        """Name what is expected, if nothing else happens meanwhile."""
        bench.clock.advance(MOMENT)
        return [
            (each.hook.value, each.model, each.source, each.target) for each in bench.hooks.expected
        ]

    def test_course_of_a_switch(self) -> None:
        """While one drains its sleep is expected, and the other's wake until it is woken."""
        bench = Bench()
        running = bench.wake("a")
        bench.request("b")
        self.assertEqual(self.expected(bench), BOTH)
        self.assertIs(bench.hooks.expected[0].reason, Reason.REQUEST)
        running.finish()
        self.assertEqual(self.expected(bench), [("wake", "b", "a", "b")])
        wake = bench.hooks.expected[0]
        bench.exit()
        self.assertEqual(self.expected(bench), [])
        self.assertEqual(bench.hooks.calls[-1], wake)

    def test_foreseen(self) -> None:
        """What a policy will do when it may is expected before it does it, and not for good."""
        bench = Bench([model_config("a", min_active_secs=60), "b"])
        running = bench.wake("a")
        waiting = bench.request("b")
        self.assertEqual(bench.states(), {"a": "awake", "b": "asleep"})
        self.assertEqual(self.expected(bench), BOTH)
        waiting.leave()
        self.assertEqual(self.expected(bench), [])
        bench.request("b")
        self.assertEqual(self.expected(bench), BOTH)
        bench.switcher.stop()
        self.assertEqual(self.expected(bench), [])
        running.finish()

    def test_over_at_once(self) -> None:
        """For what is over in a moment nothing is got ready, nor in the midst of a switch."""
        bench = Bench()
        running = bench.wake("a")
        waiting = bench.request("b")
        bench.clock.advance(MOMENT / 2)
        self.assertEqual(bench.hooks.expected, [])
        waiting.leave()
        self.assertIsNone(bench.clock.next_due())
        bench.request("b")
        running.finish()
        bench.exit()
        self.assertEqual(bench.hooks.names(), ["wake a", "sleep a", "wake b"])
        self.assertEqual(self.expected(bench), [])

    def test_nobody_to_go(self) -> None:
        """Where nobody has to go first there is no time in which a wake could be got ready."""
        bench = Bench()
        bench.request("a")
        self.assertEqual(self.expected(bench), [])

    def test_called_off(self) -> None:
        """What was expected of a switch that is called off is so no more."""
        bench = Bench()
        bench.wake("a")
        waiting = bench.request("b")
        waiting.leave()
        self.assertEqual(
            (bench.states(), self.expected(bench)), ({"a": "awake", "b": "asleep"}, [])
        )

    def test_other_configuration(self) -> None:
        """What another configuration has dismissed is expected anew."""
        configs = {name: model_config(name, needs=({"gpu": 10.0},)) for name in ("a", "b")}
        scripts = {name: attrs.evolve(each, wake="x") for name, each in configs.items()}
        more = Budget.of({"gpu": 10.0, "ram": 10.0})
        for changed, budget in ((scripts, None), (configs, more)):
            bench = Bench(list(configs.values()), resources={"gpu": 10.0})
            running = bench.wake("a")
            bench.request("b")
            self.assertEqual(self.expected(bench), BOTH)
            bench.hooks.expected.clear()  # as who runs them does
            bench.switcher.reconfigure(changed, budget)
            self.assertEqual(self.expected(bench), BOTH)
            running.finish()

    def test_sleep_in_vain(self) -> None:
        """A wake that does not come, because nobody would go, is expected no more."""
        bench = Bench()
        running = bench.wake("a")
        bench.request("b")
        running.finish()
        for _ in range(4):
            if bench.hooks.running:
                bench.exit(1)
        self.assertEqual((bench.states()["b"], self.expected(bench)), ("asleep", []))
