"""One model as it lives: its state, its leases, those who wait for it, and what is known of it."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping

import attrs

from llmux.amounts import Amounts, add, highest
from llmux.backoff import BackOff
from llmux.budget import Placement
from llmux.config import ModelConfig
from llmux.demand import RecentArrivals
from llmux.errors import LLMuxError
from llmux.grant import Grant, Holder
from llmux.hooks.contract import Hook, HookResult, Reason
from llmux.lease import Lease, Revocation
from llmux.policy.contract import WaitingView
from llmux.sharing import SharedRoom
from llmux.states import SERVING, TRANSITIONS, State
from llmux.vitals import Health
from llmux.waiting import WaitingRoom, merged

PROOF_SECS = 60.0
"""Seconds for which a model has to be awake to count as healthy, if it has answered nothing."""


class Prepared(enum.Enum):
    """How far a model has been got ready to be woken, since it was last at rest."""

    NO = "no"
    PARTLY = "partly"
    """Its ``prepare`` was ended, for something else was to be done with the model."""
    YES = "yes"


class ImpossibleTransition(LLMuxError):
    """A bug: the switcher asked for a step that the table does not know."""


@attrs.frozen
class HookReport:
    """
    The last run of one hook of a model.

    :param reason: why it ran.
    :param began: when, in the clock's seconds.
    :param result: how it ended; ``None`` while it runs.
    """

    reason: Reason
    began: float
    result: HookResult | None = None


@attrs.define(eq=False)
class Model:
    """
    What the switcher knows of one model.

    :ivar config: its part of the configuration, as it counts now.
    :ivar successor: what takes the place of ``config`` when it has gone to sleep, because the model
        has another address there.
    :ivar removed: whether the configuration has it no longer.
    :ivar state: see :class:`~llmux.states.State`; changed by :meth:`enter` alone.
    :ivar since: when it entered that state, in the clock's seconds.
    :ivar awake_since: when it was last woken; a drain that is called off, or a sleep hook that
        fails, does not change it.
    :ivar switch_began: when the switch had begun that woke it last.
    :ivar leaving_since: since when it is wanted to go, or has gone; ``None`` while it may stay, and
        before it was ever woken.
    :ivar kept_open: whether a policy has it take new requests while it is being drained.
    :ivar held: the leases that are held, in the order in which they were given.
    :ivar grants: who may give further ones without asking.
    :ivar batch_leases: how many of them are of batch requests.
    :ivar settles_at: until when its engine may be busy with requests that were broken off, in the
        clock's seconds.
    :ivar revoked_at: since when all its leases are wanted back at once, in the clock's seconds;
        ``None`` while they are not; and
    :ivar revoked_for: why.
    :ivar waiting: the requests that wait for it.
    :ivar wake_backoff: after wakes that failed.
    :ivar sleep_backoff: after sleeps that failed.
    :ivar preparing: whether its ``prepare`` runs.
    :ivar prepared: how far that has come.
    :ivar prepare_backoff: after times when that failed.
    :ivar health: see :class:`Health`.
    :ivar reports: the last run of each of its hooks.
    :ivar asked: the number of the last request for it among all; 0 if there was none.
    :ivar recent: how often it was asked for lately.
    :ivar idle_since: since when nobody asks it anything, in the clock's seconds; meaningless while
        somebody does.
    :ivar to_be_killed: whether an operator wants it to be ended by all means.
    :ivar placement: where it is, or was last; ``None`` if that does not matter any more.
    :ivar kept: what it keeps while it sleeps, by the configuration with which it went to sleep.
    :ivar pin: what an operator wants: that it stays, or that it need not; ``None``: what the
        configuration says.
    :ivar entered: called with its name and its state whenever it has entered one.
    :ivar shared: where requests wait that it can serve as well as other models.
    """

    config: ModelConfig
    waiting: WaitingRoom
    successor: ModelConfig | None = None
    removed: bool = False
    state: State = State.ASLEEP
    since: float = 0.0
    awake_since: float = 0.0
    switch_began: float = 0.0
    leaving_since: float | None = None
    kept_open: bool = False
    held: dict[Lease, None] = attrs.Factory(dict)
    grants: dict[Holder, Grant] = attrs.Factory(dict)
    batch_leases: int = 0
    settles_at: float = 0.0
    revoked_at: float | None = None
    revoked_for: Revocation | None = None
    wake_backoff: BackOff = attrs.Factory(BackOff)
    sleep_backoff: BackOff = attrs.Factory(BackOff)
    preparing: bool = False
    prepared: Prepared = Prepared.NO
    prepare_backoff: BackOff = attrs.Factory(BackOff)
    health: Health = attrs.Factory(Health)
    reports: dict[Hook, HookReport] = attrs.Factory(dict)
    asked: int = 0
    recent: RecentArrivals = attrs.Factory(RecentArrivals)
    idle_since: float = 0.0
    to_be_killed: bool = False
    placement: Placement | None = None
    kept: Amounts = attrs.Factory(dict)
    pin: bool | None = None
    shared: tuple[SharedRoom[Model], ...] = ()
    entered: Callable[[str, State], None] = lambda name, state: None

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.config.name

    @property
    def leases(self) -> int:
        """How many leases are held."""
        return len(self.held)

    @property
    def in_use(self) -> bool:
        """Whether a request of whoever is in flight, or could be without anybody here knowing."""
        return bool(self.held or self.grants)

    @property
    def admitting(self) -> bool:
        """Whether it is open to new requests."""
        if self.health.suspect or self.health.down:
            return False
        if self.state is State.DRAINING:
            return self.kept_open and self.revoked_at is None
        return self.state is State.AWAKE and not self.moving

    @property
    def serves(self) -> bool:
        """Whether it is awake, or will be open again soon without having been woken."""
        return self.state is State.AWAKE and not self.moving and not self.health.down

    @property
    def moving(self) -> bool:
        """Whether it has to go because of the configuration, whoever asks for it."""
        return self.removed or self.successor is not None

    @property
    def gone(self) -> bool:
        """Whether nothing is left that could be taken from it: it is asleep as deeply as can be."""
        if self.state is State.ASLEEP:
            return not self.keeps or self.config.stop is None
        return self.state is State.STOPPED

    @property
    def free_places(self) -> int:
        """How many more leases it could give, by ``max_concurrency``."""
        most = self.config.max_concurrency
        if most is None:
            return sys.maxsize
        return max(0, most - self.leases - sum(grant.unused for grant in self.grants.values()))

    @property
    def pinned(self) -> bool:
        """Whether it is to stay where it is once it is awake."""
        return self.config.pinned if self.pin is None else self.pin

    @property
    def stays(self) -> bool:
        """Whether nobody who waits for another model can make it go."""
        if not self.pinned or self.state not in SERVING or self.moving or self.health.down:
            return False
        if not self.place.known:
            return True
        # Where the file would not have it, others may never fit beside it.
        here = self.place.resources
        return any(place.resources == here for place in self.config.placements)

    @property
    def holds(self) -> Amounts:
        """What it takes of the resources."""
        return add(self.place.needs, self.keeps) if self.state.holds else self.keeps

    @property
    def keeps(self) -> Amounts:
        """What it takes of that whether it is asleep or not, until it is stopped."""
        if self.state is State.STOPPED:
            return {}
        if self.state is State.ASLEEP and self.kept:
            return highest(self.config.asleep_needs, self.kept)
        return self.config.asleep_needs

    @property
    def place(self) -> Placement:
        """Where it is; as far as anybody knows, in any of its places."""
        return self.config.anywhere if self.placement is None else self.placement

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Where it can be woken: while it may be somewhere already, only there."""
        return (self.place,) if self.state.holds else self.config.placements

    @property
    def wanted(self) -> bool:
        """Whether anybody waits whom it could serve."""
        if self.waiting:
            return True
        return bool(self.shared) and any(room.counts_for(self) for room in self.shared)

    def views(self) -> Mapping[str, WaitingView]:
        """Say who waits whom it could serve, by class, as running sums."""
        views = self.waiting.views()
        for shared in self.shared:
            if shared.counts_for(self):
                views = merged(views, shared.room.views(), shared.rank(self))
        return views

    @property
    def demand(self) -> int:
        """How many wait whom it could serve."""
        shared = (len(each.room) for each in self.shared if each.counts_for(self))
        return len(self.waiting) + sum(shared)

    def quiet(self, now: float) -> bool:
        """Tell whether nothing runs on it, or can begin to, that a drain waits for."""
        if self.grants:
            return False
        if not self.config.drain_before_switch:
            return True
        return not self.held and now >= self.settles_at

    @property
    def believes_alive(self) -> bool:
        """Whether its ``alive`` is believed when it says that the model is dead."""
        return self.config.alive is not None and self.health.agreed == self.config.alive

    @property
    def wanted_back_since(self) -> float | None:
        """
        Since when its leases are wanted back, in the clock's seconds; ``None`` while they are not.

        They are while it is wanted to go, and while requests wait for one of its places.
        """
        if self.leaving_since is not None or not self.admitting:
            return self.leaving_since
        rooms = [self.waiting, *(each.room for each in self.shared if each.counts_for(self))]
        occupied = [room.occupied_since for room in rooms if room]
        return max(self.awake_since, min(occupied)) if occupied else None

    def comes(self) -> None:
        """Let those who would take any of several models wait for this one: it is on its way."""
        for shared in self.shared:
            shared.on_their_way.append(self)

    def comes_no_more(self) -> None:
        """Let them wait for any of them again: it is there, or does not come."""
        for shared in self.shared:
            if self in shared.on_their_way:
                shared.on_their_way.remove(self)

    def enter(self, state: State, now: float) -> None:
        """
        Go over to another state.

        :param state: the new one.
        :param now: the clock's seconds.
        :raises ImpossibleTransition: if the table has no such step.
        """
        if state not in TRANSITIONS[self.state]:
            raise ImpossibleTransition(f"{self.name} is {self.state.value}, not {state.value} next")
        if state is State.AWAKE and self.state in (State.WAKING, State.UNKNOWN):
            self.awake_since = self.idle_since = now
            self.health.begin()
        if self.state in SERVING and state is State.SLEEPING and self._is_proven(now):
            self.wake_backoff.reset()
        if state in (State.WAKING, State.AWAKE):
            self.leaving_since = None
        elif self.leaving_since is None:
            self.leaving_since = now
        self.kept_open = False
        self.prepared = Prepared.NO
        self.revoked_at = self.revoked_for = None
        if not state.holds and self.placement is not None and not self.placement.known:
            self.placement = None  # it has slept once: the next time it is known where it is
        self.kept = self.config.asleep_needs if state is State.ASLEEP else {}
        self.state = state
        self.since = now
        self.entered(self.name, state)

    def heard_at(self) -> float:
        """Say when bytes of any answer last came from it, in the clock's seconds."""
        running = (lease.heard_at() for lease in self.held if lease.heard_at is not None)
        return max((self.health.heard_at, *running))

    def revoke(self, why: Revocation, now: float) -> None:
        """Want all its leases back at once."""
        if self.revoked_at is None:
            self.revoked_at, self.revoked_for = now, why
        for lease in tuple(self.held):
            lease.revoke(why)

    def has_served(self) -> None:
        """Take in that it has answered a request: it is healthy."""
        self.health.served, self.health.falls = True, 0
        self.wake_backoff.reset()

    def has_fallen(self, now: float) -> None:
        """
        Take in that it is down.

        That is an accident if it was healthy before.  If it falls again before it has shown that it
        is, it has a back-off as after a wake that failed: a model that flaps must not go on taking
        the place of a healthy one.
        """
        if self._is_proven(now):
            self.wake_backoff.reset()
            self.health.falls = 0
        self.health.down, self.health.suspect = True, False
        self.health.falls += 1
        if self.health.falls > 1:
            self.wake_backoff.fail(now)

    def _is_proven(self, now: float) -> bool:
        """Tell whether it has shown since it was woken that it is healthy."""
        health = self.health
        return not health.down and (health.served or now - self.awake_since >= PROOF_SECS)
