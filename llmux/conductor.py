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
from twisted.internet.interfaces import IReactorTime
from txaio.tx import make_logger

from llmux.admission import Admission
from llmux.agenda import Agenda
from llmux.alarm import Alarm
from llmux.completion import UNWANTED, Completion
from llmux.costs import SwitchCosts
from llmux.deliberation import Deliberation
from llmux.errors import SwitchError
from llmux.events import Events
from llmux.foresight import Foresight
from llmux.health import HealthCheck
from llmux.hooks.contract import Reason
from llmux.lease import Revocation
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.policy.contract import Phase, PolicyDecision
from llmux.policy.guard import GuardedPolicy
from llmux.preparing import Preparing
from llmux.reporting import Report
from llmux.residency import Residency
from llmux.states import State
from llmux.switching import Course, Switch

_LONGEST_DELIBERATION = 8
"""Steps per model that one event may lead to before the policy is taken to be undecided."""

_PAUSE = 1.0
"""Seconds before an undecided policy is asked again."""

_OF_OTHERS = (Reason.REQUEST, Reason.IDLE, Reason.RESERVATION)
"""Reasons of switches that nobody has ordered for the sake of the models that go."""


class Conductor:
    """
    Begins switches, and takes them to their end.

    :param admission: the models, and who waits for them.
    :param agenda: what has to be done whatever the policy says.
    :param residency: what the owner wants when there is time for it.
    :param outlook: who would have to go for whom.
    :param policy: decides when to switch and to whom.
    :param clock: tells the time.
    :param course: carries switches out.
    :param costs: what was learnt.
    :param health: asks models whether they are alive.
    :param preparing: gets those ready that are expected, and
    :param foresight: the hooks that will run next.
    :param report: is told how switches end.
    :param events: logs what happens.
    :param unavailable: makes the error for those who wait for a model that could not be woken.
    :param settled: called when a switch has come to its end.
    :ivar switches: those that are under way, in the order in which they began.
    :ivar holding: whether no switch is begun for now, because it is not known yet what is awake.
    :ivar stopped: whether none is begun ever again.
    """

    _log = make_logger()

    def __init__(
        self,
        admission: Admission,
        agenda: Agenda,
        residency: Residency,
        outlook: Outlook,
        policy: GuardedPolicy,
        clock: IReactorTime,
        course: Course,
        costs: SwitchCosts,
        health: HealthCheck,
        preparing: Preparing,
        foresight: Foresight,
        report: Report,
        events: Events,
        unavailable: Callable[[str], SwitchError],
        settled: Callable[[], None],
    ) -> None:
        self.policy = policy
        self._admission = admission
        self._models = admission.models
        self._agenda = agenda
        self._residency = residency
        self._deliberation = Deliberation(admission, outlook, policy, costs, unavailable)
        self._outlook = outlook
        self._clock = clock
        self._health = health
        self._preparing = preparing
        self._foresight = foresight
        self._report = report
        self._events = events
        self._completion = Completion(
            admission, agenda, outlook, clock, course, preparing, report, unavailable,
            self.consider, lambda: self.stopped,
        )  # fmt: skip
        self._settled = settled
        self.switches: list[Switch] = []
        outlook.switches = self.switches
        self.holding = False
        self.stopped = False
        self._alarm = Alarm(clock, self.consider)
        self._considering = False
        self._changed = False
        self._off_limits: frozenset[str] = frozenset()  # what was kept for others when last looked

    def consider(self) -> None:
        """Take steps until nothing is left to be done now."""
        self._changed = True
        if self._considering or self.stopped:
            return  # whoever is considering already will see what has changed
        self._considering = True
        try:
            for _ in range(_LONGEST_DELIBERATION * (len(self._models) + 1)):
                if not self._changed:
                    self._alarm.set()
                    return
                self._changed = False
                self._alarm.forget()
                self._step()
            self._events.policy_unsettled(self.policy.name)
            self._alarm.note(self._clock.seconds() + _PAUSE)
            self._alarm.set()
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

    def interrupt(self, reason: str, concerned: Callable[[Switch], bool]) -> None:
        """
        Call off switches that nobody has ordered and that have not passed their point of no return.

        :param reason: why, in words for the log.
        :param concerned: chooses them.
        """
        for switch in tuple(self.switches):
            if switch.reason in _OF_OTHERS and not switch.committed and concerned(switch):
                self._call_off(switch, reason)

    def stop(self) -> None:
        """Begin no further switch, and call off those that can be; hooks that run go on."""
        self.stopped = True
        self._preparing.stop()
        self._foresight.stop()
        self._alarm.forget()
        self._alarm.set()
        for switch in tuple(self.switches):
            if not switch.committed:
                self._call_off(switch, "llmux is shutting down")

    def _step(self) -> None:
        """
        Admit whoever can be, then take one step of each switch that is under way, or begin one.

        What changes by that is considered again.
        """
        self._admission.admit_waiting()
        for switch in tuple(self.switches):
            if not switch.committed and switch in self.switches:
                self._go_on(switch)
        if not self._changed and not self.holding:
            self._begin()
        elif not self._changed:
            self._foresight.look(self.switches, None)

    def _begin(self) -> None:
        now = self._clock.seconds()
        proposal = self._agenda.next(now)
        proposal.switch = proposal.switch or self._deliberation.next(now, proposal)
        if proposal.switch is None:
            self._residency.next(now, proposal)
        self._off_limits = proposal.off_limits
        if proposal.switch is None:
            self._alarm.note(proposal.due_at)
            self._preparing.expect(self.switches, proposal.expected)
            self._foresight.look(self.switches, proposal.expected)
            return
        self._start(proposal.switch, now)

    def _start(self, switch: Switch, now: float) -> None:
        self.switches.append(switch)
        for victim in switch.victims:
            if victim.state is State.AWAKE:
                victim.enter(State.DRAINING, now)
                if victim.health.down:
                    victim.revoke(Revocation.BACKEND_DOWN, now)
                elif victim.to_be_killed:
                    victim.revoke(Revocation.KILLED, now)
        if switch.target is not None:
            switch.target.comes()
            self._report.started(switch)
        self._changed = True

    def _go_on(self, switch: Switch) -> None:
        """Drain on, change the target, call it off, or pass the point of no return."""
        now = self._clock.seconds()
        pointless = self._pointless(switch)
        if pointless is not None:
            self._call_off(switch, pointless)
            return
        situation = self._outlook.situation()
        if switch.claims and situation != switch.situation:
            switch.situation = situation
            if not self._outlook.suffices(switch):
                self._call_off(switch, "there is less room than there was")
                return
            self._spare(switch, now)
        ask_at = None
        if not switch.forced:
            drained = switch.drained(now)
            phase = Phase.COMMITTING if drained else Phase.DRAINING
            decision = self._deliberation.about(switch, phase, now, self._off_limits)
            switch.forced = decision.forced
            if switch.target is None or decision.target != switch.target.name or not switch.wanted:
                self._change(switch, decision, now)
                return
            if not drained:
                ask_at = decision.ask_at
            self._keep_open(switch, decision.admit and not drained)
        switch.cut(now)
        if not switch.drained(now):
            self._alarm.note(ask_at)
            self._alarm.note(switch.due_at(now))
        elif all(self._is_left_alone(model) for model in switch.leaving):
            self._commit(switch)  # else when what runs on them has ended

    def _is_left_alone(self, model: Model) -> bool:
        """See that nothing is asked about a model, or done for it, whose hooks are to run."""
        return self._health.leave_alone(model) and self._preparing.leave_alone(model)

    def _pointless(self, switch: Switch) -> str | None:
        """Say why what led to a switch is not so any more, if that is so."""
        if switch.reason is not Reason.OPERATOR or switch.target is not None:
            pinned = [victim.name for victim in switch.victims if victim.stays]
            if pinned:  # meanwhile; only who orders that very model to sleep may still do that
                return f"{', '.join(pinned)} is pinned by now"
        if switch.misplaced:
            return "the configuration says that it takes something else"
        if switch.forced and not switch.wanted:
            return UNWANTED
        if switch.reason is Reason.START and not self._outlook.crowded:
            return UNWANTED
        if switch.reason is Reason.IDLE and switch.target is not None:
            others = (model for model in self._models.values() if model is not switch.target)
            if any(model.held or model.wanted for model in others):
                return "there is something to be done again"
        return None

    def _spare(self, switch: Switch, now: float) -> None:
        """Let those stay that need not go any more."""
        spared, asleep = self._outlook.needless(switch)
        switch.stops = tuple(each for each in switch.stops if each not in (*spared, *asleep))
        for victim in spared:
            switch.victims = tuple(each for each in switch.victims if each is not victim)
            self._stay(victim, now)
            self._events.model_spared(victim.name, switch.goal)

    def _stay(self, victim: Model, now: float) -> None:
        if victim.state is State.DRAINING:
            victim.enter(State.AWAKE, now)
            self._health.watch(victim)
        self._changed = True

    def _change(self, switch: Switch, decision: PolicyDecision, now: float) -> None:
        """Take another target, if the same models have to go for it; else begin anew."""
        other = self._deliberation.instead(switch, decision, now, self._off_limits)
        if self.holding or other is None or switch.target is None:
            self._call_off(switch, "the policy changed its mind" if switch.wanted else UNWANTED)
            return
        target, plan = other
        self._report.called_off(switch, f"{target.name} is to be woken instead")
        switch.target.comes_no_more()
        switch.target, switch.placement = target, plan.placement
        target.comes()
        self._keep_open(switch, decision.admit)  # a last word is not asked for it again
        self._report.started(switch)
        self._changed = True

    def _call_off(self, switch: Switch, reason: str) -> None:
        """Leave everything as it was before the switch began."""
        self.switches.remove(switch)
        if switch.target is not None:
            switch.target.comes_no_more()
            self._report.called_off(switch, reason)
        for victim in switch.victims:
            self._stay(victim, self._clock.seconds())
        self._changed = True
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
        finished = Deferred.fromCoroutine(self._completion.run(switch))
        finished.addErrback(self._completion.abandon, switch)
        finished.addCallback(self._settle, switch)
        finished.addErrback(lambda bug: self._log.failure("a switch is not settled", failure=bug))

    def _settle(self, unwanted: str | None, switch: Switch) -> None:
        """
        Make the next switch possible, whatever became of this one.

        :param unwanted: why its target was not woken any more, if so.
        """
        if unwanted is not None:
            self._call_off(switch, unwanted)
        else:
            self.switches.remove(switch)
        if switch.target is not None:
            switch.target.comes_no_more()
        if switch.reservation is not None and switch.done and not switch.reservation.over:
            switch.reservation.hold(self._clock.seconds())  # from now on it counts by itself
        try:
            self._settled()
        finally:
            self.consider()
