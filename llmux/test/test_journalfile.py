"""Tests of a file of which the last line counts."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.journalfile import LONGEST, JournalFile


class JournalFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a file that has something in it."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "file.json"
        self.file = JournalFile(self.path)
        self.file.write(b"1\n")

    def test_last_counts(self) -> None:
        """What was written last is read, while what was written before stands above it."""
        self.assertEqual(self.file.read(), b"1")
        self.file.write(b"2\n")
        self.assertEqual(self.path.read_bytes(), b"1\n2\n")
        self.assertEqual(JournalFile(self.path).read(), b"2")

    def test_cut_short(self) -> None:
        """A line that a kill cut short does not count, and is out of the way with the next one."""
        with self.path.open("ab") as file:
            file.write(b"{2")
        other = JournalFile(self.path)
        self.assertEqual(other.read(), b"1")
        other.write(b"3\n")
        self.assertEqual(self.path.read_bytes(), b"3\n")

    def test_only_part_of_a_line(self) -> None:
        """What has no whole line is given as it is."""
        for content in (b"", b"{1", b"\n{1"):
            self.path.write_bytes(content)
            self.assertEqual(self.file.read(), content)

    def test_grown_long(self) -> None:
        """A file does not grow for ever."""
        line = b"x" * (LONGEST // 3) + b"\n"
        for _ in range(4):
            self.file.write(line)
        self.assertEqual(self.path.read_bytes(), 2 * line)
        self.file.write(2 * line)
        self.assertEqual(self.path.read_bytes(), 2 * line)
        self.assertEqual(os.listdir(self.path.parent), ["file.json"])

    def test_gone(self) -> None:
        """A file that somebody has removed is made again."""
        self.path.unlink()
        self.file.write(b"2\n")
        self.assertEqual(self.path.read_bytes(), b"2\n")

    def test_moved_directory(self) -> None:
        """A write that fails says so, and the next one that can be done is whole again."""
        self.path.parent.rename(self.path.parent.with_suffix(".moved"))
        self.assertRaises(FileNotFoundError, self.file.write, b"2\n")
        self.path.parent.mkdir()
        self.file.write(b"3\n")
        self.file.write(b"4\n")
        self.assertEqual(self.path.read_bytes(), b"3\n4\n")
