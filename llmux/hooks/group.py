"""A hook's process group, and how it is ended: by TERM, by KILL, or not at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llmux.hooks.contract import ProcessId
from llmux.hooks.identity import identify

GRACE = 5.0
"""Seconds between TERM and KILL for a hook that has to end, and from KILL to giving it up."""

_POLL = 0.05  # seconds between two looks at whether a group has ended


class ProcessGroup:
    """
    A process group, to be signalled as a whole.

    :param pid: its number, which is its leader's.
    :param leader: who that is, where it is known; a group of somebody else that has got the number
        since is left alone.
    :param led: tells whether the leader is still there.
    """

    def __init__(self, pid: int, leader: ProcessId | None, led: Callable[[], bool]) -> None:
        self._pid = pid
        self._leader = leader
        self.led = led

    def signal(self, number: int) -> bool:
        """
        Send a signal to all of the group; 0 only asks whether there is one.

        :returns: whether anybody was there to get it.
        """
        led = self.led()
        if not led and self._is_somebody_elses():
            return False
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:  # all gone, or so young that it leads no group yet
            if led and number:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, number)
            return led
        except PermissionError:  # somebody else's by now (setuid): nothing that we could do
            return False
        return True

    def _is_somebody_elses(self) -> bool:
        """Tell whether another process has the number: then nothing is left of the group."""
        try:
            found = identify(self._pid)
        except OSError:  # no file descriptor to look with; numbers do not come again that soon
            return False
        return found is not None and found != self._leader


class Ending:
    """
    Ends a process group: TERM, after :data:`GRACE` seconds KILL.

    What hangs inside the kernel (a driver, a network disk) does not end even then, and is given up
    after as many seconds more, so that it does not hold up everybody else.

    :param clock: tells the time.
    :param group: the group.
    :param ended: called once, when nothing is left of it or when it is given up.
    """

    def __init__(self, clock: IReactorTime, group: ProcessGroup, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._group = group
        self._ended = ended
        self._kill_at = clock.seconds() + GRACE
        self._timer: IDelayedCall | None = None
        group.signal(signal.SIGTERM)
        self._look()

    def _look(self) -> None:
        late = self._clock.seconds() - self._kill_at
        if late >= 0:
            self._group.signal(signal.SIGKILL)
        # past KILL, the rest of the group are zombies of a parent that does not look after them
        gone = not self._group.led() and (late >= 0 or not self._group.signal(0))
        if gone or late >= GRACE:
            self._ended()
        else:
            self._timer = self._clock.callLater(_POLL, self._look)
