"""Who waits and who is served: the waiting rooms and the leases of all models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from llmux.config import ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import SwitchError
from llmux.events import Events
from llmux.lease import Lease
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.policy.contract import ISwitchPolicy
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
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._metrics = metrics
        self._events = events
        self._costs = costs
        self._changed = changed
        self._arrivals = itertools.count()
        self.models = {name: self._model(config) for name, config in configs.items()}

    def queue(self, model: Model) -> Deferred[Lease]:
        """Let one more request wait; cancelling it takes it out of the queue at once."""
        waiter = model.waiting.add(next(self._arrivals))
        self._metrics.request_queued(model.name)
        return waiter.lease

    def grant(self, model: Model, waited: float | None = None) -> Lease:
        """
        Give a lease.

        :param waited: how long its request was queued, in seconds; ``None`` if it was not.
        """
        model.leases += 1
        self._metrics.lease_granted(model.name, waited)
        return Lease(model.name, self._clock.seconds(), self._released)

    def admit_waiting(self) -> None:
        """
        Give all who wait for an open model a lease, in order.

        Each is counted before any of them goes on.
        """
        for model in self.models.values():
            if not model.admitting or not model.waiting:
                continue
            now = self._clock.seconds()
            granted = []
            for waiter in model.waiting.take_all():
                self._metrics.request_dequeued(model.name)
                granted.append((waiter, self.grant(model, now - waiter.arrived)))
            for waiter, lease in granted:
                if waiter.lease.called:  # one before it has cancelled it
                    lease.release()
                else:
                    waiter.lease.callback(lease)

    def refuse(self, model: Model, error: Callable[[], SwitchError]) -> None:
        """End all who wait for a model, each with an error of their own."""
        for waiter in model.waiting.take_all():
            self._metrics.request_dequeued(model.name)
            self._policy.left(model.name, self._clock.seconds())
            if not waiter.lease.called:
                waiter.lease.errback(error())

    def _model(self, config: ModelConfig) -> Model:
        def left(waiter: Waiter, timed_out: bool) -> None:
            self._metrics.request_dequeued(config.name)
            self._policy.left(config.name, self._clock.seconds())
            if timed_out and config.request_timeout_secs is not None:
                self._events.request_timeout(config.name, config.request_timeout_secs)
            self._changed()

        return Model(
            config=config,
            waiting=WaitingRoom(self._clock, config.request_timeout_secs, left),
            since=self._clock.seconds(),
        )

    def _released(self, lease: Lease) -> None:
        now = self._clock.seconds()
        seconds = now - lease.granted_at
        self.models[lease.model].leases -= 1
        self._metrics.lease_released(lease.model)
        self._costs.served(lease.model, seconds)
        self._policy.completed(lease.model, now, seconds)
        self._changed()
