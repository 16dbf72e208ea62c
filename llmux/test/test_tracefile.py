"""A trace as it grows on the disk."""

from __future__ import annotations

import csv
import os
import resource
import signal
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.tracefile import COLUMNS, KEPT, TraceFile, TraceUnwritable

HEADER = ",".join(COLUMNS) + "\n"


class TraceFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a directory for it."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "trace.csv"

    def file(self, largest: int = 10_000) -> TraceFile:
        """Make one."""
        return TraceFile(self.path, largest)

    def assert_unwritable(self, why: str) -> None:
        """Check that nothing can be written, and why."""
        error = self.assertRaises(TraceUnwritable, self.file().append, 1)
        self.assertEqual(str(error), f"{self.path} cannot be written: {why}")
        self.assertEqual(error.why, why)

    def test_rows(self) -> None:
        """There is a line of column names, and a row below it for each that was written."""
        self.file().begin()
        self.assertEqual(self.path.read_text(), HEADER)
        self.file().append("1.500", 'a, "b"\nm\xfcller', 1, 2, "", "", "batch")
        self.file().append("1.000", "b", 3, 4, "", "", "")
        with self.path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["model"] for row in rows], ['a, "b"\nm\xfcller', "b"])
        self.assertEqual(rows[1]["class"], "")
        self.assertEqual(rows[0]["output_tokens"], "2")

    def test_owner_alone(self) -> None:
        """Nobody but its owner reads it."""
        self.file().begin()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_removed(self) -> None:
        """A file that was taken away is made again."""
        file = self.file()
        file.append("x")
        self.path.unlink()
        file.append("y")
        self.assertEqual(self.path.read_text(), f"{HEADER}y\n")

    def test_older_ones(self) -> None:
        """A file that is full becomes an older one; of those a few are kept."""
        file = self.file(len(HEADER) + 4)
        for number in range(KEPT + 3):
            file.append(f"{number}a")
            file.append(f"{number}b")
        older = {int(path.suffix[1:]): path for path in self.directory.glob("trace.csv.*")}
        self.assertEqual(sorted(older), list(range(1, KEPT + 1)))
        for number, path in older.items():
            which = KEPT + 2 - number
            self.assertEqual(path.read_text(), f"{HEADER}{which}a\n{which}b\n")
        self.assertEqual(self.path.read_text(), f"{HEADER}{KEPT + 2}a\n{KEPT + 2}b\n")

    def test_older_one_that_cannot_be(self) -> None:
        """A file that is full and cannot become an older one grows no further."""
        (self.directory / f"trace.csv.{KEPT}").mkdir()
        (self.directory / f"trace.csv.{KEPT - 1}").write_text("")
        file = self.file(1)
        file.append("x")
        error = self.assertRaises(TraceUnwritable, file.append, "y")
        self.assertEqual(error.why, "Is a directory")
        self.assertEqual(self.path.read_text(), f"{HEADER}x\n")

    def test_something_else(self) -> None:
        """A file of something else is left alone."""
        for content in ("models: {}\n", HEADER[:-1], HEADER.upper()):
            self.path.write_text(content)
            self.assert_unwritable("there is something in it that is no trace of llmux's")
            self.assertEqual(self.path.read_text(), content)

    def test_link(self) -> None:
        """A symbolic link is not followed, wherever it leads."""
        self.path.symlink_to(self.directory / "elsewhere")
        self.assert_unwritable("it is a symbolic link")
        self.assertFalse((self.directory / "elsewhere").exists())

    def test_no_file(self) -> None:
        """Neither a directory nor a pipe can be written to, and neither holds anything up."""
        self.path.mkdir()
        self.assert_unwritable("Is a directory")
        self.path.rmdir()
        os.mkfifo(self.path)
        self.assertRaises(TraceUnwritable, self.file().begin)
        reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        self.assert_unwritable("it is no file")

    def test_no_directory(self) -> None:
        """A directory that is not there is not made."""
        self.directory.rmdir()
        self.assert_unwritable("No such file or directory")

    def test_cut_line(self) -> None:
        """A line that something else has cut does not spoil the next one, too."""
        self.file().append("x")
        with self.path.open("a") as file:
            file.write("half a li")
        self.file().append("y")
        self.assertEqual(self.path.read_text(), f"{HEADER}x\nhalf a li\ny\n")

    def test_full(self) -> None:
        """A row for which there is no room leaves nothing behind, and no half of itself."""
        self.file().append("x")
        size = self.path.stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 3, before[1]))
        try:
            self.assert_unwritable_row("y" * 10)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        self.assertEqual(self.path.read_text(), f"{HEADER}x\n")
        self.file().append("z")
        self.assertEqual(self.path.read_text(), f"{HEADER}x\nz\n")

    def assert_unwritable_row(self, row: str) -> None:
        """Check that a row cannot be written, for want of room."""
        error = self.assertRaises(TraceUnwritable, self.file().append, row)
        self.assertEqual(error.why, "No space left on device")
