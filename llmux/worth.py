"""What is lost when a model goes: the seconds that those who want it will have to wait."""

from __future__ import annotations

import attrs

from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.states import State

UNLEARNT = 10.0
"""Seconds that a hook or a request is taken to last of which nothing was learnt yet."""


@attrs.frozen
class Worth:
    """
    Says what models are worth, from who wants them now, who did lately, and what was learnt.

    Whoever wants a model that has gone waits until it has gone and is back.  Those are the requests
    that are in flight (their clients will come again), those that wait, as many as came in the last
    minutes, and one more: every model will be wanted some day.

    :param costs: how long things took.
    """

    _costs: SwitchCosts

    def of_awake(self, model: Model, now: float) -> float:
        """
        Say what is lost when a model goes to sleep.

        :param now: the clock's seconds.
        :returns: seconds of waiting; none for a model of which nobody knows whether it serves.
        """
        if model.state is State.UNKNOWN:
            return 0.0
        costs, name = self._costs, model.name
        away = costs.sleep.get(name, UNLEARNT) + costs.wake.get(name, UNLEARNT)
        return away * (1 + model.leases + model.demand + model.recent.count(now))

    def of_asleep(self, model: Model, now: float) -> float:
        """
        Say what is lost, besides, when a model that is asleep is stopped.

        :param now: the clock's seconds.
        :returns: seconds of waiting: by how much longer a cold start takes.
        """
        return self.colder(model) * (1 + model.demand + model.recent.count(now))

    def colder(self, model: Model) -> float:
        """Say how much longer a model takes to wake from a stop than from sleep, in seconds."""
        wake = self._costs.wake.get(model.name, UNLEARNT)
        return max(1.0, self._costs.cold.get(model.name, 2 * wake) - wake)
