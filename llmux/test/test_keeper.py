"""Tests of when the journal is written."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.events import Events
from llmux.hooks.contract import Hook, Leftover, ProcessId
from llmux.journal import Journal
from llmux.keeper import Keeper, Snapshot

HOOK = Leftover("a", Hook.SLEEP, ProcessId(pid=2**22, started=1, boot="2"), 5.0)


class KeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.clock = VirtualClock()
        self.looks = 0
        self.promise: object = None
        self.keeper = Keeper(
            Journal(self.directory, Events()), self.clock, self.look, lambda: self.promise
        )

    def look(self) -> Snapshot:
        """Give what is to be remembered: how often that was asked for."""
        self.looks += 1
        return {}, {"looks": self.looks}, {}, {}

    def written(self) -> tuple[object, list[Hook]] | None:
        """Give what is in the file: how often it was looked, and which hooks run."""
        memory = Journal(self.directory, Events()).read()
        looks = memory.costs.get("looks")
        return None if looks is None else (looks, [each.hook for each in memory.hooks])

    def test_once_a_turn(self) -> None:
        """All that changes in one turn is written once, when that has ended."""
        for _ in range(5):
            self.keeper.changed()
        self.assertIsNone(self.written())
        self.clock.advance(0)
        self.assertEqual(self.written(), (1, []))
        self.clock.advance(1)
        self.assertEqual(self.looks, 1)

    def test_promise(self) -> None:
        """What somebody relies on is written before he can hear of it."""
        self.promise = "room for you"
        self.keeper.changed()
        self.assertEqual(self.written(), (1, []))
        self.keeper.changed()
        self.assertEqual(self.looks, 1)
        self.promise = None
        self.keeper.changed()
        self.assertEqual(self.written(), (2, []))

    def test_before_a_script(self) -> None:
        """A hook is there before its script begins, with all that has changed before."""
        self.keeper.changed()
        self.keeper.hook_began(HOOK)
        self.assertEqual(self.written(), (1, [Hook.SLEEP]))
        self.clock.advance(0)
        self.assertEqual(self.looks, 1)

    def test_end_of_a_hook(self) -> None:
        """That a hook has ended is written with what follows from it."""
        self.keeper.hook_began(HOOK)
        self.keeper.hook_ended("a", Hook.SLEEP)
        self.keeper.changed()
        self.assertEqual(self.written(), (1, [Hook.SLEEP]))
        self.clock.advance(0)
        self.assertEqual(self.written(), (2, []))

    def test_finish(self) -> None:
        """In the end what waits for the turn's end is written at once, and nothing else is."""
        self.keeper.finish()
        self.assertIsNone(self.written())
        self.keeper.changed()
        self.keeper.finish()
        self.assertEqual(self.written(), (1, []))
        self.clock.advance(1)
        self.assertEqual(self.looks, 1)
