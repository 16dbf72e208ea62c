"""What the policy wants: when it is asked, and what may come of its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs

from llmux.admission import Admission
from llmux.agenda import Proposal, places_of
from llmux.costs import SwitchCosts
from llmux.errors import NoRoom, SwitchError
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.policy.contract import Phase, PolicyDecision
from llmux.policy.guard import GuardedPolicy
from llmux.room import Plan, Room
from llmux.states import State
from llmux.switching import Switch
from llmux.underway import could_replace


@attrs.define(eq=False)
class Deliberation:
    """
    Asks the policy, and holds its answers against what no policy can break.

    :param admission: has the models, and who waits for them.
    :param outlook: says what is possible.
    :param policy: decides when to switch and to whom.
    :param costs: what was learnt.
    :param unavailable: makes the error for a name whose models cannot be woken now.
    """

    _admission: Admission
    _outlook: Outlook
    _policy: GuardedPolicy
    _costs: SwitchCosts
    _unavailable: Callable[[str], SwitchError]

    @property
    def _models(self) -> Mapping[str, Model]:
        return self._admission.models

    def next(self, now: float, proposal: Proposal) -> Switch | None:
        """
        Ask the policy, if anybody waits for a model that is not awake and could be woken now.

        One that it names and that cannot come yet has what it needs kept for it, and the policy is
        asked about the rest.

        :param now: the clock's seconds.
        :param proposal: takes the time at which to ask again if nothing is to be begun now.
        """
        if not self._admission.waiting:
            return None
        self._refuse_hopeless()
        self._admission.refuse_hopeless(self._in_vain)
        passed: set[str] = set()
        while True:
            off_limits = proposal.off_limits
            could_move = self._outlook.could_move
            if not any(
                self.is_waited_for(model) and could_move(model, off_limits)
                for model in self._models.values()
            ):
                return None
            room = self._outlook.room(now, None, off_limits)
            if not self._could_be_woken(room, passed):
                return None
            context = self._outlook.context(
                now, Phase.SETTLED, self._costs, None, None, passed, off_limits, room
            )
            decision = self._policy.decide(context)
            if decision.ask_at is not None:
                proposal.later(decision.ask_at)
            if proposal.expected is None:  # whoever has to wait for their turn is the first of all
                proposal.expected = decision.target or decision.prepare
            target = self._models.get(decision.target or "")
            if target is None or target.name in passed or not self.is_waited_for(target):
                return None
            passed.add(target.name)
            plan = room.plan(target, decision.evict)
            if plan is not None:
                possible_at = max(target.wake_backoff.until, plan.possible_at)
                if target.moving:
                    possible_at = max(possible_at, target.sleep_backoff.until)
                if possible_at <= now:
                    return Switch.to(target, plan, now, forced=decision.forced)
                proposal.later(possible_at)
            if plan is not None or self._outlook.later_plan(target, now) is not None:
                proposal.keep(places_of(target))

    def about(
        self, switch: Switch, phase: Phase, now: float, off_limits: frozenset[str]
    ) -> PolicyDecision:
        """
        Ask about a switch that is under way.

        :param off_limits: resources that are kept for others, but for those that it has already.
        """
        target = None if switch.target is None else switch.target.name
        kept = off_limits - switch.touches
        context = self._outlook.context(now, phase, self._costs, switch, target, (), kept)
        return self._policy.decide(context)

    def instead(
        self, switch: Switch, decision: PolicyDecision, now: float, off_limits: frozenset[str]
    ) -> tuple[Model, Plan] | None:
        """
        Give another target for a switch, if the same models have to go for it.

        :param decision: names it.
        :param off_limits: see :meth:`about`.
        """
        target = self._models.get(decision.target or "")
        if target is None or not self.is_waited_for(target):  # or only for its places
            return None
        kept = off_limits - switch.touches
        plan = self._outlook.plan(target, now, decision.evict, switch, kept)
        if plan is None or not could_replace(switch, target, plan, now):
            return None
        return target, plan

    def is_waited_for(self, model: Model) -> bool:
        """Tell whether somebody waits for a model that is not awake, nor on its way."""
        if model.state is State.AWAKE or not model.wanted:
            return False
        return not self._outlook.is_moving(model)

    def _could_be_woken(self, room: Room, passed: set[str]) -> bool:
        return any(
            name not in passed and self.is_waited_for(model) and room.plan(model) is not None
            for name, model in self._models.items()
        )

    def _in_vain(self, name: str) -> SwitchError:
        """Make the error for those who would take any of several models and get none."""
        members = self._admission.shared[name].members
        if not any(map(self._outlook.can_ever_wake, members)):
            return NoRoom(name, self._outlook.what_stays())
        return self._unavailable(name)

    def _refuse_hopeless(self) -> None:
        """
        Tell those who wait in vain: what they want does not fit beside what stays.

        That is what is pinned; and what was put to sleep by another configuration, if it keeps more
        than it would now and nothing can stop it.
        """
        for model in tuple(self._models.values()):
            if self.is_waited_for(model) and not self._outlook.can_ever_wake(model):
                stays = self._outlook.what_stays()
                self._admission.refuse(model, partial(NoRoom, model.name, stays))
