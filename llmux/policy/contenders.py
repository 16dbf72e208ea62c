"""Whom a policy can choose from: models that are not awake, and who counts for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from llmux.policy.contract import ModelView, PolicyContext, WaitingView
from llmux.policy.prices import Prices
from llmux.states import SERVING
from llmux.urgency import BATCH

TOURS = 3.0
"""After how many tours whoever still waits is served before all others."""


@attrs.frozen
class Contender:
    """
    A model that is not awake, that somebody waits for, and that could be woken.

    :param name: the model's.
    :param model: what is known of it.
    :param views: the requests that count, by class.
    :param victims: by name, the models that serve and would have to go for it.
    :param now: the context's time, in seconds.
    """

    name: str
    model: ModelView
    views: Mapping[str, WaitingView]
    victims: Mapping[str, ModelView]
    now: float

    @property
    def place(self) -> tuple[int, int]:
        """The number of the first request that counts, and how much rather it wants another."""
        return min((view.first, view.rank) for view in self.views.values())

    @property
    def wait(self) -> float:
        """For how long the first of them has waited, in seconds."""
        return max(0.0, self.now - min(view.oldest for view in self.views.values()))

    @property
    def count(self) -> int:
        """How many they are."""
        return sum(view.count for view in self.views.values())

    @property
    def leases(self) -> int:
        """How many requests are in flight at those that would have to go."""
        return sum(victim.leases for victim in self.victims.values())

    def weight(self, lead: float) -> float:
        """
        Give the sum of their squared waits, in square seconds.

        :param lead: in how many seconds from now they are served.
        """
        return sum(_squared_waits(view, self.now + lead) for view in self.views.values())


def contenders(context: PolicyContext) -> list[Contender]:
    """
    Give all that could be named now, whoever came first in front.

    Batch requests count only where nobody would have to go for them; or where nobody interactive
    waits or is served; or when they have waited for :data:`TOURS` tours.  That is looked at again
    until the first hook of a switch.
    """
    found = sorted(_all(context), key=lambda each: each.place)
    if not any(BATCH in each.views for each in found):
        return found
    hurry = any(map(_is_in_a_hurry, context.models.values()))
    counting = []
    for each in found:
        interactive = {kind: view for kind, view in each.views.items() if kind != BATCH}
        if not (each.victims and hurry) or each.wait >= TOURS * tour(each, found, context):
            counting.append(each)
        elif interactive:
            counting.append(attrs.evolve(each, views=interactive))
    return sorted(counting, key=lambda each: each.place)


def tour(contender: Contender, others: Iterable[Contender], context: PolicyContext) -> float:
    """
    Say how long it takes to serve everybody who is waited for once, and to be back.

    :param others: all contenders.
    :returns: seconds: the drain for this one, each switch with an answer after it, and the way back
        to those that have to go for this one.
    """
    prices = Prices(context.costs)
    seconds = drain_secs(contender, prices)
    for each in others:
        seconds += prices.switch(each.victims, each.name) + prices.answer(each.name)
    return seconds + sum(prices.switch((contender.name,), name) for name in contender.victims)


def drain_secs(contender: Contender, prices: Prices) -> float:
    """Say how long it takes until nothing runs any more on those that would have to go."""
    drains = (prices.drain(name, victim.leases) for name, victim in contender.victims.items())
    return max(drains, default=0.0)


def _all(context: PolicyContext) -> list[Contender]:
    """Give those that could be woken now; if there are none, those that may be woken later."""
    at_once: list[Contender] = []
    later: list[Contender] = []
    for name, model in context.models.items():
        views = {kind: view for kind, view in model.waiting.items() if view.count}
        if model.state in SERVING or model.evicts is None or not views:
            continue
        victims = {
            each: context.models[each]
            for each in model.evicts
            if context.models[each].state in SERVING
        }
        contender = Contender(name, model, views, victims, context.now)
        can_come = model.not_before <= context.now or name == context.target
        (at_once if can_come else later).append(contender)
    return at_once or later


def _squared_waits(view: WaitingView, at: float) -> float:
    """Give the sum of the squared waits of some requests at some time, in square seconds."""
    return max(0.0, view.count * at * at - 2 * at * view.arrivals + view.squares)


def _is_in_a_hurry(model: ModelView) -> bool:
    """Tell whether anybody interactive waits for a model, or is served by it."""
    if model.leases > model.batch_leases:
        return True
    return any(view.count for kind, view in model.waiting.items() if kind != BATCH)
