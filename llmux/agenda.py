"""
What has to be done whatever the policy says: it comes before who waits for what.

In this order: models that are down are cleaned up after; what an operator has ordered; models that
the configuration has no longer, or has at another address, go; so do those that do not fit, where
more were found alive; who has reserved room gets it; and a model that had to leave for one that
could not be woken comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from llmux.amounts import taken
from llmux.hooks.contract import Reason
from llmux.lifecycle import Model
from llmux.orders import Kind, Order
from llmux.outlook import Outlook
from llmux.reservation import Reservation
from llmux.states import State
from llmux.switching import Switch


@attrs.define
class Proposal:
    """
    What is to be done next.

    :ivar switch: to be begun now.
    :ivar due_at: when something will be due, if nothing is now, in the clock's seconds.
    :ivar off_limits: resources that somebody waits for who comes before all others, until those
        that are in the way have come to their end.
    :ivar expected: the model that is expected next, if nothing is to be begun now.
    """

    switch: Switch | None = None
    due_at: float | None = None
    off_limits: frozenset[str] = frozenset()
    expected: str | None = None

    def later(self, at: float) -> None:
        """Note that something will be due."""
        self.due_at = at if self.due_at is None else min(at, self.due_at)

    def keep(self, resources: frozenset[str]) -> None:
        """Keep resources for whoever waits for them."""
        self.off_limits |= resources


@attrs.define(eq=False)
class Agenda:
    """
    Finds the next switch that is not a policy's.

    :param models: every model by name.
    :param outlook: who would have to go for whom.
    :ivar orders: what was ordered and not begun yet, in order.
    :ivar reservations: by id, those that hold room or wait for it.
    :ivar bring_back: models that had to leave for one that could not be woken.
    :ivar crowded: whether more may be held than there is.
    """

    _models: Mapping[str, Model]
    _outlook: Outlook
    orders: list[Order] = attrs.Factory(list)
    reservations: dict[str, Reservation] = attrs.Factory(dict)
    bring_back: list[Model] = attrs.Factory(list)
    crowded: bool = False

    def give(self, kind: Kind, model: Model, now: float) -> Order:
        """
        Take an order.

        :param now: the clock's seconds.
        """
        order = Order(kind, model, now)
        self.orders.append(order)
        if kind is Kind.KILL and model.state.holds:
            model.to_be_killed = True
        return order

    def next(self, now: float) -> Proposal:
        """
        Say what is next.

        :param now: the clock's seconds.
        """
        proposal = Proposal()
        if self._has_nothing():
            return proposal
        for step in (
            self._clean_up, self._obey, self._let_go, self._relieve, self._reserve,
            self._bring_back,
        ):  # fmt: skip
            for switch in step(now, proposal):
                proposal.switch = switch
                return proposal
        return proposal

    def _has_nothing(self) -> bool:
        """Tell, as cheaply as can be, whether there is nothing to be done, as is so mostly."""
        if self.orders or self.reservations or self.bring_back or self.crowded:
            return False
        for model in self._models.values():  # no generator, for it is done behind each answer
            if model.health.down or model.removed or model.successor is not None:
                return False
        return True

    def _clean_up(self, now: float, proposal: Proposal) -> Iterator[Switch]:
        for model in self._models.values():
            if model.health.down and model.state is State.AWAKE:
                if self._outlook.is_free(model):
                    yield Switch(None, (model,), now, Reason.BACKEND_DOWN, forced=True)
                proposal.keep(model.place.resources)

    def _obey(self, now: float, proposal: Proposal) -> Iterator[Switch]:
        for order in tuple(self.orders):
            if order.kind is Kind.WAKE:
                switch = self._ordered_wake(order, now, proposal)
            else:
                switch = self._ordered_sleep(order, now, proposal)
            if switch is not None:
                self.orders.remove(order)
                self.bring_back.clear()  # whom it wakes has the room now
                yield switch

    def _ordered_wake(self, order: Order, now: float, proposal: Proposal) -> Switch | None:
        """Begin an order, or answer it at once if there is nothing to be done."""
        model, outlook = order.model, self._outlook
        if model.moving:
            self._fail(order, f"{model.name} has to go: the configuration has changed")
        elif model.state is State.AWAKE and not outlook.is_moving(model):  # by now
            self.orders.remove(order)
            order.fulfil(f"{model.name} is awake")
        elif not outlook.can_ever_wake(model):
            self._fail(order, outlook.no_room(model.name))
        elif (plan := outlook.plan(model, now, off_limits=proposal.off_limits)) is not None:
            model.wake_backoff.reset()
            return Switch.to(model, plan, now, Reason.OPERATOR, forced=True, order=order)
        elif outlook.later_plan(model, now) is None:
            self._fail(order, f"there is no room for {model.name} beside what is reserved")
        else:
            proposal.keep(places_of(model))
        return None

    def _ordered_sleep(self, order: Order, now: float, proposal: Proposal) -> Switch | None:
        model = order.model
        killed = order.kind is Kind.KILL
        if killed and model.state is State.ASLEEP and not model.gone:
            if self._outlook.is_free(model):
                return Switch(
                    None, (), now, Reason.OPERATOR, forced=True, order=order, stops=(model,)
                )
        elif not model.state.holds and not self._outlook.is_moving(model):
            self.orders.remove(order)
            order.fulfil(f"{model.name} was asleep already")
        elif self._outlook.is_free(model):
            model.to_be_killed = killed
            return Switch(None, (model,), now, Reason.OPERATOR, forced=True, order=order)
        else:
            proposal.keep(model.place.resources)
        return None

    def _let_go(self, now: float, proposal: Proposal) -> Iterator[Switch]:
        for model in self._models.values():
            if not model.moving or model.gone:
                continue
            if now < model.sleep_backoff.until:
                proposal.later(model.sleep_backoff.until)
            elif not self._outlook.is_free(model):
                proposal.keep(model.place.resources)
            elif model.state.holds:
                yield Switch(None, (model,), now, Reason.CONFIG, forced=True)
            else:
                yield Switch(None, (), now, Reason.CONFIG, forced=True, stops=(model,))

    def _relieve(self, now: float, proposal: Proposal) -> Iterator[Switch]:
        if not self.crowded or self._outlook.switches:
            return
        plan = self._outlook.relief(now)
        if plan is None:
            self.crowded = self._outlook.crowded  # those that stay now may have to go later
            return
        ready = [model for model in plan.leaving if now >= model.sleep_backoff.until]
        if ready:
            victims = tuple(model for model in plan.victims if model in ready)
            stops = tuple(model for model in plan.stops if model in ready)
            yield Switch(None, victims, now, Reason.START, forced=True, stops=stops)
        for model in plan.leaving:
            proposal.later(model.sleep_backoff.until)

    def _reserve(self, now: float, proposal: Proposal) -> Iterator[Switch]:
        under_way = [switch.reservation for switch in self._outlook.switches]
        for reservation in tuple(self.reservations.values()):
            if reservation.held or reservation in under_way:
                continue
            needs = reservation.needs
            plan = self._outlook.plan_room(needs, now, proposal.off_limits)
            if plan is not None:
                yield Switch.to(
                    None, plan, now, Reason.RESERVATION, forced=True, reservation=reservation
                )
            elif not self._outlook.can_ever(needs):
                del self.reservations[reservation.id]
                reservation.end(self._outlook.no_room("it"))
            elif self._outlook.later_room(needs, now) is not None:
                proposal.keep(taken(needs))

    def _bring_back(self, now: float, proposal: Proposal) -> Iterator[Switch]:
        leavers, self.bring_back = self.bring_back, []
        for number, model in enumerate(leavers):
            wanted = model.wanted and (not model.state.holds or model.state is State.UNKNOWN)
            if not wanted or model.moving:
                continue
            plan = self._outlook.plan(model, now, off_limits=proposal.off_limits)
            if plan is None and self._outlook.later_plan(model, now) is not None:
                self.bring_back.append(model)  # when what is under way has ended
                proposal.keep(places_of(model))
            elif plan is not None and any(each.wanted for each in plan.leaving):
                continue  # somebody else came first; whose turn it is, the policy says
            elif plan is not None and now >= max(model.wake_backoff.until, plan.possible_at):
                self.bring_back += leavers[number + 1 :]
                yield Switch.to(model, plan, now, forced=True)

    def _fail(self, order: Order, why: str) -> None:
        self.orders.remove(order)
        order.fail(why, tried=False)


def places_of(model: Model) -> frozenset[str]:
    """Give the resources of all places where a model could be woken."""
    return frozenset().union(*(place.resources for place in model.placements))
