"""How the switcher ends: who waits is refused, who is served may go on for a while."""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from llmux.health import HealthCheck
from llmux.hookruns import Occasion
from llmux.hooks.contract import IDLE, Reason
from llmux.lease import Revocation
from llmux.lifecycle import Model
from llmux.preparing import Preparing
from llmux.recovery import Recovery
from llmux.states import State
from llmux.switching import LETTING_GO, Course

_SLEEPY = (State.AWAKE, State.UNKNOWN)


@attrs.define(eq=False)
class Closing:
    """
    Lets everything that runs come to its end, in bounded time.

    :param models: gives all of them.
    :param switching: tells whether a switch is under way.
    :param clock: tells the time.
    :param course: puts models to sleep.
    :param health: is told to look at nothing more.
    :param recovery: likewise, if it is not known yet what is awake.
    :param preparing: gets nobody ready any more.
    """

    _models: Callable[[], Collection[Model]]
    _switching: Callable[[], bool]
    _clock: IReactorTime
    _course: Course
    _health: HealthCheck
    _recovery: Recovery
    _preparing: Preparing
    _looking: Deferred[None] | None = None

    def look(self) -> None:
        """Look again: a lease was given back, a switch has ended, or time has passed."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.callback(None)

    async def close(self, grace: float, sleep_models: bool) -> None:
        """
        Wait for requests in flight and for hooks.

        :param grace: how long requests may go on before they are cut, in seconds.
        :param sleep_models: whether models that are awake are put to sleep after that.
        """
        await self._until(lambda: not self._held(), grace)
        self.cut()
        await self._until(lambda: not self._held(), LETTING_GO)
        await self._until(lambda: not self._switching(), None)  # its hooks have deadlines
        await self._health.end(self._models())
        await self._preparing.end()
        self._recovery.stop()
        await self._until(lambda: not self._recovery.asking, None)
        if sleep_models:
            await self._sleep([model for model in self._models() if model.state in _SLEEPY])

    def cut(self) -> None:
        """Want all leases back at once."""
        for model in tuple(self._models()):
            model.revoke(Revocation.SHUTDOWN, self._clock.seconds())

    def _held(self) -> bool:
        return any(model.in_use for model in self._models())

    async def _sleep(self, models: Collection[Model]) -> None:
        while (settled := max((m.settles_at for m in models), default=0.0)) > self._clock.seconds():
            await self._until(lambda: False, settled - self._clock.seconds())
        for model in models:
            if model.state is State.AWAKE:
                model.enter(State.DRAINING, self._clock.seconds())
        await gatherResults(
            [
                Deferred.fromCoroutine(
                    self._course.sleep(model, Occasion(model.name, IDLE, Reason.SHUTDOWN))
                )
                for model in models
            ]
        )

    async def _until(self, condition: Callable[[], bool], longest: float | None) -> None:
        """Wait until something is so, for so many seconds at most."""
        end = None if longest is None else self._clock.seconds() + longest
        timer = None
        if longest is not None and longest > 0:
            timer = self._clock.callLater(longest, self.look)
        try:
            while not condition() and (end is None or self._clock.seconds() < end):
                self._looking = Deferred()
                await self._looking
        finally:
            if timer is not None and timer.active():
                timer.cancel()
