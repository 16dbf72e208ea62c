"""
Getting ready the model that is expected next, while another one serves.

This can only help: at most one ``prepare`` hook runs at a time, it holds nothing of what models
share, and it is ended as soon as something else is to be done with its model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred
from txaio.tx import make_logger

from llmux.agenda import places_of
from llmux.config import ModelConfig
from llmux.hookruns import HookRuns, Occasion
from llmux.hooks.contract import IDLE, Hook, HookResult, Reason
from llmux.lifecycle import Model, Prepared
from llmux.metrics import Metrics
from llmux.outlook import Outlook
from llmux.switching import Switch


@attrs.define(eq=False)
class Preparing:
    """
    Runs ``prepare`` hooks, and sees what they were good for.

    :param models: every model by name.
    :param outlook: knows what is under way.
    :param hooks: runs the scripts.
    :param metrics: measures wakes, with and without.
    :param changed: called when a hook has ended.
    """

    _models: Mapping[str, Model]
    _outlook: Outlook
    _hooks: HookRuns
    _metrics: Metrics
    _changed: Callable[[], None]
    _current: Model | None = None  # whose hook runs
    _ended: list[Deferred[None]] = attrs.Factory(list)  # of those who wait for its end
    _hopeful: list[Model] = attrs.Factory(list)  # prepared, and nothing has been woken since
    _log = make_logger()

    def expect(self, switches: Sequence[Switch], named: str | None) -> None:
        """
        Prepare the model that is expected next, if that can be done and nothing else is prepared.

        It is the target of a switch that drains; else whom the policy names.

        :param switches: those that are under way.
        :param named: a name, perhaps of no model.
        """
        if self._current is not None:
            if self._current.moving:
                self.leave_alone(self._current)
            return
        if not switches and named is None:  # as is so mostly, behind each answer
            return
        busy = {
            model
            for switch in switches
            for model in (switch.models if switch.committed else switch.leaving)
        }
        expected = [s.target for s in switches if s.target is not None and not s.committed]
        if not expected:
            expected = [model for name, model in self._models.items() if name == named]
        for model in expected:
            if model not in busy and self._can_be_prepared(model):
                self._begin(model)
                return

    def leave_alone(self, model: Model) -> bool:
        """
        See that a model's other hooks can run.

        :returns: whether its ``prepare`` does not run; else it is being ended, and a change
            follows.
        """
        if self._current is model:
            self._hooks.stop(model)
        return self._current is not model

    def stop(self) -> None:
        """End what runs."""
        if self._current is not None:
            self._hooks.stop(self._current)

    async def end(self, model: Model | None = None) -> None:
        """
        End the ``prepare`` of a model, or of any, and wait until it has ended.

        :param model: ``None``: whosever it is.
        """
        while (current := self._current) is not None and model in (current, None):
            if self.leave_alone(current):
                return
            ended: Deferred[None] = Deferred()
            self._ended.append(ended)
            await ended

    def woke(self, model: Model, prepared: Prepared, seconds: float) -> None:
        """
        Take in that a model is awake, and so which others were prepared in vain.

        One that is on its way elsewhere was not; nor was one that could never be where this one is.

        :param prepared: how far it was prepared before.
        :param seconds: how long its wake took.
        """
        self._metrics.model_woken(model.name, prepared.value, seconds)
        if model in self._hopeful:
            self._hopeful.remove(model)
        for other in tuple(self._hopeful):
            if places_of(other) & model.place.resources and not self._outlook.is_moving(other):
                self._hopeful.remove(other)
                self._metrics.prepared_in_vain(other.name)
                self._hooks.events.prepared_in_vain(other.name, model.name)

    def _can_be_prepared(self, model: Model) -> bool:
        if model.state.holds or model.moving:
            return False
        if model.prepared is not Prepared.NO or not self._hooks.has(model, Hook.PREPARE):
            return False
        now = self._hooks.clock.seconds()
        return now >= max(model.prepare_backoff.until, model.wake_backoff.until)

    def _begin(self, model: Model) -> None:
        self._current, model.preparing = model, True
        self._hooks.events.prepare_started(model.name)
        prepared = Deferred.fromCoroutine(self._prepare(model, model.config))
        prepared.addErrback(lambda bug: self._log.failure("preparing failed", failure=bug))
        prepared.addCallback(lambda _: self._changed())

    async def _prepare(self, model: Model, config: ModelConfig) -> None:
        try:
            occasion = Occasion(IDLE, model.name, Reason.PREPARE)
            result = await self._hooks.run(model, Hook.PREPARE, occasion)
            self._learn(model, config, result)
        finally:
            self._current, model.preparing = None, False
            ended, self._ended = self._ended, []
            for each in ended:
                each.callback(None)

    def _learn(self, model: Model, config: ModelConfig, result: HookResult) -> None:
        """Take in how far a hook has come; what another configuration had says nothing."""
        if result.success:
            model.prepare_backoff.reset()
        elif not result.stopped:
            model.prepare_backoff.fail(self._hooks.clock.seconds())
        if (result.success or result.stopped) and model.config is config:
            model.prepared = Prepared.YES if result.success else Prepared.PARTLY
            if model not in self._hopeful:
                self._hopeful.append(model)
