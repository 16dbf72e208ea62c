"""Processes that end with the benchmark, and what Linux says about them in /proc."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

WAIT = 30.0  # seconds in which a process has to be ready, or gone


class BenchError(Exception):
    """A measurement that could not be made, and why."""


class Process:
    """
    A process in a session of its own, so that Ctrl-C reaches it through us alone.

    :param command: the program and its arguments.
    :param log: takes what it prints, but for what is read from it.
    :param read: whether its output is read line by line with :meth:`read_line`.
    """

    def __init__(
        self,
        command: list[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        read: bool = False,
    ) -> None:
        self.name = Path(command[0]).name
        self._log = log
        with log.open("ab") as printed:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if read else printed,
                stderr=printed,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def read_line(self) -> bytes:
        """Read a line of its output; nothing if it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def check(self) -> None:
        """
        See to it that it is running.

        :raises BenchError: with the end of what it has printed, if it is not.
        """
        if self._process.poll() is not None:
            raise BenchError(f"{self.name} has ended: {self.printed()}")

    def printed(self) -> str:
        """Give the end of what it has printed."""
        return self._log.read_text(errors="replace")[-2000:]

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has ended."""
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def end_with(self, number: signal.Signals, seconds: float) -> int:
        """
        End it with a signal.

        :param seconds: how long it may take.
        :returns: its exit status; the number of a signal that ended it is negative.
        :raises BenchError: if it takes longer.
        """
        self._process.send_signal(number)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} did not end within {seconds:g} s") from None

    def end(self) -> None:
        """End it, kindly at first."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(WAIT / 3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(WAIT)
        if self._process.stdout is not None:
            self._process.stdout.close()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT) -> None:
    """
    Return when something is so.

    :raises BenchError: if it is not within some seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)


def wait_until_listening(process: Process, port: int, seconds: float = WAIT) -> None:
    """Return when a process accepts connections."""

    def listens() -> bool:
        process.check()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, f"{process.name} listens", seconds)


def free_port() -> int:
    """Give a port that nobody listens on at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def raise_file_limit() -> int:
    """Raise the limit on open files as far as it goes, for all that is started from now on."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def cpu_seconds(pid: int) -> float:
    """
    Give the processor time that a process has used, in its own code and in the kernel.

    It is exact to the microsecond, while ``/proc/<pid>/stat`` moves in hundredths of a second.
    """
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) gives on Linux


def children(pid: int) -> list[int]:
    """Give the child processes of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def end_leftovers() -> None:
    """End our child processes that nobody knows of: a signal came in the midst of their start."""
    for pid in children(os.getpid()):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def rss(pid: int) -> int:
    """Give the memory that a process has in RAM, in bytes."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS")


def pss(pid: int) -> int:
    """Give the same with shared pages divided among those who share them, in bytes."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss")


def peak_rss(pid: int) -> int:
    """Give the most memory that a process had in RAM since :func:`forget_peak`, in bytes."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM")


def forget_peak(pid: int) -> None:
    """Let :func:`peak_rss` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise BenchError(f"{path} says nothing of {name}")
