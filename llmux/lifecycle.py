"""One model as it lives: its state, how many leases, those who wait for it."""

from __future__ import annotations

import sys

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
    :ivar switch_began: when the switch had begun that woke it last.
    :ivar leaving_since: since when it is wanted to go, or has gone; ``None`` while it may stay, and
        before it was ever woken.
    :ivar admitting: whether it is open to new requests.
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
    switch_began: float = 0.0
    leaving_since: float | None = None
    admitting: bool = False
    leases: int = 0
    wake_not_before: float = 0.0
    sleep_not_before: float = 0.0

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.config.name

    @property
    def free_places(self) -> int:
        """How many more leases it could give, by ``max_concurrency``."""
        most = self.config.max_concurrency
        return sys.maxsize if most is None else max(0, most - self.leases)

    @property
    def wanted_back_since(self) -> float | None:
        """
        Since when its leases are wanted back, in the clock's seconds; ``None`` while they are not.

        They are while it is wanted to go, and while requests wait for one of its places.
        """
        if self.leaving_since is None and self.admitting and self.waiting:
            return max(self.awake_since, self.waiting.occupied_since)
        return self.leaving_since

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
        if state in (State.WAKING, State.AWAKE):
            self.leaving_since = None
        elif self.leaving_since is None:
            self.leaving_since = now
        self.state = state
        self.since = now
        self.admitting = state is State.AWAKE
