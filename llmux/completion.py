"""The rest of a switch past its point of no return: its hooks, and what is told of their end."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.admission import Admission
from llmux.agenda import Agenda
from llmux.errors import SwitchError
from llmux.hooks.contract import Reason
from llmux.outlook import Outlook
from llmux.preparing import Preparing
from llmux.reporting import Report
from llmux.states import State
from llmux.switching import Course, Switch

UNWANTED = "nobody wants it any more"
"""Why most switches are called off."""


@attrs.define(eq=False)
class Completion:
    """
    Takes switches to their end.

    :param admission: has those who wait.
    :param agenda: brings back who had to go in vain, and has the reservations.
    :param outlook: says whether there is room.
    :param clock: tells the time.
    :param course: puts to sleep and wakes.
    :param preparing: is to make way for the target's wake.
    :param report: is told how it went.
    :param unavailable: makes the error for those who wait for a model that could not be woken.
    :param consider: called when somebody may be served, or go on, before all is over.
    :param stopped: tells whether nobody is woken any more.
    """

    _admission: Admission
    _agenda: Agenda
    _outlook: Outlook
    _clock: IReactorTime
    _course: Course
    _preparing: Preparing
    _report: Report
    _unavailable: Callable[[str], SwitchError]
    _consider: Callable[[], None]
    _stopped: Callable[[], bool]
    _log = make_logger()

    async def run(self, switch: Switch) -> str | None:
        """
        Sleep, then wake.

        :returns: why nobody is woken any more, if so.
        """
        hooks_began = self._clock.seconds()
        error = await self._course.put_to_sleep(switch)
        target = switch.target
        if error is None:
            if target is not None:
                await self._preparing.end(target)
            unwanted = self._unwanted(switch)
            if unwanted is not None:
                return unwanted
            error = await self._course.wake(switch)
        if error is not None and target is not None and target.state is State.WAKING:
            switch.failed = True
            self._agenda.bring_back.extend(switch.victims)
        self._report.ended(switch, error, hooks_began)
        switch.done = error is None
        if error is not None:
            self._tell_in_vain(switch, error)
            self._consider()  # who would not go to sleep may be serving on
        if switch.failed and target is not None:
            await self._course.clean_up(target, switch.occasion)
        return None

    def abandon(self, failure: Failure, switch: Switch) -> None:
        """Leave nobody waiting, and no model in between, after a bug in the midst of a switch."""
        self._log.failure("a switch failed in a way that nobody foresaw", failure=failure)
        now = self._clock.seconds()
        for model in switch.models:
            if model.state is State.DRAINING:
                model.enter(State.AWAKE, now)
            if model.state is State.WAKING:
                model.enter(State.SLEEPING, now)
            if model.state is State.SLEEPING:
                model.enter(State.UNKNOWN, now)
        target = switch.target
        if target is not None:
            self._admission.refuse(target, lambda: self._unavailable(target.name))
        if switch.order is not None and not switch.order.done.called:
            switch.order.fail("a bug; the log has the traceback", tried=True)
        if switch.reservation is not None:
            self._agenda.reservations.pop(switch.reservation.id, None)
            switch.reservation.end("a bug; the log has the traceback")

    def _unwanted(self, switch: Switch) -> str | None:
        """Say why there is nothing more to be done once all have gone that had to, if so."""
        if switch.target is not None and self._stopped():
            return "llmux is shutting down"
        if switch.target is not None and switch.target.removed:
            return "the configuration has it no longer"
        if switch.misplaced:
            return "the configuration says that it takes something else"
        if any(model.state is State.ASLEEP for model in switch.stops):
            return UNWANTED  # when it was to be stopped; whoever has come since gets a new switch
        if not switch.wanted and not switch.victims:
            return UNWANTED
        if switch.claims and not self._outlook.suffices(switch):
            return "there is less room than there was"
        return None

    def _tell_in_vain(self, switch: Switch, error: str) -> None:
        """Tell all who wait for what has come to nothing."""
        now, target = self._clock.seconds(), switch.target
        if switch.reservation is not None:
            self._agenda.reservations.pop(switch.reservation.id, None)
            switch.reservation.end(error)
        if switch.reason in (Reason.CONFIG, Reason.START):
            for model in self._outlook.blocked(switch, now):  # it would be tried for ever
                self._admission.refuse(model, lambda model=model: self._unavailable(model.name))  # type: ignore[misc]  # mypy#15459
        if target is not None:
            self._admission.refuse(target, lambda: self._unavailable(target.name))
