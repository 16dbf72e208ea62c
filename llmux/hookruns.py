"""Hooks as the switcher runs them: told of in the log and the metrics, and remembered."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from txaio.tx import make_logger

from llmux.budget import Placement
from llmux.events import Events
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner, Reason
from llmux.lifecycle import HookReport, Model
from llmux.metrics import Metrics
from llmux.states import State

SHORTEST_PAUSE = 0.2
"""Seconds between the first two times that a hook is asked which has to agree."""

LONGEST_PAUSE = 2.0
"""Seconds between two times later on."""

_SHORTEST_LIMIT = 0.1  # seconds that a hook is given that is asked at the last moment


@attrs.frozen
class Occasion:
    """
    What hooks run for.

    :param source: the model that is being switched away from, or ``"idle"``, or ``"several"``.
    :param target: the model that is being switched to, or ``"idle"``.
    :param reason: the demand.
    """

    source: str
    target: str
    reason: Reason

    def because(self, reason: Reason) -> Occasion:
        """Give the same occasion with another reason."""
        return attrs.evolve(self, reason=reason)


@attrs.define(eq=False)
class HookRuns:
    """
    Runs hooks for the switcher.

    :param hooks: runs the scripts.
    :param clock: tells the time.
    :param metrics: counts them.
    :param events: logs them.
    :param remember: called when a model has entered another state, so that a restart knows.
    """

    _hooks: IHookRunner
    clock: IReactorTime
    _metrics: Metrics
    events: Events
    _remember: Callable[[], None]
    _log = make_logger()

    def has(self, model: Model, hook: Hook) -> bool:
        """Tell whether a model has such a hook."""
        return self._hooks.has(model.name, hook)

    def enter(self, model: Model, state: State) -> None:
        """Let a model go over to another state, and see to it that a restart knows."""
        model.enter(state, self.clock.seconds())
        self._remember()

    def call(
        self, model: Model, hook: Hook, occasion: Occasion, place: Placement | None = None
    ) -> HookCall:
        """
        Say what a hook is to be told.

        One that may be awake already in any of several places is woken in the first of them: either
        it is awake, and its wake hook leaves it where it is, or it is not, and any place is as
        good.

        :param place: where its model is to be, if it is not there yet; while it is being prepared,
            that is not settled.
        """
        place = place or model.place
        placement = model.config.needs[0] if hook is Hook.WAKE else None
        if place.known and hook is not Hook.PREPARE:
            placement = place.needs
        source, target, reason = occasion.source, occasion.target, occasion.reason
        return HookCall(model.name, hook, source, target, reason, placement=placement)

    def expect(self, call: HookCall) -> None:
        """Let a hook be got ready that will probably run next."""
        self._hooks.expect(call)

    def forgo(self, model: str) -> None:
        """Let no hook of a model be kept ready any more."""
        self._hooks.forgo(model)

    def stop(self, model: Model) -> None:
        """End all hooks of a model that run; their results come when they have ended."""
        self._hooks.stop(model.name)

    async def run(self, model: Model, hook: Hook, occasion: Occasion) -> HookResult:
        """Run a hook to its end; that a ``prepare`` had to make way is no failure."""
        result = await self._run(model, hook, occasion, None)
        fine = result.success or (hook is Hook.PREPARE and result.stopped)
        self._metrics.hook_ended(model.name, hook.value, result.seconds, fine)
        self._tell(model, hook, occasion, result)
        return result

    async def ask(self, model: Model, hook: Hook, occasion: Occasion) -> HookResult:
        """Run a hook of which a failure is an answer like any other, and no fault."""
        result = await self._run(model, hook, occasion, None)
        self._metrics.hook_ended(model.name, hook.value, result.seconds, True)
        return result

    async def agrees(
        self, model: Model, hook: Hook, occasion: Occasion, until: float
    ) -> HookResult:
        """
        Ask a hook over and over until it succeeds.

        Only how it ended at last is told of: that it does not agree at first is no failure.

        :param until: for how long, in the clock's seconds; it is asked once at least, and no more
            when an operator wants the model to be killed.
        :returns: its last result.
        """
        pause = SHORTEST_PAUSE
        while True:
            left = max(_SHORTEST_LIMIT, until - self.clock.seconds())
            result = await self._run(model, hook, occasion, left)
            over = result.stopped or model.to_be_killed or self.clock.seconds() + pause > until
            self._metrics.hook_ended(
                model.name, hook.value, result.seconds, result.success or not over
            )
            if not result.success and not over:
                await deferLater(self.clock, pause)
            if result.success or over or model.to_be_killed:
                self._tell(model, hook, occasion, result)
                return result
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run(
        self, model: Model, hook: Hook, occasion: Occasion, limit: float | None
    ) -> HookResult:
        call = attrs.evolve(self.call(model, hook, occasion), limit=limit)
        began = self.clock.seconds()
        model.reports[hook] = HookReport(occasion.reason, began)
        try:
            result = await self._hooks.run(call)
        except Exception as error:  # a runner does not fail; one that does must not stop the rest
            self._log.failure("the hook runner failed")
            result = HookResult(seconds=self.clock.seconds() - began, error=repr(error))
        model.reports[hook] = HookReport(occasion.reason, began, result)
        return result

    def _tell(self, model: Model, hook: Hook, occasion: Occasion, result: HookResult) -> None:
        reason = occasion.reason.value
        if result.success:
            self.events.hook_completed(model.name, hook.value, reason, result.seconds)
        elif result.stopped:
            self.events.hook_stopped(model.name, hook.value, reason, result.seconds)
        else:
            self.events.hook_failed(
                model.name,
                hook.value,
                reason,
                result.seconds,
                result.exit_code,
                result.describe(),
                result.output,
            )
