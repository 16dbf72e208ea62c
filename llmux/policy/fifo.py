"""First come, first served: the policy of llmux 2.4.0, without its stale tickets."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from llmux.policy.contenders import counting, is_in_a_hurry, next_due
from llmux.policy.contract import ISwitchPolicy, PolicyContext, PolicyDecision, WaitingView
from llmux.states import State

_Place = tuple[int, int]  # of a request among all, and of the model among those that would do


@implementer(ISwitchPolicy)
class FifoPolicy:
    """
    Whoever waits longest for a model that is not awake gets it now, and the model that leaves is
    closed to new requests.  It learns nothing.

    Whoever came first is first among those, too, who wait for a place at a model that is awake
    (``max_concurrency``): that model begins to leave when all who came earlier have their leases.
    """

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """Choose the model of the oldest waiter."""
        hurry = is_in_a_hurry(context)
        asked = {
            name: first
            for name, model in context.models.items()
            if model.state is not State.AWAKE
            and model.evicts is not None
            and (first := _first(counting(model, context.now, hurry and bool(model.evicts))))
        }
        for target in sorted(asked, key=asked.__getitem__):
            # what was begun for good reasons goes on
            if target == context.target or not self._is_preceded(target, asked, context):
                return PolicyDecision(target=target)
        return PolicyDecision(ask_at=next_due([], context))

    def _is_preceded(
        self, target: str, asked: Mapping[str, _Place], context: PolicyContext
    ) -> bool:
        """Tell whether who came earlier waits for a place at a model that would have to go."""
        for name in context.models[target].evicts or ():
            model = context.models[name]
            earlier = _first(model.waiting) if model.state is State.AWAKE else None
            if earlier is not None and earlier < asked[target]:
                return True
        return False

    def arrived(self, model: str, now: float) -> None:
        """Observe nothing."""

    def completed(self, model: str, now: float, seconds: float) -> None:
        """Observe nothing."""

    def left(self, model: str, now: float) -> None:
        """Observe nothing."""

    def switched(self, target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """Observe nothing."""

    def as_json(self) -> dict[str, object]:
        """Give nothing: the queue is all that counts."""
        return {}

    def learn(self, learnt: Mapping[str, object]) -> None:
        """Take nothing back."""


def _first(waiting: Mapping[str, WaitingView]) -> _Place | None:
    """Give the place of the request that has waited longest."""
    places = ((each.first, each.rank) for each in waiting.values() if each.count)
    return min(places, default=None)
