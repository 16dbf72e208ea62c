"""Tests of the choice between Twisted's own parts and the fast ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.engine.choice import HTTP, REACTOR, STOCK, Choice, UnknownChoice

_HERE = Choice("LLMUX_THING", "quick", "attr")  # a package that is installed
_NOT_HERE = Choice("LLMUX_THING", "quick", "llmux_no_such_package")


class ChoiceTests(SynchronousTestCase):
    def test_nothing_asked(self) -> None:
        """Where nothing is asked for, it is the fast one if its package is installed."""
        self.assertEqual(_HERE.made({}), "quick")
        self.assertEqual(_HERE.made({"LLMUX_THING": ""}), "quick")
        self.assertEqual(_NOT_HERE.made({}), STOCK)

    def test_asked(self) -> None:
        """What is asked for is taken."""
        self.assertEqual(_HERE.made({"LLMUX_THING": STOCK}), STOCK)
        self.assertEqual(_HERE.made({"LLMUX_THING": "quick"}), "quick")

    def test_unknown(self) -> None:
        """What is not known is refused with the words that are."""
        error = self.assertRaises(UnknownChoice, _HERE.made, {"LLMUX_THING": "slow"})
        self.assertIn("LLMUX_THING=slow: must be default or quick", str(error))

    def test_not_installed(self) -> None:
        """What is asked for and not installed is refused with the package's name."""
        error = self.assertRaises(UnknownChoice, _NOT_HERE.made, {"LLMUX_THING": "quick"})
        self.assertIn("llmux_no_such_package is not installed", str(error))

    def test_names(self) -> None:
        """Each choice has a variable of its own, whose stock value is known."""
        for choice in (REACTOR, HTTP):
            self.assertEqual(choice.made({choice.variable: STOCK}), STOCK)
