"""A hook that another llmux has started: it is waited for, and ended at its deadline."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from txaio.tx import make_logger

from llmux.hooks.contract import Leftover
from llmux.hooks.group import Ending, ProcessGroup
from llmux.hooks.identity import age, lives

_POLL = 0.2  # seconds between two looks; nobody tells us of the end of a process that is not ours


class LeftoverProcess:
    """
    Watches over a process of another llmux.

    It has ended when it has exited, whatever it left running behind it.  Past its deadline its
    whole group is ended, as that of a hook of our own.

    :param clock: tells the time.
    :param leftover: the hook.
    """

    _log = make_logger()

    def __init__(self, clock: IReactorTime, leftover: Leftover) -> None:
        self._clock = clock
        self._leftover = leftover
        self._ends_at = 0.0
        self._timer: IDelayedCall | None = None
        self._finished: Deferred[None] = Deferred()

    @property
    def model(self) -> str:
        """Whose hook it is."""
        return self._leftover.model

    def begin(self) -> Deferred[None]:
        """
        Watch it from now on.

        :returns: fires when nothing is left of it, and does not fail.
        """
        left = self._leftover.deadline - age(self._leftover.process)
        self._ends_at = self._clock.seconds() + max(0.0, left)
        self._look()
        return self._finished

    def stop(self) -> None:
        """End it now, if that has not begun yet."""
        self._ends_at = min(self._ends_at, self._clock.seconds())
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        process = self._leftover.process
        left = self._ends_at - self._clock.seconds()
        try:
            alive = lives(process)
        except OSError as error:  # no file descriptor to look with: later, then
            self._log.warn(
                "it cannot be told whether process {pid} still runs: {error}",
                pid=process.pid,
                error=error,
            )
            self._timer = self._clock.callLater(_POLL, self._look)
            return
        if not alive:
            self._finished.callback(None)
        elif left > 0:
            self._timer = self._clock.callLater(min(_POLL, left), self._look)
        else:
            group = ProcessGroup(process.pid, process, self._lives)
            Ending(self._clock, group, lambda: self._finished.callback(None))

    def _lives(self) -> bool:
        try:
            return lives(self._leftover.process)
        except OSError:
            return True
