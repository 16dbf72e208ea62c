"""
A trace as it grows: a file of rows, and older ones beside it.

The file is opened, written and closed for each row.  So nothing is lost when llmux is killed; a
file that was moved away or removed is made again; there is no buffer to empty and no descriptor to
keep.  It takes some 20 microseconds of a request that takes a millisecond.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import stat
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from llmux.errors import LLMuxError

COLUMNS = (
    "arrived_at",
    "model",
    "prompt_tokens",
    "output_tokens",
    "session",
    "think_secs",
    "class",
)
"""What is said of a request, as the simulator reads it."""

LARGEST = 64 * 1024 * 1024
"""Bytes after which another file is begun."""

KEPT = 3
"""How many older files are kept."""

_FLAGS = (
    os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    | os.O_NOFOLLOW  # the file's name will be given to another one
    | os.O_NONBLOCK  # or a named pipe would hold up everything
)  # fmt: skip


class TraceUnwritable(LLMuxError):
    """
    A trace that cannot be written.

    :param path: the file.
    :ivar why: what is wrong with it.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be written: {why}")
        self.why = why


class TraceFile:
    """
    Takes rows.

    :param path: the newest file; the older ones are ``path.1``, ``path.2`` and so on.
    :param largest: bytes after which another file is begun.
    """

    def __init__(self, path: Path, largest: int = LARGEST) -> None:
        self.path = path
        self._largest = largest

    def begin(self) -> None:
        """
        Have the file there, with its line of column names.

        :raises TraceUnwritable: if that cannot be.
        """
        self._write(b"")

    def append(self, *cells: object) -> None:
        """
        Write a row: all of it, or nothing.

        :param cells: one for each of :data:`COLUMNS`.
        :raises TraceUnwritable: if it cannot be written.
        """
        self._write(_line(*cells))

    def _write(self, line: bytes) -> None:
        try:
            if not self._add(line):
                self._move_on()
                self._add(line)
        except OSError as error:
            link = error.errno == errno.ELOOP
            why = "it is a symbolic link" if link else error.strerror or str(error)
            raise TraceUnwritable(self.path, why) from error

    def _add(self, line: bytes) -> bool:
        """Write at the file's end, unless it is full."""
        descriptor = os.open(self.path, _FLAGS, 0o600)
        try:
            size = self._check(descriptor)
            if size < self._largest:
                begin = _HEADER if not size else b"" if _is_whole(descriptor, size) else b"\n"
                _put(descriptor, begin + line, size)
            return size < self._largest
        finally:
            os.close(descriptor)

    def _check(self, descriptor: int) -> int:
        """Give the file's size, if it is one that rows may be added to."""
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TraceUnwritable(self.path, "it is no file")
        if found.st_size and os.pread(descriptor, len(_HEADER), 0) != _HEADER:
            raise TraceUnwritable(self.path, "there is something in it that is no trace of llmux's")
        return found.st_size

    def _move_on(self) -> None:
        """Give the file the name of an older one, and each of those that of the next."""
        names = [self.path, *(Path(f"{self.path}.{number + 1}") for number in range(KEPT))]
        for old, new in reversed(list(pairwise(names))):
            with suppress(FileNotFoundError):
                os.replace(old, new)


def _is_whole(descriptor: int, size: int) -> bool:
    """Tell whether a file's last line has its end; one that was cut by something else has not."""
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _put(descriptor: int, content: bytes, size: int) -> None:
    """Write at the end of a file of a certain size, or leave it as it was."""
    if content and os.write(descriptor, content) < len(content):
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _line(*cells: object) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


_HEADER = _line(*COLUMNS)
