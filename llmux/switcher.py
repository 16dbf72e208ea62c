"""
The switcher: hands out leases, and has models switched so that it can.

This is what the rest of llmux knows of it.  What it decides, and how, is in the rooms that it is
made of: :mod:`~llmux.conductor` begins switches and ends them, :mod:`~llmux.switching` carries them
out, :mod:`~llmux.health` looks after what is awake, :mod:`~llmux.recovery` finds out what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from llmux.admission import Admission
from llmux.agenda import Agenda
from llmux.amounts import Amounts
from llmux.budget import Budget
from llmux.census import Census
from llmux.closing import Closing
from llmux.conductor import Conductor
from llmux.config import ModelConfig
from llmux.costs import SwitchCosts
from llmux.door import Door
from llmux.errors import ShuttingDown
from llmux.events import Events
from llmux.foresight import Foresight
from llmux.health import HealthCheck
from llmux.holder import Holder, IHolderLink
from llmux.hookruns import HookRuns
from llmux.hooks.contract import IHookRunner, Leftover
from llmux.journal import Memory, ModelRecord
from llmux.lease import Lease, Revocation
from llmux.leases import ILeases
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.ordering import Ordering
from llmux.orders import Kind, Order
from llmux.outlook import Outlook
from llmux.policy.contract import ISwitchPolicy
from llmux.policy.guard import GuardedPolicy
from llmux.preparing import Preparing
from llmux.recovery import Recovery, record_of
from llmux.reporting import Report
from llmux.reserving import Reservations
from llmux.residency import Residency
from llmux.roster import Changes, Roster
from llmux.sharing import SharedRoom
from llmux.sleeping import Sleeping
from llmux.states import State
from llmux.switching import Course, Switch
from llmux.timeline import Timeline
from llmux.urgency import Urgency
from llmux.waking import Waking
from llmux.worth import Worth


def _nothing(*_: object) -> None:
    """Do nothing: nobody wants to know."""


@implementer(ILeases)
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
    :param shared: by name, the models of which any can serve a request for it, the one that is
        liked best first.
    :param idle_model: the model that is woken when nothing is asked of any, if one is.
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
        shared: Mapping[str, tuple[str, ...]] | None = None,
        idle_model: str | None = None,
    ) -> None:
        self._clock = clock
        self._events = events
        self._remember = remember
        self.costs = costs
        self.policy = GuardedPolicy(policy)
        self.timeline = Timeline(clock)
        self._admission = Admission(
            models, clock, self.policy, metrics, events, costs, self.timeline,
            self._changed, lambda model: self._health.refused(model), self.estimate,
        )  # fmt: skip
        self.models: Mapping[str, Model] = self._admission.models
        self._admission.share(shared or {})
        self._outlook = Outlook(self.models, budget, Worth(costs))
        runs = HookRuns(hooks, clock, metrics, events, self._note)
        self._health = HealthCheck(runs, self._fallen, self._changed)
        preparing = Preparing(self.models, self._outlook, runs, metrics, self._changed)
        self._course = Course(
            runs, Sleeping(runs, costs, metrics, events), Waking(runs, costs), self._health,
            events, before_sleep, preparing.woke, self._changed,
        )  # fmt: skip
        self._agenda = Agenda(self.models, self._outlook)
        self._outlook.reservations = self._agenda.reservations
        self._residency = Residency(self.models, self._outlook, idle_model)
        self._conductor = Conductor(
            self._admission, self._agenda, self._residency, self._outlook, self.policy, clock,
            self._course, costs, self._health, preparing,
            Foresight(self.models, self._outlook, runs),
            Report(clock, self.policy, costs, metrics, events), events,
            lambda name: self._door.unavailable(name), self._settled,
        )  # fmt: skip
        self._door = Door(
            self._admission, self._conductor, self._outlook, self.policy, costs, clock
        )
        self.reservations = Reservations(
            self._agenda.reservations, self._outlook, clock, events, self._conductor, self._note,
        )  # fmt: skip
        self._ordering = Ordering(self.models, self._agenda, self._conductor, hooks, clock)
        self._roster = Roster(self._admission, events, configured, forgotten, self._outlook)
        self._recovery = Recovery(runs, hooks, events, finished, self._changed)
        self._census = Census(
            self._admission, self._roster, self._recovery, self._conductor, self._health,
            self._note,
        )  # fmt: skip
        self._closing = Closing(
            self.models.values, lambda: bool(self.switches), clock, self._course,
            self._health, self._recovery, preparing,
        )  # fmt: skip

    @property
    def switches(self) -> tuple[Switch, ...]:
        """The switches that are under way, in the order in which they began."""
        return tuple(self._conductor.switches)

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

    @property
    def shared(self) -> Mapping[str, SharedRoom[Model]]:
        """By name, where those wait who would take any of several models."""
        return self._admission.shared

    @property
    def budget(self) -> Budget:
        """What the models share."""
        return self._outlook.budget

    def used(self) -> Amounts:
        """Say how much of each resource is held."""
        return self._outlook.used()

    def acquire(self, name: str, urgency: Urgency | None = None) -> Deferred[Lease]:
        """Ask for the right to send one request to a model: see :meth:`Door.acquire`."""
        return self._door.acquire(name, urgency)

    def acquire_again(self, lease: Lease) -> Deferred[Lease]:
        """Ask for it once more, for nobody took the request: see :meth:`Door.acquire_again`."""
        return self._door.acquire_again(lease)

    def waiting_before(self, lease: Deferred[Lease]) -> int | None:
        """Say how many wait before a request: see :meth:`Door.waiting_before`."""
        return self._door.waiting_before(lease)

    def leaving_since(self, name: str) -> float | None:
        """Say since when a model's leases are wanted back: see :meth:`Door.leaving_since`."""
        return self._door.leaving_since(name)

    def estimate(self, name: str) -> int:
        """Guess in how many seconds a request for a model would be served that comes now."""
        return self._door.estimate(name)

    def states(self) -> dict[str, State]:
        """Say in which state every model is."""
        return {name: model.state for name, model in self.models.items()}

    def in_flight(self, name: str) -> int:
        """Say how many leases of a model are held."""
        return self.models[name].leases

    def waiting(self, name: str) -> int:
        """Say how many requests wait for a model, or for any of several that share a name."""
        shared = self.shared.get(name)
        return len(self.models[name].waiting if shared is None else shared.room)

    def share(self, link: IHolderLink) -> Holder:
        """
        Let somebody else give leases, too, as far as that can be left to them.

        :param link: leads to them.
        :returns: takes what they say.
        """
        return Holder(link, self._admission, self._door, self._conductor, self._changed)

    def start(self, memory: Memory) -> Deferred[None]:
        """
        Find out what is there, before any model is woken; requests that come meanwhile wait.

        :param memory: what the llmux before has left.
        """
        for id, known in memory.reservations.items():
            self.reservations.restore(id, known.needs, known.ttl, known.note)
        self._agenda.crowded = True
        self._residency.begin(self._clock.seconds())
        return Deferred.fromCoroutine(self._census.start(memory))

    def started(self) -> Deferred[object]:
        """Give what fires when it is known what is awake."""
        return self._census.started()

    def reconfigure(
        self,
        models: Mapping[str, ModelConfig],
        budget: Budget | None = None,
        shared: Mapping[str, tuple[str, ...]] | None = None,
        idle_model: str | None = None,
    ) -> Deferred[Changes]:
        """
        Take over a new configuration of the models, and of what they share.

        :param models: by name, in the order of the configuration.
        :param budget: what there is; ``None``: what there was.
        :param shared: see the constructor, and
        :param idle_model: likewise.
        :returns: what is different, when it is known of new models whether they are awake.
        """
        self._outlook.budget = self._outlook.budget if budget is None else budget
        self.reservations.adapt()
        self._agenda.crowded = True
        self._residency.idle_model = idle_model
        return Deferred.fromCoroutine(self._census.reconfigure(models, shared or {}))

    def order(self, kind: Kind, name: str) -> Deferred[str]:
        """
        Have something done with a model; it comes before whatever a policy wants.

        :returns: becomes one sentence that says what was done; fails with
            :class:`~llmux.orders.OrderFailed`.
        :raises KeyError: if there is no such model.
        """
        return self._ordering.give(kind, name)

    def pin(self, name: str, pinned: bool) -> bool:
        """
        Have a model stay where it is once it is awake, or have it need not.

        :returns: whether that is something else than before.
        :raises KeyError: if there is no such model.
        """
        model = self.models[name]
        changed, model.pin = model.pinned is not pinned, pinned
        if changed:
            self._events.pin_changed(name, pinned)
            self._conductor.consider()
            self._note()
        return changed

    def use_policy(self, policy: ISwitchPolicy) -> None:
        """Ask another policy from now on."""
        self.policy.replace(policy)
        self._conductor.consider()

    def records(self) -> dict[str, ModelRecord]:
        """Say of every model what a restart must know."""
        return {name: record_of(model) for name, model in self.models.items()}

    def stop(self) -> None:
        """Refuse who waits and who comes, and begin no further switch; hooks that run go on."""
        self._conductor.stop()
        self._admission.granting.end()
        self.reservations.stop()
        self._admission.refuse_all(ShuttingDown)
        self._ordering.refuse_all()

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
            self._admission.refuse(model, lambda: self._door.unavailable(model.name))
        self._changed()
