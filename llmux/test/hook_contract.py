"""What every hook runner promises, as tests to be run on each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from llmux.hooks.contract import (
    Hook,
    HookCall,
    HookResult,
    IHookRunner,
    Leftover,
    ProcessId,
    Reason,
)

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as Base
else:
    Base = object


def call(hook: Hook = Hook.WAKE, model: str = "llama") -> HookCall:
    """Make a call as the switcher would."""
    return HookCall(model=model, hook=hook, source="idle", target=model, reason=Reason.REQUEST)


class HookRunnerContract(Base):
    """
    Tests of :class:`IHookRunner`; a subclass makes the runner.

    The runner has a model ``llama``, whose wake exits 0, whose sleep exits 3 after having printed
    ``broken``, and that has none of the others; ``silent``, whose wake does not end before its
    deadline; and ``patient``, whose wake and whose deadline are long.
    """

    def make_runner(self) -> IHookRunner:
        """Make the runner."""
        raise NotImplementedError

    def let(self, ended: Deferred[HookResult]) -> None:
        """Let time pass until a hook has ended, where it does not pass by itself."""

    def finish(self) -> None:
        """Let what another llmux has left end, where it does not by itself."""

    def test_interface(self) -> None:
        """It provides all that the switcher calls."""
        self.assertTrue(verifyObject(IHookRunner, self.make_runner()))

    def test_has(self) -> None:
        """It tells which hooks a model has."""
        runner = self.make_runner()
        found = [hook for hook in Hook if runner.has("llama", hook)]
        self.assertEqual(found, [Hook.WAKE, Hook.SLEEP])

    async def test_success(self) -> None:
        """A hook that exits with status 0 has succeeded."""
        ended = self.make_runner().run(call())
        self.let(ended)
        result = await ended
        self.assertTrue(result.success)
        self.assertEqual((result.exit_code, result.signal, result.timed_out), (0, None, False))

    async def test_failure(self) -> None:
        """A hook that exits with another status has failed, and its last lines are there."""
        ended = self.make_runner().run(call(Hook.SLEEP))
        self.let(ended)
        result = await ended
        self.assertFalse(result.success)
        self.assertEqual((result.exit_code, result.output), (3, "broken"))
        self.assertEqual(result.describe(), "exited with status 3")

    async def test_deadline(self) -> None:
        """A hook that does not end is ended at its deadline, and has failed."""
        ended = self.make_runner().run(call(model="silent"))
        self.let(ended)
        result = await ended
        self.assertFalse(result.success)
        self.assertTrue(result.timed_out)
        self.assertIn("at its deadline", result.describe())

    async def test_limit(self) -> None:
        """A call that allows less time than the hook's deadline is ended earlier."""
        ended = self.make_runner().run(attrs.evolve(call(model="patient"), limit=0.05))
        self.let(ended)
        result = await ended
        self.assertFalse(result.success)
        self.assertTrue(result.timed_out)

    async def test_stop(self) -> None:
        """A hook that is stopped ends, and has failed; its deadline is not to blame."""
        runner = self.make_runner()
        ended = runner.run(call(model="patient"))
        other = runner.run(call())
        runner.stop("patient")
        self.let(ended)
        result = await ended
        self.assertFalse(result.success)
        self.assertEqual((result.stopped, result.timed_out), (True, False))
        self.assertIn("nobody needed it any more", result.describe())
        self.let(other)
        self.assertTrue((await other).success)

    def test_stop_nothing(self) -> None:
        """Where no hook runs there is nothing to stop."""
        self.make_runner().stop("llama")

    async def test_finish(self) -> None:
        """What another llmux has left is waited for."""
        runner = self.make_runner()
        gone = Leftover("llama", Hook.WAKE, ProcessId(2**30, 0, "another boot"), deadline=60.0)
        finished = runner.finish(gone)
        self.finish()
        await finished

    async def test_missing(self) -> None:
        """A hook that a model does not have fails, as any other may."""
        result = await self.make_runner().run(call(Hook.ALIVE))
        self.assertFalse(result.success)
        self.assertEqual(result.describe(), "could not be run: there is no such hook")
