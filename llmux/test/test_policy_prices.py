"""Tests of :mod:`llmux.policy.prices`: what a policy reckons with."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.costs import SwitchCosts
from llmux.policy.prices import UNLEARNT, Prices
from llmux.test.views import costing


class SwitchTests(SynchronousTestCase):
    """How long the hooks of a switch take, by what is known of them."""

    def test_known(self) -> None:
        """What is known of the pair counts; else the two hooks; else the same target; else all."""
        rare, hooks = {("a", "c"): 20.0}, {"sleep": {"a": 1.0}, "wake": {"b": 6.0}}
        target = {**rare, ("c", "b"): 12.0}
        pair = {**target, ("a", "b"): 8.0}
        for costs, seconds in (
            (SwitchCosts(), UNLEARNT),
            (SwitchCosts(pair=rare), 20.0),
            (SwitchCosts(pair=target), 12.0),
            (SwitchCosts(pair=target, **hooks), 7.0),
            (SwitchCosts(pair=pair, **hooks), 8.0),
        ):
            self.assertEqual(Prices(costs).switch(("a",), "b"), seconds)

    def test_several(self) -> None:
        """Those who have to go sleep side by side."""
        prices = Prices(SwitchCosts(sleep={"a": 1.0, "b": 4.0}, wake={"c": 6.0}))
        self.assertEqual(prices.switch(("a", "b"), "c"), 10.0)
        self.assertEqual(prices.switch((), "c"), 6.0)


class DrainTests(SynchronousTestCase):
    """How long it takes until a model is idle."""

    def setUp(self) -> None:
        """Let an answer take two seconds."""
        self.prices = Prices(costing(answer=2.0))

    def test_drain(self) -> None:
        """Of three answers the first ends after a third of the time of one, and so on."""
        self.assertEqual(self.prices.drain("a", 0), 0.0)
        self.assertAlmostEqual(self.prices.drain("a", 3), 2 / 3 + 2 / 2 + 2)

    def test_many(self) -> None:
        """Of very many it is told nearly as well."""
        few, more = self.prices.drain("a", 200), self.prices.drain("a", 201)
        self.assertAlmostEqual(more - few, 2 / 201, 4)

    @given(st.integers(0, 200))
    def test_nobody_comes(self, leases: int) -> None:
        """A model that stays open is idle as soon as one that drains, if nobody comes."""
        self.assertAlmostEqual(
            self.prices.open("a", leases, 0.0), self.prices.drain("a", leases), 6
        )

    @given(st.floats(0.01, 5.0))
    def test_busy_period(self, rate: float) -> None:
        """Where some come, from one answer on it takes a busy period of M/G/inf."""
        period = math.expm1(2.0 * rate) / rate
        self.assertAlmostEqual(self.prices.open("a", 1, rate) / period, 1.0, 6)

    def test_for_ever(self) -> None:
        """Where very many come it takes very long, which is a number all the same."""
        self.assertTrue(1e8 < self.prices.open("a", 1, 1000.0) < math.inf)
