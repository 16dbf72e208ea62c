"""The status document: all that is so now, as an operator is told; docs/operating.rst has it."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from llmux.hooks.contract import Hook, Reason
from llmux.lifecycle import HookReport, Model
from llmux.states import State
from llmux.switcher import Switcher
from llmux.switching import Switch

MOST_AGES = 100
"""So many waiters of a model are told one by one, the oldest of them."""

_PHASES = {
    "sleeping": (State.SLEEPING,),
    "waking": (State.WAKING,),
    "cleaning_up": (State.SLEEPING,),
}  # the states of models since whose beginning a switch is in a phase


@attrs.frozen
class Status:
    """
    Tells what a switcher is doing.

    :param switcher: see there.
    :param now: the clock's seconds.
    """

    _switcher: Switcher
    _now: float

    def models(self) -> list[dict[str, object]]:
        """Tell everything about every model, in the order of the configuration."""
        return [self._model(model) for model in self._switcher.models.values()]

    def switch(self) -> dict[str, object] | None:
        """Tell about the switch that is under way."""
        switch = self._switcher.switch
        if switch is None:
            return None
        return {
            "from": [victim.name for victim in switch.victims],
            "to": None if switch.target is None else switch.target.name,
            "phase": switch.phase,
            "since_secs": self._ago(switch.started),
            "phase_since_secs": self._ago(_phase_began(switch)),
            "reason": switch.reason.value,
            "why": _why(switch),
            "leases": sum(victim.leases for victim in switch.victims),
        }

    def orders(self) -> list[dict[str, object]]:
        """Tell which orders wait for their turn."""
        return [
            {
                "order": order.kind.value,
                "model": order.model.name,
                "waiting_secs": self._ago(order.given_at),
            }
            for order in self._switcher.orders
        ]

    def pairs(self) -> list[dict[str, object]]:
        """Tell what switches cost that were seen."""
        return [
            {"from": source, "to": target, "secs": round(cost, 3)}
            for (source, target), cost in self._switcher.costs.pair.items()
        ]

    def _model(self, model: Model) -> dict[str, object]:
        costs = self._switcher.costs
        return {
            "name": model.name,
            "backend": model.config.backend.url,
            "state": model.state.value,
            "since_secs": self._ago(model.since),
            "leases": model.leases,
            "waiters": self._waiters(model.waiting.arrivals()),
            "back_off": {
                "wake_secs": round(model.wake_backoff.left(self._now), 3),
                "sleep_secs": round(model.sleep_backoff.left(self._now), 3),
                "failures": model.wake_backoff.failures + model.sleep_backoff.failures,
            },
            "health": self._health(model),
            "hooks": {hook.value: self._hook(told) for hook, told in model.reports.items()},
            "costs": {
                "sleep_secs": _rounded(costs.sleep.get(model.name)),
                "wake_secs": _rounded(costs.wake.get(model.name)),
                "lease_secs": _rounded(costs.lease.get(model.name)),
            },
            "removed": model.removed,
        }

    def _waiters(self, arrivals: Iterable[float]) -> dict[str, object]:
        ages = [self._ago(arrived) for arrived in arrivals]
        return {
            "count": len(ages),
            "oldest_secs": ages[0] if ages else None,
            "ages_secs": ages[:MOST_AGES],
        }

    def _health(self, model: Model) -> dict[str, object]:
        asked = model.reports.get(Hook.ALIVE)
        return {
            "alive": _alive(model),
            "failures": model.health.failures,
            "asked_secs_ago": None if asked is None else self._ago(asked.began),
        }

    def _hook(self, report: HookReport) -> dict[str, object]:
        result = report.result
        if result is None:
            return {
                "result": "running",
                "how": "is running",
                "exit_code": None,
                "duration_secs": self._ago(report.began),
                "ended_secs_ago": None,
                "reason": report.reason.value,
                "last_lines": [],
            }
        return {
            "result": "success" if result.success else "failed",
            "how": result.describe(),
            "exit_code": result.exit_code,
            "duration_secs": round(result.seconds, 3),
            "ended_secs_ago": self._ago(report.began + result.seconds),
            "reason": report.reason.value,
            "last_lines": result.output.splitlines(),
        }

    def _ago(self, time: float) -> float:
        return round(max(0.0, self._now - time), 3)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _alive(model: Model) -> str:
    health = model.health
    if model.config.alive is None:
        return "none"
    if not model.believes_alive:
        return "unproven"
    return "disagrees" if health.failures or health.suspect or health.down else "agrees"


def _phase_began(switch: Switch) -> float:
    """Say since when a switch is in its phase, in the clock's seconds."""
    states = _PHASES.get(switch.phase, ())
    models = (*switch.victims, *(() if switch.target is None else (switch.target,)))
    return max((m.since for m in models if m.state in states), default=switch.started)


def _waiting_for(switch: Switch) -> str:
    count = 0 if switch.target is None else len(switch.target.waiting)
    many = "1 request waits" if count == 1 else f"{count} requests wait"
    return f"{many} for {switch.goal}"


def _why(switch: Switch) -> str:
    """Say in one sentence why a switch happens."""
    names = " and ".join(victim.name for victim in switch.victims)
    reasons = {
        Reason.REQUEST: _waiting_for(switch),
        Reason.OPERATOR: "an operator has ordered it",
        Reason.BACKEND_DOWN: f"{names} does not serve any more, and is cleaned up after",
        Reason.CONFIG: f"the configuration has {names} no longer, or at another address",
        Reason.START: "more models hold something than fit",
    }
    return reasons.get(switch.reason, switch.reason.value)
