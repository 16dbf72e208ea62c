"""Tests of :mod:`llmux.budget`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import Budget

models = st.lists(st.sampled_from("abcdefgh"), unique=True)


class BudgetTests(SynchronousTestCase):
    def test_one_slot(self) -> None:
        """Unless told otherwise, one model is awake at a time."""
        budget = Budget()
        self.assertEqual([budget.fits(n) for n in (0, 1, 2)], [True, True, False])
        self.assertEqual(budget.must_go("b", ["a"]), ("a",))

    def test_room(self) -> None:
        """Where there is room nobody has to go."""
        self.assertEqual(Budget().must_go("a", []), ())
        self.assertEqual(Budget(slots=2).must_go("b", ["a"]), ())

    def test_the_target_itself(self) -> None:
        """A model that holds something already has not to make room for itself."""
        self.assertEqual(Budget().must_go("a", ["a"]), ())
        self.assertEqual(Budget().must_go("a", ["a", "b"]), ("b",))

    def test_cheapest_first(self) -> None:
        """Those go that are cheapest to lose, and no more of them than needed."""
        self.assertEqual(Budget(slots=3).must_go("d", ["c", "a", "b"]), ("c",))

    def test_no_slot(self) -> None:
        """A budget in which nothing fits is refused."""
        self.assertRaises(ValueError, Budget, 0)

    @settings(deadline=None)
    @given(st.integers(1, 5), st.sampled_from("abcdefgh"), models)
    def test_makes_room(self, slots: int, target: str, holding: list[str]) -> None:
        """Once they are gone the target fits; were one of them to stay, it would not."""
        budget = Budget(slots)
        gone = budget.must_go(target, holding)
        staying = {*holding, target} - set(gone)
        self.assertTrue(budget.fits(len(staying)))
        self.assertNotIn(target, gone)
        self.assertEqual(list(gone), [model for model in holding if model != target][: len(gone)])
        if gone:
            self.assertFalse(budget.fits(len(staying) + 1))
