"""What a policy has to reckon with: how long switches, answers and drains are going to take."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import attrs

from llmux.costs import SwitchCosts

UNLEARNT = 3.0
"""Seconds that a switch or an answer is taken to last while nothing at all is known."""

_MOST = 200  # requests in flight that are reckoned with one by one
_LONGEST = 1e9  # seconds; what lasts longer lasts for ever


@attrs.frozen
class Prices:
    """
    Durations in seconds, from what was learnt.

    :param costs: what sleeping, waking and serving have cost.
    """

    _costs: SwitchCosts

    def switch(self, victims: Collection[str], target: str) -> float:
        """
        Say how long the hooks of a switch take.

        What is known of this very pair counts; else the two hooks, each by itself; else switches
        to the same target; else all switches.

        :param victims: the models that have to sleep for it; they do so side by side.
        """
        costs, source = self._costs, _source(victims)
        known = costs.pair.get((source, target))
        if known is not None:
            return known
        if target in costs.wake and all(victim in costs.sleep for victim in victims):
            return costs.wake[target] + max((costs.sleep[each] for each in victims), default=0.0)
        to_target = [seconds for (_, to), seconds in costs.pair.items() if to == target]
        return _mean(to_target or costs.pair.values())

    def answer(self, model: str) -> float:
        """Say how long a request of a model is in flight."""
        known = self._costs.lease.get(model)
        return _mean(self._costs.lease.values()) if known is None else known

    def drain(self, model: str, leases: int) -> float:
        """
        Say how long it takes until the last of some requests has ended.

        Each lasts as long as all others, whatever it has lasted already; so the first of n ends
        after an n-th of that time, and so on: a harmonic sum.
        """
        return self.answer(model) * _harmonic(leases)

    def open(self, model: str, leases: int, rate: float) -> float:
        """
        Say how long it takes until a model is idle by itself, if it goes on taking requests.

        With requests that come at some rate and all run side by side that is a birth-death chain;
        the time from i requests to i - 1 follows from that from i + 1 to i, beginning far above.

        :param rate: new requests each second.
        """
        end_rate = 1 / max(self.answer(model), 1e-6)
        leases = min(leases, _MOST)
        highest = leases + 20 + int(min(3 * rate / end_rate, _MOST))
        step, total = 1 / (highest * end_rate), 0.0
        for running in range(highest - 1, 0, -1):
            step = min(_LONGEST, (1 + rate * step) / (running * end_rate))
            if running <= leases:
                total += step
        return min(_LONGEST, total)


def _source(victims: Collection[str]) -> str:
    """Give the name by which the costs know who leaves."""
    if len(victims) > 1:
        return "several"
    return next(iter(victims), "idle")


def _mean(known: Iterable[float]) -> float:
    values = list(known)
    return sum(values) / len(values) if values else UNLEARNT


def _harmonic(count: int) -> float:
    if count > _MOST:
        return math.log(count) + 0.5772156649 + 0.5 / count
    return sum(1 / number for number in range(1, count + 1))
