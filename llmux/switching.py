"""One switch: who comes, who goes, how far it is, and its hooks past the point of no return."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.amounts import Amounts, add
from llmux.budget import Placement
from llmux.events import Events
from llmux.health import HealthCheck
from llmux.hookruns import HookRuns, Occasion
from llmux.hooks.contract import IDLE, Reason
from llmux.lease import Revocation
from llmux.lifecycle import Model, Prepared
from llmux.orders import Order
from llmux.reservation import Reservation
from llmux.room import Plan, Standing
from llmux.sleeping import Sleeping
from llmux.states import State
from llmux.waking import Waking

LETTING_GO = 5.0
"""Seconds that whoever holds a lease has to give it back after it was wanted back."""

_NEVER = float("inf")


@attrs.define(eq=False)
class Switch:
    """
    A switch from its decision to its end.

    :ivar target: the model that is to be awake; ``None`` if some only have to go.
    :ivar victims: those that have to go to sleep; empty for a cold start.
    :ivar started: when its drain began, in the clock's seconds.
    :ivar reason: why it happens.
    :ivar forced: whether the policy has said its last word, or is not asked.
    :ivar order: the operator's order that it carries out, if it does.
    :ivar placement: where the target is to be.
    :ivar stops: those that have to be stopped, being asleep already or by then.
    :ivar reservation: whom it makes room for, if that is no model.
    :ivar committed: whether the point of no return is passed.
    :ivar failed: whether its target could not be woken, and is cleaned up after.
    :ivar done: whether it has come to its end as it was meant to.
    :ivar situation: what was so when it was last looked at whether there is room for it.
    """

    target: Model | None
    victims: tuple[Model, ...]
    started: float
    reason: Reason = Reason.REQUEST
    forced: bool = False
    order: Order | None = None
    placement: Placement | None = None
    stops: tuple[Model, ...] = ()
    reservation: Reservation | None = None
    committed: bool = False
    failed: bool = False
    done: bool = False
    situation: object = None

    @classmethod
    def to(
        cls,
        target: Model | None,
        plan: Plan,
        now: float,
        reason: Reason = Reason.REQUEST,
        *,
        forced: bool = False,
        order: Order | None = None,
        reservation: Reservation | None = None,
    ) -> Switch:
        """Make the switch that a plan says."""
        placement = plan.placement if target is not None else None
        return cls(
            target, plan.victims, now, reason, forced, order, placement, plan.stops, reservation
        )

    @property
    def leaving(self) -> tuple[Model, ...]:
        """All models that give something back."""
        return (*self.victims, *(model for model in self.stops if model not in self.victims))

    @property
    def models(self) -> tuple[Model, ...]:
        """All models that it moves."""
        return self.leaving if self.target is None else (*self.leaving, self.target)

    @property
    def touches(self) -> frozenset[str]:
        """The resources that are given from one to another by it."""
        places = [victim.place for victim in self.victims]
        if self.placement is not None:
            places.append(self.placement)
        if self.reservation is not None:
            places.append(Placement(self.reservation.needs))
        return frozenset().union(*(place.resources for place in places))

    @property
    def after(self) -> Amounts:
        """What its models take together when it has ended, with what it makes room for."""
        reserved = {} if self.reservation is None else self.reservation.needs
        return add(reserved, *(self.later(model).holds for model in self.models))

    @property
    def claims(self) -> bool:
        """Whether it makes room for something; else some only have to go."""
        return self.target is not None or self.reservation is not None

    @property
    def claim(self) -> Amounts:
        """What it makes room for."""
        if self.reservation is not None:
            return self.reservation.needs
        return {} if self.target is None else self.later(self.target).holds

    def later(self, model: Model) -> Standing:
        """Say what one of its models holds when it has ended."""
        asleep = model.config.asleep_needs
        if model is self.target:
            place = self.placement or model.place
            return Standing(model, True, place.needs, asleep)
        return Standing(model, False, {}, {} if model in self.stops else asleep)

    @property
    def source(self) -> str:
        """What stands for the victims in metrics and logs."""
        if len(self.victims) > 1:
            return "several"
        return self.victims[0].name if self.victims else IDLE

    @property
    def goal(self) -> str:
        """What stands for the target in metrics and logs."""
        return IDLE if self.target is None else self.target.name

    @property
    def occasion(self) -> Occasion:
        """What its hooks run for."""
        return Occasion(self.source, self.goal, self.reason)

    @property
    def wanted(self) -> bool:
        """Whether there is still a demand for it."""
        if self.target is not None and self.target.removed:
            return False
        if self.reason is Reason.CONFIG:
            return any(victim.moving for victim in self.leaving)
        if self.reason is Reason.REQUEST:
            return self.target is not None and self.target.wanted
        if self.reason is Reason.IDLE:
            return not any(
                victim.wanted or victim.held or victim.idle_since >= self.started
                for victim in self.victims
            )
        if self.reservation is not None:
            return not self.reservation.over
        return True

    @property
    def misplaced(self) -> bool:
        """Whether its target takes something else by now than what room is made for."""
        return self.target is not None and self.placement not in self.target.placements

    def drained(self, now: float) -> bool:
        """Tell whether nothing runs any more that is waited for."""
        return all(
            victim.quiet(now)
            or (not victim.grants and now >= max(_given_up_at(victim), victim.settles_at))
            for victim in self.victims
        )

    def cut(self, now: float) -> None:
        """Want the leases back of those that have held it up for too long."""
        for victim in self.victims:
            if victim.state is State.DRAINING and now >= _due_at(victim) and victim.in_use:
                victim.revoke(Revocation.DRAIN_TIMEOUT, now)

    def due_at(self, now: float) -> float | None:
        """Say when it has to be looked at again at the latest, though nothing happens."""
        times = [
            time
            for victim in self.victims
            for time in (_due_at(victim), _given_up_at(victim), victim.settles_at)
        ]
        return min((time for time in times if now < time < _NEVER), default=None)

    @property
    def phase(self) -> str:
        """Say how far it is, in a word."""
        if not self.committed:
            held = any(victim.in_use for victim in self.victims)
            return "draining" if held else "settling"
        if self.failed:
            return "cleaning_up"
        if any(victim.state is State.SLEEPING for victim in self.victims):
            return "sleeping"
        if any(model.state is State.ASLEEP for model in self.stops):
            return "stopping"
        return "waking"


def _due_at(victim: Model) -> float:
    """Say when the leases of a victim have held up a switch for as long as they may."""
    timeout = victim.config.drain_timeout_secs
    return _NEVER if timeout is None else victim.since + timeout


def _given_up_at(victim: Model) -> float:
    """Say when leases are not waited for any more that were wanted back and that nobody gives."""
    if victim.revoked_at is None:
        return _NEVER
    return victim.revoked_at + LETTING_GO


@attrs.frozen
class Course:
    """
    Carries out a switch past its point of no return.

    :param hooks: runs the scripts.
    :param sleeping: puts to sleep.
    :param waking: wakes.
    :param health: leaves models alone that are put to sleep.
    :param events: logs.
    :param before_sleep: called with a model's name right before it is put to sleep.
    :param woke: called with a model that was woken, how far it was prepared, and how long its wake
        took, in seconds.
    :param serving_on: called when one would not go to sleep.
    """

    _hooks: HookRuns
    _sleeping: Sleeping
    _waking: Waking
    _health: HealthCheck
    _events: Events
    _before_sleep: Callable[[str], None]
    _woke: Callable[[Model, Prepared, float], None]
    _serving_on: Callable[[], None]
    _log = make_logger()

    async def put_to_sleep(self, switch: Switch) -> str | None:
        """
        Put all victims of a switch to sleep, side by side, and stop those that have to be.

        :returns: ``None``, or why there may be no room for the target, in words for the log.
        """
        leaving = [
            Deferred.fromCoroutine(self._take_from(model, switch)) for model in switch.leaving
        ]
        results = await DeferredList(leaving, consumeErrors=True)  # all of them, also if one fails
        errors = []
        for _, result in results:
            if isinstance(result, Failure):
                result.raiseException()
            elif result is not None:
                errors.append(result)
        return "; ".join(errors) or None

    async def _take_from(self, model: Model, switch: Switch) -> str | None:
        """Take from one model what it has to give back."""
        error = None
        if model in switch.victims:
            error = await self.sleep(model, switch.occasion)
        stops = model in switch.stops and model.state is State.ASLEEP
        if error is None and stops and switch.wanted:
            error = await self._sleeping.stop(model, switch.occasion)
        return error

    async def sleep(self, model: Model, occasion: Occasion) -> str | None:
        """Put one model to sleep; see :meth:`Sleeping.put_to_sleep`."""
        began = self._hooks.clock.seconds()
        try:
            self._before_sleep(model.name)
        except Exception:  # what else has to be told must not stop a switch
            self._log.failure("what is done before a model sleeps failed")
        error = await self._sleeping.put_to_sleep(model, occasion)
        if error is None:
            seconds = self._hooks.clock.seconds() - began
            self._events.model_slept(model.name, occasion.reason.value, seconds)
        else:
            self._health.watch(model)
            self._serving_on()  # it may be awake as before
        return error

    async def wake(self, switch: Switch) -> str | None:
        """
        Wake the target of a switch, if it has one.

        :returns: ``None``, or why it is not awake, in words for the log.
        """
        if switch.target is None:
            return None
        target, prepared = switch.target, switch.target.prepared
        target.placement = switch.placement
        began = self._hooks.clock.seconds()
        error = await self._waking.wake(target, switch.occasion, switch.started)
        if error is None:
            self._woke(target, prepared, self._hooks.clock.seconds() - began)
        self._health.watch(target)
        return error

    async def clean_up(self, model: Model, occasion: Occasion) -> None:
        """Put to sleep what a wake that failed may have left behind."""
        await self.sleep(model, occasion.because(Reason.WAKE_FAILED))
