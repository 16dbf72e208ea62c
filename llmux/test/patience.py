"""How long anybody can wait: the formulas of the documentation's page about scheduling."""

from __future__ import annotations

import attrs

from llmux.backoff import LONGEST
from llmux.policy.contenders import TOURS
from llmux.policy.prices import UNLEARNT
from llmux.urgency import BATCH, BATCH_SECS


@attrs.frozen(kw_only=True)
class Worst:
    """
    The worst that can happen on a machine.  Durations are seconds.

    :param models: how many models there are.
    :param sleep: how long a sleep hook takes at most: its deadline.
    :param wake: how long a wake hook takes at most: its deadline.
    :param answer: how long an answer takes at most that ends by itself.
    :param drain: how long a drain takes at most.
    :param cool_down: how long a model stays awake at least.
    :param leases: how many requests are in flight at one model at most.
    :param fails: whether hooks fail.
    :param one_slot: whether one model is awake at a time.
    """

    models: int
    sleep: float
    wake: float
    answer: float
    drain: float
    cool_down: float
    leases: int
    fails: bool
    one_slot: bool

    @property
    def hooks(self) -> float:
        """How long the hooks of a switch take that comes to its end; a sleep is tried twice."""
        return (2 if self.fails else 1) * self.sleep + self.wake

    @property
    def turn(self) -> float:
        """How long it takes at most until another model is awake, or those are told who wait."""
        turn = self.cool_down + self.drain + self.hooks
        if self.fails:  # what is left is cleaned up, and who had to go comes back
            turn += LONGEST + 2 * self.sleep + self.hooks
        return turn

    @property
    def turns(self) -> int:
        """How many of them anybody waits for at most whose turn it is after the older ones."""
        return self.models if self.one_slot else 2 * self.models

    @property
    def tour(self) -> float:
        """What a policy takes a tour for at most."""
        switch, answer = max(UNLEARNT, self.hooks), max(UNLEARNT, self.answer)
        drain = answer * sum(1 / number for number in range(1, self.leases + 1))
        back = 1 if self.one_slot else self.models - 1
        return drain + self.models * (switch + answer) + back * switch

    def longest_wait(self, policy: str, kind: str) -> float:
        """
        Say how long a request can wait at most.

        :param policy: who decides: one of :data:`llmux.policy.POLICIES`.
        :param kind: the request's class.
        """
        longest = self.turns * self.turn
        if kind == BATCH:
            longest += BATCH_SECS
        if policy == "fifo":
            return longest
        tours = TOURS if self.one_slot else 2 * TOURS  # those that a drain under way stays open for
        return longest + tours * self.tour
