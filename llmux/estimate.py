"""When a request that comes now would be served: guessed, from what was learnt."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.outlook import Outlook, evictable_at
from llmux.states import State
from llmux.switching import Switch

UNLEARNT = 10.0
"""Seconds that a hook or a request is taken to last of which nothing was learnt yet."""

LONGEST = 600
"""Seconds: no client is told to stay away for longer."""

_ROUNDING = 1e-6  # seconds: what a clock's sums may be wrong by


@attrs.frozen
class Estimate:
    """
    What lies between now and the service of a request.

    It counts on every hook taking as long as it mostly does, and on no other model being asked for
    meanwhile.

    :param outlook: who would have to go for whom.
    :param costs: how long things took.
    :param switch: the switch that is under way, if one is.
    :param now: the clock's seconds.
    """

    _outlook: Outlook
    _costs: SwitchCosts
    _switch: Switch | None
    _now: float

    def seconds(self, model: Model) -> int:
        """Say in how many seconds, from 1 to :data:`LONGEST`, a request for a model is served."""
        wait = self._open_at(model) - self._now + self._queue(model)
        return max(1, math.ceil(min(LONGEST, wait) - _ROUNDING))

    def _queue(self, model: Model) -> float:
        """Guess how long those take who are at an open model, or wait for it."""
        places = model.config.max_concurrency
        if places is None:
            return 0.0
        return (model.leases + len(model.waiting)) // places * self._lease(model)

    def _open_at(self, model: Model) -> float:
        """Guess when a model gives leases to those who ask now."""
        if model.admitting:
            return self._now
        switch = self._switch
        if switch is None:
            return self._woken_at(model, self._outlook.victims(model, None), self._now)
        ends = self._ends_at(switch)
        if model is self._coming:
            return ends
        victims = self._outlook.later_victims(model, switch.victims, self._coming)
        return self._woken_at(model, victims, ends)

    @property
    def _coming(self) -> Model | None:
        """The model that will be awake when the switch that is under way has ended."""
        return None if self._switch is None or self._switch.failed else self._switch.target

    def _ends_at(self, switch: Switch) -> float:
        """Guess when a switch is over, or what failed of it is cleaned up."""
        target = switch.target
        if target is None:
            gone = [self._gone_at(victim, self._now) for victim in switch.victims]
            return max([self._now, *gone])
        if target.state is State.SLEEPING:
            return max(self._now, target.since + self._sleep(target))
        if switch.failed:
            return self._now + self._sleep(target)
        if target.state is State.WAKING:
            return max(self._now, target.since + self._wake(target))
        return self._woken_at(target, switch.victims, self._now)

    def _woken_at(self, model: Model, victims: Iterable[Model], start: float) -> float:
        """Guess when a model is awake for which, from a certain time on, others have to go."""
        gone = [self._gone_at(victim, start) for victim in victims]
        return max(start, model.wake_backoff.until, *gone) + self._wake(model)

    def _gone_at(self, model: Model, start: float) -> float:
        """Guess when a model is asleep that has to go from a certain time on."""
        if model is self._coming:
            begins = start + model.config.min_active_secs
        elif model.state is State.ASLEEP:
            return start
        elif model.state is State.SLEEPING:
            return max(start, model.since + self._sleep(model))
        elif model.state is State.DRAINING:
            begins = model.since
        else:
            begins = max(start, evictable_at(model))
        if model.config.drain_before_switch and (model.leases or model.waiting):
            begins += self._lease(model)
        return max(start, begins) + self._sleep(model)

    def _sleep(self, model: Model) -> float:
        return self._costs.sleep.get(model.name, UNLEARNT)

    def _wake(self, model: Model) -> float:
        return self._costs.wake.get(model.name, UNLEARNT)

    def _lease(self, model: Model) -> float:
        return self._costs.lease.get(model.name, UNLEARNT)
