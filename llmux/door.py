"""Where requests come in: who gets a lease at once, who waits, who is turned away."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from llmux.admission import Admission
from llmux.conductor import Conductor
from llmux.costs import SwitchCosts
from llmux.errors import ModelUnavailable, ShuttingDown, TooManyWaiting, UnknownModel
from llmux.estimate import Estimate
from llmux.lease import Lease, Outcome
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.policy.contract import ISwitchPolicy
from llmux.urgency import Urgency


@attrs.define(eq=False)
class Door:
    """
    Takes requests in.

    :param admission: queues them and gives them leases.
    :param conductor: has models woken for them.
    :param outlook: knows the models.
    :param policy: observes them.
    :param costs: what was learnt.
    :param clock: tells the time.
    """

    _admission: Admission
    _conductor: Conductor
    _outlook: Outlook
    _policy: ISwitchPolicy
    _costs: SwitchCosts
    _clock: IReactorTime

    def acquire(self, name: str, urgency: Urgency | None = None) -> Deferred[Lease]:
        """
        Ask for the right to send one request to a model.

        :param name: the name that the client gave.
        :param urgency: how much of a hurry it is in; ``None``: as the configuration says of its
            model.
        :returns: a Deferred that becomes the lease: at once while the model is awake and has a free
            place, else when it has been woken and one is free.  Cancelling it takes the request out
            of the queue there and then.  It fails with a :class:`~llmux.errors.SwitchError`.
        """
        model = self._admission.models.get(name)
        if model is None or model.removed:
            return self._acquire_any(name, urgency)
        if self._conductor.stopped:
            return fail(ShuttingDown())
        now = self._clock.seconds()
        if not model.admitting and now < model.wake_backoff.until:
            return fail(self.unavailable(name))
        if model.admitting and model.free_places and not model.wanted:
            self._policy.arrived(name, now)
            return succeed(self._admission.grant(model, urgency or model.config.urgency))
        if len(model.waiting) >= model.config.max_waiting:
            return fail(TooManyWaiting(name, len(model.waiting), self.estimate(name)))
        self._policy.arrived(name, now)
        return self._wait(self._admission.queue(model, urgency or model.config.urgency))

    def unavailable(self, name: str) -> ModelUnavailable:
        """Make the error for a name whose models cannot be woken now."""
        return ModelUnavailable(
            f"Model {name} could not be woken; the server's log says why",
            retry_after=self.estimate(name),  # which includes its back-off
        )

    def _acquire_any(self, name: str, urgency: Urgency | None) -> Deferred[Lease]:
        """Ask for the right to send one request to any of several models."""
        shared = self._admission.shared.get(name)
        if shared is None:
            return fail(UnknownModel(name))
        if self._conductor.stopped:
            return fail(ShuttingDown())
        if not shared.room:
            shared.failed.clear()  # those for whom they were tried have gone
        urgency = urgency or shared.members[0].config.urgency
        for model in shared.members:
            if model.admitting and model.free_places and not model.wanted:
                return succeed(self._admission.grant(model, urgency, shared=shared))
        if shared.hopeless:
            return fail(self.unavailable(name))
        if len(shared.room) >= min(model.config.max_waiting for model in shared.members):
            return fail(TooManyWaiting(name, len(shared.room), self.estimate(name)))
        return self._wait(self._admission.queue_shared(shared, urgency))

    def _wait(self, waiting: Deferred[Lease]) -> Deferred[Lease]:
        """Have a model woken for a request; whatever goes wrong in that, it is not left behind."""
        try:
            self._conductor.consider()
        except BaseException:
            waiting.addCallbacks(lambda lease: lease.release(Outcome.FAILED), lambda _: None)
            waiting.cancel()
            raise
        return waiting

    def acquire_again(self, lease: Lease) -> Deferred[Lease]:
        """
        Give a lease back of which nobody at the backend took anything, and ask for another one.

        The model is looked at meanwhile, and if it is down it is cleaned up after and woken again.
        The request waits at the place that it had before, and its time counts from when it came.

        :param lease: is released by this.
        :returns: as :meth:`acquire`.
        """
        model = self._admission.models.get(lease.model)
        if self._conductor.stopped or model is None or model.removed:
            lease.release(Outcome.REFUSED)
            gone = model is None or model.removed
            return fail(UnknownModel(lease.model) if gone else ShuttingDown())
        waiting = self._admission.queue_again(model, lease)
        lease.release(Outcome.REFUSED)  # now there is somebody who wants the model
        return waiting

    def waiting_before(self, lease: Deferred[Lease]) -> int | None:
        """
        Say how many wait for the same model before a request; cheap enough to be asked often.

        :param lease: what :meth:`acquire` returned.
        :returns: ``None`` if it does not wait any more.
        """
        rooms = [model.waiting for model in self._admission.models.values()]
        rooms += [shared.room for shared in self._admission.shared.values()]
        places = (room.place(lease) for room in rooms)
        return next((place for place in places if place is not None), None)

    def leaving_since(self, name: str) -> float | None:
        """
        Say since when a model's leases are wanted back, in the clock's seconds.

        They are while the model is wanted to go, and while requests wait for one of its places.

        :returns: ``None`` while nobody minds how long they are held.
        """
        model = self._admission.models.get(name)
        return None if model is None else model.wanted_back_since

    def estimate(self, name: str) -> int:
        """Guess in how many seconds a request for a model would be served that comes now."""
        shared, model = self._admission.shared.get(name), self._admission.models.get(name)
        models: tuple[Model, ...] = () if model is None else (model,)
        if model is None and shared is not None:
            models = shared.members
        guess = Estimate(
            self._outlook, self._costs, self._conductor.switches, self._clock.seconds()
        )
        # none is left if it has gone while one of its requests came to its end
        return min((guess.seconds(model) for model in models), default=1)
