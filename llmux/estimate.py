"""When a request that comes now would be served: guessed, from what was learnt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.room import evictable_at
from llmux.states import State
from llmux.switching import Switch
from llmux.worth import UNLEARNT

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
    :param switches: those that are under way.
    :param now: the clock's seconds.
    """

    _outlook: Outlook
    _costs: SwitchCosts
    _switches: Sequence[Switch]
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
        return (model.leases + model.demand) // places * self._lease(model)

    def _open_at(self, model: Model) -> float:
        """Guess when a model gives leases to those who ask now."""
        if model.admitting:
            return self._now
        for switch in self._switches:
            if model is switch.target and not switch.failed:
                return self._ends_at(switch)
        plan, start = self._outlook.plan(model, self._now), self._now
        if plan is None:
            plan = self._outlook.later_plan(model, self._now)
            start = max(map(self._ends_at, self._switches), default=start)
        if plan is None:  # what is reserved has to end before
            ends = [end for each in self._outlook.reservations.values() if (end := each.expires_at)]
            return max(start, *ends, self._now) + self._wake(model)
        return self._woken_at(model, plan.leaving, start)

    @property
    def _coming(self) -> list[Model]:
        """The models that will be awake when the switches that are under way have ended."""
        return [s.target for s in self._switches if s.target is not None and not s.failed]

    def _ends_at(self, switch: Switch) -> float:
        """Guess when a switch is over, or what failed of it is cleaned up."""
        target = switch.target
        if target is None:
            gone = [self._gone_at(model, self._now) for model in switch.leaving]
            return max([self._now, *gone])
        if target.state is State.SLEEPING:
            return max(self._now, target.since + self._sleep(target))
        if switch.failed:
            return self._now + self._sleep(target)
        if target.state is State.WAKING:
            return max(self._now, target.since + self._wake(target))
        return self._woken_at(target, switch.leaving, self._now)

    def _woken_at(self, model: Model, leaving: Iterable[Model], start: float) -> float:
        """Guess when a model is awake for which, from a certain time on, others have to go."""
        gone = [self._gone_at(each, start) for each in leaving]
        return max(start, model.wake_backoff.until, *gone) + self._wake(model)

    def _gone_at(self, model: Model, start: float) -> float:
        """Guess when a model is asleep that has to go from a certain time on."""
        if model in self._coming:
            begins = start + model.config.min_active_secs
        elif not model.state.holds:
            return start
        elif model.state is State.SLEEPING:
            return max(start, model.since + self._sleep(model))
        elif model.state is State.DRAINING:
            begins = model.since
        else:
            begins = max(start, evictable_at(model))
        if model.config.drain_before_switch and (model.leases or model.wanted):
            begins += self._lease(model)
        return max(start, begins) + self._sleep(model)

    def _sleep(self, model: Model) -> float:
        return self._costs.sleep.get(model.name, UNLEARNT)

    def _wake(self, model: Model) -> float:
        costs, name = self._costs, model.name
        if model.state is State.STOPPED and name in costs.cold:
            return costs.cold[name]
        return costs.wake.get(name, UNLEARNT)

    def _lease(self, model: Model) -> float:
        return self._costs.lease.get(model.name, UNLEARNT)
