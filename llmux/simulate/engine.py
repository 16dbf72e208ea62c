"""
An inference engine that is only pretended: what runs at once shares it, and slows each other down.

Nothing is stepped.  All that run progress alike, so one number says how far each has come: the
*service* that a request would have had that was there from the beginning.  Each request waits until
that number passes its own mark, and only the nearest mark needs a timer.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

_ROUNDING = 1e-9  # seconds of service by which marks may differ and still be passed together


@attrs.frozen
class EngineFigures:
    """
    How fast an engine is.

    :param prompt_rate: how many tokens of a prompt it reads in a second, alone.
    :param token_secs: how long it takes for one token of an answer, alone, in seconds.
    :param slowdown: with ``n`` requests running, each goes at ``1 / (1 + slowdown * (n - 1))``.
    :param most: how many run at once; the rest wait inside of the engine.
    """

    prompt_rate: float = attrs.field(default=6000.0, validator=attrs.validators.gt(0.0))
    token_secs: float = attrs.field(default=0.02, validator=attrs.validators.ge(0.0))
    slowdown: float = attrs.field(default=0.02, validator=attrs.validators.ge(0.0))
    most: int = attrs.field(default=32, validator=attrs.validators.gt(0))

    def prompt_secs(self, prompt_tokens: int) -> float:
        """Say how long a prompt takes, alone, in seconds: until the first token of the answer."""
        return prompt_tokens / self.prompt_rate

    def speed(self, running: int) -> float:
        """Say how fast each of so many goes, as a part of what it does alone."""
        return 1 / (1 + self.slowdown * (running - 1))


@attrs.define(eq=False)
class Work:
    """
    One request at the engine, for :meth:`Engine.abort`.

    :ivar prompt: the service that its prompt takes, in seconds.
    :ivar answer: the service that its answer takes after that.
    :ivar first: called at the first token of the answer.
    :ivar done: called at the last.
    :ivar decoding: whether its prompt is done.
    :ivar aborted: whether nobody wants its answer any more.
    """

    prompt: float
    answer: float
    first: Callable[[], None]
    done: Callable[[], None]
    decoding: bool = False
    aborted: bool = False


class Engine:
    """
    Serves requests, as fast as its figures say.

    :param clock: the only time there is.
    :param figures: see :class:`EngineFigures`.
    """

    def __init__(self, clock: IReactorTime, figures: EngineFigures | None = None) -> None:
        self._clock = clock
        self._figures = EngineFigures() if figures is None else figures
        self._service = 0.0  # of a request that was there from the beginning, in seconds
        self._as_of = clock.seconds()
        self._marks: list[tuple[float, int, Work]] = []  # a heap; one for each that runs
        self._queue: deque[Work] = deque()
        self._numbers = itertools.count()
        self._timer: IDelayedCall | None = None

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._marks)

    @property
    def queued(self) -> int:
        """How many wait until one of these has ended."""
        return len(self._queue)

    def serve(
        self,
        prompt_tokens: int,
        output_tokens: int,
        first: Callable[[], None],
        done: Callable[[], None],
    ) -> Work:
        """
        Take one more request.

        :param prompt_tokens: how long its prompt is.
        :param output_tokens: how long its answer is.
        :param first: called when its prompt is done.
        :param done: called when its answer is complete; never before this method has returned.
        """
        figures = self._figures
        work = Work(
            figures.prompt_secs(prompt_tokens), output_tokens * figures.token_secs, first, done
        )
        if self.running >= figures.most:
            self._queue.append(work)
            return work
        self._catch_up()
        self._mark(work, work.prompt)
        self._set_timer()
        return work

    def abort(self, work: Work) -> None:
        """Give up a request that has not ended; neither of its functions is called any more."""
        work.aborted = True
        if work in self._queue:
            self._queue.remove(work)
            return
        self._catch_up()
        self._marks = [mark for mark in self._marks if mark[2] is not work]
        heapq.heapify(self._marks)
        self._fill_up()
        self._set_timer()

    def _fill_up(self) -> None:
        """Let those run who wait, as far as there is a place."""
        while self._queue and self.running < self._figures.most:
            following = self._queue.popleft()
            self._mark(following, following.prompt)

    def _catch_up(self) -> None:
        """Count the service since anything changed."""
        now = self._clock.seconds()
        if self._marks:
            self._service += (now - self._as_of) * self._figures.speed(self.running)
        else:
            self._service = 0.0  # nobody has a mark: begin anew, so that it stays exact
        self._as_of = now

    def _mark(self, work: Work, service: float) -> None:
        heapq.heappush(self._marks, (self._service + service, next(self._numbers), work))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._marks:
            left = max(0.0, self._marks[0][0] - self._service)
            seconds = left / self._figures.speed(self.running)
            self._timer = self._clock.callLater(seconds, self._passed)

    def _passed(self) -> None:
        """Tell all whose marks are passed now, after everything here is as it will be."""
        self._timer = None
        self._catch_up()
        self._service = max(self._service, self._marks[0][0])  # whatever was lost by rounding
        told: list[tuple[Work, bool]] = []  # and whether that was its end
        passed = self._service + _ROUNDING
        while self._marks and self._marks[0][0] <= passed:
            _, _, work = heapq.heappop(self._marks)
            if not work.decoding:
                work.decoding = True
                told.append((work, False))
                self._mark(work, work.answer)
                continue
            told.append((work, True))
            self._fill_up()
        self._set_timer()
        for work, ended in told:
            if not work.aborted:  # by one that was told before it
                (work.done if ended else work.first)()
