"""One hook's process, from its start to its result."""

from __future__ import annotations

import os
import select
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.hooks.contract import HookCall, HookResult, ProcessId
from llmux.hooks.group import Ending, ProcessGroup
from llmux.hooks.identity import identify
from llmux.hooks.output import Follower

_POLL = 0.2  # seconds between two looks at what a hook has printed
_TAIL_LINES = 20  # lines of output that a failure is reported with
_MOST_LINES = 500  # lines that are logged at one look; more would take longer than till the next


class HookProcess(ProcessProtocol):
    """
    Watches over one process, which leads a process group.

    The hook has ended when this process has exited, whatever it left running behind it.  Past its
    deadline the whole group is ended, and the hook has ended when nothing is left of it.

    :param clock: tells the time.
    :param call: what is run.
    :param follower: follows its output.
    :param deadline: seconds that its script may take.
    :ivar gate: what its script waits behind, for whoever starts it to set; ``None`` if it does not.
    :ivar leader: the process, once it is spawned and where that can be known.
    """

    _log = make_logger()

    def __init__(
        self, clock: IReactorTime, call: HookCall, follower: Follower, deadline: float
    ) -> None:
        self.call = call
        self.follower = follower
        self.deadline = deadline
        self.gate: int | None = None
        self.leader: ProcessId | None = None
        self._clock = clock
        self._began = clock.seconds()
        self._begun = False
        self._pid: int | None = None
        self._exit: tuple[int | None, int | None] | None = None
        self._ending: Ending | None = None
        self._stopped = False
        self._blind = False  # whether its output could not be read at the last look
        self._expiry: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None
        self._result: Deferred[HookResult] = Deferred()

    def identify(self) -> ProcessId | None:
        """
        Find out who the process is, after it has been spawned.

        :raises OSError: if it cannot be told.
        """
        assert self._pid is not None
        self.leader = identify(self._pid)
        return self.leader

    @property
    def age(self) -> float:
        """For how many seconds its script runs, or waits if it has not begun."""
        return self._clock.seconds() - self._began

    @property
    def waits(self) -> bool:
        """Whether its script waits behind the gate; else it has begun, or the process has gone."""
        if self.gate is None or self._exit is not None:
            return False
        look = select.poll()
        look.register(self.gate, 0)  # to hear that nobody is at the other end
        return not look.poll(0)

    def begin(self) -> Deferred[HookResult]:
        """
        Let its script begin, if that waits, and start the deadline.

        :returns: fires once with the result, and does not fail.
        """
        if self.gate is not None:
            self._began = self._clock.seconds()
            with suppress(BrokenPipeError):  # it ended at the gate: how, its exit says
                os.write(self.gate, self.call.hook.value.encode("ascii") + b"\n")
            self.dismiss()
        self._begun = True
        if self._exit is None:
            self._expiry = self._clock.callLater(self.deadline, self._end_group)
            self._next_look = self._clock.callLater(_POLL, self._follow)
        else:
            self._finish()
        return self._result

    def dismiss(self) -> None:
        """Let it go without its script, if that still waits."""
        if self.gate is not None:
            os.close(self.gate)
            self.gate = None

    def stop(self) -> None:
        """End it as its deadline would, if that has not begun yet."""
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
            self._stopped = True
            self._end_group()

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
        if self._begun and self._ending is None:
            self._finish()

    def _follow(self) -> None:
        self._next_look = self._clock.callLater(_POLL, self._follow)
        self._log_lines(last=False)

    def _log_lines(self, *, last: bool) -> None:
        """Log what it has printed; that this cannot be read, or cut, is no fault of the hook's."""
        try:
            lines = self.follower.lines(last=last)
            self._log_each(lines)
            self.follower.cut()
        except OSError as error:
            if not self._blind:  # once, and not five times a second
                self._log.warn("a hook's output cannot be read or cut: {error}", error=error)
            self._blind = True
        else:
            self._blind = False

    def _log_each(self, lines: list[str]) -> None:
        if len(lines) > _MOST_LINES:
            left_out = len(lines) - _MOST_LINES
            lines = [f"[{left_out} lines are left out here]", *lines[left_out:]]
        for line in lines:
            self._log.debug(
                "{model} {hook}: {line}",
                event="hook_output",
                model=self.call.model,
                hook=self.call.hook.value,
                line=line,
            )

    def _end_group(self) -> None:
        assert self._pid is not None
        group = ProcessGroup(self._pid, self.leader, lambda: self._exit is None)
        self._ending = Ending(self._clock, group, self._finish)

    def _finish(self) -> None:
        for timer in (self._expiry, self._next_look):
            if timer is not None and timer.active():
                timer.cancel()
        self._log_lines(last=True)
        exit_code, ended_by = self._exit or (None, None)
        result = HookResult(
            seconds=self._clock.seconds() - self._began,
            exit_code=exit_code,
            signal=ended_by,
            timed_out=self._ending is not None and not self._stopped,
            stopped=self._stopped,
            output=self.follower.tail(_TAIL_LINES),
        )
        self._result.callback(result)
