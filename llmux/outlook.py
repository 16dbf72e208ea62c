"""
What could be done next: who would have to go for whom, and what is not allowed yet.

This is what a policy sees, and what guards the rules that no policy can break.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import attrs

from llmux.amounts import Amounts, add, fits, minus, taken
from llmux.budget import Budget
from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.policy.contract import ModelView, Phase, PolicyContext
from llmux.reservation import Reservation
from llmux.room import Plan, Room, Standing, evictable_at
from llmux.states import State
from llmux.underway import UnderWay, claim, could_replace, meets
from llmux.worth import Worth

NOTHING: frozenset[str] = frozenset()
"""No resources."""


@attrs.define(eq=False)
class Outlook:
    """
    All models and the room they share, as they are at this moment.

    :param models: by name, in the order of the configuration.
    :param budget: what there is.
    :param worth: says what is lost when a model goes.
    :ivar switches: those that are under way.
    :ivar reservations: by id, those that hold room, or wait for it.
    """

    _models: Mapping[str, Model]
    budget: Budget
    _worth: Worth
    switches: Sequence[UnderWay] = ()
    reservations: Mapping[str, Reservation] = attrs.Factory(dict)

    def context(
        self,
        now: float,
        phase: Phase,
        costs: SwitchCosts,
        switch: UnderWay | None = None,
        target: str | None = None,
        passed: Container[str] = (),
        off_limits: frozenset[str] = NOTHING,
        room: Room | None = None,
    ) -> PolicyContext:
        """
        Make what a policy is shown; its cost does not grow with the number of waiters.

        :param switch: the switch that is asked about, if one is.
        :param target: its target.
        :param passed: models that were chosen already and cannot come now.
        :param off_limits: resources that are kept for others.
        :param room: the situation, if it is known already.
        """
        if room is None:
            room = self.room(now, switch, off_limits)
        later = None
        views = {}
        for name, model in self._models.items():
            evicts: tuple[str, ...] | None = ()
            if switch is not None and name == target:
                evicts = tuple(each.name for each in switch.models if each is not model)
            elif name in passed:
                evicts = None
            elif model.state is not State.AWAKE and model.wanted:
                plan = room.plan(model) if switch is None or meets(switch, model) else None
                if switch is not None:
                    plan = plan if could_replace(switch, model, plan, now) else None
                elif plan is None and self.switches and not self.is_moving(model):
                    later = later or self._later(now)
                    plan = later.plan(model)
                evicts = None if plan is None else tuple(each.name for each in plan.leaving)
            views[name] = self._view(model, evicts)
        return PolicyContext(now=now, phase=phase, models=views, target=target, costs=costs.copy())

    def plan(
        self,
        target: Model,
        now: float,
        wanted: tuple[str, ...] | None = None,
        beside: UnderWay | None = None,
        off_limits: frozenset[str] = NOTHING,
    ) -> Plan | None:
        """
        Choose where a model is to be woken, and who has to go before that.

        Never one that stays whoever waits, and nobody who need not go.

        :param wanted: whom a policy names; taken if that makes room, else the cheapest go.
        :param beside: a switch that is under way and may be given up for this.
        :param off_limits: resources that are kept for others.
        :returns: ``None`` if that cannot be done now.
        """
        return self.room(now, beside, off_limits).plan(target, wanted)

    def plan_room(
        self, needs: Amounts, now: float, off_limits: frozenset[str] = NOTHING
    ) -> Plan | None:
        """Choose who has to go before somebody who is no model can have so much."""
        return self.room(now, None, off_limits).make(needs)

    def later_plan(self, target: Model, now: float) -> Plan | None:
        """
        Foresee who will have to go for a model when all that is under way has ended.

        :returns: ``None`` if there will be no room beside what is reserved and what stays.
        """
        return self._later(now).plan(target)

    def later_room(self, needs: Amounts, now: float) -> Plan | None:
        """Foresee who will have to go then before somebody who is no model can have so much."""
        return self._later(now).make(needs)

    def relief(self, now: float) -> Plan | None:
        """
        Choose who has to go because more is held than there is.

        So it can be when llmux starts, and when a new configuration says that there is less.
        """
        return self.room(now, None, NOTHING).relief()

    @property
    def crowded(self) -> bool:
        """Whether more is held than there is."""
        return not fits(self.used(), self.budget.capacity)

    def obtainable(self, target: Model | None = None) -> Amounts:
        """
        Say how much can be had beside what stays; reservations end by themselves.

        :param target: the model that wants it, if one does: it needs no room beside itself.
        """
        held = [
            Standing.of(each).holds if each.stays else _lasting(each)
            for each in self._models.values()
            if each is not target
        ]
        return minus(self.budget.capacity, add(*held))

    def can_ever(self, needs: Amounts, target: Model | None = None) -> bool:
        """Tell whether so much can be had beside what stays."""
        return fits(needs, self.obtainable(target))

    def can_ever_wake(self, model: Model) -> bool:
        """Tell whether a model can be woken beside what stays."""
        asleep = model.config.asleep_needs
        return any(self.can_ever(add(p.needs, asleep), model) for p in model.placements)

    def staying(self) -> list[str]:
        """Name the models that stay whoever waits."""
        return [name for name, model in self._models.items() if model.stays]

    def no_room(self, what: str) -> str:
        """Say in words for people why there can be no room for something."""
        stays = self.what_stays()
        if not stays:
            return f"there is no room for {what}: there is less than it takes"
        return f"there is no room for {what} beside what is {stays}"

    def what_stays(self) -> str:
        """Say in words for people what takes room whoever waits; nothing if nothing does."""
        sleepers = [m.name for m in self._models.values() if not m.stays and taken(_lasting(m))]
        found = {"pinned:": self.staying(), "asleep, and without a stop hook:": sleepers}
        return "; ".join(f"{how} {', '.join(names)}" for how, names in found.items() if names)

    def suffices(self, switch: UnderWay) -> bool:
        """Tell whether there is room still for what a switch makes room for."""
        wanted = taken(switch.claim)  # of other resources there may be too little already
        after = {name: amount for name, amount in switch.after.items() if name in wanted}
        return fits(after, self._beside(switch))

    def needless(self, switch: UnderWay) -> tuple[list[Model], list[Model]]:
        """
        Give the models that need not go for a switch any more, for there is room without it.

        :returns: those that may stay as they are, and those that have to sleep, but need not be
            stopped.
        """
        room = minus(self._beside(switch), switch.after)
        spared: list[Model] = []
        asleep: list[Model] = []
        for model in (*switch.victims, *(m for m in switch.stops if m not in switch.victims)):
            now, later = Standing.of(model), switch.later(model)
            ways: list[tuple[list[Model], Amounts]] = [(spared, minus(now.holds, later.holds))]
            if model in switch.victims and model in switch.stops:
                ways.append((asleep, model.keeps))
            for better_off, kept in ways:
                if fits(kept, room):
                    room = minus(room, kept)
                    better_off.append(model)
                    break
        return spared, asleep

    def situation(self) -> object:
        """Give what is equal for as long as nobody holds anything else than before."""
        held = [id for id, reservation in self.reservations.items() if reservation.held]
        return [model.state for model in self._models.values()], held, self.budget

    def could_move(self, model: Model, off_limits: frozenset[str]) -> bool:
        """Tell whether a model can be woken in any of its places, for all that happens there."""
        busy = off_limits.union(*(switch.touches for switch in self.switches))
        return any(not place.resources & busy for place in model.placements)

    def is_moving(self, model: Model) -> bool:
        """Tell whether a switch that moves a model is under way."""
        return any(model in switch.models for switch in self.switches)

    def is_free(self, model: Model) -> bool:
        """Tell whether a model can be put to sleep now: nothing else happens where it is."""
        return not any(
            model in switch.models or model.place.resources & switch.touches
            for switch in self.switches
        )

    def blocked(self, switch: UnderWay, now: float) -> list[Model]:
        """
        Say who is waited for in vain, for some models have to go first and would not.

        :param switch: by which they had to go; it has come to its end.
        """
        left = {model for model in switch.models if model.state.holds}
        room = self._later(now, switch)
        blocked = []
        for model in self._models.values() if left else ():
            if model.wanted and not model.admitting:
                plan = room.plan(model)
                if plan is None or model in left or left.intersection(plan.victims):
                    blocked.append(model)
        return blocked

    def used(self) -> Amounts:
        """Say how much of each resource is held now."""
        nothing = dict.fromkeys(self.budget.capacity, 0.0)
        held = [Standing.of(model).holds for model in self._models.values()]
        return add(nothing, *held, self._reserved())

    def _reserved(self) -> Amounts:
        return add(*(each.needs for each in self.reservations.values() if each.held))

    def room(
        self, now: float, beside: UnderWay | None = None, off_limits: frozenset[str] = NOTHING
    ) -> Room:
        """
        Give the situation as it is; it is true until anything changes.

        :param beside: a switch that may be given up.
        :param off_limits: resources that are kept for others.
        """
        others = [each for each in self.switches if each is not beside]
        moving = {model for each in others for model in each.models}
        standings = [Standing.of(m) for m in self._models.values() if m not in moving]
        free = minus(
            self.budget.capacity,
            add(*(each.holds for each in standings), *map(claim, others), self._reserved()),
        )
        busy = off_limits.union(*(each.touches for each in others))
        return Room(free, _ranked(standings), self._worth, busy, now)

    def _later(self, now: float, ended: UnderWay | None = None) -> Room:
        under_way = [switch for switch in self.switches if switch is not ended]
        moved = {model: switch for switch in under_way for model in switch.models}
        standings = [
            moved[model].later(model) if model in moved else Standing.of(model)
            for model in self._models.values()
        ]
        # what is being reserved is in no standing
        rest = [
            minus(each.after, add(*(each.later(model).holds for model in each.models)))
            for each in under_way
        ]
        held = add(*(each.holds for each in standings), *rest, self._reserved())
        free = minus(self.budget.capacity, held)
        return Room(free, _ranked(standings), self._worth, NOTHING, now)

    def _beside(self, switch: UnderWay) -> Amounts:
        """Say how much all leave that have nothing to do with a switch."""
        others = [each for each in self.switches if each is not switch]
        moving = {model for each in self.switches for model in each.models}
        resting = [Standing.of(m).holds for m in self._models.values() if m not in moving]
        claimed = add(*resting, *map(claim, others), self._reserved())
        return minus(self.budget.capacity, claimed)

    def _view(self, model: Model, evicts: tuple[str, ...] | None) -> ModelView:
        awake = model.state is State.AWAKE
        return ModelView(
            state=model.state,
            waiting=model.views(),
            leases=model.leases,
            awake_since=model.awake_since,
            not_before=evictable_at(model) if awake else model.wake_backoff.until,
            evicts=evicts,
            batch_leases=model.batch_leases,
            max_wait_secs=model.config.max_wait_secs,
        )


def _lasting(model: Model) -> Amounts:
    """Say what a model goes on taking although it has to go."""
    return model.keeps if model.config.stop is None else {}


def _ranked(standings: list[Standing]) -> list[Standing]:
    """Put those first for whom nobody has asked for longest: they go where all else is equal."""
    return sorted(standings, key=lambda standing: standing.model.asked)
