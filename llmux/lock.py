"""The lock on a state directory: two programs that put the same models to sleep undo each other."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from llmux.errors import ConfigError, Problem

FILENAME = "lock"


class StateLock:
    """
    Keeps every other llmux off a state directory, for as long as the process lives.

    The lock belongs to the open file: a daemon that forks takes it along, hooks do not, and when
    its holder is killed it is free.  The number in the file is for people alone.

    :param directory: the state directory, which exists.
    :param config_path: the configuration's file, for what is said.
    """

    def __init__(self, directory: Path, config_path: Path | None = None) -> None:
        self._directory = directory
        self._config_path = config_path
        self.path = directory / FILENAME
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._descriptor is not None

    def take(self) -> None:
        """
        Take the lock, in this process's name.

        :raises ConfigError: if another llmux has it, or if it cannot be had.
        """
        assert self._descriptor is None, "it is taken already"
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unlockable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise self._held(holder) from error
        except OSError as error:
            os.close(descriptor)
            raise self._unlockable(error) from error
        self._descriptor = descriptor
        self.claim()

    def claim(self) -> None:
        """Write into the file that this process has the lock; once more after a fork."""
        assert self._descriptor is not None, "it is not taken"
        with suppress(OSError):  # a full disk: it is locked all the same
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _held(self, holder: int | None) -> ConfigError:
        who = "" if holder is None else f", process {holder}"
        return self._error(
            f"{self._directory} is in use by another llmux{who}; end it, or give this one another"
            " state_dir"
        )

    def _unlockable(self, error: OSError) -> ConfigError:
        return self._error(
            f"{self.path} cannot be locked: {error.strerror}; set state_dir to a directory where"
            " it can"
        )

    def _error(self, message: str) -> ConfigError:
        filename = str(self._config_path or "llmux")
        return ConfigError(filename, [Problem(None, "state_dir", None, message)])


def _holder(descriptor: int) -> int | None:
    """Read who has the lock, if that is written there."""
    try:
        return int(os.pread(descriptor, 32, 0))
    except (OSError, ValueError):
        return None
