"""What tests that start real processes have in common."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase


class ProcessTests(TestCase):
    """
    Tests that begin only when the reactor runs.

    A process that was started before, and has ended by then, is found while the reactor starts.  A
    test that ends by that crashes the reactor in the middle of its start, and the next test's
    reactor runs without its startup event: it does not hear of children any more.
    """

    def setUp(self) -> Any:
        """Let the reactor start; trial, unlike unittest, waits for the Deferred that this gives."""
        return deferLater(reactor, 0)
