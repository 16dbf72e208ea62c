"""How a switch went, for everybody who wants to know."""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IReactorTime

from llmux.budget import SLOT
from llmux.costs import SwitchCosts
from llmux.events import Events
from llmux.metrics import Metrics
from llmux.policy.guard import GuardedPolicy
from llmux.switching import Switch


@attrs.frozen
class Report:
    """
    Tells of switches.

    :param clock: tells the time.
    :param policy: observes them.
    :param costs: learns what they cost.
    :param metrics: counts them.
    :param events: logs them.
    """

    _clock: IReactorTime
    _policy: GuardedPolicy
    _costs: SwitchCosts
    _metrics: Metrics
    _events: Events

    def started(self, switch: Switch) -> None:
        """Tell that a switch to a model has begun."""
        evicted = [model.name for model in switch.leaving]
        self._events.switch_started(switch.source, switch.goal, evicted)

    def called_off(self, switch: Switch, reason: str) -> None:
        """Tell that a switch ended before its target was woken, and why."""
        self._events.switch_called_off(switch.source, switch.goal, reason)

    def drained(self, switch: Switch) -> None:
        """Tell that nothing runs any more that was waited for."""
        if switch.victims and switch.target is not None:
            seconds = self._clock.seconds() - switch.started
            self._metrics.switch_drained(switch.source, switch.goal, seconds)

    def ended(self, switch: Switch, error: str | None, hooks_began: float) -> None:
        """
        Tell how a switch ended.

        :param error: why it did not come to its end, in words for the log, or ``None``.
        :param hooks_began: when its first hook started, in the clock's seconds.
        """
        now = self._clock.seconds()
        seconds = now - switch.started
        if switch.target is not None:
            self._tell_of(switch, switch.target.name, error, seconds, now - hooks_began)
        if switch.order is not None:
            if error is None:
                switch.order.fulfil(f"{switch.order.outcome}, after {seconds:.1f} s")
            else:
                switch.order.fail(error, tried=True)

    def _tell_of(
        self, switch: Switch, target: str, error: str | None, seconds: float, hooks: float
    ) -> None:
        source = switch.source
        evicted = tuple(model.name for model in switch.leaving)
        self._policy.switched(target, evicted, self._clock.seconds(), error is None)
        if error is None:
            cost = self._costs.switched(source, target, hooks)
            self._metrics.switch_succeeded(source, target, seconds, cost)
            needs = {} if switch.placement is None else dict(switch.placement.needs)
            needs.pop(SLOT, None)
            self._events.model_activated(target, source, seconds, needs)
        else:
            self._metrics.switch_failed(source, target)
            self._events.switch_failed(target, source, error)
