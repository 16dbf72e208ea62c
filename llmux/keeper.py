"""
When the journal is written.

Before a hook's script begins its process has to be in the journal, with all that has led to it.
All else may be written at the end of the reactor's turn: a kill in between is a kill a moment
earlier, and what a switch does in one turn costs one write.  What an operator has been promised is
written before he hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llmux.hooks.contract import Hook, Leftover
from llmux.journal import Journal, ModelRecord, ReservationRecord

Snapshot: TypeAlias = tuple[
    Mapping[str, ModelRecord],
    Mapping[str, object],
    Mapping[str, object],
    Mapping[str, ReservationRecord],
]
"""What :meth:`Journal.save` takes."""


@attrs.define(eq=False)
class Keeper:
    """
    Keeps a journal.

    :param journal: is written.
    :param clock: tells when the turn has ended.
    :param look: gives what is to be remembered of all but the hooks.
    :param promised: gives that of it which somebody relies on.
    """

    _journal: Journal
    _clock: IReactorTime
    _look: Callable[[], Snapshot]
    _promised: Callable[[], object]
    _written: object = attrs.field(default=None, init=False)
    _at_turns_end: IDelayedCall | None = attrs.field(default=None, init=False)

    def changed(self) -> None:
        """Write what has changed: at the end of the turn, or now if it has been promised."""
        if self._promised() != self._written:
            self.write()
        elif self._at_turns_end is None:
            self._at_turns_end = self._clock.callLater(0, self.write)

    def hook_began(self, leftover: Leftover) -> None:
        """Write now that a hook's process is there, whose script has not begun yet."""
        self._take(write=False)
        self._journal.hook_began(leftover)

    def hook_ended(self, model: str, hook: Hook) -> None:
        """Write at the end of the turn that nothing is left of a hook."""
        self._journal.hook_ended(model, hook, write=False)
        self.changed()

    def write(self) -> None:
        """Write now."""
        self._take(write=True)

    def finish(self) -> None:
        """Write now what would be written at the end of the turn, if there is anything."""
        if self._at_turns_end is not None:
            self.write()

    def _take(self, *, write: bool) -> None:
        timer, self._at_turns_end = self._at_turns_end, None
        if timer is not None and timer.active():
            timer.cancel()
        self._written = self._promised()
        self._journal.save(*self._look(), write=write)
