"""How often models are asked for, as far as their clients were free to ask."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import attrs

from llmux.policy.contract import PolicyContext
from llmux.states import State

_KEPT = 20  # arrivals of each model


@attrs.define
class _Arrivals:
    """
    The last arrivals for one model, on a clock that stands still while its clients are blocked.

    Whoever waits for an answer asks nothing: what is not asked then must not look like silence.

    :ivar clock: what the clock says, in seconds.
    :ivar times: when they came, by this clock.
    :ivar waiting: how many wait until the model is awake again; while any do, the clock stands.
    """

    clock: float = 0.0
    times: deque[float] = attrs.Factory(lambda: deque(maxlen=_KEPT))
    waiting: int = 0

    @property
    def rate(self) -> float:
        """How many come in a second; 0 while that cannot be known."""
        if len(self.times) < 2:
            return 0.0
        passed = self.clock - self.times[0]
        return (len(self.times) - 1) / max(passed, 1e-3)


class ArrivalRates:
    """Learns how often each model is asked for."""

    def __init__(self) -> None:
        self._models: dict[str, _Arrivals] = {}
        self._now: float | None = None

    def rate(self, model: str) -> float:
        """Say how many requests for a model come in a second."""
        arrivals = self._models.get(model)
        return 0.0 if arrivals is None else arrivals.rate

    def look(self, context: PolicyContext) -> None:
        """Take in who is blocked."""
        self._pass(context.now)
        for name, model in context.models.items():
            blocked = model.state is not State.AWAKE
            waiting = sum(view.count for view in model.waiting.values()) if blocked else 0
            if waiting or name in self._models:
                self._of(name).waiting = waiting
        for name in self._models.keys() - context.models.keys():
            del self._models[name]

    def arrived(self, model: str, now: float) -> None:
        """Take in that a request has come."""
        self._pass(now)
        arrivals = self._of(model)
        if not arrivals.waiting:
            arrivals.times.append(arrivals.clock)

    def left(self, model: str, now: float) -> None:
        """Take in that one stopped waiting."""
        self._pass(now)
        arrivals = self._of(model)
        arrivals.waiting = max(0, arrivals.waiting - 1)

    def opened(self, model: str, now: float) -> None:
        """Take in that a model has become awake: all who waited for it are served."""
        self._pass(now)
        self._of(model).waiting = 0

    def as_json(self) -> dict[str, object]:
        """Give how long ago they came, by each model's own clock, as plain JSON values."""
        return {
            name: [round(arrivals.clock - time, 3) for time in arrivals.times]
            for name, arrivals in self._models.items()
        }

    def learn(self, learnt: Mapping[str, object]) -> None:
        """
        Take back what :meth:`as_json` gave.

        :raises ValueError: if it is anything else.
        """
        models = {}
        for name, ages in learnt.items():
            if not isinstance(ages, list) or not all(map(_is_age, ages)):
                raise ValueError(f"{name}: {ages!r} are no ages of arrivals")
            models[name] = _Arrivals(times=deque(sorted(-age for age in ages), maxlen=_KEPT))
        self._models = models

    def _of(self, model: str) -> _Arrivals:
        arrivals = self._models.get(model)
        if arrivals is None:
            arrivals = self._models[model] = _Arrivals()
        return arrivals

    def _pass(self, now: float) -> None:
        """Let the clocks go on that do not stand."""
        before, self._now = self._now, now
        if before is None:
            return
        for arrivals in self._models.values():
            if not arrivals.waiting:
                arrivals.clock += max(0.0, now - before)


def _is_age(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0
