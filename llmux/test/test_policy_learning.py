"""Tests of what policies learn: :mod:`llmux.policy.arrivals`, :mod:`llmux.policy.departures`."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.policy.arrivals import ArrivalRates
from llmux.policy.balanced import BalancedPolicy
from llmux.policy.departures import Departures
from llmux.test.views import NOW, asleep, awake, shown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values),
)


class ArrivalRatesTests(SynchronousTestCase):
    def learnt(self) -> ArrivalRates:
        """Let a request come for a model every two seconds, while it is awake."""
        rates = ArrivalRates()
        for number in range(5):
            rates.arrived("a", NOW - 8 + 2 * number)
        return rates

    def test_rate(self) -> None:
        """As many come in a second as came of late."""
        self.assertEqual(self.learnt().rate("a"), 0.5)

    def test_unknown(self) -> None:
        """Of a model for which none or one has come, nothing is known."""
        rates = ArrivalRates()
        self.assertEqual(rates.rate("a"), 0.0)
        rates.arrived("a", NOW)
        self.assertEqual(rates.rate("a"), 0.0)

    def test_silence(self) -> None:
        """While none come, they become rarer."""
        rates = self.learnt()
        rates.left("b", NOW + 8)  # which tells the time
        self.assertEqual(rates.rate("a"), 0.25)

    def test_blocked(self) -> None:
        """Silence of clients that wait for their model is none."""
        rates = self.learnt()
        rates.look(shown({"a": asleep(0.0)}))
        rates.left("b", NOW + 800)
        self.assertEqual(rates.rate("a"), 0.5)

    def test_opened(self) -> None:
        """When it is awake, time goes on."""
        rates = self.learnt()
        rates.look(shown({"a": asleep(0.0)}))
        rates.opened("a", NOW + 800)
        rates.left("b", NOW + 808)
        self.assertEqual(rates.rate("a"), 0.25)

    def test_last_ones(self) -> None:
        """What has been long ago does not count any more."""
        rates = ArrivalRates()
        for number in range(100):
            rates.arrived("a", 10.0 * number)
        for number in range(20):
            rates.arrived("a", 1000.0 + number)
        self.assertEqual(rates.rate("a"), 1.0)

    def test_models_that_are_gone(self) -> None:
        """Of a model that is configured no more, nothing is kept."""
        rates = self.learnt()
        rates.look(shown({"b": awake()}))
        self.assertEqual((rates.rate("a"), rates.as_json()), (0.0, {}))

    def test_restart(self) -> None:
        """What was learnt survives a restart, however long that took."""
        rates = ArrivalRates()
        rates.learn(json.loads(json.dumps(self.learnt().as_json())))
        rates.left("b", 1.0)
        self.assertEqual(rates.rate("a"), 0.5)

    def test_nonsense(self) -> None:
        """What is no such memory is refused as a whole."""
        nonsense: tuple[Any, ...] = (
            None, 5, {}, ["1"], [-1.0], [math.nan], [math.inf], [True], [[]],
        )  # fmt: skip
        for each in nonsense:
            rates = self.learnt()
            self.assertRaises(ValueError, rates.learn, {"b": [1.0], "a": each})
            self.assertEqual((rates.rate("a"), rates.rate("b")), (0.5, 0.0), each)


class DeparturesTests(SynchronousTestCase):
    def left(self, departures: Departures, *arrivals: float, expected: float = 100.0) -> None:
        """Let a model be left for ten seconds, and some come for it meanwhile."""
        departures.leaves("a", True, NOW, away=10.0, expected=expected)
        for after in arrivals:
            departures.arrived("a", NOW + after)
        departures.settle(NOW + 10.0)

    def test_unknown(self) -> None:
        """While nothing is known, what is expected is believed."""
        self.assertEqual(Departures().factor("a", idle=True), 1.0)

    def test_nobody_came(self) -> None:
        """If nobody comes while the model is away, nothing is lost by leaving it."""
        departures = Departures()
        self.left(departures)
        self.assertEqual(departures.factor("a", idle=True), 0.0)
        self.assertEqual(departures.factor("a", idle=False), 1.0, "a busy one is another matter")

    def test_somebody_came(self) -> None:
        """Each that comes suffers the square of what is left of the absence."""
        departures = Departures()
        self.left(departures, 2.0, 4.0, 11.0)
        self.assertEqual(departures.factor("a", idle=True), 1.0)  # (8 * 8 + 6 * 6) / 100

    def test_average(self) -> None:
        """What comes later moves what was known, and does not replace it."""
        departures = Departures()
        self.left(departures, 0.0)
        self.left(departures)
        self.assertAlmostEqual(departures.factor("a", idle=True), 0.7)

    def test_too_much(self) -> None:
        """However much was suffered, no more than five times of what is expected is believed."""
        departures = Departures()
        self.left(departures, 0.0, expected=1.0)
        self.assertEqual(departures.factor("a", idle=True), 5.0)

    def test_not_left(self) -> None:
        """A departure that came to nothing teaches nothing."""
        departures = Departures()
        departures.leaves("a", True, NOW, away=10.0, expected=100.0)
        departures.stays("a")
        departures.settle(NOW + 20.0)
        self.assertEqual(departures.as_json(), [])

    def test_restart(self) -> None:
        """What was learnt survives a restart."""
        old, new = Departures(), Departures()
        self.left(old, 5.0)
        new.learn(json.loads(json.dumps(old.as_json())))
        self.assertEqual(new.factor("a", idle=True), 0.25)

    def test_nonsense(self) -> None:
        """What is no such memory is refused as a whole."""
        nonsense: tuple[Any, ...] = (
            None, {}, "a", [5], [["a", True, 1.0]], [["a", 1, 1.0, 1.0]], [[5, True, 1.0, 1.0]],
            [["a", True, 0.0, 1.0]], [["a", True, 1.0, -1.0]], [["a", True, math.nan, 1.0]],
            [["a", True, 1.0, math.inf]], [["b", True, 1.0, 1.0], None],
        )  # fmt: skip
        for each in nonsense:
            departures = Departures()
            self.left(departures)
            self.assertRaises(ValueError, departures.learn, each)
            self.assertEqual(departures.factor("a", idle=True), 0.0, each)
            self.assertEqual(departures.factor("b", idle=True), 1.0, each)


class MemoryTests(SynchronousTestCase):
    @given(st.dictionaries(st.sampled_from(["arrivals", "departures", "x"]), JSON))
    def test_any_memory(self, learnt: dict[str, Any]) -> None:
        """Whatever is given to it as its memory, a policy takes all of it or nothing."""
        policy = BalancedPolicy()
        policy.arrived("z", 1.0)
        before = policy.as_json()
        try:
            policy.learn(learnt)
        except ValueError:
            self.assertEqual(policy.as_json(), before)
        else:
            json.dumps(policy.as_json(), allow_nan=False)
