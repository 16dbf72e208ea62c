"""
Who is awake: when to switch, and to whom.

Between the start, when :mod:`~llmux.recovery` finds out what is so, and the end, which is
:mod:`~llmux.closing`'s, nothing else decides over the state of a model.

The conductor is level-triggered.  After everything that happens (an arrival, an answer's end, a
client that leaves, a timer, a hook's end, an order) it compares what is under way with what has to
be, and takes the next step; no event can be missed, because no event carries information.  Only the
hooks of a switch, past its point of no return, are a coroutine: they run one after the other.

All of it happens in one thread, so "the model is awake" and "the lease is counted" are one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.admission import Admission
from llmux.agenda import Agenda
from llmux.costs import SwitchCosts
from llmux.errors import SwitchError
from llmux.events import Events
from llmux.health import HealthCheck
from llmux.hooks.contract import Reason
from llmux.lease import Revocation
from llmux.lifecycle import Model
from llmux.outlook import Outlook, evictable_at
from llmux.policy.contract import Phase, PolicyDecision
from llmux.policy.guard import GuardedPolicy
from llmux.reporting import Report
from llmux.states import State
from llmux.switching import Course, Switch

_LONGEST_DELIBERATION = 8
"""Steps per model that one event may lead to before the policy is taken to be undecided."""

_PAUSE = 1.0
"""Seconds before an undecided policy is asked again."""

_UNWANTED = "nobody wants it any more"

_MOMENT = 0.05
"""Seconds: the shortest alarm, so that a policy that wants to be asked in the past cannot spin."""


class Conductor:
    """
    Begins switches, and takes them to their end.

    :param admission: the models, and who waits for them.
    :param agenda: what has to be done whatever the policy says.
    :param outlook: who would have to go for whom.
    :param policy: decides when to switch and to whom.
    :param clock: tells the time.
    :param course: carries switches out.
    :param costs: what was learnt.
    :param health: asks models whether they are alive.
    :param report: is told how switches end.
    :param events: logs what happens.
    :param unavailable: makes the error for those who wait for a model that could not be woken.
    :param settled: called when a switch has come to its end.
    :ivar switch: the one that is under way, if one is.
    :ivar holding: whether no switch is begun for now, because it is not known yet what is awake.
    :ivar stopped: whether none is begun ever again.
    """

    _log = make_logger()

    def __init__(
        self,
        admission: Admission,
        agenda: Agenda,
        outlook: Outlook,
        policy: GuardedPolicy,
        clock: IReactorTime,
        course: Course,
        costs: SwitchCosts,
        health: HealthCheck,
        report: Report,
        events: Events,
        unavailable: Callable[[Model], SwitchError],
        settled: Callable[[], None],
    ) -> None:
        self.policy = policy
        self._admission = admission
        self._models = admission.models
        self._agenda = agenda
        self._outlook = outlook
        self._clock = clock
        self._course = course
        self._costs = costs
        self._health = health
        self._report = report
        self._events = events
        self._unavailable = unavailable
        self._settled = settled
        self.switch: Switch | None = None
        self.holding = False
        self.stopped = False
        self._alarm: IDelayedCall | None = None
        self._considering = False
        self._changed = False

    def consider(self) -> None:
        """Take steps until nothing is left to be done now."""
        self._changed = True
        if self._considering or self.stopped:
            return  # whoever is considering already will see what has changed
        self._considering = True
        try:
            for _ in range(_LONGEST_DELIBERATION * (len(self._models) + 1)):
                if not self._changed:
                    return
                self._changed = False
                self._step()
            self._events.policy_unsettled(self.policy.name)
            self._set_alarm(self._clock.seconds() + _PAUSE)
        finally:
            self._considering = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take no step while several things are being changed; then take them all."""
        before, self._considering = self._considering, True
        try:
            yield
        finally:
            self._considering = before
            self.consider()

    def interrupt(self, reason: str) -> None:
        """Call off a switch that a policy wanted and that has not passed its point of no return."""
        switch = self.switch
        if switch is not None and not switch.committed and switch.reason is Reason.REQUEST:
            self._call_off(switch, reason)

    def stop(self) -> None:
        """Begin no further switch, and call off the one that can be; hooks that run go on."""
        self.stopped = True
        self._set_alarm(None)
        if self.switch is not None and not self.switch.committed:
            self._call_off(self.switch, "llmux is shutting down")

    def _step(self) -> None:
        """
        Admit whoever can be, then take one step of the switch that is under way, or begin one.

        What changes by that is considered again.
        """
        self._admission.admit_waiting()
        self._set_alarm(None)
        if self.switch is not None:
            if not self.switch.committed:
                self._go_on(self.switch)
        elif not self.holding:
            self._begin()

    def _begin(self) -> None:
        now = self._clock.seconds()
        switch, due_at = self._agenda.next(now)
        if switch is None:
            switch, ask_at = self._wanted_by_policy(now)
            if switch is None:
                self._set_alarm(ask_at, due_at)
                return
        self.switch = switch
        for victim in switch.victims:
            if victim.state is State.AWAKE:
                victim.enter(State.DRAINING, now)
                if victim.health.down:
                    victim.revoke(Revocation.BACKEND_DOWN, now)
                elif victim.to_be_killed:
                    victim.revoke(Revocation.KILLED, now)
        if switch.target is not None:
            self._events.switch_started(switch.source, switch.target.name)
        self._changed = True

    def _wanted_by_policy(self, now: float) -> tuple[Switch | None, float | None]:
        """
        Ask the policy, if anybody waits for a model that is not awake.

        :returns: the switch to begin, and when to ask again if there is none.
        """
        if not any(m.waiting for m in self._models.values() if m.state is not State.AWAKE):
            return None, None
        decision = self._ask(Phase.SETTLED)
        target = self._models.get(decision.target or "")
        if target is None or target.state is State.AWAKE or not target.waiting:
            return None, decision.ask_at
        victims = self._outlook.victims(target, decision.evict)
        possible_at = max([target.wake_backoff.until, *map(evictable_at, victims)])
        if target.moving:
            possible_at = max(possible_at, target.sleep_backoff.until)
        if possible_at > now:
            asked_for = possible_at if decision.ask_at is None else decision.ask_at
            return None, min(possible_at, asked_for)
        return Switch(target, victims, now, forced=decision.forced), None

    def _go_on(self, switch: Switch) -> None:
        """Drain on, change the target, call it off, or pass the point of no return."""
        now = self._clock.seconds()
        if switch.forced and not switch.wanted:
            self._call_off(switch, _UNWANTED)
            return
        ask_at = None
        if not switch.forced:
            drained = switch.drained(now)
            decision = self._ask(Phase.COMMITTING if drained else Phase.DRAINING)
            switch.forced = decision.forced
            if switch.target is None or decision.target != switch.target.name or not switch.wanted:
                self._change(switch, decision)
                return
            if not drained:
                ask_at = decision.ask_at
                self._keep_open(switch, decision.admit)
        switch.cut(now)
        if not switch.drained(now):
            self._set_alarm(ask_at, switch.due_at(now))
        elif all(self._health.leave_alone(victim) for victim in switch.victims):
            self._commit(switch)  # else when what was asked about their health has ended

    def _change(self, switch: Switch, decision: PolicyDecision) -> None:
        """Take another target, if the same models have to go for it; else begin anew."""
        target = self._models.get(decision.target or "")
        if (
            target is None
            or target is switch.target
            or not target.waiting
            or target.state is State.AWAKE  # and has waiters for its places
            or target in switch.victims
            or target.moving
            or self.holding
            or set(self._outlook.victims(target, decision.evict)) != set(switch.victims)
            or target.wake_backoff.until > self._clock.seconds()
        ):
            self._call_off(switch, "the policy changed its mind" if switch.wanted else _UNWANTED)
            return
        self._events.switch_called_off(
            switch.source, switch.goal, f"{target.name} is to be woken instead"
        )
        switch.target = target
        self._events.switch_started(switch.source, target.name)
        self._changed = True

    def _call_off(self, switch: Switch, reason: str) -> None:
        """Leave everything as it was before the switch began."""
        self.switch = None
        self._changed = True
        if switch.target is not None:
            self._events.switch_called_off(switch.source, switch.target.name, reason)
        for victim in switch.victims:
            if victim.state is State.DRAINING:
                victim.enter(State.AWAKE, self._clock.seconds())
                self._health.watch(victim)
        if switch.order is not None:
            switch.order.fail(f"it was called off: {reason}", tried=False)

    def _keep_open(self, switch: Switch, admit: bool) -> None:
        for victim in switch.victims:
            if victim.state is State.DRAINING and victim.kept_open is not admit:
                victim.kept_open = admit
                self._changed = True

    def _commit(self, switch: Switch) -> None:
        switch.committed = True
        self._report.drained(switch)
        finished = Deferred.fromCoroutine(self._carry_out(switch))
        finished.addErrback(self._abandon, switch)
        finished.addBoth(lambda _: self._settle())
        finished.addErrback(lambda bug: self._log.failure("a switch is not settled", failure=bug))

    async def _carry_out(self, switch: Switch) -> None:
        """Sleep, then wake."""
        hooks_began = self._clock.seconds()
        error = await self._course.put_to_sleep(switch)
        target = switch.target
        if error is None and target is not None and (target.removed or self.stopped):
            removed = "the configuration has it no longer"
            self._call_off(switch, "llmux is shutting down" if self.stopped else removed)
            return
        if error is None:
            error = await self._course.wake(switch)
        if error is not None and target is not None and target.state is State.WAKING:
            switch.failed = True
            self._agenda.bring_back.extend(switch.victims)
        self._report.ended(switch, error, hooks_began)
        if error is not None and switch.reason in (Reason.CONFIG, Reason.START):
            for model in self._outlook.blocked(switch.victims):  # it would be tried for ever
                self._admission.refuse(model, lambda model=model: self._unavailable(model))  # type: ignore[misc]  # mypy#15459
        if error is None or target is None:
            return
        self._admission.refuse(target, lambda: self._unavailable(target))
        self.consider()  # who would not go to sleep may be serving on
        if switch.failed:
            await self._course.clean_up(target, switch.occasion)

    def _abandon(self, failure: Failure, switch: Switch) -> None:
        """Leave nobody waiting, and no model in between, after a bug in the midst of a switch."""
        self._log.failure("a switch failed in a way that nobody foresaw", failure=failure)
        now = self._clock.seconds()
        for model in (switch.target, *switch.victims):
            if model is not None:
                if model.state is State.WAKING:
                    model.enter(State.SLEEPING, now)
                if model.state is State.SLEEPING:
                    model.enter(State.UNKNOWN, now)
        target = switch.target
        if target is not None:
            self._admission.refuse(target, lambda: self._unavailable(target))
        if switch.order is not None and not switch.order.done.called:
            switch.order.fail("a bug; the log has the traceback", tried=True)

    def _settle(self) -> None:
        """Make the next switch possible, whatever became of this one."""
        self.switch = None
        try:
            self._settled()
        finally:
            self.consider()

    def _ask(self, phase: Phase) -> PolicyDecision:
        target = self.switch.target if self.switch else None
        name = None if target is None else target.name
        return self.policy.decide(
            self._outlook.context(self._clock.seconds(), phase, name, self._costs)
        )

    def _set_alarm(self, *times: float | None) -> None:
        """Consider again at the first of these times, and at no other."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = min((time for time in times if time is not None), default=None)
        if at is not None and not self.stopped:
            delay = max(_MOMENT, at - self._clock.seconds())
            self._alarm = self._clock.callLater(delay, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.consider()
