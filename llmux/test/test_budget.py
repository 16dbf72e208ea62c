"""Tests of :mod:`llmux.budget`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import ONE_SLOT, SLOT, Budget, Placement, anywhere

amounts = st.dictionaries(st.sampled_from(("gpu0", "gpu1", "ram")), st.floats(0, 1e6), min_size=1)


class BudgetTests(SynchronousTestCase):
    def test_one_slot(self) -> None:
        """Unless resources are named there is one slot, which every model needs."""
        self.assertEqual(Budget.of({}).capacity, ONE_SLOT)
        self.assertEqual(Budget().capacity, {SLOT: 1.0})
        self.assertEqual(Budget.slots(3).capacity, {SLOT: 3.0})

    def test_resources(self) -> None:
        """Else there is what is named, and nothing else."""
        budget = Budget.of({"gpu0": 24.0, "ram": 128.0})
        self.assertEqual(budget.capacity, {"gpu0": 24.0, "ram": 128.0})
        self.assertTrue(budget.knows({"gpu0": 99.0}))
        self.assertFalse(budget.knows({"gpu0": 1.0, SLOT: 1.0}))


class PlacementTests(SynchronousTestCase):
    def test_one_place(self) -> None:
        """A model that can only be in one place is known to be there."""
        self.assertEqual(anywhere(({"gpu0": 20.0},)), Placement({"gpu0": 20.0}))

    def test_any_place(self) -> None:
        """One that can be in several holds the most that it takes in any of them."""
        somewhere = anywhere(({"gpu0": 20.0, "ram": 1.0}, {"gpu0": 8.0, "gpu1": 20.0}))
        self.assertEqual(
            somewhere, Placement({"gpu0": 20.0, "ram": 1.0, "gpu1": 20.0}, known=False)
        )

    def test_resources(self) -> None:
        """What it takes nothing of does not count as a place."""
        self.assertEqual(Placement({"gpu0": 0.0, "gpu1": 1.0}).resources, {"gpu1"})

    @given(st.lists(amounts, min_size=1, max_size=4))
    def test_highest(self, alternatives: list[dict[str, float]]) -> None:
        """Wherever it is, what it is taken to hold is enough, and no more than it could need."""
        held = anywhere(tuple(alternatives)).needs
        for needs in alternatives:
            self.assertTrue(all(held[name] >= amount for name, amount in needs.items()))
        for name, amount in held.items():
            self.assertIn(amount, [needs.get(name) for needs in alternatives])

    @given(amounts, st.booleans())
    def test_journal(self, needs: dict[str, float], known: bool) -> None:
        """It can be written down and read back."""
        placement = Placement(needs, known)
        self.assertEqual(Placement.from_json(placement.as_json()), placement)

    def test_nonsense(self) -> None:
        """What is no placement is refused."""
        nonsense: tuple[object, ...] = (
            None,
            [],
            {"gpu0": "20"},
            {"gpu0": -1.0},
            {"gpu0": True},
            {1: 2.0},
        )
        for needs in nonsense:
            self.assertRaises(ValueError, Placement.from_json, {"needs": needs, "known": True})
        self.assertRaises(ValueError, Placement.from_json, {"needs": {}, "known": 1})
        self.assertRaises(ValueError, Placement.from_json, {"needs": {"a": 1e999}, "known": True})
