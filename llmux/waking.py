"""How a model wakes: its hook, and then ``alive`` until it agrees."""

from __future__ import annotations

import attrs

from llmux.costs import SwitchCosts
from llmux.hookruns import HookRuns, Occasion
from llmux.hooks.contract import Hook
from llmux.lifecycle import Model
from llmux.states import State

UNPROVEN_SECS = 10.0
"""Seconds for which an ``alive`` is asked after a wake that has never agreed yet."""


@attrs.frozen
class Waking:
    """
    Wakes models, and learns what that costs.

    :param hooks: runs the scripts.
    :param costs: learns.
    """

    _hooks: HookRuns
    _costs: SwitchCosts

    async def wake(self, model: Model, occasion: Occasion, began: float) -> str | None:
        """
        Wake a model; it is awake afterwards, or still waking and has a back-off.

        :param began: when the switch had begun, in the clock's seconds.
        :returns: ``None``, or why it is not awake, in words for the log.
        """
        clock = self._hooks.clock
        start, stopped = clock.seconds(), model.state is State.STOPPED
        self._hooks.enter(model, State.WAKING)
        result = await self._hooks.run(model, Hook.WAKE, occasion)
        error = None if result.success else f"the wake hook {result.describe()}"
        if error is None:
            error = await self._cannot_serve(model, occasion, start)
        if error is not None:
            model.wake_backoff.fail(clock.seconds())
            return error
        self._costs.woke(model.name, clock.seconds() - start, stopped=stopped)
        model.switch_began = began
        self._hooks.enter(model, State.AWAKE)
        return None

    async def _cannot_serve(self, model: Model, occasion: Occasion, start: float) -> str | None:
        """
        Ask ``alive`` whether a model whose wake hook has succeeded can serve.

        One that has never agreed may be a mistake: scripts that were written for llmux 2.4.0 were
        never run.  It is given a while, and then warned about and not believed.

        :returns: ``None``, or why the model is taken not to.
        """
        config, health = model.config, model.health
        if config.alive is None:
            return None
        until = start + config.wake_timeout_secs
        if not model.believes_alive:
            patience = 0.0 if health.doubted == config.alive else UNPROVEN_SECS
            until = min(until, self._hooks.clock.seconds() + patience)
        result = await self._hooks.agrees(model, Hook.ALIVE, occasion, until)
        if result.success:
            health.agreed, health.doubted = config.alive, None
            return None
        if model.to_be_killed:
            return "an operator wants it to be killed"
        if model.believes_alive:
            return f"the wake hook succeeded, but the alive hook {result.describe()}"
        health.doubted = config.alive
        self._hooks.events.alive_doubted(model.name, result.describe())
        return None
