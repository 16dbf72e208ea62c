"""
Whose turn it is, whatever else a policy thinks: who was promised so, and who has waited so long.

The promise is that nobody waits for a model for longer than ``max_wait_secs`` says.
"""

from __future__ import annotations

from collections.abc import Iterable

from llmux.policy.contenders import Contender, drain_secs, next_due, overdue, tour
from llmux.policy.contract import PolicyContext
from llmux.policy.prices import Prices
from llmux.urgency import BATCH


def leave_by(
    contender: Contender, others: Iterable[Contender], context: PolicyContext
) -> float | None:
    """
    Say when those have to go who are in the way, so that what was promised can be kept.

    That is as early as their drain and the hooks need, but never before the first has waited for
    one tour: promises that cannot be kept would have the models changed all the time.

    :param others: all contenders.
    :returns: seconds of the context's time; ``None``: nothing was promised to anybody who counts.
        Batch requests are promised nothing; their bound is
        :data:`~llmux.urgency.BATCH_SECS`.
    """
    promise = contender.model.max_wait_secs
    promised = [view.oldest for kind, view in contender.views.items() if kind != BATCH]
    if promise is None or not promised:
        return None
    prices = Prices(context.costs)
    takes = drain_secs(contender, prices) + prices.switch(contender.victims, contender.name)
    return min(promised) + max(promise - takes, tour(contender, others, context))


def whose_turn(waiting: list[Contender], context: PolicyContext) -> Contender | None:
    """
    Give who has waited for too many tours, or else whom a promise says that it is their turn.

    In that order: those to whom something was promised could else take turns for ever, where that
    cannot be kept.

    :param waiting: all contenders.
    """
    late = overdue(waiting, context)
    if late is not None:
        return late
    promised = [(at, each) for at, each in _promised(waiting, context) if at <= context.now]
    return min(promised, key=lambda pair: pair[0])[1] if promised else None


def next_turn(waiting: list[Contender], context: PolicyContext) -> float | None:
    """
    Say when that may be somebody's turn, though nothing happens until then.

    :param waiting: all contenders.
    :returns: seconds of the context's time.
    """
    times = [at for at, _ in _promised(waiting, context) if at > context.now]
    due = next_due(waiting, context)
    return min(times if due is None else [*times, due], default=None)


def _promised(
    waiting: list[Contender], context: PolicyContext
) -> Iterable[tuple[float, Contender]]:
    for each in waiting:
        leave_at = leave_by(each, waiting, context)
        if leave_at is not None:
            yield leave_at, each
