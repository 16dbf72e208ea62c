"""
Who is awake though nobody asks, and who is not: what the owner wants when there is time for it.

Models that are to be awake from the start are woken, one after the other, as far as they fit; those
that nobody has asked for a while go to sleep; and when nothing at all is asked any more, the idle
model is woken.  None of it comes before anybody who waits.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llmux.agenda import Proposal
from llmux.hooks.contract import Reason
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.room import evictable_at
from llmux.states import State
from llmux.switching import Switch

QUIET_SECS = 60.0
"""Seconds without a request until the idle model is woken, if it has no ``idle_sleep_secs``."""


@attrs.define(eq=False)
class Residency:
    """
    Finds the next switch that nobody waits for.

    :param models: every model by name.
    :param outlook: who would have to go for whom.
    :ivar idle_model: the name of the model that is woken when nothing is asked, if there is one.
    :ivar preload: the names of the models that are to be woken because llmux has started, in order.
    :ivar began: since when it is known what is awake, in the clock's seconds.
    """

    _models: Mapping[str, Model]
    _outlook: Outlook
    idle_model: str | None = None
    preload: list[str] = attrs.Factory(list)
    began: float = 0.0

    def begin(self, now: float) -> None:
        """Have those woken that are to be awake from the start."""
        self.preload = [m.name for m in self._models.values() if m.config.wake_at_start]
        self.began = now

    def next(self, now: float, proposal: Proposal) -> None:
        """
        Say what is next, if anything is.

        :param now: the clock's seconds.
        :param proposal: takes it.
        """
        if not self._has_wishes() or self._somebody_waits():
            return
        if self.preload:
            proposal.switch = self._preload(now)
        if proposal.switch is None:
            self._let_sleep(now, proposal)
        if proposal.switch is None and self.idle_model is not None:
            self._wake_idle_model(now, proposal)

    def _has_wishes(self) -> bool:
        """Tell, as cheaply as can be, whether the owner has said anything of it."""
        if self.preload or self.idle_model is not None:
            return True
        for model in self._models.values():  # noqa: SIM110  # no generator: see Agenda
            if model.config.idle_sleep_secs:
                return True
        return False

    def _somebody_waits(self) -> bool:
        """Tell whether anybody waits for a model that is not awake; then there is no time."""
        return any(m.wanted and m.state is not State.AWAKE for m in self._models.values())

    def _preload(self, now: float) -> Switch | None:
        while self.preload:
            model = self._models.get(self.preload[0])
            if model is not None and self._outlook.is_moving(model):
                return None
            if model is not None and self._is_to_be_preloaded(model):
                plan = self._outlook.plan(model, now)
                if plan is not None and not plan.leaving:
                    del self.preload[0]
                    return Switch.to(model, plan, now, Reason.PRELOAD, forced=True)
                later = self._outlook.later_plan(model, now)
                if plan is None and later is not None and not later.leaving:
                    return None  # when what is under way has ended
            del self.preload[0]  # it is awake, could not be woken, or does not fit
        return None

    def _is_to_be_preloaded(self, model: Model) -> bool:
        """Tell whether a model is not awake, though it could be and nobody has tried it yet."""
        untried = not model.wake_backoff.failures and model.state is not State.AWAKE
        return untried and not model.moving

    def _let_sleep(self, now: float, proposal: Proposal) -> None:
        for name, model in self._models.items():
            secs = model.config.idle_sleep_secs
            if secs is None or model.state is not State.AWAKE or model.held or model.wanted:
                continue
            if model.pinned or name == self.idle_model or not self._outlook.is_free(model):
                continue
            due = max(model.idle_since + secs, evictable_at(model), model.settles_at)
            if now < due:
                proposal.later(due)
            else:
                proposal.switch = Switch(None, (model,), now, Reason.IDLE, forced=True)
                return

    def _wake_idle_model(self, now: float, proposal: Proposal) -> None:
        model = self._models.get(self.idle_model or "")
        if model is None or model.moving or model.state is State.AWAKE:
            return
        if self._outlook.switches or any(m.held or m.wanted for m in self._models.values()):
            return
        quiet = max(self.began, *(each.idle_since for each in self._models.values()))
        due = max(quiet + (model.config.idle_sleep_secs or QUIET_SECS), model.wake_backoff.until)
        plan = self._outlook.plan(model, now)
        if plan is None:
            return
        due = max(due, plan.possible_at)
        if now < due:
            proposal.later(due)
        else:
            proposal.switch = Switch.to(model, plan, now, Reason.IDLE, forced=True)
