"""Tests of :mod:`llmux.simulate.hooks`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean, stdev

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from llmux.clock import VirtualClock
from llmux.costs import SwitchCosts
from llmux.hooks.contract import Hook, HookCall, IHookRunner, Leftover, ProcessId, Reason
from llmux.simulate.hooks import CostsError, HookCosts, SimulatedHooks

SLEEP = HookCall("a", Hook.SLEEP, "a", "b", Reason.REQUEST)
WAKE = HookCall("b", Hook.WAKE, "a", "b", Reason.REQUEST)
STOP = HookCall("a", Hook.STOP, "a", "b", Reason.REQUEST)


class CostsTests(SynchronousTestCase):
    """What hooks take."""

    def read(self, document: object, switch: float | None = None) -> HookCosts:
        """Read a file."""
        path = Path(self.mktemp())
        path.write_text(json.dumps(document))
        return HookCosts.from_file(path, switch)

    def test_unmeasured(self) -> None:
        """A switch of which nothing is known is one part sleep and four parts wake."""
        costs = HookCosts(10.0)
        self.assertEqual([costs.of(SLEEP), costs.of(WAKE), costs.of(STOP)], [2.0, 8.0, 0.0])

    def test_measured(self) -> None:
        """A pair wins over the mean, and what was measured of the hook itself over both."""
        costs = HookCosts(10.0, SwitchCosts(pair={("a", "b"): 20.0}))
        self.assertEqual([costs.of(SLEEP), costs.of(WAKE)], [4.0, 16.0])
        costs = HookCosts(10.0, SwitchCosts(pair={("a", "b"): 20.0}, wake={"b": 1.0, "a": 2.0}))
        self.assertEqual([costs.of(SLEEP), costs.of(WAKE)], [4.0, 1.0])

    def test_least(self) -> None:
        """No hook takes no time at all, and no switch either."""
        self.assertTrue(HookCosts(10.0, SwitchCosts(wake={"b": 0.0})).of(WAKE) > 0)
        self.assertRaises(ValueError, HookCosts, 0.0)

    def test_file(self) -> None:
        """A file says of models, of pairs, or of switches at large what is known."""
        costs = self.read({"sleep": {"a": 1}, "wake": {"a": 2, "b": 4}})
        self.assertEqual(costs, HookCosts(4.0, SwitchCosts({"a": 1.0}, {"a": 2.0, "b": 4.0})))
        costs = self.read({"pair": [["a", "b", 5], ["b", "a", 7]]})
        self.assertEqual(costs.switch, 6.0)
        self.assertEqual(self.read({"switch": 12}).switch, 12.0)
        self.assertEqual(self.read({"switch": 12}, 3.0).switch, 3.0)
        self.assertTrue(self.read({}).switch > 0)

    def test_wrong_file(self) -> None:
        """Anything else is told with its path."""
        wrong: tuple[object, ...] = (
            [], {"sleep": 3}, {"wake": {"a": -1}}, {"pair": [1]}, {"switch": "long"}, {"switch": 0},
        )  # fmt: skip
        for document in wrong:
            error = self.assertRaises(CostsError, self.read, document)
            self.assertIn("the costs cannot be read", str(error))
        self.assertRaises(CostsError, HookCosts.from_file, "/nonexistent/costs.json")


class SimulatedHooksTests(SynchronousTestCase):
    """Hooks that only let time pass."""

    def seconds(self, seed: int, jitter: float, count: int = 300) -> list[float]:
        """Say what so many wakes take."""
        clock = VirtualClock()
        hooks = SimulatedHooks(clock, HookCosts(10.0), seed, jitter)
        taken = []
        for _ in range(count):
            began = clock.now
            result = hooks.run(WAKE)
            self.assertNoResult(result)
            clock.run_next()
            ended = self.successResultOf(result)
            self.assertTrue(ended.success)
            self.assertAlmostEqual(clock.now - began, ended.seconds)
            taken.append(ended.seconds)
        return taken

    def test_interface(self) -> None:
        """It is a hook runner, of models that can be woken, put to sleep, and perhaps stopped."""
        hooks = SimulatedHooks(VirtualClock(), HookCosts(1.0), stops=frozenset("b"))
        self.assertTrue(verifyObject(IHookRunner, hooks))
        self.assertEqual([each for each in Hook if hooks.has("a", each)], [Hook.WAKE, Hook.SLEEP])
        self.assertTrue(hooks.has("b", Hook.STOP))
        hooks.stop("a")
        self.successResultOf(hooks.finish(Leftover("a", Hook.WAKE, ProcessId(1, 1, ""), 1.0)))

    def test_no_chance(self) -> None:
        """Without jitter every hook takes what it costs."""
        self.assertEqual(set(self.seconds(1, jitter=0.0)), {8.0})

    @given(st.integers())
    def test_chance(self, seed: int) -> None:
        """The logarithm of what they take has its mean and its deviation; a seed decides it all."""
        logs = [math.log(each / 8.0) for each in self.seconds(seed, jitter=0.1)]
        self.assertTrue(abs(fmean(logs)) < 0.04)
        self.assertTrue(0.07 < stdev(logs) < 0.13)
        self.assertEqual(self.seconds(seed, 0.1, 3), self.seconds(seed, 0.1, 3))
