"""The status document: all that is so now, as an operator is told; docs/operating.rst has it."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from llmux.budget import SLOT
from llmux.hooks.contract import Hook, HookResult, Reason
from llmux.lifecycle import HookReport, Model
from llmux.observed import Observed
from llmux.reservation import Reservation
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

    def switches(self) -> list[dict[str, object]]:
        """Tell about the switches that are under way, in the order in which they began."""
        return [
            {
                "from": [victim.name for victim in switch.victims],
                "to": None if switch.target is None else switch.target.name,
                "stops": [model.name for model in switch.stops],
                "reservation": None if switch.reservation is None else switch.reservation.id,
                "phase": switch.phase,
                "since_secs": self._ago(switch.started),
                "phase_since_secs": self._ago(_phase_began(switch)),
                "reason": switch.reason.value,
                "why": _why(switch),
                "leases": sum(victim.leases for victim in switch.victims),
            }
            for switch in self._switcher.switches
        ]

    def switch(self) -> dict[str, object] | None:
        """Tell about the first of them, which is the only one where there is one slot."""
        return next(iter(self.switches()), None)

    def shared(self) -> list[dict[str, object]]:
        """Tell who waits for any of several models."""
        return [
            {
                "name": shared.name,
                "models": [model.name for model in shared.members],
                "coming": None if shared.coming is None else shared.coming.name,
                "waiters": self._waiters(shared.room.arrivals()),
            }
            for shared in self._switcher.shared.values()
        ]

    def resources(self) -> list[dict[str, object]]:
        """Tell what the models share, and how much of it is held; nothing if it is one slot."""
        budget, used = self._switcher.budget, self._switcher.used()
        return [
            {"name": name, "capacity": capacity, "used": round(used[name], 6)}
            for name, capacity in budget.capacity.items()
            if name != SLOT
        ]

    def reservations(self) -> list[dict[str, object]]:
        """Tell which reservations hold room, or wait for it."""
        return [self.reservation(each) for each in self._switcher.reservations.all.values()]

    def reservation(self, reservation: Reservation) -> dict[str, object]:
        """Tell about one reservation."""
        held, ends = reservation.held_since, reservation.expires_at
        return {
            "id": reservation.id,
            "needs": {name: some for name, some in reservation.needs.items() if name != SLOT},
            "note": reservation.note,
            "ttl_secs": reservation.ttl,
            "state": "waiting" if held is None else "held",
            "since_secs": self._ago(reservation.asked_at if held is None else held),
            "expires_in_secs": None if ends is None else round(max(0.0, ends - self._now), 3),
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
            "pinned": model.pinned,
            "placement": self._placement(model),
            "holds": {} if SLOT in self._switcher.budget.capacity else dict(model.holds),
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

    def _placement(self, model: Model) -> dict[str, float] | None:
        """Tell where a model is: what it takes there, if that is known."""
        known = model.state.holds and model.place.known
        one_slot = SLOT in self._switcher.budget.capacity
        return dict(model.place.needs) if known and not one_slot else None

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
            "result": _result(result),
            "how": result.describe(),
            "exit_code": result.exit_code,
            "duration_secs": round(result.seconds, 3),
            "ended_secs_ago": self._ago(report.began + result.seconds),
            "reason": report.reason.value,
            "last_lines": result.output.splitlines(),
        }

    def _ago(self, time: float) -> float:
        return round(max(0.0, self._now - time), 3)


def observe(switcher: Switcher, now: float) -> Observed:
    """
    See what the gauges show that change with time or with the state of a model.

    :param now: the clock's seconds.
    """
    models = switcher.models.values()
    rooms = {model.name: model.waiting for model in models}
    rooms |= {name: shared.room for name, shared in switcher.shared.items()}
    return Observed(
        capacity=switcher.budget.capacity,
        used=switcher.used(),
        states={model.name: model.state.value for model in models},
        oldest={name: room.oldest_secs(now) for name, room in rooms.items()},
    )


def _result(result: HookResult) -> str:
    if result.success:
        return "success"
    return "stopped" if result.stopped else "failed"


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
    return max((m.since for m in switch.models if m.state in states), default=switch.started)


def _waiting_for(switch: Switch) -> str:
    count = 0 if switch.target is None else switch.target.demand
    many = "1 request waits" if count == 1 else f"{count} requests wait"
    return f"{many} for {switch.goal}"


def _why(switch: Switch) -> str:
    """Say in one sentence why a switch happens."""
    names = " and ".join(model.name for model in switch.leaving)
    reasons = {
        Reason.REQUEST: _waiting_for(switch),
        Reason.OPERATOR: "an operator has ordered it",
        Reason.BACKEND_DOWN: f"{names} does not serve any more, and is cleaned up after",
        Reason.CONFIG: f"the configuration has {names} no longer, or at another address",
        Reason.START: "more models hold something than fit",
        Reason.PRELOAD: f"{switch.goal} is to be awake from the start",
        Reason.IDLE: "nothing was asked for a while",
        Reason.RESERVATION: "somebody has reserved the room",
    }
    return reasons.get(switch.reason, switch.reason.value)
