"""
What could be done next: who would have to go for whom, and what is not allowed yet.

This is what a policy sees, and what guards the rules that no policy can break.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from llmux.budget import Budget
from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.policy.contract import ModelView, Phase, PolicyContext
from llmux.states import State


@attrs.frozen
class Outlook:
    """
    All models and the room they share, as they are at this moment.

    :param models: by name, in the order of the configuration.
    :param budget: who fits beside whom.
    """

    _models: Mapping[str, Model]
    _budget: Budget

    def context(
        self, now: float, phase: Phase, target: str | None, costs: SwitchCosts
    ) -> PolicyContext:
        """Make what a policy is shown; its cost does not grow with the number of waiters."""
        return PolicyContext(
            now=now,
            phase=phase,
            models={name: self._view(model) for name, model in self._models.items()},
            target=target,
            costs=costs,
        )

    def victims(self, target: Model, wanted: tuple[str, ...] | None) -> tuple[Model, ...]:
        """
        Choose who has to go before a model can be woken.

        :param target: the model to wake.
        :param wanted: whom the policy names; taken if that makes room, else the cheapest go.
        """
        holding = [m for m in self._models.values() if m.state.holds and m is not target]
        if wanted is not None:
            remaining = [model for model in holding if model.name not in wanted]
            if self._budget.fits(len(remaining) + 1):
                return tuple(model for model in holding if model.name in wanted)
        return self._cheapest(target, holding)

    def blocked(self, stuck: Collection[Model]) -> list[Model]:
        """
        Say who is waited for in vain, for some models have to go first and would not.

        :param stuck: those that had to go.
        """
        left = [model for model in stuck if model.state.holds]
        return [
            model
            for model in self._models.values()
            if model.waiting
            and not model.admitting
            and any(each is model or each in self.victims(model, None) for each in left)
        ]

    def surplus(self, holding: Sequence[Model]) -> list[Model]:
        """
        Say who holds more than there is; so it can be when llmux starts.

        :param holding: those that hold something.
        :returns: those that have to go, the one that was asked for least recently first.
        """
        if self._budget.fits(len(holding)):
            return []
        ranked = [model.name for model in sorted(holding, key=lambda model: model.asked)]
        return [self._models[name] for name in self._budget.must_go(None, ranked)]

    def later_victims(
        self, target: Model, leaving: Collection[Model], coming: Model | None
    ) -> tuple[Model, ...]:
        """
        Foresee who will have to go for a model when a switch that is under way has ended.

        :param leaving: those that it puts to sleep.
        :param coming: the one that it wakes, if it does.
        """
        holding = [
            model
            for model in self._models.values()
            if model is not target
            and (model is coming or (model.state.holds and model not in leaving))
        ]
        return self._cheapest(target, holding)

    def _cheapest(self, target: Model, holding: list[Model]) -> tuple[Model, ...]:
        ranked = [model.name for model in sorted(holding, key=_loss)]
        return tuple(self._models[name] for name in self._budget.must_go(target.name, ranked))

    def _view(self, model: Model) -> ModelView:
        awake = model.state is State.AWAKE
        victims = () if awake else self.victims(model, None)
        return ModelView(
            state=model.state,
            waiting=model.waiting.views(),
            leases=model.leases,
            awake_since=model.awake_since,
            not_before=evictable_at(model) if awake else model.wake_backoff.until,
            evicts=tuple(victim.name for victim in victims),
        )


def _loss(model: Model) -> tuple[bool, int, float]:
    """Rank by how much is lost when a model goes: least where nobody knows what it is worth."""
    return (model.state is not State.UNKNOWN, model.leases, model.since)


def evictable_at(model: Model) -> float:
    """
    Say when a model may be put to sleep at the earliest.

    :returns: the end of its cool-down (``min_active_secs``) and of its back-off, in the clock's
        seconds.
    """
    if model.state is not State.AWAKE:
        return model.sleep_backoff.until
    return max(model.awake_since + model.config.min_active_secs, model.sleep_backoff.until)
