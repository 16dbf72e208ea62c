"""Request bodies on their way in: in memory while they are small, else in a temporary file."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import BinaryIO, cast

IN_MEMORY = 1024 * 1024
"""Bytes of a body that are kept in memory."""

_FREED_AT_ONCE = 1024 * 1024
"""Bytes that one system call frees, in a tenth of a millisecond."""


class _Spool(tempfile.SpooledTemporaryFile[bytes]):
    """
    A file for one body, in memory at first.

    To free what a large file holds takes the system milliseconds, in which nobody would be served,
    so another thread waits for that, whoever closes it.
    """

    _rolled: bool  # tempfile's: whether it is a file by now

    def close(self) -> None:
        """Be rid of it."""
        kept = None
        if self._rolled and not self.closed:
            with suppress(OSError):  # no descriptors
                kept = os.dup(self.fileno())
        with suppress(OSError):  # what has not been written yet cannot be: nobody wants it
            super().close()
        if kept is None:
            return
        if os.fstat(kept).st_size > IN_MEMORY:
            with suppress(RuntimeError):  # no more threads are allowed (ulimit -u, TasksMax=)
                Thread(target=_free, args=(kept,), daemon=True).start()
                return
        os.close(kept)


def _free(descriptor: int) -> None:
    """
    Free what a file without a name holds, and close it.

    Piece by piece: many a kernel puts nobody else on a core in the midst of a system call, also not
    a process that has been woken there while another core is idle.
    """
    with suppress(OSError):  # closing it frees it, too
        size = os.fstat(descriptor).st_size
        for rest in range(size - _FREED_AT_ONCE, 0, -_FREED_AT_ONCE):
            os.ftruncate(descriptor, rest)
    os.close(descriptor)


def find_place() -> None:
    """
    Find the system's temporary directory now, while nobody is served: that takes a millisecond.

    Where there is none that can be written to, the first large body is told so.
    """
    with suppress(OSError):
        tempfile.gettempdir()


def open_spool(directory: Path | None, length: int | None) -> BinaryIO:
    """
    Open a file for one body; closing it is all that it takes to be rid of it.

    Beyond :data:`IN_MEMORY` its bytes are in a file without a name, which the system frees even if
    this process is killed.

    :param directory: where, or ``None``: the system's temporary directory.
    :param length: of the body in bytes, if that is known.
    """
    if length is not None and length <= IN_MEMORY:
        return BytesIO()
    # What will not fit goes there piece by piece, and not all at once when there is too much of it.
    most = IN_MEMORY if length is None else 1
    # mypy's stubs do not say that it can be read and written like any binary file
    place = None if directory is None else os.fspath(directory)
    return cast(BinaryIO, _Spool(max_size=most, dir=place))
