"""A switch that is under way, as far as room is concerned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from llmux.amounts import Amounts, add, highest
from llmux.lifecycle import Model
from llmux.reservation import Reservation
from llmux.room import Plan, Standing


class UnderWay(Protocol):
    """A switch that is under way, as far as room is concerned."""

    @property
    def models(self) -> Collection[Model]:
        """All models that it moves."""

    @property
    def victims(self) -> tuple[Model, ...]:
        """Those that have to go to sleep."""

    @property
    def stops(self) -> tuple[Model, ...]:
        """Those that have to be stopped."""

    @property
    def touches(self) -> frozenset[str]:
        """The resources that are given from one to another by it."""

    @property
    def claim(self) -> Amounts:
        """What it makes room for."""

    @property
    def after(self) -> Amounts:
        """What its models take together when it has ended, with what it makes room for."""

    @property
    def reservation(self) -> Reservation | None:
        """Whom it makes room for, if that is no model."""

    def later(self, model: Model) -> Standing:
        """Say what one of its models holds when it has ended."""


def meets(switch: UnderWay, model: Model) -> bool:
    """Tell whether a model could be woken where a switch takes place, or where nothing counts."""
    touched = switch.touches
    return any(not place.resources or place.resources & touched for place in model.placements)


def could_replace(switch: UnderWay, model: Model, plan: Plan | None, now: float) -> bool:
    """
    Tell whether a model could be the target of a switch in place of what is: the same have to go.

    :param plan: how room can be made for it if the switch is given up.
    """
    if plan is None or model in switch.models or model.moving:
        return False
    if max(plan.possible_at, model.wake_backoff.until) > now:
        return False
    return set(plan.victims) == set(switch.victims) and set(plan.stops) == set(switch.stops)


def claim(switch: UnderWay) -> Amounts:
    """Say what the models of a switch take at most from now on until it has ended."""
    return highest(switch.after, add(*(Standing.of(model).holds for model in switch.models)))
