"""How a model goes to sleep, and what is done when it would not."""

from __future__ import annotations

import attrs

from llmux.costs import SwitchCosts
from llmux.events import Events
from llmux.hookruns import HookRuns, Occasion
from llmux.hooks.contract import Hook, HookResult, Reason
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.states import State

_CLEANING = (Reason.WAKE_FAILED, Reason.BACKEND_DOWN)
"""Reasons for which a model that does not serve is put to sleep: ``alive`` says nothing new."""


@attrs.frozen
class _Tried:
    """
    What has come of one hook.

    :param error: why the model is not asleep, if so.
    :param serves: whether it serves as before, if it is not asleep.
    :param ended: whether its engine was ended, so that nothing is left of it.
    """

    error: str | None
    serves: bool = False
    ended: bool = False


@attrs.frozen
class Sleeping:
    """
    Puts models to sleep: ``sleep``, once more, ``kill``; and ``freed`` after each.  Stops them.

    :param hooks: runs the scripts.
    :param costs: learns what it costs.
    :param metrics: measures how long models were awake.
    :param events: logs what does not go to sleep.
    """

    _hooks: HookRuns
    _costs: SwitchCosts
    _metrics: Metrics
    _events: Events

    async def put_to_sleep(self, model: Model, occasion: Occasion) -> str | None:
        """
        Put a model to sleep.

        If it would not go it has a back-off, and is awake as before if that is what its hooks say;
        else nobody knows, and its wake hook runs before it is asked anything again.

        :returns: ``None``, or why it may still hold what it held, in words for the log.
        """
        clock = self._hooks.clock
        before, began = model.state, clock.seconds()
        self._hooks.enter(model, State.SLEEPING)
        errors: list[str] = []
        tried = _Tried(None)
        for hook in self._ladder(model):
            if model.to_be_killed and hook is Hook.SLEEP and self._hooks.has(model, Hook.KILL):
                continue
            reason = Reason.SLEEP_FAILED if errors else occasion.reason
            tried = await self._try(model, hook, occasion.because(reason), occasion.reason)
            if tried.error is None:
                self._asleep(model, before, began, ended=tried.ended)
                return None
            errors.append(tried.error)
            self._events.sleep_hook_failed(model.name, occasion.target, tried.error)
        model.sleep_backoff.fail(clock.seconds())
        model.to_be_killed = False
        was_awake = before in (State.AWAKE, State.DRAINING) and not model.health.down
        self._hooks.enter(model, State.AWAKE if was_awake and tried.serves else State.UNKNOWN)
        return f"{model.name} did not go to sleep: {'; '.join(dict.fromkeys(errors))}"

    async def stop(self, model: Model, occasion: Occasion) -> str | None:
        """
        Stop a model that is asleep, so that it gives back what it took even then.

        If it would not, its ``kill`` runs, if it has one.  If that does not help, it is asleep as
        before and has a back-off.

        :returns: ``None``, or why it still holds what it held, in words for the log.
        """
        errors: list[str] = []
        for hook in (Hook.STOP, Hook.KILL):
            if not self._hooks.has(model, hook):
                continue
            reason = Reason.SLEEP_FAILED if errors else occasion.reason
            result = await self._hooks.run(model, hook, occasion.because(reason))
            if result.success:
                model.sleep_backoff.reset()
                self._hooks.enter(model, State.STOPPED)
                return None
            errors.append(f"the {hook.value} hook {result.describe()}")
            self._events.sleep_hook_failed(model.name, occasion.target, errors[-1])
        model.sleep_backoff.fail(self._hooks.clock.seconds())
        return f"{model.name} was not stopped: {'; '.join(errors)}"

    def _ladder(self, model: Model) -> list[Hook]:
        return [Hook.SLEEP, Hook.SLEEP, *([Hook.KILL] if self._hooks.has(model, Hook.KILL) else [])]

    def _asleep(self, model: Model, before: State, began: float, *, ended: bool) -> None:
        if before in (State.AWAKE, State.DRAINING):
            self._metrics.model_slept(model.name, began - model.awake_since)
        model.sleep_backoff.reset()
        model.health.begin()
        model.to_be_killed = False
        deeply = ended and bool(model.config.asleep_needs)
        self._hooks.enter(model, State.STOPPED if deeply else State.ASLEEP)

    async def _try(self, model: Model, hook: Hook, occasion: Occasion, demand: Reason) -> _Tried:
        """
        Run one hook of the ladder, and find out whether the model is asleep now.

        :param demand: why the model has to go in the first place.
        """
        start = self._hooks.clock.seconds()
        result = await self._hooks.run(model, hook, occasion)
        if not result.success:
            gone, serves = await self._look(model, hook, result, occasion, demand)
            if not gone:
                return _Tried(f"the {hook.value} hook {result.describe()}", serves=serves)
        elif hook is Hook.SLEEP:
            self._costs.slept(model.name, result.seconds)
        ended = hook is Hook.KILL and result.success
        return _Tried(await self._is_held(model, occasion, start), ended=ended)

    async def _is_held(self, model: Model, occasion: Occasion, start: float) -> str | None:
        """Ask ``freed`` until it agrees, within the deadline of ``sleep``."""
        if not self._hooks.has(model, Hook.FREED):
            return None
        until = start + model.config.sleep_timeout_secs
        result = await self._hooks.agrees(model, Hook.FREED, occasion, until)
        return None if result.success else f"the freed hook {result.describe()}"

    async def _look(
        self, model: Model, hook: Hook, result: HookResult, occasion: Occasion, demand: Reason
    ) -> tuple[bool, bool]:
        """
        Find out about a model that did not go to sleep: ``alive`` decides.

        A sleep hook also fails because there is nothing left to be put to sleep: the engine has
        crashed.  An ``alive`` that has never agreed is believed only where something else says,
        too, that the model does not serve.  Without one the exit status is the truth; a hook that
        was ended halfway, or that kills, leaves nobody knows what.

        :returns: whether it is gone; and whether it serves as before, if it is not.
        """
        ended_halfway = result.timed_out or result.stopped or result.signal is not None
        untouched = result.error is not None or (hook is Hook.SLEEP and not ended_halfway)
        if not self._hooks.has(model, Hook.ALIVE):
            return False, untouched
        said = await self._hooks.run(model, Hook.ALIVE, occasion.because(Reason.SLEEP_FAILED))
        if said.success:
            model.health.agreed = model.config.alive
            return False, True
        if said.timed_out or said.stopped or said.exit_code is None:  # it says nothing
            return False, said.error is not None and untouched
        if model.believes_alive or demand in _CLEANING:
            return True, False
        return False, untouched
