"""Who waits and who is served: the waiting rooms and the leases of all models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from llmux.config import ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import SwitchError, UnknownModel
from llmux.events import Events
from llmux.granting import Granting
from llmux.lease import Lease, Outcome
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.policy.contract import ISwitchPolicy
from llmux.sharing import SharedRoom
from llmux.states import SERVING, State
from llmux.timeline import Timeline
from llmux.urgency import BATCH, Urgency
from llmux.waiting import Place, Waiter, WaitingRoom

_NOBODY: Place = (math.inf, 0)


class Admission:
    """
    Queues requests and gives them leases; when that is right, the switcher says.

    :param configs: the configured models by name.
    :param clock: tells the time.
    :param policy: observes who comes, leaves and ends.
    :param metrics: counts them.
    :param events: logs who waited too long.
    :param costs: learns how long requests take.
    :param timeline: keeps who waited, and what models did.
    :param changed: called after a request has left the queue by itself, or ended.
    :param refused: called with a model at which nobody listens.
    :param estimate: gives the seconds after which a request for a model would be served.
    :ivar models: every model by name, in the order of the configuration.
    :ivar waiting: how many requests wait, for whatever model.
    :ivar shared: by name, where those wait who would take any of several models.
    :ivar granting: lets others give leases, too.
    """

    def __init__(
        self,
        configs: Mapping[str, ModelConfig],
        clock: IReactorTime,
        policy: ISwitchPolicy,
        metrics: Metrics,
        events: Events,
        costs: SwitchCosts,
        timeline: Timeline,
        changed: Callable[[], None],
        refused: Callable[[Model], None],
        estimate: Callable[[str], int],
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._metrics = metrics
        self._events = events
        self._costs = costs
        self._timeline = timeline
        self._changed = changed
        self._refused = refused
        self._estimate = estimate
        self._arrivals = itertools.count(1)
        self.models = {name: self.make_model(config) for name, config in configs.items()}
        self.shared: dict[str, SharedRoom[Model]] = {}
        self.granting = Granting(self.models, clock, estimate)
        self.waiting = 0

    def count_from(self, number: int) -> None:
        """Go on counting arrivals where another llmux has ended."""
        self._arrivals = itertools.count(max(number + 1, next(self._arrivals)))

    def queue(self, model: Model, urgency: Urgency) -> Deferred[Lease]:
        """Let one more request wait; cancelling it takes it out of the queue at once."""
        model.asked = next(self._arrivals)
        model.recent.came(self._clock.seconds())
        waiter = model.waiting.add(model.asked, urgency)
        self._queued(model.name)
        return waiter.lease

    def queue_shared(self, shared: SharedRoom[Model], urgency: Urgency) -> Deferred[Lease]:
        """Let a request wait that any of several models can serve."""
        waiter = shared.room.add(next(self._arrivals), urgency)
        self._queued(shared.name)
        return waiter.lease

    def queue_again(self, model: Model, lease: Lease) -> Deferred[Lease]:
        """Let a request wait at its old place whose lease is given back unused."""
        shared = self.shared.get(lease.shared or "")
        room = model.waiting if shared is None else shared.room
        waiter = room.add(lease.number, lease.urgency, lease.arrived)
        self._queued(model.name if shared is None else shared.name)
        return waiter.lease

    def grant(
        self,
        model: Model,
        urgency: Urgency,
        waiter: Waiter | None = None,
        shared: SharedRoom[Model] | None = None,
    ) -> Lease:
        """
        Give a lease.

        :param urgency: how much of a hurry the request is in.
        :param waiter: who has been taken out of the queue for it; ``None`` for a request that has
            just come.
        :param shared: whose queue that was, or would have been, if other models would have done.
        """
        now = self._clock.seconds()
        released = partial(self._released, model)
        common = None if shared is None else shared.name
        if waiter is None:
            model.asked = next(self._arrivals)
            lease = Lease(
                model.name, model.asked, now, now, released, shared=common, urgency=urgency
            )
        else:
            switching = max(0.0, model.awake_since - max(model.switch_began, waiter.arrived))
            lease = Lease(
                model.name,
                waiter.number,
                waiter.arrived,
                now,
                released,
                switching,
                common,
                urgency,
            )
        if waiter is None or shared is not None:
            model.recent.came(now)
        if shared is not None:
            self._policy.arrived(model.name, now)
            shared.failed.clear()
        model.held[lease] = None
        model.batch_leases += urgency.kind == BATCH
        self._metrics.lease_granted(model.name, None if waiter is None else lease.queued)
        return lease

    def take_in(self, model: Model, urgency: Urgency, common: str | None, given: float) -> Lease:
        """
        Count a lease that somebody has given who has a grant.

        :param common: the name that its request gave, if other models would have done.
        :param given: when that was, in the clock's seconds.
        """
        shared, now = self.shared.get(common or ""), self._clock.seconds()
        if shared is None:
            self._policy.arrived(model.name, now)
        lease = self.grant(model, urgency, shared=shared)
        lease.arrived = lease.granted_at = given
        if model.revoked_for is not None:
            model.revoked_at = now  # it has as long as the others had
            lease.revoke(model.revoked_for)
        return lease

    def admit_waiting(self) -> None:
        """Give leases to those who wait for an open model, in order, as far as it has places."""
        self.granting.review()
        for model in tuple(self.models.values()) if self.waiting else ():
            # Who gives back at once what he was given makes room for the next one here and now.  No
            # more rounds than there are waiters: he may also come back at once, over and over.
            for _ in range(len(model.waiting) + sum(len(each.room) for each in model.shared)):
                if not model.admitting or not model.free_places:
                    break
                self._admit(model)

    def _admit(self, model: Model) -> None:
        """Fill the free places; each lease is counted before any of them goes on."""
        granted = []
        for waiter, shared in self._next(model):
            self._dequeued(model.name if shared is None else shared.name)
            granted.append((waiter, self.grant(model, waiter.urgency, waiter, shared)))
        self._own_up(model, [lease for _, lease in granted])
        for waiter, lease in granted:
            if waiter.lease.called:  # one before it has cancelled it
                lease.release()
            else:
                waiter.lease.callback(lease)

    def _own_up(self, model: Model, granted: Iterable[Lease]) -> None:
        """Tell if what was promised was not kept; batch requests are promised nothing."""
        promise = model.config.max_wait_secs
        if promise is None:
            return
        waits = (lease.queued for lease in granted if lease.urgency.kind != BATCH)
        late = [wait for wait in waits if wait > promise]
        if late:
            self._events.max_wait_missed(model.name, len(late), max(late), promise)
            self._metrics.max_wait_missed(model.name, len(late))

    def _next(self, model: Model) -> list[tuple[Waiter, SharedRoom[Model] | None]]:
        """Take as many out of the queues before a model as it has free places, in order."""
        shared = [each for each in model.shared if each.room]
        if not shared:
            return [(waiter, None) for waiter in model.waiting.take(model.free_places)]
        taken: list[tuple[Waiter, SharedRoom[Model] | None]] = []
        while len(taken) < model.free_places:
            queues = [(each.room.first_place, each) for each in shared if each.room]
            first, common = min(queues, key=itemgetter(0), default=(_NOBODY, None))
            own = model.waiting.first_place if model.waiting else _NOBODY
            if first == own:  # nobody is left
                break
            room = model.waiting if own < first or common is None else common.room
            (waiter,) = room.take(1)
            taken.append((waiter, None if room is model.waiting else common))
        return taken

    def refuse(self, model: Model, error: Callable[[], SwitchError]) -> None:
        """
        End all who wait for a model, each with an error of their own.

        Those who would take another one go on waiting for that; see :meth:`refuse_hopeless`.
        """
        self.refuse_own(model, error)
        for shared in model.shared:
            shared.failed.add(model)

    def refuse_hopeless(self, error: Callable[[str], SwitchError]) -> None:
        """
        End all who would take any of several models of which none can be tried now.

        :param error: makes an error, given the name that they share.
        """
        for name, shared in self.shared.items():
            if shared.room and shared.hopeless:
                self._empty(shared.room, name, partial(error, name))

    def refuse_own(self, model: Model, error: Callable[[], SwitchError]) -> None:
        """End all who wait for a model and for no other, each with an error of their own."""
        self._empty(model.waiting, model.name, error)

    def refuse_all(self, error: Callable[[], SwitchError]) -> None:
        """End all who wait, for whatever model."""
        for model in tuple(self.models.values()):
            self._empty(model.waiting, model.name, error)
        for shared in self.shared.values():
            self._empty(shared.room, shared.name, error)

    def _empty(self, room: WaitingRoom, name: str, error: Callable[[], SwitchError]) -> None:
        for waiter in room.take():
            self._dequeued(name)
            if name in self.models:
                self._policy.left(name, self._clock.seconds())
            if not waiter.lease.called:
                waiter.lease.errback(error())

    def make_model(self, config: ModelConfig) -> Model:
        """Make a model with a waiting room; it is asleep."""

        def left(waiter: Waiter, timed_out: bool) -> None:
            now = self._clock.seconds()
            self._dequeued(model.name)
            self._policy.left(model.name, now)
            model.idle_since = now
            timeout = model.config.request_timeout_secs
            if timed_out and timeout is not None:
                self._events.request_timeout(model.name, timeout)
            self._changed()

        now = self._clock.seconds()
        room = WaitingRoom(
            self._clock, config.request_timeout_secs, left, lambda: self._estimate(model.name)
        )
        state = State.STOPPED if config.asleep_needs else State.ASLEEP
        entered = self._timeline.entered
        entered(config.name, state)
        model = Model(
            config=config, waiting=room, since=now, idle_since=now, state=state, entered=entered
        )
        return model

    def share(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """
        Let requests for some names be served by any of several models.

        :param names: by name, the models, the one that is liked best first; all of them are there.
        """
        for name in [name for name in self.shared if name not in names]:
            gone = self.shared.pop(name)
            self._empty(gone.room, name, partial(UnknownModel, name))
        for name, members in names.items():
            shared = self.shared.get(name) or self._make_shared(name)
            self.shared[name] = shared
            shared.members = tuple(self.models[member] for member in members)
            shared.failed.intersection_update(shared.members)
            shared.on_their_way = [m for m in shared.on_their_way if m in shared.members]
            timeouts = [
                timeout
                for member in shared.members
                if (timeout := member.config.request_timeout_secs) is not None
            ]
            shared.room.limit(min(timeouts, default=None))
        for model in self.models.values():
            model.shared = tuple(each for each in self.shared.values() if model in each.members)

    def _make_shared(self, name: str) -> SharedRoom[Model]:
        def left(waiter: Waiter, timed_out: bool) -> None:
            self._dequeued(name)
            if timed_out:
                self._events.request_timeout(name, self._clock.seconds() - waiter.arrived)
            self._changed()

        room = WaitingRoom(self._clock, None, left, lambda: self._estimate(name))
        return SharedRoom(name, room, self._clock)

    def _queued(self, name: str) -> None:
        self.waiting += 1
        self._metrics.request_queued(name)
        self._timeline.waiting(name, +1)

    def _dequeued(self, name: str) -> None:
        self.waiting -= 1
        self._metrics.request_dequeued(name)
        self._timeline.waiting(name, -1)

    def _released(self, model: Model, lease: Lease, outcome: Outcome) -> None:
        """Take a lease back, and learn from what became of its request."""
        now = self._clock.seconds()
        del model.held[lease]
        model.batch_leases -= lease.urgency.kind == BATCH
        if not model.held:
            model.idle_since = now
        self._metrics.lease_released(lease.model)
        if lease.heard_at is not None:
            model.health.heard_at = max(model.health.heard_at, lease.heard_at())
        if lease.granted_at >= model.awake_since and model.state in SERVING:
            if outcome is Outcome.COMPLETE:
                model.has_served()
            elif outcome is Outcome.REFUSED:
                self._refused(model)
        if outcome is Outcome.ABORTED:
            model.settles_at = max(model.settles_at, now + model.config.settle_secs)
        if outcome is not Outcome.REFUSED:
            seconds = now - lease.granted_at if lease.lasted is None else lease.lasted
            if lease.revoked is None:  # else that says how long it was let, not how long it takes
                self._costs.served(lease.model, seconds)
            self._policy.completed(lease.model, now, seconds)
        self._changed()
