"""
The switcher: hands out leases, and has models switched so that it can.

This is what the rest of llmux knows of it.  What it decides, and how, is in the rooms that it is
made of: :mod:`~llmux.conductor` begins switches and ends them, :mod:`~llmux.switching` carries them
out, :mod:`~llmux.health` looks after what is awake, :mod:`~llmux.recovery` finds out what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from llmux.admission import Admission
from llmux.agenda import Agenda
from llmux.budget import Budget
from llmux.census import Census
from llmux.closing import Closing
from llmux.conductor import Conductor
from llmux.config import ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import ModelUnavailable, ShuttingDown, TooManyWaiting, UnknownModel
from llmux.estimate import Estimate
from llmux.events import Events
from llmux.health import HealthCheck
from llmux.hookruns import HookRuns
from llmux.hooks.contract import IHookRunner, Leftover
from llmux.journal import Memory, ModelRecord
from llmux.lease import Lease, Outcome, Revocation
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.orders import Kind, Order, OrderFailed
from llmux.outlook import Outlook
from llmux.policy.contract import ISwitchPolicy
from llmux.policy.guard import GuardedPolicy
from llmux.recovery import Recovery
from llmux.reporting import Report
from llmux.roster import Changes, Roster
from llmux.sleeping import Sleeping
from llmux.states import SERVING, State
from llmux.switching import Course, Switch
from llmux.waking import Waking


def _nothing(*_: object) -> None:
    """Do nothing: nobody wants to know."""


class Switcher:
    """
    Hands out leases, and switches models so that it can.

    :param models: the configured models by name, in the order of the configuration.
    :param hooks: runs their scripts.
    :param policy: decides when to switch and to whom.
    :param clock: the only time there is.
    :param budget: who fits beside whom.
    :param metrics: counts what happens.
    :param events: logs what happens.
    :param costs: what was learnt before, and what will be.
    :param before_sleep: called with a model's name right before it is put to sleep.
    :param configured: called with a model's new configuration when it begins to count.
    :param forgotten: called with the name of a model that is not there any more.
    :param remember: called when what a restart must know has changed; :meth:`records` has it.
    :param finished: called when a hook has ended that another llmux had left running.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        hooks: IHookRunner,
        policy: ISwitchPolicy,
        clock: IReactorTime,
        budget: Budget,
        metrics: Metrics,
        events: Events,
        costs: SwitchCosts,
        before_sleep: Callable[[str], None] = _nothing,
        configured: Callable[[ModelConfig], None] = _nothing,
        forgotten: Callable[[str], None] = _nothing,
        remember: Callable[[], None] = _nothing,
        finished: Callable[[Leftover], None] = _nothing,
    ) -> None:
        self._clock = clock
        self._events = events
        self._hooks = hooks
        self._remember = remember
        self.costs = costs
        self.policy = GuardedPolicy(policy)
        self._admission = Admission(
            models, clock, self.policy, metrics, events, costs,
            self._changed, lambda model: self._health.refused(model), self.estimate,
        )  # fmt: skip
        self.models: Mapping[str, Model] = self._admission.models
        self._outlook = Outlook(self.models, budget)
        runs = HookRuns(hooks, clock, metrics, events, self._note)
        self._health = HealthCheck(runs, self._fallen, self._changed)
        self._course = Course(
            runs, Sleeping(runs, costs, metrics, events), Waking(runs, costs), self._health,
            events, before_sleep,
        )  # fmt: skip
        self._agenda = Agenda(self.models, self._outlook)
        self._conductor = Conductor(
            self._admission, self._agenda, self._outlook, self.policy, clock, self._course, costs,
            self._health, Report(clock, self.policy, costs, metrics, events), events,
            self._unavailable, self._settled,
        )  # fmt: skip
        self._roster = Roster(
            self._admission, events, configured, forgotten,
            lambda model: self.switch is not None and self.switch.target is model,
        )  # fmt: skip
        self._recovery = Recovery(runs, hooks, events, finished, self._changed)
        self._census = Census(
            self._admission, self._roster, self._recovery, self._conductor, self._health,
            self._note,
        )  # fmt: skip
        self._closing = Closing(
            self.models.values, lambda: self.switch is not None, clock, self._course,
            self._health, self._recovery,
        )  # fmt: skip

    @property
    def switch(self) -> Switch | None:
        """The switch that is under way."""
        return self._conductor.switch

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders that wait for their turn."""
        return tuple(self._agenda.orders)

    @property
    def phase(self) -> str:
        """``starting``, ``serving`` or ``stopping``."""
        if self._conductor.stopped:
            return "stopping"
        return "starting" if self._census.starting else "serving"

    def acquire(self, name: str) -> Deferred[Lease]:
        """
        Ask for the right to send one request to a model.

        :param name: the name that the client gave.
        :returns: a Deferred that becomes the lease: at once while the model is awake and has a free
            place, else when it has been woken and one is free.  Cancelling it takes the request out
            of the queue there and then.  It fails with a :class:`~llmux.errors.SwitchError`.
        """
        model = self.models.get(name)
        if model is None or model.removed:
            return fail(UnknownModel(name))
        if self._conductor.stopped:
            return fail(ShuttingDown())
        now = self._clock.seconds()
        if not model.admitting and now < model.wake_backoff.until:
            return fail(self._unavailable(model))
        if model.admitting and model.free_places and not model.waiting:
            self.policy.arrived(name, now)
            return succeed(self._admission.grant(model))
        if len(model.waiting) >= model.config.max_waiting:
            return fail(TooManyWaiting(name, len(model.waiting), self.estimate(name)))
        self.policy.arrived(name, now)
        waiting = self._admission.queue(model)
        self._conductor.consider()
        return waiting

    def acquire_again(self, lease: Lease) -> Deferred[Lease]:
        """
        Give a lease back of which nobody at the backend took anything, and ask for another one.

        The model is looked at meanwhile, and if it is down it is cleaned up after and woken again.
        The request waits at the place that it had before, and its time counts from when it came.

        :param lease: is released by this.
        :returns: as :meth:`acquire`.
        """
        model = self.models.get(lease.model)
        if self._conductor.stopped or model is None or model.removed:
            lease.release(Outcome.REFUSED)
            gone = model is None or model.removed
            return fail(UnknownModel(lease.model) if gone else ShuttingDown())
        waiting = self._admission.queue_again(model, lease)
        lease.release(Outcome.REFUSED)  # now there is somebody who wants the model
        return waiting

    def states(self) -> dict[str, State]:
        """Say in which state every model is."""
        return {name: model.state for name, model in self.models.items()}

    def in_flight(self, name: str) -> int:
        """Say how many leases of a model are held."""
        return self.models[name].leases

    def waiting(self, name: str) -> int:
        """Say how many requests wait for a model."""
        return len(self.models[name].waiting)

    def waiting_before(self, lease: Deferred[Lease]) -> int | None:
        """
        Say how many wait for the same model before a request; cheap enough to be asked often.

        :param lease: what :meth:`acquire` returned.
        :returns: ``None`` if it does not wait any more.
        """
        places = (model.waiting.place(lease) for model in self.models.values())
        return next((place for place in places if place is not None), None)

    def leaving_since(self, name: str) -> float | None:
        """
        Say since when a model's leases are wanted back, in the clock's seconds.

        They are while the model is wanted to go, and while requests wait for one of its places.

        :returns: ``None`` while nobody minds how long they are held.
        """
        model = self.models.get(name)
        return None if model is None else model.wanted_back_since

    def estimate(self, name: str) -> int:
        """Guess in how many seconds a request for a model would be served that comes now."""
        model, now = self.models.get(name), self._clock.seconds()
        if model is None:
            return 1  # it has gone while one of its requests came to its end
        return Estimate(self._outlook, self.costs, self.switch, now).seconds(model)

    def start(self, memory: Memory) -> Deferred[None]:
        """
        Find out what is there, before any model is woken; requests that come meanwhile wait.

        :param memory: what the llmux before has left.
        """
        return Deferred.fromCoroutine(self._census.start(memory))

    def started(self) -> Deferred[object]:
        """Give what fires when it is known what is awake."""
        return self._census.started()

    def reconfigure(self, models: Mapping[str, ModelConfig]) -> Deferred[Changes]:
        """
        Take over a new configuration of the models.

        :param models: by name, in the order of the configuration.
        :returns: what is different, when it is known of new models whether they are awake.
        """
        return Deferred.fromCoroutine(self._census.reconfigure(models))

    def order(self, kind: Kind, name: str) -> Deferred[str]:
        """
        Have something done with a model; it comes before whatever a policy wants.

        :returns: becomes one sentence that says what was done; fails with
            :class:`~llmux.orders.OrderFailed`.
        :raises KeyError: if there is no such model.
        """
        if self._conductor.stopped:
            return fail(OrderFailed("llmux is shutting down", tried=False))
        model, now = self.models[name], self._clock.seconds()
        if kind is Kind.WAKE and model.state in SERVING and not model.moving:
            leaving = ", and about to go" if model.state is State.DRAINING else " already"
            return succeed(f"{name} was awake{leaving}")
        with self._conductor.paused():  # or the order's own hooks would be stopped, too
            being_killed = model.to_be_killed
            order = self._agenda.give(kind, model, now)
            self._conductor.interrupt("an operator's order comes first")
            if model.to_be_killed and not being_killed:
                self._hooks.stop(name)
                model.revoke(Revocation.KILLED, now)
        return order.done

    def use_policy(self, policy: ISwitchPolicy) -> None:
        """Ask another policy from now on."""
        self.policy.replace(policy)
        self._conductor.consider()

    def records(self) -> dict[str, ModelRecord]:
        """Say of every model what a restart must know."""
        return {
            name: ModelRecord(
                model.state.value, model.asked, model.health.agreed, model.config.as_json()
            )
            for name, model in self.models.items()
        }

    def stop(self) -> None:
        """Refuse who waits and who comes, and begin no further switch; hooks that run go on."""
        self._conductor.stop()
        for model in tuple(self.models.values()):
            self._admission.refuse(model, ShuttingDown)
        orders, self._agenda.orders = self._agenda.orders, []
        for order in orders:
            order.fail("llmux is shutting down", tried=False)

    async def close(self, grace: float, sleep_models: bool) -> None:
        """
        Stop, and wait until nothing runs any more.

        :param grace: how long requests in flight may go on before they are cut, in seconds.
        :param sleep_models: whether models that are awake are put to sleep.
        """
        self.stop()
        await self._closing.close(grace, sleep_models)
        self._note()

    def cut(self) -> None:
        """Want all leases back at once."""
        self._closing.cut()

    def _changed(self) -> None:
        if self._roster.pending and not self._conductor.holding:
            self._roster.settle()
        self._conductor.consider()
        self._closing.look()

    def _settled(self) -> None:
        self._roster.settle()
        self._closing.look()

    def _note(self) -> None:
        """Have it written down what a restart must know; while nothing is known, nothing is."""
        if not self._census.starting:
            self._remember()

    def _fallen(self, model: Model, why: str) -> None:
        """Take in that a model is down; the conductor cleans up after it next."""
        now = self._clock.seconds()
        self._events.model_down(model.name, why)
        model.has_fallen(now)
        model.revoke(Revocation.BACKEND_DOWN, now)
        if now < model.wake_backoff.until:
            self._admission.refuse(model, lambda: self._unavailable(model))
        self._changed()

    def _unavailable(self, model: Model) -> ModelUnavailable:
        return ModelUnavailable(
            f"Model {model.name} could not be woken; the server's log says why",
            retry_after=self.estimate(model.name),  # which includes its back-off
        )
