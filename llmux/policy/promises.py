"""The promise that nobody waits for a model for longer than ``max_wait_secs`` says."""

from __future__ import annotations

from collections.abc import Iterable

from llmux.policy.contenders import Contender, drain_secs, tour
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
