"""A quantum: once awake, a model stays open for so many switches' costs."""

from __future__ import annotations

import math

from llmux.policy.contenders import Contender, contenders
from llmux.policy.contract import Phase, PolicyContext, PolicyDecision
from llmux.policy.fifo import FifoPolicy
from llmux.policy.prices import Prices
from llmux.policy.promises import next_turn, whose_turn

SWITCH_COSTS = 3.0
"""For so many times what a switch costs a model stays open, where nothing is said."""


class QuantumPolicy(FifoPolicy):
    """
    Whoever waits longest for a model that is not awake gets it, as soon as those that have to go
    are idle, or have been awake for some times as long as the hooks of the switch take.

    Whoever has a promise that is due (``max_wait_secs``) gets it at once, before all others; so
    does who has waited for three tours.  Like ``fifo``, it learns nothing.

    :param switch_costs: how many times.
    :raises ValueError: if that is no number, or not more than 0.
    """

    def __init__(self, switch_costs: float = SWITCH_COSTS) -> None:
        if isinstance(switch_costs, bool) or not isinstance(switch_costs, int | float):
            raise ValueError(f"switch_costs is {switch_costs!r}; it has to be a number")
        if not 0 < switch_costs < math.inf:
            raise ValueError(f"switch_costs is {switch_costs!r}; it has to be more than 0")
        self._switch_costs = switch_costs

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """Choose the model of the oldest waiter for whom somebody may go."""
        waiting = contenders(context)
        if waiting and context.phase is not Phase.SETTLED:
            return PolicyDecision(target=context.target)
        late = whose_turn(waiting, context)
        if late is not None:
            return PolicyDecision(target=late.name, forced=True)
        due = next_turn(waiting, context)
        times = [] if due is None else [due]
        kept: set[str] = set()
        for contender in waiting:
            if kept.intersection(contender.victims):
                continue  # or whoever came first would have to wait for the same places again
            kept.update(contender.victims)
            leave_at = self._leave_at(contender, context)
            if leave_at <= context.now:
                return PolicyDecision(target=contender.name)
            times.append(leave_at)
        following = waiting[0].name if waiting else None
        return PolicyDecision(ask_at=min(times, default=None), prepare=following)

    def _leave_at(self, contender: Contender, context: PolicyContext) -> float:
        """Say when those may go who have to go, in seconds of the context's time."""
        hooks = Prices(context.costs).switch(contender.victims, contender.name)
        quantum = self._switch_costs * hooks
        busy = (victim.awake_since for victim in contender.victims.values() if victim.leases)
        return max((awake_since + quantum for awake_since in busy), default=context.now)
