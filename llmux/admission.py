"""Who waits and who is served: the waiting rooms and the leases of all models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from llmux.config import ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import SwitchError
from llmux.events import Events
from llmux.lease import Lease, Outcome
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.policy.contract import ISwitchPolicy
from llmux.states import SERVING
from llmux.waiting import Waiter, WaitingRoom


class Admission:
    """
    Queues requests and gives them leases; when that is right, the switcher says.

    :param configs: the configured models by name.
    :param clock: tells the time.
    :param policy: observes who comes, leaves and ends.
    :param metrics: counts them.
    :param events: logs who waited too long.
    :param costs: learns how long requests take.
    :param changed: called after a request has left the queue by itself, or ended.
    :param refused: called with a model at which nobody listens.
    :param estimate: gives the seconds after which a request for a model would be served.
    :ivar models: every model by name, in the order of the configuration.
    """

    def __init__(
        self,
        configs: Mapping[str, ModelConfig],
        clock: IReactorTime,
        policy: ISwitchPolicy,
        metrics: Metrics,
        events: Events,
        costs: SwitchCosts,
        changed: Callable[[], None],
        refused: Callable[[Model], None],
        estimate: Callable[[str], int],
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._metrics = metrics
        self._events = events
        self._costs = costs
        self._changed = changed
        self._refused = refused
        self._estimate = estimate
        self._arrivals = itertools.count(1)
        self.models = {name: self.make_model(config) for name, config in configs.items()}

    def count_from(self, number: int) -> None:
        """Go on counting arrivals where another llmux has ended."""
        self._arrivals = itertools.count(max(number + 1, next(self._arrivals)))

    def queue(self, model: Model) -> Deferred[Lease]:
        """Let one more request wait; cancelling it takes it out of the queue at once."""
        model.asked = next(self._arrivals)
        waiter = model.waiting.add(model.asked)
        self._metrics.request_queued(model.name)
        return waiter.lease

    def queue_again(self, model: Model, lease: Lease) -> Deferred[Lease]:
        """Let a request wait at its old place whose lease is given back unused."""
        waiter = model.waiting.add_again(lease.number, lease.arrived)
        self._metrics.request_queued(model.name)
        return waiter.lease

    def grant(self, model: Model, waiter: Waiter | None = None) -> Lease:
        """
        Give a lease.

        :param waiter: who has been taken out of the queue for it; ``None`` for a request that has
            just come.
        """
        now = self._clock.seconds()
        if waiter is None:
            model.asked = next(self._arrivals)
            lease = Lease(model.name, model.asked, now, now, partial(self._released, model))
        else:
            switching = max(0.0, model.awake_since - max(model.switch_began, waiter.arrived))
            released = partial(self._released, model)
            lease = Lease(model.name, waiter.number, waiter.arrived, now, released, switching)
        model.held[lease] = None
        self._metrics.lease_granted(model.name, None if waiter is None else lease.queued)
        return lease

    def admit_waiting(self) -> None:
        """Give leases to those who wait for an open model, in order, as far as it has places."""
        for model in tuple(self.models.values()):
            # Who gives back at once what he was given makes room for the next one here and now.  No
            # more rounds than there are waiters: he may also come back at once, over and over.
            for _ in range(len(model.waiting)):
                if not model.admitting or not model.free_places:
                    break
                self._admit(model)

    def _admit(self, model: Model) -> None:
        """Fill the free places; each lease is counted before any of them goes on."""
        granted = []
        for waiter in model.waiting.take(model.free_places):
            self._metrics.request_dequeued(model.name)
            granted.append((waiter, self.grant(model, waiter)))
        for waiter, lease in granted:
            if waiter.lease.called:  # one before it has cancelled it
                lease.release()
            else:
                waiter.lease.callback(lease)

    def refuse(self, model: Model, error: Callable[[], SwitchError]) -> None:
        """End all who wait for a model, each with an error of their own."""
        for waiter in model.waiting.take():
            self._metrics.request_dequeued(model.name)
            self._policy.left(model.name, self._clock.seconds())
            if not waiter.lease.called:
                waiter.lease.errback(error())

    def make_model(self, config: ModelConfig) -> Model:
        """Make a model with a waiting room; it is asleep."""

        def left(waiter: Waiter, timed_out: bool) -> None:
            self._metrics.request_dequeued(model.name)
            self._policy.left(model.name, self._clock.seconds())
            timeout = model.config.request_timeout_secs
            if timed_out and timeout is not None:
                self._events.request_timeout(model.name, timeout)
            self._changed()

        room = WaitingRoom(
            self._clock, config.request_timeout_secs, left, lambda: self._estimate(model.name)
        )
        model = Model(config=config, waiting=room, since=self._clock.seconds())
        return model

    def _released(self, model: Model, lease: Lease, outcome: Outcome) -> None:
        """Take a lease back, and learn from what became of its request."""
        now = self._clock.seconds()
        del model.held[lease]
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
            seconds = now - lease.granted_at
            self._costs.served(lease.model, seconds)
            self._policy.completed(lease.model, now, seconds)
        self._changed()
