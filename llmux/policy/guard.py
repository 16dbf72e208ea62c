"""A policy that cannot hurt: what goes wrong in it is logged, and first come is first served."""

from __future__ import annotations

import json
import math
from asyncio import CancelledError
from collections.abc import Callable, Mapping

from txaio.tx import make_logger
from zope.interface import implementer

from llmux.policy.contract import ISwitchPolicy, PolicyContext, PolicyDecision
from llmux.policy.fifo import FifoPolicy

_QUIET_SECS = 60.0
"""For so many seconds after a failure was logged no other one is."""

_ANY_FAILURE = (Exception, SystemExit, GeneratorExit, CancelledError)
"""What may come out of a policy; a user who interrupts a simulation is no failure of its."""


@implementer(ISwitchPolicy)
class GuardedPolicy:
    """
    Passes everything on to a policy.  Where that raises, or says what makes no sense, the failure
    is logged, and a decision is made by :class:`~llmux.policy.fifo.FifoPolicy`.

    A policy that fails all the time has a line in the log once a minute.

    :param policy: the policy that is not trusted.
    :ivar failures: how often anything went wrong in it.
    """

    _log = make_logger()

    def __init__(self, policy: ISwitchPolicy) -> None:
        self._policy = policy
        self._fallback = FifoPolicy()
        self._now = 0.0
        self._quiet_until = -math.inf
        self._untold = 0
        self.failures = 0

    @property
    def name(self) -> str:
        """What the policy is called in the log."""
        return type(self._policy).__name__

    def replace(self, policy: ISwitchPolicy) -> None:
        """Ask another policy from now on."""
        self._policy = policy
        self._quiet_until, self._untold = -math.inf, 0

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """See :meth:`ISwitchPolicy.decide`."""
        self._now = context.now
        try:
            decision = self._policy.decide(context)
        except _ANY_FAILURE:
            self._failed("failed to decide; fifo does")
            return self._fallback.decide(context)
        try:
            _check(decision, context)
        except _ANY_FAILURE:
            self._failed("has decided what makes no sense; fifo decides")
            return self._fallback.decide(context)
        return decision

    def arrived(self, model: str, now: float) -> None:
        """See :meth:`ISwitchPolicy.arrived`."""
        self._now = now
        try:  # for every request, so nothing is made for it
            self._policy.arrived(model, now)
        except _ANY_FAILURE:
            self._failed_to_observe()

    def completed(self, model: str, now: float, seconds: float) -> None:
        """See :meth:`ISwitchPolicy.completed`."""
        self._now = now
        try:
            self._policy.completed(model, now, seconds)
        except _ANY_FAILURE:
            self._failed_to_observe()

    def left(self, model: str, now: float) -> None:
        """See :meth:`ISwitchPolicy.left`."""
        self._now = now
        self._tell(lambda: self._policy.left(model, now))

    def switched(self, target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """See :meth:`ISwitchPolicy.switched`."""
        self._now = now
        self._tell(lambda: self._policy.switched(target, evicted, now, success))

    def as_json(self) -> dict[str, object]:
        """See :meth:`ISwitchPolicy.as_json`."""
        try:
            learnt = json.loads(json.dumps(self._policy.as_json()))  # its own may change meanwhile
            if not isinstance(learnt, dict):
                raise TypeError(f"{learnt!r} is no object")  # a journal could not be read again
            return learnt
        except _ANY_FAILURE:
            self._failed("failed to say what it has learnt")
            return {}

    def learn(self, learnt: Mapping[str, object]) -> None:
        """See :meth:`ISwitchPolicy.learn`."""
        self._tell(lambda: self._policy.learn(learnt))

    def _tell(self, observation: Callable[[], None]) -> None:
        try:
            observation()
        except _ANY_FAILURE:
            self._failed_to_observe()

    def _failed_to_observe(self) -> None:
        self._failed("failed to observe")

    def _failed(self, what: str) -> None:
        self.failures += 1
        if self._now < self._quiet_until:
            self._untold += 1
            return
        untold, self._untold = self._untold, 0
        self._quiet_until = self._now + _QUIET_SECS
        self._log.failure(
            "the policy {policy} {what}" + (" ({untold} more failures went before)" * bool(untold)),
            policy=self.name,
            what=what,
            untold=untold,
        )


def _check(decision: object, context: PolicyContext) -> None:
    """
    Check what a policy of somebody else's says; what it expects next is but a guess.

    :raises TypeError: if it is no decision.
    :raises ValueError: if it is about models that there are not, or about a time that has been.
    """
    if not isinstance(decision, PolicyDecision):
        raise TypeError(f"{decision!r} is no PolicyDecision")
    if not isinstance(decision.prepare, str | None):
        raise TypeError(f"prepare: {decision.prepare!r} is no model's name")
    if not isinstance(decision.evict, tuple | None):
        raise TypeError(f"evict: {decision.evict!r} is no tuple of names")
    if decision.target is not None:
        _check_name("target", decision.target, context)
    for name in decision.evict or ():
        _check_name("evict", name, context)
    for field in ("admit", "forced"):
        if not isinstance(getattr(decision, field), bool):
            raise TypeError(f"{field}: {getattr(decision, field)!r} is neither True nor False")
    ask_at = decision.ask_at
    if ask_at is None:
        return
    if isinstance(ask_at, bool) or not isinstance(ask_at, int | float):
        raise TypeError(f"ask_at: {ask_at!r} is no time")
    if not context.now <= float(ask_at) < math.inf:  # a whole number may be too large for one
        raise ValueError(f"ask_at: {ask_at!r} is no time to come; it is {context.now}")


def _check_name(field: str, name: object, context: PolicyContext) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{field}: {name!r} is no model's name")
    if name not in context.models:
        raise ValueError(f"{field}: no model is called {name!r}")
