"""
The file of a journal: each write adds a line that holds all there is to know; the last one counts.

To add a line costs some ten microseconds.  To put a new file in the place of another one, as is
done once a file has grown long, makes the kernel write it to the disk there and then, which takes
milliseconds that a switch would have to wait for.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LONGEST = 1024 * 1024
"""Bytes that a file may grow to before it is replaced."""


class JournalFile:
    """
    Holds the last of the lines that were written.

    It is not forced to the disk (no fsync).

    :param path: of the file, which is its owner's alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._grows = False  # whether it is known to end with a whole line

    def read(self) -> bytes:
        """
        Give the last whole line, or what there is if there is none.

        What follows it was cut short by a kill.

        :raises OSError: if there is no such file, or none that can be read.
        """
        content = self.path.read_bytes()
        whole, _, _ = content.rpartition(b"\n")
        return whole.rpartition(b"\n")[2] if whole else content

    def write(self, line: bytes) -> None:
        """
        Write all that there is to know.

        :param line: it, with the newline at its end.
        :raises OSError: if it cannot be written; what was there before still counts.
        """
        if not (self._grows and self._add(line)):
            self._grows = False
            self._replace(line)
            self._grows = True

    def _add(self, line: bytes) -> bool:
        """Add a line; say whether that could be done, and nothing else is there if it could not."""
        with suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                size = os.fstat(descriptor).st_size
                if size + len(line) > LONGEST:
                    return False
                if os.write(descriptor, line) == len(line):
                    return True
                os.ftruncate(descriptor, size)  # there was room for a part of it alone
            finally:
                os.close(descriptor)
        return False

    def _replace(self, line: bytes) -> None:
        new = self.path.with_suffix(".new")  # always the same: one that a kill left is used again
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with open(os.open(new, flags, 0o600), "wb") as file:
                file.write(line)
            os.replace(new, self.path)
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise
