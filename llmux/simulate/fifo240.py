"""
How llmux 2.4.0 switches, to compare with; for simulations alone.

Whoever finds their model not awake takes a ticket.  The tickets are called up one by one, in order;
a ticket whose model is awake by then, or for whose model nobody waits, is thrown away, and for any
other the GPU is switched over: the model that leaves is closed from that moment on, and nobody
changes their mind.

All who wait for a model are served once it is awake, but their tickets stay in the line.  Such a
stale ticket, if it is called up when somebody waits for its model again, has it woken for them,
before others who have waited longer: so it is neither first come, first served, nor fair.

What is different from llmux 2.4.0, which knows neither: nobody's model is woken for those who gave
up and for nobody else; and the cool-down (``min_active_secs``) passes before the drain begins, with
the model open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from zope.interface import implementer

from llmux.policy.contract import ISwitchPolicy, Phase, PolicyContext, PolicyDecision
from llmux.policy.fifo import FifoPolicy
from llmux.states import State

NAME = "fifo-2.4.0"
"""What this policy is called."""


@implementer(ISwitchPolicy)
class Fifo240Policy:
    """Calls up tickets, stale ones and all."""

    def __init__(self) -> None:
        self._tickets: deque[str] = deque()  # the models that they are for
        self._open: str | None = None  # the model whose requests need none
        self._without_tickets = FifoPolicy()  # for those whose model went to sleep by itself

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """Call up tickets until one is good for something."""
        if context.phase is not Phase.SETTLED:
            self._open = None
            return PolicyDecision(target=context.target, forced=True)
        while self._tickets:
            called = context.models[self._tickets[0]]
            if called.waiting and called.state is not State.AWAKE:
                return PolicyDecision(target=self._tickets[0])
            self._tickets.popleft()
        return self._without_tickets.decide(context)

    def arrived(self, model: str, now: float) -> None:
        """Give out a ticket to whoever needs one."""
        if model != self._open:
            self._tickets.append(model)

    def completed(self, model: str, now: float, seconds: float) -> None:
        """Observe nothing."""

    def left(self, model: str, now: float) -> None:
        """Observe nothing: the ticket stays."""

    def switched(self, target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """Open the door of whoever has been woken."""
        self._open = target if success else None

    def as_json(self) -> dict[str, object]:
        """Give nothing: the tickets are all that counts."""
        return {}

    def learn(self, learnt: Mapping[str, object]) -> None:
        """Take nothing back."""
