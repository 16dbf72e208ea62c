"""One switch: who comes, who goes, and its hooks past the point of no return."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from txaio.tx import make_logger

from llmux.costs import SwitchCosts
from llmux.events import Events
from llmux.hooks.contract import IDLE, Hook, HookCall, HookResult, IHookRunner, Reason
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.states import State

BACKOFF = 2.0
"""Seconds before a wake or a sleep that failed is tried again; nobody else has to wait for it."""


@attrs.define(eq=False)
class Switch:
    """
    A switch from its decision to its end.

    :ivar target: the model that is to be awake.
    :ivar victims: those that have to go; empty for a cold start.
    :ivar started: when its drain began, in the clock's seconds.
    :ivar reason: why it happens.
    :ivar forced: whether the policy has said its last word.
    :ivar committed: whether the point of no return is passed.
    """

    target: Model
    victims: tuple[Model, ...]
    started: float
    reason: Reason = Reason.REQUEST
    forced: bool = False
    committed: bool = False

    @property
    def source(self) -> str:
        """What stands for the victims in metrics and logs."""
        if len(self.victims) > 1:
            return "several"
        return self.victims[0].name if self.victims else IDLE

    @property
    def drained(self) -> bool:
        """Whether none of the victims has a lease that is waited for."""
        return all(
            victim.leases == 0 or not victim.config.drain_before_switch for victim in self.victims
        )

    @property
    def failed(self) -> bool:
        """Whether the target could not be woken, and is cleaned up after."""
        target = self.target
        if target.state is State.WAKING:  # which begins when the back-off of the last one is over
            return target.wake_not_before > target.since
        return target.state is State.SLEEPING


@attrs.define(eq=False)
class SwitchHooks:
    """
    Runs the hooks of switches, moves the models through their states and learns what it costs.

    :param hooks: runs the scripts.
    :param clock: tells the time.
    :param costs: learns from every hook that succeeds.
    :param metrics: counts them.
    :param events: logs them.
    :param before_sleep: called with a model's name right before its sleep hook starts.
    """

    _hooks: IHookRunner
    _clock: IReactorTime
    _costs: SwitchCosts
    _metrics: Metrics
    _events: Events
    _before_sleep: Callable[[str], None]
    _log = make_logger()

    async def put_to_sleep(self, switch: Switch) -> str | None:
        """
        Put all victims of a switch to sleep, side by side.

        One that does not go has a back-off.  It is awake as before if its ``alive`` says so; else
        nobody knows, and its wake hook runs before it is asked anything again.

        :returns: ``None``, or why the target cannot be woken, in words for the log.
        """
        errors = await gatherResults(
            [Deferred.fromCoroutine(self._sleep(model, switch)) for model in switch.victims]
        )
        return "; ".join(error for error in errors if error is not None) or None

    async def wake(self, switch: Switch) -> str | None:
        """
        Wake the target of a switch; it is awake afterwards, or its back-off has begun.

        :returns: ``None``, or why it is not awake, in words for the log.
        """
        model = switch.target
        model.enter(State.WAKING, self._clock.seconds())
        result = await self._run(model, Hook.WAKE, switch, switch.reason)
        if result.success:
            self._costs.woke(model.name, result.seconds)
            model.switch_began = switch.started
            model.enter(State.AWAKE, self._clock.seconds())
            return None
        model.wake_not_before = self._clock.seconds() + BACKOFF
        return f"the wake hook {result.describe()}"

    async def clean_up(self, switch: Switch) -> None:
        """Put to sleep what a wake hook that failed may have left behind."""
        model = switch.target
        model.enter(State.SLEEPING, self._clock.seconds())
        result = await self._run(model, Hook.SLEEP, switch, Reason.WAKE_FAILED)
        gone = result.success or await self._is_alive(model, switch) is False
        model.enter(State.ASLEEP if gone else State.UNKNOWN, self._clock.seconds())
        if not gone:
            model.sleep_not_before = self._clock.seconds() + BACKOFF
            self._events.sleep_hook_failed(
                model.name, switch.target.name, f"the sleep hook {result.describe()}"
            )

    async def _sleep(self, model: Model, switch: Switch) -> str | None:
        before, began = model.state, self._clock.seconds()
        model.enter(State.SLEEPING, began)
        result = await self._run(model, Hook.SLEEP, switch, switch.reason)
        error, serves = None, False
        if result.success:
            self._costs.slept(model.name, result.seconds)
        else:
            error = f"the sleep hook of {model.name} {result.describe()}"
            self._events.sleep_hook_failed(model.name, switch.target.name, error)
            alive = await self._is_alive(model, switch)
            serves = alive is True and before is not State.UNKNOWN
            if alive is False:
                error = None
        now = self._clock.seconds()
        if error is None:
            if before is not State.UNKNOWN:
                self._metrics.model_slept(model.name, began - model.awake_since)
            model.enter(State.ASLEEP, now)
        else:
            model.sleep_not_before = now + BACKOFF
            model.enter(State.AWAKE if serves else State.UNKNOWN, now)
        return error

    async def _is_alive(self, model: Model, switch: Switch) -> bool | None:
        """
        Ask ``alive`` about a model whose sleep hook failed.

        A sleep hook also fails because there is nothing left to be put to sleep: the engine has
        crashed.

        :returns: ``None`` where nobody can tell: there is no ``alive``, or it hangs, is ended by a
            signal or cannot be run.
        """
        if not self._hooks.has(model.name, Hook.ALIVE):
            return None
        result = await self._run(model, Hook.ALIVE, switch, Reason.SLEEP_FAILED)
        return None if result.timed_out or result.exit_code is None else result.success

    async def _run(self, model: Model, hook: Hook, switch: Switch, reason: Reason) -> HookResult:
        call = HookCall(
            model=model.name,
            hook=hook,
            source=switch.source,
            target=switch.target.name,
            reason=reason,
        )
        if hook is Hook.SLEEP:
            try:
                self._before_sleep(model.name)
            except Exception:  # what else has to be told must not stop a switch
                self._log.failure("what is done before a model sleeps failed")
        began = self._clock.seconds()
        try:
            result = await self._hooks.run(call)
        except Exception as error:  # a runner does not fail; one that does must not stop the rest
            self._log.failure("the hook runner failed")
            result = HookResult(seconds=self._clock.seconds() - began, error=repr(error))
        self._metrics.hook_ended(model.name, hook.value, result.seconds, result.success)
        if result.success:
            self._events.hook_completed(model.name, hook.value, reason.value, result.seconds)
        else:
            self._events.hook_failed(
                model.name,
                hook.value,
                reason.value,
                result.seconds,
                result.exit_code,
                result.describe(),
                result.output,
            )
        return result
