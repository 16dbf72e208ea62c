"""Tests of the board on which workers see how many connections each has."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.workers.board import Board, make_board
from llmux.workers.worker import Hall


class BoardTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have a board for three, as the parent has it, and as a worker has."""
        self.board, file = make_board(3)
        self.theirs = Board(file.fileno(), 3)
        file.close()
        self.addCleanup(self.theirs.close)
        self.addCleanup(self.board.close)

    def test_shared(self) -> None:
        """What one says all see."""
        self.board.note(1, 0)
        self.theirs.note(2, 10)
        self.assertTrue(self.board.is_ahead(2))
        self.assertFalse(self.board.is_ahead(1))

    def test_slack(self) -> None:
        """Whoever has hardly more than others is not ahead of them."""
        for least, most in ((0, 1), (10, 11), (160, 170)):
            self.board.note(1, least)
            self.board.note(2, most)
            self.assertFalse(self.board.is_ahead(2), (least, most))
            self.board.note(2, most + 1)
            self.assertTrue(self.board.is_ahead(2), (least, most))

    def test_absent(self) -> None:
        """Nobody lets one go first who is not there."""
        self.board.note(1, 100)
        self.assertFalse(self.board.is_ahead(1))
        self.board.note(3, 0)
        self.assertTrue(self.board.is_ahead(1))
        self.theirs.leave(3)
        self.assertFalse(self.board.is_ahead(1))

    def test_patience(self) -> None:
        """Whoever has more than others lets them go first, and all see how many it has."""
        hall = Hall([], self.theirs, 1)
        self.board.note(2, 4)
        self.assertEqual(hall.patience(5, 10), 0)
        self.assertGreater(hall.patience(6, 10), 0)
        self.board.note(2, 8)
        self.assertTrue(self.board.is_ahead(2))
        self.assertEqual(hall.patience(6, 10), 0)

    def test_full(self) -> None:
        """Whoever would turn a client away leaves time for those who have room, if any."""
        hall = Hall([], self.theirs, 1)
        self.board.note(2, 4)
        self.assertGreater(hall.patience(5, 5), hall.patience(10, 20))
        self.board.note(2, 5)
        self.assertEqual(hall.patience(5, 5), 0)
        self.board.leave(2)
        self.assertEqual(hall.patience(5, 5), 0)
