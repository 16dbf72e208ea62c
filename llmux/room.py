"""Making room: who has to go so that something else fits, in a certain situation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby

import attrs

from llmux.amounts import Amounts, add, covers, fits, taken
from llmux.budget import Placement
from llmux.eviction import Way, cheapest
from llmux.lifecycle import Model
from llmux.states import State
from llmux.worth import Worth


@attrs.define(eq=False)
class Standing:
    """
    What a model holds, now or when what is under way has ended.

    :ivar awake: whether it has to go to sleep before it gives anything back.
    :ivar needs: what it takes while it is not asleep; nothing if it is.
    :ivar asleep: what it takes whether it is asleep or not; nothing if it is stopped.
    """

    model: Model
    awake: bool
    needs: Amounts
    asleep: Amounts

    @classmethod
    def of(cls, model: Model) -> Standing:
        """Say what a model holds now."""
        awake = model.state.holds
        return cls(model, awake, model.place.needs if awake else {}, model.keeps)

    @property
    def holds(self) -> Amounts:
        """All of it."""
        if not self.asleep:
            return self.needs
        return add(self.needs, self.asleep)


@attrs.frozen
class Plan:
    """
    How room can be made for something.

    :param placement: where there is room then.
    :param victims: the models that have to go to sleep.
    :param stops: the models that have to be stopped, being asleep by then.
    :param loss: what is lost by that, in seconds; see :class:`~llmux.worth.Worth`.
    """

    placement: Placement
    victims: tuple[Model, ...] = ()
    stops: tuple[Model, ...] = ()
    loss: float = 0.0

    @property
    def leaving(self) -> tuple[Model, ...]:
        """All models that have to give something back."""
        return (*self.victims, *(model for model in self.stops if model not in self.victims))

    @property
    def possible_at(self) -> float:
        """When all of them may, in the clock's seconds."""
        return max((evictable_at(model) for model in self.leaving), default=0.0)


def evictable_at(model: Model) -> float:
    """
    Say when a model may be put to sleep, or be stopped, at the earliest.

    :returns: the end of its cool-down (``min_active_secs``) and of its back-off, in the clock's
        seconds.
    """
    if model.state is not State.AWAKE:
        return model.sleep_backoff.until
    return max(model.awake_since + model.config.min_active_secs, model.sleep_backoff.until)


@attrs.frozen
class _Candidate:
    """
    A model that could go.

    :param ways: how.
    :param gives: the resources of which there is more then.
    :param ready_at: when it may, in the clock's seconds; no earlier than now.
    """

    standing: Standing
    ways: list[Way]
    gives: frozenset[str]
    ready_at: float


@attrs.define(eq=False)
class Room:
    """
    A situation: what is free, and who could go.

    :param free: by resource, what nobody holds or has been promised; less than nothing if more is
        held than there is.
    :param standings: the models that could be moved.
    :param worth: says what is lost when one goes.
    :param busy: the resources that are being given from one model to another, or are kept for
        somebody: nobody comes there or goes from there meanwhile.
    :param now: the clock's seconds.
    """

    _free: Amounts
    _standings: Sequence[Standing]
    _worth: Worth
    _busy: frozenset[str]
    _now: float
    _known: list[_Candidate] | None = None
    _plans: dict[Model, Plan | None] = attrs.Factory(dict)

    def plan(self, target: Model, wanted: tuple[str, ...] | None = None) -> Plan | None:
        """
        Choose where a model is to be woken, and who has to go: those whose loss costs least.

        Who may not go yet is only chosen if it has to be, and then those who may soonest.

        :param wanted: whom a policy names; taken if that makes room.
        :returns: ``None`` if that cannot be done here and now.
        """
        if wanted is None and target in self._plans:
            return self._plans[target]
        plan = self._planned(target, wanted)
        if wanted is None:
            self._plans[target] = plan
        return plan

    def _planned(self, target: Model, wanted: tuple[str, ...] | None) -> Plan | None:
        own = next((each for each in self._standings if each.model is target), None)
        if own is None:
            return None  # it is being moved
        free: Amounts | None = None
        best: Plan | None = None
        for placement in target.placements:
            if placement.resources & self._busy:
                continue
            if free is None:
                free = add(self._free, own.holds)
            needs: Amounts = placement.needs
            if target.config.asleep_needs:
                needs = add(needs, target.config.asleep_needs)
            plan = self._choose(_lacking(needs, free), placement, target, wanted)
            if plan is not None and (best is None or self._rank(plan) < self._rank(best)):
                best = plan
        return best

    def make(self, needs: Amounts) -> Plan | None:
        """Choose who has to go so that so much is free, for somebody who is no model."""
        placement = Placement(needs)
        if placement.resources & self._busy:
            return None
        return self._choose(_lacking(needs, self._free), placement)

    def relief(self) -> Plan | None:
        """
        Choose who has to go because more is held than there is.

        :returns: ``None`` if there is enough, or nobody is left who could go.
        """
        lacking = {name: -amount for name, amount in self._free.items() if not covers(amount, 0.0)}
        return self._choose(lacking, Placement({})) if lacking else None

    def _choose(
        self,
        lacking: Amounts,
        placement: Placement,
        target: Model | None = None,
        wanted: tuple[str, ...] | None = None,
    ) -> Plan | None:
        if not lacking:
            return Plan(placement)
        all_of_them = [
            each
            for each in self._candidates()
            if each.standing.model is not target and not lacking.keys().isdisjoint(each.gives)
        ]
        by_name = {each.standing.model.name: each for each in all_of_them}
        named = [by_name[name] for name in wanted or () if name in by_name]
        for candidates in chain([named] if named else (), _in_time(all_of_them, lacking)):
            chosen = cheapest(lacking, [each.ways for each in candidates])
            if chosen is not None:
                return _plan(placement, [(by_name[way.model], way) for way in chosen])
        return None

    def _candidates(self) -> list[_Candidate]:
        """Give all that could go, and how; the same for whoever wants room here."""
        if self._known is None:
            found = ((standing, self._ways(standing)) for standing in self._standings)
            self._known = [
                _Candidate(
                    standing,
                    ways,
                    frozenset().union(*(way.frees for way in ways)),
                    max(self._now, evictable_at(standing.model)),
                )
                for standing, ways in found
                if ways
            ]
        return self._known

    def _ways(self, standing: Standing) -> list[Way]:
        """Give the ways in which a model can give back what it holds, the lesser first."""
        model, now = standing.model, self._now
        stoppable = bool(standing.asleep) and model.config.stop is not None
        if model.stays or not (standing.awake or stoppable):
            return []
        if not standing.awake:
            return [Way(model.name, standing.asleep, self._worth.of_asleep(model, now))]
        if self._busy and taken(standing.needs) & self._busy:
            return []
        loss = self._worth.of_awake(model, now)
        ways = [Way(model.name, standing.needs, loss)]
        if stoppable:
            loss += self._worth.of_asleep(model, now)
            ways.append(Way(model.name, standing.holds, loss))
        return ways

    def _rank(self, plan: Plan) -> tuple[float, float, int]:
        return max(self._now, plan.possible_at), plan.loss, len(plan.leaving)


def _in_time(candidates: Sequence[_Candidate], lacking: Amounts) -> Iterator[list[_Candidate]]:
    """Give those who may go by a certain time: the first at which they are enough, or a later."""
    given: Amounts = {}
    for ready_at, group in groupby(sorted(candidates, key=_ready_at), key=_ready_at):
        given = add(given, *(each.ways[-1].frees for each in group))
        if fits(lacking, given):
            yield [each for each in candidates if each.ready_at <= ready_at]


def _ready_at(candidate: _Candidate) -> float:
    return candidate.ready_at


def _plan(placement: Placement, chosen: list[tuple[_Candidate, Way]]) -> Plan:
    """Say what a choice means for each of those that are chosen."""
    return Plan(
        placement,
        victims=tuple(each.standing.model for each, _ in chosen if each.standing.awake),
        stops=tuple(
            each.standing.model
            for each, way in chosen
            if not each.standing.awake or way is not each.ways[0]
        ),
        loss=sum(way.loss for _, way in chosen),
    )


def _lacking(needs: Amounts, free: Amounts) -> dict[str, float]:
    """Say how much is missing of what is needed."""
    return {
        resource: amount - free.get(resource, 0.0)
        for resource, amount in needs.items()
        if amount > 0 and not covers(free.get(resource, 0.0), amount)
    }
