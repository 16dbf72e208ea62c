"""Tests of :mod:`llmux.garbage`, with the collector of this process."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from llmux.garbage import leave_out_all_there_is


class GarbageTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Put back all that has been left out."""
        self.addCleanup(gc.unfreeze)

    def test_all_there_is(self) -> None:
        """What is there is left out, and what comes later is not."""
        leave_out_all_there_is()
        self.assertGreater(gc.get_freeze_count(), 1000)
        self.assertLess(len(gc.get_objects()), 1000)
        later: list[object] = []
        later.append(later)
        self.assertTrue(any(each is later for each in gc.get_objects()))
