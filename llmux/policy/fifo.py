"""First come, first served: the policy of llmux 2.4.0, without its stale tickets."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from llmux.policy.contract import ISwitchPolicy, PolicyContext, PolicyDecision
from llmux.states import State


@implementer(ISwitchPolicy)
class FifoPolicy:
    """
    Whoever waits longest for a model that is not awake gets it now, and the model that leaves is
    closed to new requests.  It learns nothing.
    """

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """Choose the model of the oldest waiter."""
        target, first = None, None
        for name, model in context.models.items():
            if model.state is State.AWAKE:
                continue
            for waiting in model.waiting.values():
                if waiting.count and (first is None or waiting.first < first):
                    target, first = name, waiting.first
        return PolicyDecision(target=target)

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
