"""Tests of reckoning with amounts of resources."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.amounts import add, covers, fits, highest, minus, shown, taken

VECTORS = st.dictionaries(st.sampled_from("abc"), st.integers(-100, 100).map(float))


class CoversTests(SynchronousTestCase):
    """Whether so much is enough."""

    def test_plainly(self) -> None:
        """As much or more is enough, and less is not."""
        self.assertTrue(covers(20.0, 20.0))
        self.assertTrue(covers(20.0, 19.0))
        self.assertFalse(covers(20.0, 20.001))

    def test_roundings(self) -> None:
        """What sums are off by rounding makes no difference, whatever the unit."""
        self.assertTrue(covers(0.3, 0.1 + 0.2))
        self.assertTrue(covers(24e9, 24e9 + 1))
        self.assertFalse(covers(24e9, 24e9 + 100))
        self.assertTrue(covers(-1e-10, 0.0))
        self.assertFalse(covers(-1e-8, 0.0))


class FitsTests(SynchronousTestCase):
    """Whether there is room for all."""

    def test_every_resource(self) -> None:
        """It fits if each amount does."""
        self.assertTrue(fits({"gpu0": 20.0, "ram": 4.0}, {"gpu0": 24.0, "ram": 4.0}))
        self.assertFalse(fits({"gpu0": 20.0, "ram": 4.0}, {"gpu0": 24.0, "ram": 3.0}))

    def test_no_such_resource(self) -> None:
        """Of what there is not there is no room, but nothing fits everywhere."""
        self.assertFalse(fits({"gpu1": 1.0}, {"gpu0": 24.0}))
        self.assertTrue(fits({"gpu1": 0.0}, {"gpu0": 24.0}))
        self.assertTrue(fits({}, {}))

    def test_overdrawn(self) -> None:
        """Who takes nothing of a resource fits even if more of it is taken than there is."""
        self.assertTrue(fits({"gpu0": 0.0}, {"gpu0": -5.0}))
        self.assertFalse(fits({"gpu0": 1.0}, {"gpu0": -5.0}))


class VectorTests(SynchronousTestCase):
    """Sums, differences and the like, resource by resource."""

    def test_what_is_not_named(self) -> None:
        """What a vector does not name is 0."""
        self.assertEqual(add({"a": 1.0}, {"b": 2.0}, {"a": 3.0}), {"a": 4.0, "b": 2.0})
        self.assertEqual(minus({"a": 1.0}, {"b": 2.0}), {"a": 1.0, "b": -2.0})
        self.assertEqual(highest({"a": 1.0}, {"b": 2.0, "a": 3.0}), {"a": 3.0, "b": 2.0})
        self.assertEqual([add(), highest()], [{}, {}])

    @given(one=VECTORS, other=VECTORS)
    def test_there_and_back(self, one: dict[str, float], other: dict[str, float]) -> None:
        """What has been added and taken away again has made no difference."""
        back = minus(add(one, other), other)
        self.assertEqual({r: back[r] for r in one}, one)
        self.assertEqual({back[r] for r in other if r not in one} - {0.0}, set())

    @given(one=VECTORS, other=VECTORS)
    def test_arguments_stay(self, one: dict[str, float], other: dict[str, float]) -> None:
        """Nothing changes the vectors that it is given."""
        before = dict(one), dict(other)
        for function in (add, minus, highest):
            function(one, other)
        self.assertEqual((one, other), before)

    def test_taken(self) -> None:
        """Of a resource something is taken if it is more than nothing."""
        self.assertEqual(taken({"a": 1.0, "b": 0.0, "c": -1.0}), {"a"})

    def test_shown(self) -> None:
        """Amounts are written as people do."""
        written = [shown(amount) for amount in (20.0, 2.5, 0.0, 1 / 3, 24e9, 100.0)]
        self.assertEqual(written, ["20", "2.5", "0", "0.333333", "24000000000", "100"])
