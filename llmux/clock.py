"""
Time: monotonic for the running reactor, virtual for tests and simulation.

Nothing in llmux may ask for the time of day to measure how long something took: a clock that is set
back would stretch every deadline.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


def make_monotonic(reactor: ReactorBase) -> None:
    """
    Let a reactor's timers follow :func:`time.monotonic`.

    Twisted's reactors measure with :func:`time.time`, so that setting the machine's clock moves
    every deadline (https://github.com/twisted/twisted/issues/2424).  Timers that are already
    pending keep the time that was left to them.

    :param reactor: the reactor, not yet running or between two turns.
    """
    if reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    # getDelayedCalls() would leave out those that are cancelled but still in the reactor's heap
    for call in (*reactor._pendingTimedCalls, *reactor._newTimedCalls):
        call.seconds = time.monotonic
        call.time += shift  # the same for all, so their order stays as it is
    reactor.seconds = time.monotonic  # looked up at each use


@implementer(IReactorTime)
class VirtualClock:
    """
    A clock that stands still until it is told to move.

    Unlike :class:`twisted.internet.task.Clock` it keeps its calls in a heap, so that thousands of
    timers stay cheap, and it shows each call the time at which that call was due.

    :ivar now: seconds since this clock began.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._scheduled = 0

    def seconds(self) -> float:
        """See :meth:`IReactorTime.seconds`."""
        return self.now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """See :meth:`IReactorTime.callLater`."""
        assert delay >= 0, f"{delay} seconds is in the past"
        call = DelayedCall(
            self.now + delay, callable, args, kwargs, _ignore, self._push, self.seconds
        )
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See :meth:`IReactorTime.getDelayedCalls`."""
        pending = {call: None for _, _, call in self._heap if call.active()}
        return list(pending)

    def next_due(self) -> float | None:
        """Say when the next call is due, or ``None`` when nothing is scheduled."""
        while self._heap:
            when, _, call = self._heap[0]
            if call.active() and call.getTime() == when:
                return when
            heapq.heappop(self._heap)
            if call.active() and call.getTime() > when:  # it was delayed since
                call.activate_delay()
                self._push(call)
        return None

    def advance(self, seconds: float) -> None:
        """
        Move on, running each call that becomes due at its own time, in order.

        :param seconds: how far; 0 runs what is due now.
        """
        end = self.now + seconds
        while (due := self.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self._run_first()
        self.now = end

    def run_next(self) -> bool:
        """
        Jump to the next call that is due and run it.

        :returns: whether there was one.
        """
        due = self.next_due()
        if due is None:
            return False
        self.now = max(self.now, due)
        self._run_first()
        return True

    def _run_first(self) -> None:
        call = heapq.heappop(self._heap)[2]
        call.called = 1
        call.func(*call.args, **call.kw)

    def _push(self, call: DelayedCall) -> None:
        self._scheduled += 1
        heapq.heappush(self._heap, (call.getTime(), self._scheduled, call))


def _ignore(call: DelayedCall) -> None:
    """Do nothing: a cancelled call stays in the heap until it comes up."""
