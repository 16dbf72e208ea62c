"""
What has to be done whatever the policy says: it comes before who waits for what.

In this order: models that are down are cleaned up after; what an operator has ordered; models that
the configuration has no longer, or has at another address, go; so do those that do not fit, where
more were found alive; and a model that had to leave for one that could not be woken comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llmux.hooks.contract import Reason
from llmux.lifecycle import Model
from llmux.orders import Kind, Order
from llmux.outlook import Outlook, evictable_at
from llmux.states import State
from llmux.switching import Switch


@attrs.define(eq=False)
class Agenda:
    """
    Finds the next switch that is not a policy's.

    :param models: every model by name.
    :param outlook: who would have to go for whom.
    :ivar orders: what was ordered and not begun yet, in order.
    :ivar bring_back: models that had to leave for one that could not be woken.
    """

    _models: Mapping[str, Model]
    _outlook: Outlook
    orders: list[Order] = attrs.Factory(list)
    bring_back: list[Model] = attrs.Factory(list)

    def give(self, kind: Kind, model: Model, now: float) -> Order:
        """
        Take an order.

        :param now: the clock's seconds.
        """
        order = Order(kind, model, now)
        self.orders.append(order)
        if kind is Kind.KILL and model.state is not State.ASLEEP:
            model.to_be_killed = True
        return order

    def next(self, now: float) -> tuple[Switch | None, float | None]:
        """
        Give the switch that is next, with its order if it carries out one.

        :param now: the clock's seconds.
        :returns: the switch, if there is one; else when one will be due, if that is known.
        """
        holding = [model for model in self._models.values() if model.state.holds]
        for model in holding:
            if model.health.down and model.state is State.AWAKE:
                return Switch(None, (model,), now, Reason.BACKEND_DOWN, forced=True), None
        while self.orders:
            switch = self._carry_out(self.orders.pop(0), now)
            if switch is not None:
                self.bring_back.clear()  # whom it wakes has the room now
                return switch, None
        late: list[float] = []
        for model in holding:
            if model.moving:
                if now >= model.sleep_backoff.until:
                    return Switch(None, (model,), now, Reason.CONFIG, forced=True), None
                late.append(model.sleep_backoff.until)
        surplus = self._outlook.surplus(holding)
        ready = tuple(model for model in surplus if now >= model.sleep_backoff.until)
        if ready:
            return Switch(None, ready, now, Reason.START, forced=True), None
        late += [model.sleep_backoff.until for model in surplus]
        return self._bring_back(now), min(late, default=None)

    def _carry_out(self, order: Order, now: float) -> Switch | None:
        """Begin an order, or answer it at once if there is nothing to be done."""
        model = order.model
        if order.kind is Kind.WAKE:
            if model.moving:
                order.fail(f"{model.name} has to go: the configuration has changed", tried=False)
                return None
            if model.state is State.AWAKE:  # by now
                order.fulfil(f"{model.name} is awake")
                return None
            model.wake_backoff.reset()
            victims = self._outlook.victims(model, None)
            return Switch(model, victims, now, Reason.OPERATOR, forced=True, order=order)
        if model.state is State.ASLEEP:
            order.fulfil(f"{model.name} was asleep already")
            return None
        model.to_be_killed = order.kind is Kind.KILL
        return Switch(None, (model,), now, Reason.OPERATOR, forced=True, order=order)

    def _bring_back(self, now: float) -> Switch | None:
        leavers, self.bring_back = self.bring_back, []
        for model in leavers:
            wanted = model.waiting and model.state in (State.ASLEEP, State.UNKNOWN)
            if wanted and not model.moving:
                victims = self._outlook.victims(model, None)
                if now >= max([model.wake_backoff.until, *map(evictable_at, victims)]):
                    return Switch(model, victims, now, forced=True)
        return None
