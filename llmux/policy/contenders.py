"""Whom a policy can choose from: models that are not awake, and who counts for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from llmux.policy.contract import ModelView, PolicyContext, WaitingView
from llmux.policy.prices import Prices
from llmux.states import SERVING
from llmux.urgency import BATCH, BATCH_SECS

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
    :param longest_tour: how long a tour is taken to be at most, in seconds; see :func:`tour`.
    """

    name: str
    model: ModelView
    views: Mapping[str, WaitingView]
    victims: Mapping[str, ModelView]
    now: float
    longest_tour: float = math.inf

    @property
    def place(self) -> tuple[int, int]:
        """The number of the first request that counts, and how much rather it wants another."""
        return min((view.first, view.rank) for view in self.views.values())

    @property
    def since(self) -> float:
        """Since when the first of them waits, in seconds of the context's time."""
        return min(view.oldest for view in self.views.values())

    @property
    def wait(self) -> float:
        """For how long the first of them has waited, in seconds."""
        return max(0.0, self.now - self.since)

    @property
    def count(self) -> int:
        """How many they are."""
        return sum(view.count for view in self.views.values())

    @property
    def is_batch(self) -> bool:
        """Whether nobody interactive is among them."""
        return all(kind == BATCH for kind in self.views)

    @property
    def serves_batch(self) -> bool:
        """Whether nothing but batch requests is in flight at those that would have to go."""
        return all(victim.leases == victim.batch_leases for victim in self.victims.values())

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
    """Give all that could be named now, whoever came first in front; see :func:`counting`."""
    at_once: list[Contender] = []
    later: list[Contender] = []
    hurry = is_in_a_hurry(context)
    for name, model in context.models.items():
        if model.state in SERVING or model.evicts is None:
            continue
        victims = {
            each: context.models[each]
            for each in model.evicts
            if context.models[each].state in SERVING
        }
        views = counting(model, context.now, hurry and bool(victims))
        if not views:
            continue
        can_come = model.not_before <= context.now or name == context.target
        (at_once if can_come else later).append(Contender(name, model, views, victims, context.now))
    return sorted(at_once or later, key=lambda each: each.place)


def is_in_a_hurry(context: PolicyContext) -> bool:
    """Tell whether anybody interactive waits for a model, or is served by one."""
    return any(
        model.leases > model.batch_leases
        or any(view.count for kind, view in model.waiting.items() if kind != BATCH)
        for model in context.models.values()
    )


def counting(model: ModelView, now: float, hurry: bool) -> Mapping[str, WaitingView]:
    """
    Give the requests that count for a model, by class.

    Batch requests do not, where somebody would have to go for them while anybody is in a hurry;
    until one of them has waited for :data:`~llmux.urgency.BATCH_SECS`.

    :param now: the context's time, in seconds.
    :param hurry: whether that is so.
    """
    return {
        kind: view
        for kind, view in model.waiting.items()
        if view.count and not (kind == BATCH and hurry and now < view.oldest + BATCH_SECS)
    }


def tour(contender: Contender, others: Iterable[Contender], context: PolicyContext) -> float:
    """
    Say how long it takes to serve everybody who is waited for once, and to be back.

    :param others: all contenders.
    :returns: seconds: the drain for this one, each switch with an answer after it, and the way back
        to those that have to go for this one; but no more than its ``longest_tour``.
    """
    prices = Prices(context.costs)
    seconds = drain_secs(contender, prices)
    for each in others:
        seconds += prices.switch(each.victims, each.name) + prices.answer(each.name)
    seconds += sum(prices.switch((contender.name,), name) for name in contender.victims)
    return min(seconds, contender.longest_tour)


def overdue(waiting: Iterable[Contender], context: PolicyContext) -> Contender | None:
    """Give the contender of whoever has waited longest, if that was too long."""
    waiting = list(waiting)
    if not waiting:
        return None
    first = _first(waiting)
    return first if context.now >= _overdue_at(first, waiting, context) else None


def next_due(waiting: Iterable[Contender], context: PolicyContext) -> float | None:
    """
    Say when a policy has to be asked again, though nothing happens until then: when somebody is
    overdue, or a batch request has let others pass for long enough.

    :returns: seconds of the context's time.
    """
    waiting = list(waiting)
    times = [
        view.oldest + BATCH_SECS
        for model in context.models.values()
        if model.state not in SERVING
        for kind, view in model.waiting.items()
        if kind == BATCH and view.count
    ]
    if waiting:
        times.append(_overdue_at(_first(waiting), waiting, context))
    return min((time for time in times if time > context.now), default=None)


def drain_secs(contender: Contender, prices: Prices) -> float:
    """Say how long it takes until nothing runs any more on those that would have to go."""
    drains = (prices.drain(name, victim.leases) for name, victim in contender.victims.items())
    return max(drains, default=0.0)


def _first(waiting: Iterable[Contender]) -> Contender:
    return min(waiting, key=lambda each: each.since)


def _overdue_at(
    contender: Contender, waiting: Iterable[Contender], context: PolicyContext
) -> float:
    """Say when whoever waits longest for a contender will have waited for too long."""
    return contender.since + TOURS * tour(contender, waiting, context)


def _squared_waits(view: WaitingView, at: float) -> float:
    """Give the sum of the squared waits of some requests at some time, in square seconds."""
    return max(0.0, view.count * at * at - 2 * at * view.arrivals + view.squares)
