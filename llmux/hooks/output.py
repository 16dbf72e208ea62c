"""
What a model's hooks print: a file, so that a server they leave behind can go on printing.

A pipe would tie the server's life to llmux's: the first line it printed after llmux had gone would
end it.  A file outlives everybody, so llmux follows it while a hook runs, and cuts it when it has
grown too long.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LONGEST = 8 * 1024 * 1024
"""Bytes that a file may grow to before it is cut."""

KEPT = 64 * 1024
"""Bytes of its end that a cut leaves."""

_FILENAME = "hooks.log"


class OutputFile:
    """
    The file that the hooks of one model, and what they leave running, print into.

    :param directory: the model's own.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / _FILENAME

    def open(self) -> int:
        """
        Open it for appending, so that several writers do not overwrite each other.

        :returns: a file descriptor that the caller closes.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def size(self) -> int:
        """Give its size in bytes; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, start: int, longest: int) -> bytes:
        """
        Read some of it.

        :param start: the first byte; beyond the end, nothing is read.
        :param longest: how many bytes at most.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(longest)
        except FileNotFoundError:
            return b""

    def cut(self) -> bool:
        """
        Cut it to its last :data:`KEPT` bytes if it has passed :data:`LONGEST`.

        Writers have it open for appending, so that they go on at the new end; a line that they
        write at this very moment may be lost.

        :returns: whether it was cut.
        """
        size = self.size()
        if size <= LONGEST:
            return False
        with self.path.open("rb+") as file:
            file.seek(size - KEPT)
            kept = file.read(KEPT)  # and no more: a fast writer's end moves on while it is read
            # Over what stands there, not appended: a writer would come in between.
            file.seek(0)
            file.write(b"[cut by llmux]\n" + (kept.partition(b"\n")[2] or kept))
            file.truncate()
        return True


class Follower:
    """
    Follows an :class:`OutputFile` from its end at this moment.

    It reads and keeps at most :data:`KEPT` bytes, however much is printed.

    :param output: the file.
    """

    def __init__(self, output: OutputFile) -> None:
        self._output = output
        self._position: int | None = None  # unknown, until its end can be looked up
        self.skip()
        self._rest = b""
        self._tail = b""

    def skip(self) -> None:
        """Begin at the file's end at this moment, before anything was read."""
        with suppress(OSError):
            self._position = self._output.size()

    def lines(self, *, last: bool = False) -> list[str]:
        """
        Give the whole lines that have been added since the last call, the last :data:`KEPT` bytes
        of them.

        :param last: whether nothing more will be asked, so that an unfinished line counts.
        :raises OSError: if the file cannot be read; the next call may get what this one could not.
        """
        size = self._output.size()
        if self._position is None:
            self._position = size
        if size < self._position:  # somebody else has cut it
            self._position = 0
        if size - self._position > KEPT:  # it prints faster than anybody could read
            self._position = size - KEPT
            self._rest = b"[...] "
        added = b""
        if size > self._position:  # most hooks print nothing
            added = self._output.read(self._position, KEPT)
        self._position += len(added)
        self._tail = (self._tail + added)[-KEPT:]
        *lines, self._rest = (self._rest + added).split(b"\n")
        self._rest = self._rest[-KEPT:]
        if last and self._rest:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace") for line in lines]

    def cut(self) -> None:
        """
        Cut the file if it has grown too long, and follow what is left of it.

        :raises OSError: if it cannot be cut.
        """
        if self._output.cut():
            self._position = self._output.size()

    def text(self) -> str:
        """Give what was added since the following began, the last :data:`KEPT` bytes of it."""
        return self._tail.decode("utf-8", "replace")

    def tail(self, lines: int) -> str:
        """Give the last lines that were added since the following began."""
        return "\n".join(self.text().splitlines()[-lines:])
