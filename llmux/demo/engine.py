"""The pretended engine of a backend: it reads, it speaks, and is slower the more it has to do."""

import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime

_ROUNDING = 1e-9  # seconds that two times may differ by and still be the same


@frozen
class Pace:
    """
    How fast an engine is.

    :ivar tokens_per_sec: how fast it speaks, when it has one answer to give.
    :ivar prompt_tokens_per_sec: how fast it reads a prompt, likewise.
    :ivar slowdown: with ``n`` answers at once each goes at ``1 / (1 + slowdown * (n - 1))``.
    :ivar most: how many answers it gives at once; the rest wait.
    """

    tokens_per_sec: float = 30.0
    prompt_tokens_per_sec: float = math.inf
    slowdown: float = 0.0
    most: int = sys.maxsize

    def reading(self, tokens: int) -> float:
        """Say how long a prompt takes, alone, in seconds."""
        return tokens / self.prompt_tokens_per_sec

    def speaking(self, tokens: int) -> float:
        """Say how long so much of an answer takes, alone, in seconds."""
        return tokens / self.tokens_per_sec


@define
class Engine:
    """
    Lets the time pass that answers take.

    It has a time of its own, which passes as fast as the clock's while there is one answer to give,
    and more slowly the more there are.  By that time every answer takes what it would take alone.

    :ivar clock: where the time comes from.
    :ivar pace: how fast it is.
    """

    clock: IReactorTime
    pace: Pace
    _seconds: float = field(default=0.0, init=False)  # the engine's time, at ...
    _as_of: float = field(init=False)  # ... the clock's
    _busy: int = field(default=0, init=False)
    _places: DeferredSemaphore = field(init=False)
    _waiting: list[tuple[float, Deferred[None]]] = field(factory=list, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._as_of = self.clock.seconds()
        self._places = DeferredSemaphore(self.pace.most)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[float]:
        """Be one of those that it serves, as soon as there is room; give its time then."""
        await self._places.acquire()
        self._change(+1)
        try:
            yield self._seconds
        finally:
            self._change(-1)
            self._places.release()

    async def until(self, seconds: float) -> None:
        """Wait until it is so late by the engine's time."""
        self._catch_up()
        if seconds <= self._seconds + _ROUNDING:
            return
        due: Deferred[None] = Deferred()
        entry = seconds, due
        self._waiting.append(entry)
        self._set_timer()
        try:
            await due
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _change(self, by: int) -> None:
        self._catch_up()
        self._busy += by
        self._set_timer()

    def _catch_up(self) -> None:
        now = self.clock.seconds()
        self._seconds += (now - self._as_of) * self._speed
        self._as_of = now

    @property
    def _speed(self) -> float:
        return 1 / (1 + self.pace.slowdown * max(0, self._busy - 1))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            left = max(0.0, min(seconds for seconds, _ in self._waiting) - self._seconds)
            self._timer = self.clock.callLater(left / self._speed, self._passed)

    def _passed(self) -> None:
        self._timer = None
        self._catch_up()
        late = self._seconds + _ROUNDING
        due = [entry for entry in self._waiting if entry[0] <= late]
        self._waiting = [entry for entry in self._waiting if entry[0] > late]
        self._set_timer()
        for _, waited in sorted(due, key=lambda entry: entry[0]):
            waited.callback(None)
