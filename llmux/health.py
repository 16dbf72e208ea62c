"""Whether models that are awake still serve: asked by the clock, and when nobody listens."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from txaio.tx import make_logger

from llmux.hookruns import HookRuns, Occasion
from llmux.hooks.contract import Hook, HookResult, Reason
from llmux.lifecycle import Model
from llmux.states import SERVING

TRIES = 3
"""How often in a row ``alive`` has to fail, asked by the clock, before its model is down."""

FLOW_SECS = 1.0
"""Seconds in which an answer that was coming has to go on, to show that its backend is there."""


class HealthCheck:
    """
    Asks ``alive`` about models that are awake.

    :param hooks: runs the scripts.
    :param fallen: called with a model that is down, and why, in words for the log.
    :param changed: called when something has become known that matters to who waits.
    """

    _log = make_logger()

    def __init__(
        self,
        hooks: HookRuns,
        fallen: Callable[[Model, str], None],
        changed: Callable[[], None],
    ) -> None:
        self._hooks = hooks
        self._fallen = fallen
        self._changed = changed
        self._ended = False
        self._timers: dict[Model, IDelayedCall] = {}
        self._asking: dict[Model, Deferred[None]] = {}

    def watch(self, model: Model) -> None:
        """Ask about a model from now on, for as long as it is awake."""
        self._forget(model)
        interval = None if self._ended else model.config.alive_interval_secs
        if interval is not None and model.state in SERVING and self._hooks.has(model, Hook.ALIVE):
            self._timers[model] = self._hooks.clock.callLater(interval, self._tick, model)

    def attend(self, model: Model) -> None:
        """Ask about a model from now on, if that is not so already."""
        if model not in self._timers and model not in self._asking:
            self.watch(model)

    def leave_alone(self, model: Model) -> bool:
        """
        Ask nothing more about a model, whose other hooks are to run now.

        :returns: whether nothing is being asked; else it is being ended, and a change follows.
        """
        self._forget(model)
        if model in self._asking:
            self._hooks.stop(model)
        return model not in self._asking

    async def end(self, models: Iterable[Model]) -> None:
        """Ask nothing more at all, and wait until nothing is being asked."""
        self._ended = True
        for model in tuple(models):
            while not self.leave_alone(model):
                await self._answered(model)

    def refused(self, model: Model) -> None:
        """Find out about a model whose backend has refused a connection; meanwhile it is closed."""
        known = model.health.suspect or model.health.down
        if model.state in SERVING and not known and not self._ended:
            model.health.suspect = True
            self._begin(self._examine(model))

    def _forget(self, model: Model) -> None:
        timer = self._timers.pop(model, None)
        if timer is not None:
            timer.cancel()

    def _answered(self, model: Model) -> Deferred[None]:
        """Give what fires when a model's ``alive``, which runs, has ended."""
        answered: Deferred[None] = Deferred()
        self._asking[model].chainDeferred(answered)
        return answered

    def _begin(self, asking: Coroutine[Any, Any, None]) -> None:
        asked = Deferred.fromCoroutine(asking)
        asked.addErrback(lambda bug: self._log.failure("a health check failed", failure=bug))
        asked.addCallback(lambda _: self._changed())

    def _tick(self, model: Model) -> None:
        del self._timers[model]
        if model in self._asking or model.health.suspect or model.health.down:
            self.watch(model)
        else:
            self._begin(self._check(model))

    async def _ask(self, model: Model, reason: Reason) -> HookResult:
        asked: Deferred[None] = Deferred()
        self._asking[model] = asked
        try:
            occasion = Occasion(model.name, model.name, reason)
            return await self._hooks.run(model, Hook.ALIVE, occasion)
        finally:
            del self._asking[model]
            asked.callback(None)

    async def _check(self, model: Model) -> None:
        """Ask once, by the clock."""
        health, wakes = model.health, model.health.wakes
        result = await self._ask(model, Reason.HEALTH)
        if model.state not in SERVING or health.wakes != wakes or result.stopped:
            return
        if result.success:
            health.agreed, health.failures = model.config.alive, 0
        elif result.error is not None:  # llmux could not run it; the model is not to blame
            pass
        elif model.believes_alive and not self._heard(model):
            health.failures += 1
        if health.failures >= TRIES:
            self._fallen(model, f"its alive hook failed {TRIES} times in a row")
        else:
            self.watch(model)

    async def _examine(self, model: Model) -> None:
        """Decide whether a model is down at which nobody listens."""
        health, wakes = model.health, model.health.wakes
        down = False
        try:
            down = await self._is_down(model)
        finally:
            if health.wakes == wakes:  # else it has been woken again meanwhile
                health.suspect = False
        if down and health.wakes == wakes and model.state in SERVING and not health.down:
            self._fallen(model, "nobody listens at its address")

    async def _is_down(self, model: Model) -> bool:
        """
        Find out about a model whose backend has refused a connection.

        That is enough where there is no ``alive`` to say otherwise, unless answers go on coming
        from it: then it only has more to do than it takes.
        """
        began = self._hooks.clock.seconds()
        while model in self._asking:  # by the clock; what it says may be older than the refusal
            await self._answered(model)
        if model.state in SERVING and self._hooks.has(model, Hook.ALIVE):
            result = await self._ask(model, Reason.BACKEND_DOWN)
            if result.success:
                model.health.agreed = model.config.alive
            if result.success or result.stopped:
                return False
        running = [lease.heard_at for lease in model.held if lease.heard_at is not None]
        if not running:
            return True
        await deferLater(self._hooks.clock, FLOW_SECS)
        return all(heard_at() <= began for heard_at in running)

    def _heard(self, model: Model) -> bool:
        """Tell whether bytes of answers have come from a model within the interval."""
        interval = model.config.alive_interval_secs or 0.0
        return self._hooks.clock.seconds() - model.heard_at() <= interval
