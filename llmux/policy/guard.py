"""A policy that cannot hurt: what goes wrong in it is logged, and first come is first served."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

from txaio.tx import make_logger
from zope.interface import implementer

from llmux.policy.contract import ISwitchPolicy, PolicyContext, PolicyDecision
from llmux.policy.fifo import FifoPolicy


@implementer(ISwitchPolicy)
class GuardedPolicy:
    """
    Passes everything on to a policy.  Where that raises, or gives what is no decision, the failure
    is logged, and a decision is made by :class:`~llmux.policy.fifo.FifoPolicy`.

    :param policy: the policy that is not trusted.
    :ivar failures: how often anything went wrong in it.
    """

    _log = make_logger()

    def __init__(self, policy: ISwitchPolicy) -> None:
        self._policy = policy
        self._fallback = FifoPolicy()
        self.failures = 0

    @property
    def name(self) -> str:
        """What the policy is called in the log."""
        return type(self._policy).__name__

    def replace(self, policy: ISwitchPolicy) -> None:
        """Ask another policy from now on."""
        self._policy = policy

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """See :meth:`ISwitchPolicy.decide`."""
        try:
            decision = self._policy.decide(context)
            _check(decision)
            return decision
        except Exception:
            self._failed("decide; fifo does")
            return self._fallback.decide(context)

    def arrived(self, model: str, now: float) -> None:
        """See :meth:`ISwitchPolicy.arrived`."""
        self._tell(lambda: self._policy.arrived(model, now))

    def completed(self, model: str, now: float, seconds: float) -> None:
        """See :meth:`ISwitchPolicy.completed`."""
        self._tell(lambda: self._policy.completed(model, now, seconds))

    def left(self, model: str, now: float) -> None:
        """See :meth:`ISwitchPolicy.left`."""
        self._tell(lambda: self._policy.left(model, now))

    def switched(self, target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """See :meth:`ISwitchPolicy.switched`."""
        self._tell(lambda: self._policy.switched(target, evicted, now, success))

    def as_json(self) -> dict[str, object]:
        """See :meth:`ISwitchPolicy.as_json`."""
        try:
            learnt = self._policy.as_json()
            json.dumps(learnt)  # or it could not be written down
            return learnt
        except Exception:
            self._failed("say what it has learnt")
            return {}

    def learn(self, learnt: Mapping[str, object]) -> None:
        """See :meth:`ISwitchPolicy.learn`."""
        self._tell(lambda: self._policy.learn(learnt))

    def _tell(self, observation: Callable[[], None]) -> None:
        try:
            observation()
        except Exception:
            self._failed("observe")

    def _failed(self, what: str) -> None:
        self.failures += 1
        self._log.failure(f"the policy failed to {what}")


def _check(decision: object) -> None:
    """
    Check what a policy of somebody else's says.

    :raises TypeError: if it is no decision.
    """
    if not isinstance(decision, PolicyDecision):
        raise TypeError(f"{decision!r} is no PolicyDecision")
    if not isinstance(decision.target, str | None):
        raise TypeError(f"target: {decision.target!r} is no model's name")
    if not isinstance(decision.prepare, str | None):
        raise TypeError(f"prepare: {decision.prepare!r} is no model's name")
    if not isinstance(decision.evict, tuple | None):
        raise TypeError(f"evict: {decision.evict!r} is no tuple of names")
    for name in decision.evict or ():
        if not isinstance(name, str):
            raise TypeError(f"evict: {name!r} is no model's name")
    ask_at = decision.ask_at
    if ask_at is not None and not (isinstance(ask_at, int | float) and not math.isnan(ask_at)):
        raise TypeError(f"ask_at: {ask_at!r} is no time")
