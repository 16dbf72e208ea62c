"""
What sleeping, waking and serving cost, learnt from the hooks that ran and the answers that ended.

Hooks are timed, not drains: how long a drain takes says something about the clients, not about the
model.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import attrs

_Key = TypeVar("_Key", bound=Hashable)

ALPHA = 0.3
"""How much a new observation weighs against all that came before it."""


@attrs.define
class SwitchCosts:
    """
    Exponential moving averages, in seconds.  The first observation is taken as it is.

    :ivar sleep: by model, how long its sleep hook takes.
    :ivar wake: by model, how long its wake hook takes.
    :ivar pair: by (from, to), the hooks of a switch from one model to another; a cold start is kept
        apart as ``("idle", to)``.
    :ivar lease: by model, how long a request is at its backend, however it ends, if it was not cut.
    :ivar cold: by model, how long its wake hook takes after it was stopped.
    """

    sleep: dict[str, float] = attrs.Factory(dict)
    wake: dict[str, float] = attrs.Factory(dict)
    pair: dict[tuple[str, str], float] = attrs.Factory(dict)
    lease: dict[str, float] = attrs.Factory(dict)
    cold: dict[str, float] = attrs.Factory(dict)

    def slept(self, model: str, seconds: float) -> None:
        """Take in that a sleep hook succeeded after so many seconds."""
        _average_in(self.sleep, model, seconds)

    def woke(self, model: str, seconds: float, *, stopped: bool = False) -> None:
        """
        Take in that a wake hook succeeded after so many seconds.

        :param stopped: whether the model had been stopped before, not only asleep.
        """
        _average_in(self.cold if stopped else self.wake, model, seconds)

    def switched(self, source: str, target: str, seconds: float) -> float:
        """
        Take in a whole switch.

        :param source: the model that left, or ``"idle"``.
        :param target: the model that came.
        :param seconds: the time of its hooks.
        :returns: the new average of this pair, in seconds.
        """
        return _average_in(self.pair, (source, target), seconds)

    def served(self, model: str, seconds: float) -> None:
        """Take in that a lease was held for so many seconds."""
        _average_in(self.lease, model, seconds)

    def copy(self) -> SwitchCosts:
        """Give them as they are now."""
        return SwitchCosts(
            dict(self.sleep), dict(self.wake), dict(self.pair), dict(self.lease), dict(self.cold)
        )

    def take_over(self, learnt: SwitchCosts) -> None:
        """Know what others have learnt, where nothing was learnt here yet."""
        self.sleep = {**learnt.sleep, **self.sleep}
        self.wake = {**learnt.wake, **self.wake}
        self.cold = {**learnt.cold, **self.cold}
        self.pair = {**learnt.pair, **self.pair}
        self.lease = {**learnt.lease, **self.lease}

    def as_json(self) -> dict[str, object]:
        """Give all that was learnt as plain JSON values; :meth:`from_json` takes it back."""
        return {
            "sleep": dict(self.sleep),
            "wake": dict(self.wake),
            "cold": dict(self.cold),
            "pair": [[source, target, cost] for (source, target), cost in self.pair.items()],
            "lease": dict(self.lease),
        }

    @classmethod
    def from_json(cls, learnt: Mapping[str, object]) -> SwitchCosts:
        """
        Take back what :meth:`as_json` gave.

        :raises ValueError: if it is anything else.
        """
        try:
            pair = learnt["pair"]
            if not isinstance(pair, list):
                raise TypeError("pair has to be a list")
            return cls(
                sleep=_by_model(learnt["sleep"]),
                wake=_by_model(learnt["wake"]),
                cold=_by_model(learnt.get("cold", {})),  # older journals have none
                pair={(_name(a), _name(b)): _cost(cost) for a, b, cost in pair},
                lease=_by_model(learnt["lease"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"these are no costs: {error}") from error


def _by_model(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object with the costs of models")
    return {_name(model): _cost(cost) for model, cost in value.items()}


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no name")
    return value


def _cost(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number of seconds")
    seconds = float(value)
    if not 0 <= seconds < math.inf:  # one of these would spoil every average to come
        raise ValueError(f"{value!r} is no number of seconds")
    return seconds


def _average_in(averages: dict[_Key, float], key: _Key, observed: float) -> float:
    before = averages.get(key)
    averages[key] = observed if before is None else ALPHA * observed + (1 - ALPHA) * before
    return averages[key]
