"""Somebody else who gives leases of our models: what it does, as the switcher counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from txaio.tx import make_logger
from zope.interface import Interface

from llmux.admission import Admission
from llmux.conductor import Conductor
from llmux.door import Door
from llmux.errors import InternalError, RequestError
from llmux.grant import News
from llmux.lease import Lease, Outcome, Revocation
from llmux.urgency import Urgency


class IHolderLink(Interface):
    """
    The way to a holder.  What is said arrives in the order in which it is said, or it is lost, and
    with it the holder.

    Each request of the holder's has a number that the holder has given it; a lease has that of its
    request.
    """

    def grant(model: str, places: int) -> None:
        """Let it give leases of a model, so many at a time."""

    def recall(model: str) -> None:
        """Let it give no more of them, and answer with :meth:`Holder.returned`."""

    def queued(number: int, before: int) -> None:
        """Say that a request waits, and how many wait before it."""

    def lease(number: int, lease: Lease) -> None:
        """Give a request its lease."""

    def refuse(number: int, error: RequestError) -> None:
        """End a request that waits."""

    def want_back(number: int, why: Revocation) -> None:
        """Want a lease back at once."""

    def hear(news: Mapping[str, News]) -> None:
        """Say how things stand, by model."""

    def end() -> None:
        """End it, for it does not answer; :meth:`Holder.lost` follows."""


@attrs.frozen
class Began:
    """
    A holder has given a lease.

    :param number: of the request.
    :param model: whose lease.
    :param shared: the name that the request gave, if other models would have done.
    :param urgency: how much of a hurry it is in.
    :param at: when, in the clock's seconds.
    """

    number: int
    model: str
    shared: str | None
    urgency: Urgency
    at: float


@attrs.frozen
class Ended:
    """
    A holder has taken a lease back.

    :param number: of the request.
    :param outcome: what became of it.
    :param seconds: for how long it was held.
    :param heard_at: when the backend last sent something of the answer, in the clock's seconds;
        ``None``: never.
    """

    number: int
    outcome: Outcome
    seconds: float
    heard_at: float | None = None


@attrs.frozen
class Heard:
    """
    Something of an answer has come to a holder.

    :param model: from which model, and
    :param at: when, in the clock's seconds.
    """

    model: str
    at: float


Happened = Began | Ended | Heard


class Holder:
    """
    One holder: its requests that wait, and the leases that it has.

    Its methods are what it says.

    :param link: leads to it.
    :param admission: counts its leases.
    :param door: takes its requests.
    :param conductor: looks at several things that have changed at once.
    :param changed: called when something has changed that others may wait for.
    """

    _log = make_logger()

    def __init__(
        self,
        link: IHolderLink,
        admission: Admission,
        door: Door,
        conductor: Conductor,
        changed: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._link = link
        self._admission = admission
        self._granting = admission.granting
        self._door = door
        self._conductor = conductor
        self._waiting: dict[int, Deferred[Lease]] = {}
        self._held: dict[int, Lease] = {}
        self._heard: dict[str, float] = {}
        self.grant, self.recall = link.grant, link.recall
        self.hear, self.give_up = link.hear, link.end
        self._granting.join(self)
        self._granting.review()

    @property
    def waiting(self) -> int:
        """How many of its requests wait."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many leases it holds, as far as it has said so."""
        return len(self._held)

    def wait(self, number: int, name: str, urgency: Urgency | None) -> None:
        """Take in that one of its requests has no lease; see :meth:`Door.acquire`."""
        self._follow(number, self._door.acquire(name, urgency))

    def wait_again(self, number: int, before: int) -> None:
        """
        Take in that one has got nowhere with its lease; see :meth:`Door.acquire_again`.

        :param number: a new one, under which it waits.
        :param before: the one under which it has the lease.
        """
        lease = self._held.pop(before)
        self._forget(lease)
        self._follow(number, self._door.acquire_again(lease))

    def leave(self, number: int) -> None:
        """Take in that a client has gone that waits, or has waited until now."""
        waiting = self._waiting.get(number)
        if waiting is not None:
            waiting.cancel()
        elif number in self._held:
            self._release(number, Outcome.FAILED)  # the model has not shown anything

    def before(self, number: int) -> None:
        """Say once more how many wait before a request."""
        waiting = self._waiting.get(number)
        before = None if waiting is None else self._door.waiting_before(waiting)
        if before is not None:
            self._link.queued(number, before)

    def report(self, events: Iterable[Happened]) -> None:
        """Take in what has happened, in order."""
        with self._conductor.paused():
            for event in events:
                if isinstance(event, Began):
                    self._began(event)
                elif isinstance(event, Heard):
                    self._has_heard(event)
                elif event.number in self._held:
                    self._ended(event)

    def returned(self, name: str) -> None:
        """Take in that it gives no more leases of a model; all that it gave are known."""
        model = self._admission.models.get(name)
        if model is not None:
            self._granting.returned(self, model)
            self._changed()

    def lost(self) -> None:
        """Take in that it has died: what it had comes back, and its clients have been cut."""
        with self._conductor.paused():
            self._granting.gone(self)
            for waiting in tuple(self._waiting.values()):
                waiting.cancel()
            for number in tuple(self._held):
                self._release(number, Outcome.ABORTED)
        self._changed()

    def _began(self, event: Began) -> None:
        model = self._admission.models.get(event.model)
        if model is None:  # it does not go while a grant is out
            return
        lease = self._admission.take_in(model, event.urgency, event.shared, event.at)
        grant = model.grants.get(self)
        if grant is not None:
            grant.leases.add(lease)
        self._take(event.number, lease)

    def _ended(self, event: Ended) -> None:
        lease = self._held[event.number]
        lease.lasted = event.seconds
        if event.heard_at is not None:
            lease.heard_at = lambda at=event.heard_at: at
        self._release(event.number, event.outcome)

    def _has_heard(self, event: Heard) -> None:
        self._heard[event.model] = event.at
        for lease in self._held.values():
            if lease.model == event.model and lease.heard_at is None:
                lease.heard_at = lambda name=event.model: self._heard[name]

    def _follow(self, number: int, waiting: Deferred[Lease]) -> None:
        self._waiting[number] = waiting
        waiting.addCallbacks(self._served, self._refused, (number,), {}, (number,))
        waiting.addErrback(lambda bug: self._log.failure("a holder was not told", failure=bug))
        self.before(number)

    def _served(self, lease: Lease, number: int) -> None:
        del self._waiting[number]
        self._link.lease(number, lease)
        self._take(number, lease)
        self._granting.offer(self, self._admission.models[lease.model])

    def _take(self, number: int, lease: Lease) -> None:
        self._held[number] = lease
        lease.on_revoked(lambda why: self._link.want_back(number, why))

    def _refused(self, failure: Failure, number: int) -> None:
        del self._waiting[number]
        if failure.check(CancelledError):  # by itself
            return
        error = failure.value
        if not isinstance(error, RequestError):
            self._log.failure("a request of a holder's was not taken", failure=failure)
            error = InternalError()
        self._link.refuse(number, error)

    def _release(self, number: int, outcome: Outcome) -> None:
        lease = self._held.pop(number)
        self._forget(lease)
        lease.release(outcome)

    def _forget(self, lease: Lease) -> None:
        """Have the place of a lease be free again for its holder to give."""
        model = self._admission.models.get(lease.model)
        grant = None if model is None else model.grants.get(self)
        if grant is not None:
            grant.leases.discard(lease)
