"""How many connections each worker has, where all see it: who has many lets others go first."""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

_ABSENT = -1
_SIZE = 4  # bytes of a number
_SLACK = 16  # whoever has a sixteenth more than another has not much more


class Board:
    """
    A place for each worker's number, in memory that all processes share which have its file.

    :param descriptor: the file; it can be closed then.
    :param count: how many workers there are.
    """

    def __init__(self, descriptor: int, count: int) -> None:
        self._memory = mmap.mmap(descriptor, count * _SIZE)
        self._numbers: Any = memoryview(self._memory).cast("i")

    def note(self, worker: int, connections: int) -> None:
        """Say how many connections a worker has, counted from 1."""
        self._numbers[worker - 1] = connections

    def leave(self, worker: int) -> None:
        """Say that there is no such worker now."""
        self.note(worker, _ABSENT)

    def is_ahead(self, worker: int) -> bool:
        """Tell whether a worker has clearly more connections than another one."""
        own = self._numbers[worker - 1]
        least = self.least(default=own)
        return bool(own > least + max(1, least // _SLACK))

    def least(self, *, default: int) -> int:
        """Give the number of whoever has fewest; if there is nobody, the default."""
        numbers: list[int] = self._numbers.tolist()
        return min((number for number in numbers if number != _ABSENT), default=default)

    def close(self) -> None:
        """Have nothing more to do with it."""
        self._numbers.release()
        self._memory.close()


def make_board(count: int) -> tuple[Board, Any]:
    """
    Make a board on which nobody is.

    :returns: it, and its file, which has no name.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  # whoever asks for it closes it
    file.truncate(count * _SIZE)
    board = Board(file.fileno(), count)
    for worker in range(1, count + 1):
        board.leave(worker)
    return board, file
