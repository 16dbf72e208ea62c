"""One hook's process, from its start to its result."""

from __future__ import annotations

import os
import signal

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.hooks.contract import HookCall, HookResult
from llmux.hooks.output import Follower

GRACE = 5.0
"""Seconds between TERM and KILL for a hook past its deadline, and from KILL to giving it up."""

_POLL = 0.2  # seconds between two looks at what a hook has printed
_GROUP_POLL = 0.05  # seconds between two looks at whether a group has ended
_TAIL_LINES = 20  # lines of output that a failure is reported with


class HookProcess(ProcessProtocol):
    """
    Watches over one process, which leads a process group.

    The hook has ended when this process has exited, whatever it left running behind it.  Past its
    deadline the whole group is ended, and the hook has ended when nothing is left of it.

    :param clock: tells the time.
    :param call: what is run, for the log.
    :param follower: follows its output.
    :param deadline: seconds that it may take.
    """

    _log = make_logger()

    def __init__(
        self, clock: IReactorTime, call: HookCall, follower: Follower, deadline: float
    ) -> None:
        self._clock = clock
        self._call = call
        self._follower = follower
        self._deadline = deadline
        self._began = clock.seconds()
        self._pid: int | None = None
        self._exit: tuple[int | None, int | None] | None = None
        self._kill_at: float | None = None
        self._end_timer: IDelayedCall | None = None
        self._follow_timer: IDelayedCall | None = None
        self._result: Deferred[HookResult] = Deferred()

    def begin(self) -> Deferred[HookResult]:
        """
        Start the deadline, after the process has been spawned.

        :returns: fires once with the result, and does not fail.
        """
        if self._exit is None:
            self._end_timer = self._clock.callLater(self._deadline, self._expire)
            self._follow_timer = self._clock.callLater(_POLL, self._follow)
        return self._result

    def connectionMade(self) -> None:
        """Remember the process, which is its group's leader."""
        assert self.transport is not None
        self._pid = self.transport.pid

    def processExited(self, reason: Failure) -> None:
        """Take the exit status; the hook has ended, unless the rest of its group still has to."""
        status = reason.value
        if self._result.called:  # given up already
            return
        if isinstance(status, ProcessTerminated):
            self._exit = (status.exitCode, status.signal)
        else:
            self._exit = (0, None)
        if self._kill_at is None:
            self._finish()

    def _follow(self) -> None:
        self._follow_timer = self._clock.callLater(_POLL, self._follow)
        self._log_lines(last=False)

    def _log_lines(self, *, last: bool) -> None:
        try:
            lines = self._follower.lines(last=last)
        except OSError as error:
            self._log.warn("a hook's output cannot be read: {error}", error=error)
            return
        for line in lines:
            self._log.debug(
                "{model} {hook}: {line}",
                event="hook_output",
                model=self._call.model,
                hook=self._call.hook.value,
                line=line,
            )

    def _expire(self) -> None:
        self._kill_at = self._clock.seconds() + GRACE
        self._signal_group(signal.SIGTERM)
        self._end_group()

    def _end_group(self) -> None:
        """
        Wait until nothing is left of the group, and kill it when its grace is over.

        What hangs inside the kernel (a driver, a network disk) does not end even then, and is given
        up, so that it does not hold up everybody else.
        """
        assert self._kill_at is not None
        late = self._clock.seconds() - self._kill_at
        if late >= 0:
            self._signal_group(signal.SIGKILL)
        ended = self._exit is not None and (late >= 0 or not self._signal_group(0))
        if ended or late >= GRACE:
            self._finish()
        else:
            self._end_timer = self._clock.callLater(_GROUP_POLL, self._end_group)

    def _signal_group(self, number: int) -> bool:
        """
        Send a signal to all of the group; 0 only asks whether there is one.

        :returns: whether anybody was there to get it.
        """
        assert self._pid is not None
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:  # all gone, or so young that it leads no group yet
            if self._exit is None and number:
                os.kill(self._pid, number)
            return self._exit is None
        except PermissionError:  # somebody else's by now (setuid): nothing that we could do
            return False
        return True

    def _finish(self) -> None:
        for timer in (self._end_timer, self._follow_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._log_lines(last=True)
        exit_code, ended_by = self._exit or (None, None)
        result = HookResult(
            seconds=self._clock.seconds() - self._began,
            exit_code=exit_code,
            signal=ended_by,
            timed_out=self._kill_at is not None,
            output=self._follower.tail(_TAIL_LINES),
        )
        self._result.callback(result)
