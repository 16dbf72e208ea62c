"""Tests of what a worker counts and records for its parent."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.metrics import Metrics
from llmux.recorder import Recorder
from llmux.workers.accounts import GATHERING, METRICS, NOTE, Accounts
from llmux.workers.links import Count


class AccountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with empty books."""
        self.clock = VirtualClock()
        self.told: list[list[Count]] = []
        self.accounts = Accounts(self.clock, self.told.append)

    def test_gathered(self) -> None:
        """What is counted within a moment is told in one go."""
        self.accounts.request_answered("a", 200, 0.5)
        self.accounts.request_cut("a", "client")
        self.accounts.backend_failed("a", "backend_closed")
        self.accounts.connection_refused()
        self.accounts.note(1.0, "a", 2, 3, "batch")
        self.assertEqual(self.told, [])
        self.clock.advance(GATHERING)
        (counts,) = self.told
        self.assertEqual([name for name, _ in counts], [
            "request_answered", "request_cut", "backend_failed", "connection_refused", "note",
        ])  # fmt: skip
        self.clock.advance(60)
        self.assertEqual(len(self.told), 1)

    def test_at_once(self) -> None:
        """It can be told at once, and is not told twice."""
        self.accounts.connection_refused()
        self.accounts.flush()
        self.accounts.flush()
        self.clock.advance(60)
        self.assertEqual(self.told, [[("connection_refused", ())]])

    def test_known(self) -> None:
        """All that a worker counts is something that the parent's metrics and recorder know."""
        for name in METRICS:
            self.assertTrue(callable(getattr(Metrics, name)) and hasattr(Accounts, name), name)
        self.assertTrue(hasattr(Recorder, NOTE))
        self.assertEqual(self.accounts.render(), b"")
