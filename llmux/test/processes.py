"""What tests that start real processes have in common."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

import llmux


class ProcessTests(TestCase):
    """
    Tests that begin only when the reactor runs.

    A process that was started before, and has ended by then, is found while the reactor starts.  A
    test that ends by that crashes the reactor in the middle of its start, and the next test's
    reactor runs without its startup event: it does not hear of children any more.
    """

    def setUp(self) -> Any:
        """Let the reactor start; trial, unlike unittest, waits for the Deferred that this gives."""
        return deferLater(reactor, 0)


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is so; it is a failure if it does not come about."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await deferLater(reactor, 0.02)
    raise AssertionError("it did not come about")


def runs(pid: int) -> bool:
    """Tell whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def end(pid: int) -> None:
    """End a process that a test has started."""
    if runs(pid):
        os.kill(pid, signal.SIGKILL)


def python(program: str, *arguments: str) -> subprocess.Popen[str]:
    """
    Start a Python program of a test's own, which can import llmux.

    :param program: its text.
    :returns: its process; what it prints can be read.
    """
    root = str(Path(llmux.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
