"""One model as it lives: its state, how many leases, those who wait for it."""

from __future__ import annotations

import attrs

from llmux.config import ModelConfig
from llmux.errors import LLMuxError
from llmux.states import TRANSITIONS, State
from llmux.waiting import WaitingRoom


class ImpossibleTransition(LLMuxError):
    """A bug: the switcher asked for a step that the table does not know."""


@attrs.define(eq=False)
class Model:
    """
    What the switcher knows of one model.

    :ivar config: its part of the configuration.
    :ivar state: see :class:`~llmux.states.State`; changed by :meth:`enter` alone.
    :ivar since: when it entered that state, in the clock's seconds.
    :ivar awake_since: when it was last woken; a drain that is called off, or a sleep hook that
        fails, does not change it.
    :ivar admitting: whether it gives new requests a lease at once.
    :ivar leases: how many are held.
    :ivar waiting: the requests that wait for it.
    :ivar wake_not_before: its back-off after a wake that failed.
    :ivar sleep_not_before: its back-off after a sleep that failed.
    """

    config: ModelConfig
    waiting: WaitingRoom
    state: State = State.ASLEEP
    since: float = 0.0
    awake_since: float = 0.0
    admitting: bool = False
    leases: int = 0
    wake_not_before: float = 0.0
    sleep_not_before: float = 0.0

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.config.name

    def enter(self, state: State, now: float) -> None:
        """
        Go over to another state.

        :param state: the new one.
        :param now: the clock's seconds.
        :raises ImpossibleTransition: if the table has no such step.
        """
        if state not in TRANSITIONS[self.state]:
            raise ImpossibleTransition(f"{self.name} is {self.state.value}, not {state.value} next")
        if self.state is State.WAKING and state is State.AWAKE:
            self.awake_since = now
        self.state = state
        self.since = now
        self.admitting = state is State.AWAKE
