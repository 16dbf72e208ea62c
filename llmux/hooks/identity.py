"""
Which process is which: a number alone may be another one's by the time it is used.

It reads ``/proc``.  Where there is none (macOS), no process is ever identified: nothing can be
recorded of a hook that runs, and so nothing is waited for after a restart.
"""

from __future__ import annotations

import functools
import os
import time

from llmux.hooks.contract import ProcessId

_MOST = 4096  # bytes
_ENDED = "ZXx"  # states of processes that have exited, whether their parent has noticed or not
_STATE, _STARTED = 0, 19  # of what follows the name in /proc/PID/stat (proc(5), fields 3 and 22)


def identify(pid: int) -> ProcessId | None:
    """
    Find the process that has a number now, be it a zombie.

    :param pid: the number.
    :returns: ``None`` if there is no such process, or where there is no ``/proc``.
    :raises OSError: if it cannot be told, as without a file descriptor to read with.
    """
    found = _look(pid)
    return None if found is None else found[0]


def lives(process: ProcessId) -> bool:
    """
    Tell whether a process is still there; a zombie is not, nor another one with its number.

    :raises OSError: if it cannot be told.
    """
    found = _look(process.pid)
    return found is not None and found[0] == process and found[1] not in _ENDED


def age(process: ProcessId) -> float:
    """
    Say how many seconds ago a process started, on a clock that nobody can set.

    It counts from the start of the machine, as the process's own time does, and goes on while the
    machine is suspended.
    """
    ticks: int = os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / ticks


def _look(pid: int) -> tuple[ProcessId, str] | None:
    """Give who has a number, and the letter of its state."""
    try:
        stat = _read(f"/proc/{pid}/stat")
        boot = _boot()
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes while it is read
        return None
    fields = stat.rpartition(b")")[2].split()  # the name before it may hold anything
    return ProcessId(pid, int(fields[_STARTED]), boot), fields[_STATE].decode("ascii")


def _read(path: str) -> bytes:
    """Read a small file of the kernel's in one call, for which a switch waits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MOST)
    finally:
        os.close(descriptor)


@functools.cache
def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
