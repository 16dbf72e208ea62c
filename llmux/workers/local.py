"""Leases as a worker gives them: by itself as far as it has grants, else through its parent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import Interface, implementer

from llmux.config import ModelConfig
from llmux.errors import RequestError
from llmux.grant import News
from llmux.holder import Began, Ended, Happened, Heard
from llmux.lease import Lease, Outcome, Revocation
from llmux.leases import ILeases
from llmux.states import State
from llmux.urgency import Urgency

GATHERING = 0.1
"""Seconds for which what has happened is gathered before it is reported."""

HEARING = 0.25
"""Seconds between two reports of when bytes of answers have come, where that may be asked for."""

RESTING = 5.0
"""The same while all grants are ours, and ``alive`` is asked seldom: nobody wants to know."""


class IParentLink(Interface):
    """The way to the parent: see the methods of :class:`~llmux.holder.Holder`."""

    def wait(number: int, name: str, urgency: Urgency | None) -> None:
        """Say that a request has no lease."""

    def wait_again(number: int, before: int) -> None:
        """Say that one has got nowhere with the lease that it had."""

    def leave(number: int) -> None:
        """Say that a client has gone that waited."""

    def before(number: int) -> None:
        """Ask how many wait before a request."""

    def report(events: list[Happened]) -> None:
        """Say what has happened."""

    def returned(model: str) -> None:
        """Say that no more leases of a model are given."""


@attrs.define(eq=False)
class _Waiting:
    """
    A request that waits at the parent.

    :ivar arrived: when it came here.
    :ivar lease: becomes its lease.
    :ivar before: how many wait before it, as far as is known.
    """

    arrived: float
    lease: Deferred[Lease]
    before: int | None = None


@attrs.define(eq=False)
class _Grant:
    """
    Leave to give leases of a model.

    :ivar places: how many at a time, and
    :ivar given: how many are held that were given by it.
    """

    places: int
    given: int = 0


@attrs.define(eq=False)
class _Held:
    """
    A lease that is held.

    :ivar lease: it.
    :ivar grant: what it was given by, if not by the parent.
    """

    lease: Lease
    grant: _Grant | None


@implementer(ILeases)
class LocalLeases:
    """
    Gives leases to the requests of one worker.

    What the parent says comes in through :meth:`grant` and those below it.

    :param clock: tells the time; the parent has the same.
    :param link: leads to the parent.
    :param models: by name, how models are configured that may be asked for.
    :param shared: gives by name the models of which any can serve a request for it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        link: IParentLink,
        models: Mapping[str, ModelConfig],
        shared: Callable[[], Mapping[str, tuple[str, ...]]],
    ) -> None:
        self._clock = clock
        self._link = link
        self._models = models
        self._shared = shared
        self._numbers = itertools.count(1)
        self._grants: dict[str, _Grant] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._numbered: dict[Deferred[Lease], int] = {}
        self._held: dict[int, _Held] = {}
        self._news: dict[str, News] = {}
        self._events: list[Happened] = []
        self._heard: dict[str, float] = {}
        self._timer: IDelayedCall | None = None
        self._hearing: IDelayedCall | None = None
        self._rests = False  # whether that is far away

    # For whoever relays.

    def acquire(self, name: str, urgency: Urgency | None = None) -> Deferred[Lease]:
        """See :meth:`ILeases.acquire`."""
        server = self._open(name)
        if server is not None:
            return succeed(self._give(server, name, urgency))
        number = next(self._numbers)
        waiting = self._wait(number)
        self.flush()
        self._link.wait(number, name, urgency)
        return waiting

    def acquire_again(self, lease: Lease) -> Deferred[Lease]:
        """See :meth:`ILeases.acquire_again`."""
        number = next(self._numbers)
        waiting = self._wait(number)
        self._drop(lease.number)  # the parent takes it back by itself
        lease.release(Outcome.REFUSED)
        self.flush()
        self._link.wait_again(number, lease.number)
        return waiting

    def waiting_before(self, lease: Deferred[Lease]) -> int | None:
        """
        See :meth:`ILeases.waiting_before`.

        What is known may be as old as the last question; each question has it renewed.
        """
        number = self._numbered.get(lease)
        if number is None:
            return None
        self._link.before(number)
        return self._waiting[number].before

    def leaving_since(self, name: str) -> float | None:
        """See :meth:`ILeases.leaving_since`."""
        news = self._news.get(name)
        return None if news is None else news.leaving_since

    def estimate(self, name: str) -> int:
        """See :meth:`ILeases.estimate`."""
        names = self._shared().get(name, (name,))
        known = [self._news[each].estimate for each in names if each in self._news]
        return min(known, default=1)

    def states(self) -> dict[str, State]:
        """See :meth:`ILeases.states`."""
        return {name: news.state for name, news in self._news.items()}

    # What the parent says.

    def grant(self, model: str, places: int) -> None:
        """Give leases of a model from now on."""
        self._grants[model] = _Grant(places)

    def recall(self, model: str) -> None:
        """Give no more of them."""
        self._grants.pop(model, None)
        if self._hearing is not None:
            self._hearing.cancel()
            self._look()
        self.flush()
        self._link.returned(model)

    def queued(self, number: int, before: int) -> None:
        """Take in how many wait before a request."""
        if number in self._waiting:
            self._waiting[number].before = before

    def lease(self, number: int, model: str, shared: str | None, switching: float) -> None:
        """
        Give a request that waits its lease.

        :param shared: the name that it gave, if other models would have done.
        :param switching: for how many seconds of its waiting a switch was under way.
        """
        waiting = self._end(number)
        if waiting is None:  # its client has gone, and the parent will hear of it
            return
        now = self._clock.seconds()
        lease = Lease(model, number, waiting.arrived, now, self._released, switching, shared)
        self._held[number] = _Held(lease, None)
        self._listen(model)
        waiting.lease.callback(lease)

    def refuse(self, number: int, error: RequestError) -> None:
        """End a request that waits."""
        waiting = self._end(number)
        if waiting is not None:
            waiting.lease.errback(error)

    def want_back(self, number: int, why: Revocation) -> None:
        """Want a lease back at once."""
        if number in self._held:
            self._held[number].lease.revoke(why)

    def hear(self, news: Mapping[str, News]) -> None:
        """Take in how things stand."""
        self._news.update(news)

    def forget(self, model: str) -> None:
        """Take in that there is no such model any more."""
        self._news.pop(model, None)

    def _open(self, name: str) -> str | None:
        """Choose the model that a request for a name can have at once, if any."""
        for model in self._shared().get(name, (name,)):
            grant = self._grants.get(model)
            if grant is not None and grant.given < grant.places:
                return model
            news = self._news.get(model)
            if news is not None and news.state is State.AWAKE:
                return None  # it may be had from the parent, and is liked better than the rest
        return None

    def _give(self, model: str, name: str, urgency: Urgency | None) -> Lease:
        grant = self._grants[model]
        grant.given += 1
        shared = None if name == model else name
        if urgency is None:
            first = model if shared is None else self._shared()[name][0]
            urgency = self._models[first].urgency
        number, now = next(self._numbers), self._clock.seconds()
        lease = Lease(model, number, now, now, self._released, 0.0, shared, urgency)
        self._held[number] = _Held(lease, grant)
        self._happened(Began(number, model, shared, urgency, now))
        self._listen(model)
        return lease

    def _wait(self, number: int) -> Deferred[Lease]:
        waiting: Deferred[Lease] = Deferred(lambda _: self._left(number))
        self._waiting[number] = _Waiting(self._clock.seconds(), waiting)
        self._numbered[waiting] = number
        return waiting

    def _end(self, number: int) -> _Waiting | None:
        """Have a request wait no more."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            del self._numbered[waiting.lease]
        return waiting

    def _left(self, number: int) -> None:
        self._end(number)
        self._link.leave(number)

    def _released(self, lease: Lease, outcome: Outcome) -> None:
        held = self._drop(lease.number)
        if held is None:
            return
        seconds = self._clock.seconds() - lease.granted_at
        heard_at = None if lease.heard_at is None else lease.heard_at()
        self._happened(Ended(lease.number, outcome, seconds, heard_at))
        if lease.model not in self._grants:
            self.flush()  # somebody waits for its end

    def _last_heard(self, model: str) -> float:
        return self._heard.get(model, -math.inf)

    def _drop(self, number: int) -> _Held | None:
        held = self._held.pop(number, None)
        if held is not None and held.grant is not None:
            held.grant.given -= 1
        return held

    def _happened(self, event: Happened) -> None:
        self._events.append(event)
        if self._timer is None:
            self._timer = self._clock.callLater(GATHERING, self.flush)

    def flush(self) -> None:
        """Report what has been gathered."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        events, self._events = self._events, []
        if events:
            self._link.report(events)

    def _listen(self, *models: str) -> None:
        """Look for bytes of answers of some models from now on, as long as any are coming."""
        soon = any(map(self._is_asked_for, models))
        if self._hearing is None:
            self._hearing = self._clock.callLater(HEARING if soon else RESTING, self._look)
            self._rests = not soon
        elif soon and self._rests:
            self._hearing.reset(HEARING)
            self._rests = False

    def _is_asked_for(self, model: str) -> bool:
        """Tell whether somebody may want to know soon when a model was last heard of."""
        config = self._models.get(model)
        if config is None or model not in self._grants:
            return True
        interval = config.alive_interval_secs
        return interval is not None and interval < 2 * RESTING

    def _look(self) -> None:
        self._hearing = None
        latest: dict[str, float] = {}
        for held in self._held.values():
            lease = held.lease
            if lease.heard_at is not None:
                latest[lease.model] = max(latest.get(lease.model, -math.inf), lease.heard_at())
        for model, at in latest.items():
            if at > self._last_heard(model):
                self._heard[model] = at
                self._happened(Heard(model, at))
        if self._held:
            self._listen(*{each.lease.model for each in self._held.values()})
