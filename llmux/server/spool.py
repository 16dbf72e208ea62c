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
    spool = tempfile.SpooledTemporaryFile(max_size=most, dir=place)  # noqa: SIM115  # whoever asked closes it
    return cast(BinaryIO, spool)


def close_spool(spool: BinaryIO, length: int) -> None:
    """
    Be rid of a body.

    To free what a large file holds takes the system milliseconds, in which nobody would be served,
    so another thread waits for that.

    :param spool: where the body is.
    :param length: of what has been written there, in bytes.
    """
    kept = None
    if length > IN_MEMORY:  # below that there may be no file
        with suppress(OSError, ValueError):  # no descriptors, or it is closed already
            kept = os.dup(spool.fileno())
    spool.close()
    if kept is not None:
        try:
            Thread(target=os.close, args=(kept,), daemon=True).start()
        except RuntimeError:  # no more threads are allowed (ulimit -u, TasksMax=)
            os.close(kept)
