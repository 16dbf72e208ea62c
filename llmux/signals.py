"""
Signals: TERM and INT end llmux in order, HUP reads its configuration again.

Twisted's own handlers would stop the reactor just so, and have twistd end the process once more by
the same signal; a second signal would do nothing at all.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service

ENDING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end llmux."""


class SignalService(Service):
    """
    Hears signals for as long as the program runs.

    It belongs to programs, not to a library: only twistd's door makes one.

    A handler runs between any two steps of Python.  So it only wakes the reactor, which then does
    the work in a turn of its own.

    :param reactor: whose thread does what signals ask for.
    :param end: called with the name of the first signal that ends llmux.
    :param cut: called with the name of each further one.
    :param reload: called for HUP.
    """

    def __init__(
        self,
        reactor: Any,
        end: Callable[[str], None],
        cut: Callable[[str], None],
        reload: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._end = end
        self._cut = cut
        self._reload = reload
        self._ending = False

    def startService(self) -> None:
        """
        Hear signals from now on.

        And once more when the reactor runs: it installs its own handlers while it starts.  A signal
        that comes before that waits in the reactor's queue.
        """
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self._install()
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        for number in (*ENDING, signal.SIGHUP):
            if self._may_have(number):
                signal.signal(number, self._heard)

    def _may_have(self, number: signal.Signals) -> bool:
        """Leave INT to a debugger, and ignored where a shell has it so for background jobs."""
        known = (signal.default_int_handler, getattr(self._reactor, "sigInt", None), self._heard)
        return number != signal.SIGINT or signal.getsignal(number) in known

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._act, number)

    def _act(self, number: int) -> None:
        name = signal.Signals(number).name.removeprefix("SIG")
        if number == signal.SIGHUP:
            self._reload()
        elif not self._ending:
            self._ending = True
            self._end(name)
        else:
            self._cut(name)


def fail_at_exit() -> None:
    """
    Have the process end with status 1, after all else has come to its end.

    twistd and twist have no way to say a status: both return from their main function when the
    reactor has stopped, and the interpreter ends with 0.  They shall come that far, because twistd
    removes its pid file on the way.
    """
    atexit.register(_leave)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
