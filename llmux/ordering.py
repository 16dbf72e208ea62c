"""What operators order: it comes before whatever a policy wants."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from llmux.agenda import Agenda, places_of
from llmux.conductor import Conductor
from llmux.hooks.contract import IHookRunner
from llmux.lease import Revocation
from llmux.lifecycle import Model
from llmux.orders import Kind, OrderFailed
from llmux.states import SERVING, State


@attrs.define(eq=False)
class Ordering:
    """
    Takes orders, and makes way for them.

    :param models: by name.
    :param agenda: what is to be done.
    :param conductor: does it.
    :param hooks: runs the models' scripts.
    :param clock: tells the time.
    """

    _models: Mapping[str, Model]
    _agenda: Agenda
    _conductor: Conductor
    _hooks: IHookRunner
    _clock: IReactorTime

    def give(self, kind: Kind, name: str) -> Deferred[str]:
        """See :meth:`llmux.switcher.Switcher.order`."""
        if self._conductor.stopped:
            return fail(OrderFailed("llmux is shutting down", tried=False))
        model, now = self._models[name], self._clock.seconds()
        if kind is Kind.WAKE and model.state in SERVING and not model.moving:
            leaving = ", and about to go" if model.state is State.DRAINING else " already"
            return succeed(f"{name} was awake{leaving}")
        with self._conductor.paused():  # or the order's own hooks would be stopped, too
            being_killed = model.to_be_killed
            order = self._agenda.give(kind, model, now)
            places = places_of(model) | model.place.resources
            self._conductor.interrupt(
                "an operator's order comes first",
                lambda switch: model in switch.models or bool(switch.touches & places),
            )
            if model.to_be_killed and not being_killed:
                self._hooks.stop(name)
                model.revoke(Revocation.KILLED, now)
            elif kind is Kind.KILL and model.preparing:
                self._hooks.stop(name)
        return order.done

    def refuse_all(self) -> None:
        """Give up the orders that wait for their turn: llmux ends."""
        orders, self._agenda.orders = self._agenda.orders, []
        for order in orders:
            order.fail("llmux is shutting down", tried=False)
