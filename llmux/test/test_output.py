"""Tests of :mod:`llmux.hooks.output`."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.hooks import output
from llmux.hooks.output import KEPT, LONGEST, Follower, OutputFile

MARK = b"[cut by llmux]\n"

pieces = st.one_of(st.binary(max_size=30), st.sampled_from([b"\n", b"\r\n", b"\xc3", b"\xa4\n"]))


class OutputTestCase(SynchronousTestCase):
    """A hook's output in a directory of its own."""

    def setUp(self) -> None:
        """Make the directory."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.output = OutputFile(self.directory)

    def start(self) -> int:
        """Open the file as a hook has it."""
        writer = self.output.open()
        self.addCleanup(os.close, writer)
        return writer

    def content(self) -> bytes:
        """Give all of it."""
        return self.output.path.read_bytes()


class OutputFileTests(OutputTestCase):
    def test_nothing_yet(self) -> None:
        """Before the first hook there is nothing to read and nothing to cut."""
        self.assertEqual((self.output.size(), self.output.read(0, 10)), (0, b""))
        self.assertFalse(self.output.cut())
        self.assertFalse(self.output.path.exists())

    def test_place(self) -> None:
        """It is called hooks.log, and its owner's alone."""
        self.start()
        self.assertEqual(self.output.path, self.directory / "hooks.log")
        self.assertEqual(stat.S_IMODE(self.output.path.stat().st_mode), 0o600)

    def test_several_writers(self) -> None:
        """What one prints does not overwrite what another one printed, now or before."""
        first, second = self.start(), self.start()
        for writer, line in ((first, b"1\n"), (second, b"2\n"), (first, b"3\n")):
            os.write(writer, line)
        os.write(self.start(), b"4\n")
        self.assertEqual((self.content(), self.output.size()), (b"1\n2\n3\n4\n", 8))

    def test_not_inherited(self) -> None:
        """No other process gets it unless it is given."""
        self.assertFalse(os.get_inheritable(self.start()))

    def test_read(self) -> None:
        """Any part can be read, and beyond the end there is nothing."""
        os.write(self.start(), b"0123456789")
        parts = [self.output.read(start, 3) for start in (0, 8, 10, 99)]
        self.assertEqual(parts, [b"012", b"89", b"", b""])

    def test_long_enough(self) -> None:
        """Up to its limit it is left alone."""
        self.start()
        os.truncate(self.output.path, LONGEST)
        self.assertFalse(self.output.cut())
        self.assertEqual(self.output.size(), LONGEST)

    def test_cut(self) -> None:
        """Past its limit its last whole lines are kept, below a line that says so."""
        lines = b"".join(b"%09d\n" % number for number in range(LONGEST // 10 + 1))
        os.write(self.start(), lines)
        self.assertTrue(self.output.cut())
        content = self.content()
        self.assertTrue(content.startswith(MARK))
        kept = content.removeprefix(MARK)
        self.assertTrue(lines.endswith(b"\n" + kept))
        self.assertTrue(KEPT - 10 <= len(kept) <= KEPT)
        self.assertFalse(self.output.cut())

    def test_cut_beside_a_writer(self) -> None:
        """However fast somebody prints meanwhile, the line that says so comes first."""
        self.patch(output, "LONGEST", 2 * KEPT)
        with self.output.path.open("ab") as file:
            writer = subprocess.Popen(["cat", "/dev/zero"], stdout=file)
        self.addCleanup(writer.wait)
        self.addCleanup(writer.kill)
        for _ in range(100):
            while not self.output.cut():
                self.assertIsNone(writer.poll())
            self.assertEqual(self.output.read(0, len(MARK)), MARK)

    def test_cut_without_lines(self) -> None:
        """The end of a line that is longer than what is kept is kept, too."""
        writer = self.start()
        os.truncate(self.output.path, LONGEST)
        for end in (b"the end", b"the end\n"):
            os.write(writer, end)
            os.truncate(self.output.path, LONGEST)
            os.write(writer, end)
            self.assertTrue(self.output.cut())
            self.assertTrue(self.content().endswith(end))
            self.assertEqual(self.output.size(), len(MARK) + KEPT)

    def test_cut_while_it_grows(self) -> None:
        """However fast it grows while it is cut, no more of it is read than is kept."""

        class Behind(OutputFile):
            def size(self) -> int:
                return super().size() - 3 * KEPT  # that much has come since

        output = Behind(self.directory)
        os.write(self.start(), b"x\n" * (LONGEST // 2 + 2 * KEPT))
        self.assertTrue(output.cut())
        self.assertLessEqual(self.output.size(), len(MARK) + KEPT)

    def test_writers_go_on(self) -> None:
        """Whoever has it open goes on printing at its new end."""
        writer = self.start()
        os.truncate(self.output.path, LONGEST)
        os.write(writer, b"\nbefore\n")
        self.output.cut()
        os.write(writer, b"after\n")
        self.assertEqual(self.content(), MARK + b"before\nafter\n")


class FollowerTests(OutputTestCase):
    @settings(max_examples=150)
    @given(st.lists(st.tuples(pieces, st.booleans()), max_size=20), st.integers(1, 5))
    def test_every_line_once(self, printed: list[tuple[bytes, bool]], last: int) -> None:
        """However it is printed and read, every line comes once and whole."""
        writer = self.start()
        os.write(writer, b"of an earlier hook\nunfinished")
        follower = Follower(self.output)
        got: list[str] = []
        for piece, look in printed:
            os.write(writer, piece)
            if look:
                got += follower.lines()
        got += follower.lines(last=True)
        whole = b"".join(piece for piece, _ in printed)
        *lines, rest = whole.split(b"\n")
        expected = [line.decode("utf-8", "replace") for line in [*lines, *([rest] if rest else [])]]
        self.assertEqual(got, expected)
        tail = whole.decode("utf-8", "replace").splitlines()[-last:]
        self.assertEqual(follower.tail(last), "\n".join(tail))

    def test_unfinished(self) -> None:
        """A line that has no end yet comes when it has one, or when nothing more will be asked."""
        writer = self.start()
        follower = Follower(self.output)
        os.write(writer, b"load")
        self.assertEqual(follower.lines(), [])
        os.write(writer, b"ing\ndo")
        self.assertEqual(follower.lines(), ["loading"])
        os.write(writer, b"ne")
        self.assertEqual(follower.lines(last=True), ["done"])
        self.assertEqual(follower.lines(last=True), [])

    def test_text(self) -> None:
        """The end of what was printed since it began is kept, and no more than that."""
        writer = self.start()
        os.write(writer, b"earlier\n")
        follower = Follower(self.output)
        self.assertEqual(follower.text(), "")
        os.write(writer, b"1\n\xc3\xa4\nunfinished")
        follower.lines()
        self.assertEqual(follower.text(), "1\n\u00e4\nunfinished")
        os.write(writer, b"x" * KEPT)
        follower.lines()
        self.assertEqual(follower.text(), "x" * KEPT)

    def test_unreadable(self) -> None:
        """A file that cannot be looked at is followed from its end when it can."""
        output = OutputFile(self.directory / ("x" * 300))  # no system has such a name
        follower = Follower(output)
        self.assertRaises(OSError, follower.lines)
        output.path = self.output.path
        writer = self.start()
        os.write(writer, b"earlier\n")
        self.assertEqual(follower.lines(), [])
        os.write(writer, b"now\n")
        self.assertEqual(follower.lines(), ["now"])

    def test_no_file(self) -> None:
        """Before the file is there, and when it was removed, there are no lines."""
        follower = Follower(self.output)
        self.assertEqual((follower.lines(last=True), follower.tail(3)), ([], ""))
        os.write(self.start(), b"1\n")
        self.assertEqual(follower.lines(), ["1"])
        self.output.path.unlink()
        self.assertEqual(follower.lines(), [])
        os.write(self.start(), b"2\n")
        self.assertEqual(follower.lines(), ["2"])

    def test_faster_than_anybody_reads(self) -> None:
        """Of what is printed beyond measure the end is given, marked as an end."""
        writer = self.start()
        follower = Follower(self.output)
        os.write(writer, b"first\n" + b"x" * KEPT + b"\nlast\n")
        lines = follower.lines()
        self.assertEqual(lines, ["[...] " + "x" * (KEPT - 6), "last"])
        os.write(writer, b"next\n")
        self.assertEqual(follower.lines(), ["next"])

    def test_a_line_without_end(self) -> None:
        """A line that never ends fills no memory: its own end is what is kept."""
        writer = self.start()
        follower = Follower(self.output)
        for _ in range(4):
            os.write(writer, b"x" * (KEPT // 2))
            self.assertEqual(follower.lines(), [])
        os.write(writer, b"!")
        (line,) = follower.lines(last=True)
        self.assertTrue(line.endswith("x!"))
        self.assertLessEqual(len(line), KEPT)
        self.assertLessEqual(len(follower.tail(1)), KEPT)

    def test_cuts(self) -> None:
        """A file that grows too long while it is followed is cut, and followed on."""
        writer = self.start()
        follower = Follower(self.output)
        os.truncate(self.output.path, LONGEST)
        os.write(writer, b"\nbefore\n")
        self.assertEqual(follower.lines()[-1], "before")
        follower.cut()
        self.assertEqual(self.content(), MARK + b"before\n")
        os.write(writer, b"after\n")
        self.assertEqual(follower.lines(), ["after"])
        self.assertEqual(follower.tail(2), "before\nafter")

    def test_cut_by_another(self) -> None:
        """When somebody else cuts the file, nothing that is printed afterwards is missed."""
        writer = self.start()
        os.truncate(self.output.path, LONGEST)
        os.write(writer, b"\nbefore\n")
        follower = Follower(self.output)
        self.output.cut()
        os.write(writer, b"after\n")
        self.assertEqual(follower.lines()[-1], "after")

    def test_an_old_long_file(self) -> None:
        """What earlier hooks left, however much, is not taken for what this one prints."""
        writer = self.start()
        os.truncate(self.output.path, LONGEST)
        os.write(writer, b"\nearlier\n")
        follower = Follower(self.output)
        os.write(writer, b"now\n")
        self.assertEqual(follower.lines(), ["now"])
        self.assertEqual(follower.tail(9), "now")
