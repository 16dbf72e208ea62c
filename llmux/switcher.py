"""
Who is awake: when to switch, and to whom.  Nothing else decides over the state of a model.

The switcher is level-triggered.  After everything that happens (an arrival, an answer's end, a
client that leaves, a timer, a hook's end) it compares what is under way with what the policy wants
and takes the next step; no event can be missed, because no event carries information.  Only the
hooks of a switch, past its point of no return, are a coroutine: they run one after the other.

All of it happens in one thread, so "the model is awake" and "the lease is counted" are one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.admission import Admission
from llmux.budget import Budget
from llmux.config import ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import ModelUnavailable, ShuttingDown, TooManyWaiting, UnknownModel
from llmux.estimate import Estimate
from llmux.events import Events
from llmux.hooks.contract import IHookRunner
from llmux.lease import Lease
from llmux.lifecycle import Model
from llmux.metrics import Metrics
from llmux.outlook import Outlook, evictable_at
from llmux.policy.contract import ISwitchPolicy, Phase, PolicyDecision
from llmux.policy.guard import GuardedPolicy
from llmux.states import State
from llmux.switching import Switch, SwitchHooks

_LONGEST_DELIBERATION = 8
"""Steps per model that one event may lead to before the policy is taken to be undecided."""

_PAUSE = 1.0
"""Seconds before an undecided policy is asked again."""

_MOMENT = 0.05
"""Seconds: the shortest alarm, so that a policy that wants to be asked in the past cannot spin."""


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
    :param before_sleep: called with a model's name right before its sleep hook starts.
    """

    _log = make_logger()

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
        before_sleep: Callable[[str], None] = lambda model: None,
    ) -> None:
        self._policy = GuardedPolicy(policy)
        self._policy_name = type(policy).__name__
        self._clock = clock
        self._metrics = metrics
        self._events = events
        self.costs = costs
        self._hooks = SwitchHooks(hooks, clock, costs, metrics, events, before_sleep)
        self._admission = Admission(
            models, clock, self._policy, metrics, events, costs, self._consider, self.estimate
        )
        self._models = self._admission.models
        self._outlook = Outlook(self._models, budget)
        self._switch: Switch | None = None
        self._alarm: IDelayedCall | None = None
        self._considering = False
        self._changed = False
        self._stopping = False

    def acquire(self, name: str) -> Deferred[Lease]:
        """
        Ask for the right to send one request to a model.

        :param name: the name that the client gave.
        :returns: a Deferred that becomes the lease: at once while the model is awake and has a free
            place, else when it has been woken and one is free.  Cancelling it takes the request out
            of the queue there and then.  It fails with a :class:`~llmux.errors.SwitchError`.
        """
        model = self._models.get(name)
        if model is None:
            return fail(UnknownModel(name))
        if self._stopping:
            return fail(ShuttingDown())
        now = self._clock.seconds()
        if not model.admitting and now < model.wake_not_before:
            return fail(self._unavailable(model))
        if model.admitting and model.free_places and not model.waiting:
            self._policy.arrived(name, now)
            return succeed(self._admission.grant(model))
        if len(model.waiting) >= model.config.max_waiting:
            return fail(TooManyWaiting(name, len(model.waiting), self.estimate(name)))
        self._policy.arrived(name, now)
        waiting = self._admission.queue(model)
        self._consider()
        return waiting

    def states(self) -> dict[str, State]:
        """Say in which state every model is."""
        return {name: model.state for name, model in self._models.items()}

    def in_flight(self, name: str) -> int:
        """Say how many leases of a model are held."""
        return self._models[name].leases

    def waiting_before(self, lease: Deferred[Lease]) -> int | None:
        """
        Say how many wait for the same model before a request; cheap enough to be asked often.

        :param lease: what :meth:`acquire` returned.
        :returns: ``None`` if it does not wait any more.
        """
        places = (model.waiting.place(lease) for model in self._models.values())
        return next((place for place in places if place is not None), None)

    def leaving_since(self, name: str) -> float | None:
        """
        Say since when a model's leases are wanted back, in the clock's seconds.

        They are while the model is wanted to go, and while requests wait for one of its places.

        :returns: ``None`` while nobody minds how long they are held.
        """
        return self._models[name].wanted_back_since

    def estimate(self, name: str) -> int:
        """Guess in how many seconds a request for a model would be served that comes now."""
        now = self._clock.seconds()
        return Estimate(self._outlook, self.costs, self._switch, now).seconds(self._models[name])

    def stop(self) -> None:
        """Refuse who waits and who comes, and begin no further switch; hooks that run go on."""
        self._stopping = True
        self._set_alarm(None)
        for model in self._models.values():
            self._admission.refuse(model, ShuttingDown)
        if self._switch is not None and not self._switch.committed:
            self._call_off(self._switch, "llmux is shutting down")

    def _consider(self) -> None:
        """Take steps until nothing is left to be done now."""
        self._changed = True
        if self._considering or self._stopping:
            return  # whoever is considering already will see what has changed
        self._considering = True
        try:
            for _ in range(_LONGEST_DELIBERATION * len(self._models)):
                if not self._changed:
                    return
                self._changed = False
                self._step()
            self._events.policy_unsettled(self._policy_name)
            self._set_alarm(self._clock.seconds() + _PAUSE)
        finally:
            self._considering = False

    def _step(self) -> None:
        """
        Admit whoever can be, then ask the policy once and do what it says.

        What changes by that is considered again.
        """
        self._admission.admit_waiting()
        self._set_alarm(None)
        if self._switch is None:
            if any(m.waiting for m in self._models.values() if m.state is not State.AWAKE):
                self._begin()
        elif not self._switch.committed:
            self._go_on(self._switch)

    def _begin(self) -> None:
        decision = self._ask(Phase.SETTLED)
        target = self._models.get(decision.target or "")
        if target is None or target.state is State.AWAKE or not target.waiting:
            self._set_alarm(decision.ask_at)
            return
        now = self._clock.seconds()
        victims = self._outlook.victims(target, decision.evict)
        possible_at = max([target.wake_not_before, *map(evictable_at, victims)])
        if possible_at > now:
            asked_for = possible_at if decision.ask_at is None else decision.ask_at
            self._set_alarm(min(possible_at, asked_for))
            return
        self._switch = Switch(target, victims, started=now, forced=decision.forced)
        for victim in victims:
            if victim.state is State.AWAKE:
                victim.enter(State.DRAINING, now)
        self._events.switch_started(self._switch.source, target.name)
        self._changed = True

    def _go_on(self, switch: Switch) -> None:
        """Drain on, change the target, call it off, or pass the point of no return."""
        if not switch.target.waiting:
            self._call_off(switch, "nobody waits for it any more")
            return
        if not switch.forced:
            decision = self._ask(Phase.COMMITTING if switch.drained else Phase.DRAINING)
            switch.forced = decision.forced
            if decision.target != switch.target.name:
                self._change(switch, decision)
                return
            if not switch.drained:
                self._set_alarm(decision.ask_at)
                self._keep_open(switch, decision.admit)
        if switch.drained:
            self._commit(switch)

    def _change(self, switch: Switch, decision: PolicyDecision) -> None:
        """Take another target, if the same models have to go for it; else begin anew."""
        target = self._models.get(decision.target or "")
        if (
            target is None
            or not target.waiting
            or target.state is State.AWAKE  # and has waiters for its places
            or target in switch.victims
            or set(self._outlook.victims(target, decision.evict)) != set(switch.victims)
            or target.wake_not_before > self._clock.seconds()
        ):
            self._call_off(switch, "the policy changed its mind")
            return
        self._events.switch_called_off(
            switch.source, switch.target.name, f"{target.name} is to be woken instead"
        )
        switch.target = target
        self._events.switch_started(switch.source, target.name)
        self._changed = True

    def _call_off(self, switch: Switch, reason: str) -> None:
        """Leave everything as it was before the switch began."""
        self._switch = None
        self._changed = True
        self._events.switch_called_off(switch.source, switch.target.name, reason)
        for victim in switch.victims:
            if victim.state is State.DRAINING:
                victim.enter(State.AWAKE, self._clock.seconds())

    def _keep_open(self, switch: Switch, admit: bool) -> None:
        for victim in switch.victims:
            if victim.state is State.DRAINING and victim.admitting is not admit:
                victim.admitting = admit
                self._changed = True

    def _commit(self, switch: Switch) -> None:
        switch.committed = True
        if switch.victims:
            self._metrics.switch_drained(
                switch.source, switch.target.name, self._clock.seconds() - switch.started
            )
        finished = Deferred.fromCoroutine(self._carry_out(switch))
        finished.addErrback(self._abandon, switch)
        finished.addCallback(lambda _: self._settle())

    async def _carry_out(self, switch: Switch) -> None:
        """Sleep, then wake."""
        hooks_began = self._clock.seconds()
        error = await self._hooks.put_to_sleep(switch)
        if error is None:
            error = await self._hooks.wake(switch)
        now = self._clock.seconds()
        self._report(switch, error, now - switch.started, now - hooks_began)
        if error is not None:
            self._admission.refuse(switch.target, lambda: self._unavailable(switch.target))
            self._consider()  # who would not go to sleep may be serving on
            if switch.target.state is State.WAKING:
                await self._hooks.clean_up(switch)

    def _abandon(self, failure: Failure, switch: Switch) -> None:
        """Leave nobody waiting, and no model in between, after a bug in the midst of a switch."""
        self._log.failure("a switch failed in a way that nobody foresaw", failure=failure)
        now = self._clock.seconds()
        for model in (switch.target, *switch.victims):
            if model.state is State.WAKING:
                model.enter(State.SLEEPING, now)
            if model.state is State.SLEEPING:
                model.enter(State.UNKNOWN, now)
        self._admission.refuse(switch.target, lambda: self._unavailable(switch.target))

    def _settle(self) -> None:
        """Make the next switch possible, whatever became of this one."""
        self._switch = None
        self._consider()

    def _report(self, switch: Switch, error: str | None, seconds: float, hooks: float) -> None:
        source, target = switch.source, switch.target.name
        evicted = tuple(victim.name for victim in switch.victims)
        self._policy.switched(target, evicted, self._clock.seconds(), error is None)
        if error is None:
            cost = self.costs.switched(source, target, hooks)
            self._metrics.switch_succeeded(source, target, seconds, cost)
            self._events.model_activated(target, source, seconds)
        else:
            self._metrics.switch_failed(source, target)
            self._events.switch_failed(target, source, error)

    def _unavailable(self, model: Model) -> ModelUnavailable:
        return ModelUnavailable(
            f"Model {model.name} could not be woken; the server's log says why",
            retry_after=self.estimate(model.name),  # which includes its back-off
        )

    def _ask(self, phase: Phase) -> PolicyDecision:
        target = self._switch.target.name if self._switch else None
        return self._policy.decide(
            self._outlook.context(self._clock.seconds(), phase, target, self.costs)
        )

    def _set_alarm(self, at: float | None) -> None:
        """Consider again at that time, and at no other."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if at is not None and not self._stopping:
            delay = max(_MOMENT, at - self._clock.seconds())
            self._alarm = self._clock.callLater(delay, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._consider()
