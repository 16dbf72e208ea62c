"""
The contract between the switcher and a policy.

A policy is deterministic: the same observations and contexts lead to the same decisions.  It starts
nothing, waits for nothing and reads no clock.  It is asked after every event that can matter, as
long as somebody waits for a model that is not awake, and again after each decision that was
accepted until it stays with it; during a drain; and once more at the point of no return.

What no policy can break is guarded by the switcher: cool-down, budget, back-off, deadlines.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs
from zope.interface import Interface

from llmux.costs import SwitchCosts
from llmux.states import State


class Phase(enum.Enum):
    """At what moment a policy is asked."""

    SETTLED = "settled"
    """Is there to be a switch, perhaps beside others that are under way elsewhere?"""
    DRAINING = "draining"
    """Models are being drained: shall it go on, to another target, or not at all?"""
    COMMITTING = "committing"
    """The drain is over and the first sleep hook is next: the last chance for another target."""


@attrs.frozen
class WaitingView:
    r"""
    The requests of one class that wait for one model, as running sums.

    With :math:`n` requests that arrived at :math:`t_i`, the sum of squared waits at any time is
    :math:`n t^2 - 2 t \sum t_i + \sum t_i^2`, whatever the number of waiters.

    :param count: how many.
    :param oldest: when the first of them arrived, in seconds; meaningless where ``count`` is 0.
    :param first: the number of the oldest among all arrivals for all models: exact where times tie.
    :param arrivals: the sum of their arrival times.
    :param squares: the sum of the squares of their arrival times.
    :param rank: how many other models whoever was first would rather have; 0 for one who wants this
        model and no other.  Who would take any of several models waits for each of them, until one
        is awake or on its way.
    """

    count: int
    oldest: float
    first: int
    arrivals: float
    squares: float
    rank: int = 0


@attrs.frozen
class ModelView:
    """
    One model, as a policy may see it.

    :param state: see :class:`~llmux.states.State`.
    :param waiting: by class, the requests that wait; classes with nobody are left out.  For a model
        that is awake they need no switch: they wait until one of its places is free
        (``max_concurrency``).
    :param leases: how many requests are in flight.
    :param awake_since: when it became awake, in seconds; meaningless while it is not.
    :param not_before: before this time the switcher will not wake it, or, if it is awake, not put
        it to sleep (cool-down, back-off).
    :param evicts: who would have to go to make room for it, if somebody waits for it; ``None``: it
        cannot be woken now, for a switch to it is under way, or one that is in its way, or what
        there is has been promised to others; or, where a switch is asked about, it could not take
        its target's place, for others would have to go.  Naming it is of no use then.
    :param batch_leases: how many of the requests in flight are of the class :data:`BATCH`.
    :param max_wait_secs: for how many seconds at most its requests wait, but for those of the class
        :data:`BATCH`, as far as that can be promised; ``None``: nothing is.
    """

    state: State
    waiting: Mapping[str, WaitingView]
    leases: int
    awake_since: float
    not_before: float
    evicts: tuple[str, ...] | None
    batch_leases: int = 0
    max_wait_secs: float | None = None


@attrs.frozen
class PolicyContext:
    """
    All that a policy may know at the moment when it is asked.

    :param now: the time, in seconds of the switcher's clock.
    :param phase: see :class:`Phase`.
    :param models: every model by name, in the order of the configuration.
    :param target: the model of the switch that is asked about; ``None`` if one is to be chosen.
    :param costs: what sleeping and waking are known to cost; a copy.
    """

    now: float
    phase: Phase
    models: Mapping[str, ModelView]
    target: str | None
    costs: SwitchCosts


@attrs.frozen
class PolicyDecision:
    """
    What a policy wants.

    :param target: the model to wake, or ``None``: leave things as they are, which during a drain
        calls it off.  So does naming a model that is being drained.
    :param evict: who has to go, as far as that is needed; ``None``: those whose loss costs least.
    :param admit: whether the models that are being drained stay open to new requests.
    :param forced: whether the policy need not be asked again before the switch happens.
    :param ask_at: when to ask again at the latest, in seconds of the context's time; a time that
        has been makes no sense.
    :param prepare: the model that is expected next although nothing is to be switched now: its
        ``prepare`` hook runs, if it has one.  It counts where there is no target, and while no
        drain is under way, for that has a target to be prepared.
    """

    target: str | None = None
    evict: tuple[str, ...] | None = None
    admit: bool = False
    forced: bool = False
    ask_at: float | None = None
    prepare: str | None = None


class ISwitchPolicy(Interface):
    """Arbitrates between waiters: when to switch, and to whom."""

    def decide(context: PolicyContext) -> PolicyDecision:
        """Answer what is to be done now."""

    def arrived(model: str, now: float) -> None:
        """Observe that a request for a model has come."""

    def completed(model: str, now: float, seconds: float) -> None:
        """Observe that a request has ended that was in flight for so many seconds."""

    def left(model: str, now: float) -> None:
        """Observe that a request stopped waiting: its client left, or it waited too long."""

    def switched(target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """Observe the end of a switch."""

    def as_json() -> dict[str, object]:
        """Give all that was learnt, as plain JSON values, so that it can survive a restart."""

    def learn(learnt: Mapping[str, object]) -> None:
        """Take back what :meth:`as_json` gave."""
