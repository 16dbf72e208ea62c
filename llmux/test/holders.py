"""
A world whose requests come in at several holders of grants, far enough away to be late.

What the switcher and a holder say to each other takes its time, though nothing overtakes what was
said before; and a holder may die, or hang, with all that was on its way to it or from it.  The
rules are held against the leases that the holders really give, wherever they give them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping

from zope.interface import implementer

from llmux.errors import RequestError
from llmux.grant import News
from llmux.granting import ANSWERING
from llmux.holder import Happened, Holder, IHolderLink
from llmux.hooks.contract import HookCall
from llmux.journal import Memory
from llmux.lease import Lease, Outcome, Revocation
from llmux.leases import ILeases
from llmux.states import State
from llmux.test.terrain import Terrain
from llmux.test.world import Asker, World, servers
from llmux.urgency import Urgency
from llmux.workers.local import IParentLink, LocalLeases

WATCHED = 20.0
"""Seconds after which a holder that hangs is ended, if nothing that it owes has shown it before."""

_DELAYS = (0.0, 0.02, 0.0, 0.3, 0.1, 0.0, 1.0, 0.05)


class Way:
    """
    One direction between the switcher and a holder.

    :param far: one end of it.
    """

    def __init__(self, far: Far) -> None:
        self._far = far
        self._under_way: deque[Callable[[], object]] = deque()

    def __len__(self) -> int:
        return len(self._under_way)

    def say(self, heard: Callable[[], object]) -> None:
        """Have something be heard, behind all that was said before."""
        if self._far.dead:
            return
        self._under_way.append(heard)
        self._far.world.clock.callLater(next(self._far.world.delays), self._arrive)

    def _arrive(self) -> None:
        if self._under_way and not self._far.dead and not self._far.hangs:
            self._under_way.popleft()()


@implementer(IHolderLink)
class ToHolder:
    """
    The way to a holder, on which the world sees what the switcher decides.

    :param far: the holder.
    """

    def __init__(self, far: Far) -> None:
        self._far = far
        self._say = far.there.say

    def grant(self, model: str, places: int) -> None:
        """See :meth:`IHolderLink.grant`."""
        self._say(lambda: self._far.leases.grant(model, places))

    def recall(self, model: str) -> None:
        """See :meth:`IHolderLink.recall`."""
        self._say(lambda: self._far.leases.recall(model))

    def queued(self, number: int, before: int) -> None:
        """See :meth:`IHolderLink.queued`."""
        self._say(lambda: self._far.leases.queued(number, before))

    def lease(self, number: int, lease: Lease) -> None:
        """See :meth:`IHolderLink.lease`."""
        self._far.world.decided(self._far.asked.get(number))
        self._far.shared[number] = list(self._far.world._in_effect())
        told = (number, lease.model, lease.shared, lease.switching)
        self._say(lambda: self._far.leases.lease(*told))

    def refuse(self, number: int, error: RequestError) -> None:
        """See :meth:`IHolderLink.refuse`."""
        self._far.world.left_queue(self._far.asked.get(number))
        self._say(lambda: self._far.leases.refuse(number, error))

    def want_back(self, number: int, why: Revocation) -> None:
        """See :meth:`IHolderLink.want_back`."""
        self._far.world.wanted_back(self._far, number)
        self._say(lambda: self._far.leases.want_back(number, why))

    def hear(self, news: Mapping[str, News]) -> None:
        """See :meth:`IHolderLink.hear`."""
        self._say(lambda: self._far.leases.hear(news))

    def end(self) -> None:
        """See :meth:`IHolderLink.end`."""
        self._far.world.clock.callLater(0.0, self._far.die)


@implementer(IParentLink)
class ToSwitcher:
    """
    The way back.

    :param far: the holder.
    """

    def __init__(self, far: Far) -> None:
        self._far = far
        self._say = far.back.say

    def wait(self, number: int, name: str, urgency: Urgency | None) -> None:
        """See :meth:`IParentLink.wait`."""
        self._far.asked[number] = asker = self._far.world.asking

        def heard() -> None:
            self._far.world.queued(asker)
            self._far.holder.wait(number, name, urgency)

        self._say(heard)

    def wait_again(self, number: int, before: int) -> None:
        """See :meth:`IParentLink.wait_again`."""
        self._say(lambda: self._far.holder.wait_again(number, before))

    def leave(self, number: int) -> None:
        """See :meth:`IParentLink.leave`."""

        def heard() -> None:
            self._far.world.left_queue(self._far.asked.get(number))
            self._far.holder.leave(number)

        self._say(heard)

    def before(self, number: int) -> None:
        """See :meth:`IParentLink.before`."""
        self._say(lambda: self._far.holder.before(number))

    def report(self, events: list[Happened]) -> None:
        """See :meth:`IParentLink.report`."""
        self._say(lambda: self._far.holder.report(events))

    def returned(self, model: str) -> None:
        """See :meth:`IParentLink.returned`."""
        self._say(lambda: self._far.holder.returned(model))


class Far:
    """
    A holder, and the ways between it and the switcher.

    :ivar asked: by number, whose request waits at the switcher.
    :ivar wanted: by number, when the switcher began to want a lease back.
    :ivar shared: by number, whom names might stand for when the switcher gave a lease.
    :ivar hangs: whether it does nothing any more, and lives.
    :ivar dead: whether it is dead.
    """

    def __init__(self, world: HolderWorld) -> None:
        self.world = world
        self.asked: dict[int, Asker | None] = {}
        self.wanted: dict[int, float] = {}
        self.shared: dict[int, list[dict[str, tuple[str, ...]]]] = {}
        self.hangs = self.dead = False
        self.there, self.back = Way(self), Way(self)
        sharing = lambda: world.sharing  # noqa: E731  # it changes
        self.leases = LocalLeases(world.clock, ToSwitcher(self), world.configs, sharing)
        self.holder: Holder = world.switcher.share(ToHolder(self))

    @property
    def up_to_date(self) -> bool:
        """Whether both ends know the same."""
        return not (self.there or self.back or self.leases._events or self.dead)

    def hang(self) -> None:
        """Do nothing any more."""
        self.hangs = True
        self.world.clock.callLater(WATCHED, self.die)

    def die(self) -> None:
        """Die; it is noticed, and another one comes."""
        if self.dead or self not in self.world.holders:
            return
        self.dead = True
        self._cut_all()
        self.world.clock.callLater(next(self.world.delays), self._noticed)

    def _cut_all(self) -> None:
        world = self.world
        for asker in [each for each in world.askers if world.far_of.get(each) is self]:
            world.cut(asker)

    def _noticed(self) -> None:
        if self in self.world.holders:  # else llmux has been killed meanwhile
            self._cut_all()  # those that have come to its door since
            self.world.holders.remove(self)
            self.holder.lost()
            self.world.holders.append(Far(self.world))


class HolderWorld(World):
    """
    A world with holders.

    :ivar holders: those that there are.
    :ivar far_of: where each request has come in.
    :ivar delays: how long each thing takes that is said.
    :ivar asking: whose request is just coming in.
    """

    slack = ANSWERING + 2.0

    def __init__(self, terrain: Terrain, policy: str = "fifo", count: int = 2) -> None:
        self.holders: list[Far] = []
        self.far_of: dict[Asker, Far] = {}
        self.delays = itertools.cycle(_DELAYS)
        self.asking: Asker | None = None
        self._count = count
        self._queue: list[Asker] = []  # in the order in which the switcher has heard of them
        super().__init__(terrain, policy)

    def begin(self, memory: Memory) -> None:
        """See :meth:`World.begin`."""
        super().begin(memory)
        self._queue.clear()
        self.far_of.clear()
        self.holders = []
        self.holders += [Far(self) for _ in range(self._count)]

    def arrive(self, name: str) -> Asker:
        """See :meth:`World.arrive`."""
        asker = super().arrive(name)
        if asker.endings and asker.lease is None:
            self.far_of.pop(asker, None)
        return asker

    def reload(self, names: str, port: int, **settings: object) -> None:
        """See :meth:`World.reload`; what is heard later counts by the configuration of then."""
        super().reload(names, port, **settings)
        for name, config in self.told.items():
            latest = self.clock.seconds() + config.settle_secs
            self.settled_at[name] = min(self.settled_at.get(name, 0.0), latest)

    def leases_for(self, asker: Asker) -> ILeases:
        """See :meth:`World.leases_for`."""
        far = self.far_of.get(asker)
        if far is None:
            living = [each for each in self.holders if not each.hangs and not each.dead]
            far = self.far_of[asker] = (living or self.holders)[asker.number % len(living or "x")]
        self.asking = asker
        return far.leases

    def cut(self, asker: Asker) -> None:
        """Let a request end with its holder."""
        self.askers.remove(asker)
        if asker.lease is not None:
            settled = self.clock.seconds() + self.configs[asker.server].settle_secs
            before = self.settled_at.get(asker.server, 0.0)
            self.settled_at[asker.server] = max(before, settled)
            self.used_at[asker.server] = self.clock.seconds()
            asker.lease = None
        self.left_queue(asker)

    @property
    def up_to_date(self) -> bool:  # type: ignore[override]  # it changes
        """See :class:`World`."""
        return all(each.up_to_date for each in self.holders)

    # What the switcher hears and decides.

    def queued(self, asker: Asker | None) -> None:
        """Note that it has heard of a request that waits."""
        if asker is not None and asker in self.askers:
            self._queue.append(asker)

    def left_queue(self, asker: Asker | None) -> None:
        """Note that it has heard that one does not wait any more."""
        if asker is not None and asker in self._queue:
            self._queue.remove(asker)

    def decided(self, asker: Asker | None) -> None:
        """Hold the order of those who wait at the switcher against whom it gives a lease."""
        if asker is None or asker not in self._queue:
            return
        earlier = self._queue[: self._queue.index(asker)]
        self._queue.remove(asker)
        for other in earlier:
            alike = other.model == asker.model and other.urgency == asker.urgency
            if alike and other in self.waiting:
                self.breaches.append(f"rule 4: a later request for {asker.model} is served first")

    def lease_given(self, name: str) -> None:
        """See :meth:`World.lease_given`; what a holder has given is counted while it answers."""
        model = self.switcher.models[name]
        if not (model.state is State.DRAINING and model.grants):
            super().lease_given(name)

    def wanted_back(self, far: Far, number: int) -> None:
        """Note that it wants a lease back."""
        far.wanted[number] = self.clock.seconds()
        for asker in self.served:
            if self.far_of.get(asker) is far and asker.lease and asker.lease.number == number:
                asker.revoked_at = asker.revoked_at or far.wanted[number]

    # What is so at the holders.

    def _revoked(self, asker: Asker, why: Revocation) -> None:
        if asker.lease is not None:
            asker.revoked_at = self.far_of[asker].wanted.get(asker.lease.number)
        super()._revoked(asker, why)

    def _granted(self, lease: Lease, asker: Asker) -> None:
        state = self.switcher.states().get(lease.model)
        drains = self.configs[lease.model].drain_before_switch
        by_itself = self.far_of[asker].leases._held[lease.number].grant is not None
        if state not in (State.AWAKE, State.DRAINING) and (drains or by_itself):
            self.breaches.append(f"rule 1: a lease for {lease.model}, which is {state}")
        super()._granted(lease, asker)

    def _could_serve(self, lease: Lease, asker: Asker) -> set[str]:
        """See :class:`World`; a lease that was given before a reload may be heard of behind it."""
        given = self.far_of[asker].shared.pop(lease.number, None)
        return self._servers(asker.model) if given is None else servers(asker.model, given)

    def _check_order(self, asker: Asker, waiting: list[Asker]) -> None:
        """Do nothing: only among those of whom the switcher knows there is an order."""

    def _check_places(self, name: str, waiting: list[Asker]) -> None:
        """Do nothing: they are told what was so a while ago."""

    def _is_quiet(self, call: HookCall) -> bool:
        """See :meth:`World._is_quiet`; a model may be woken while the news is on its way."""
        return call.target != "idle" or super()._is_quiet(call)

    def finish(self, asker: Asker, outcome: Outcome) -> None:
        """See :meth:`World.finish`; what hangs does not notice."""
        if not self.hangs(asker):
            super().finish(asker, outcome)

    def refuse(self, asker: Asker) -> None:
        """See :meth:`World.refuse`."""
        if not self.hangs(asker):
            super().refuse(asker)

    def leave(self, asker: Asker) -> None:
        """See :meth:`World.leave`."""
        if not self.hangs(asker):
            super().leave(asker)

    def hangs(self, asker: Asker) -> bool:
        """See :meth:`World.hangs`."""
        far = self.far_of.get(asker)
        return far is not None and far.hangs
