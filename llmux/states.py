"""
The states a model can be in, and the only steps from one to another.

The table is the whole machine; :meth:`llmux.lifecycle.Model.enter` refuses every other step.  It is
a plain table and not a generated machine because the switcher, the budget and the policy all have
to *look* at the state of every model, not only to send it inputs.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """
    What is known of a model.

    In all states but ``ASLEEP`` and ``STOPPED`` it takes what it needs, and what it takes while it
    is asleep besides.  ``STOPPED``, which takes nothing, is only told from ``ASLEEP`` for models
    that take something while they are asleep.
    """

    ASLEEP = "asleep"
    STOPPED = "stopped"
    WAKING = "waking"
    AWAKE = "awake"
    DRAINING = "draining"
    SLEEPING = "sleeping"
    UNKNOWN = "unknown"

    @property
    def holds(self) -> bool:
        """Whether a model in this state takes what it needs to serve."""
        return self not in (State.ASLEEP, State.STOPPED)


SERVING = frozenset({State.AWAKE, State.DRAINING})
"""The states in which requests are at a model."""

TRANSITIONS: dict[State, frozenset[State]] = {
    # found alive, or held something, at the start; a deeper sleep
    State.ASLEEP: frozenset({State.WAKING, State.UNKNOWN, State.STOPPED}),
    State.STOPPED: frozenset({State.WAKING, State.UNKNOWN, State.ASLEEP}),
    # a wake hook that fails is cleaned up after by the sleep hook
    State.WAKING: frozenset({State.AWAKE, State.SLEEPING}),
    State.AWAKE: frozenset({State.DRAINING}),
    # a drain that is called off ends where it began
    State.DRAINING: frozenset({State.AWAKE, State.SLEEPING}),
    # a sleep hook that fails leaves the model awake, if alive says so, or nobody knows how
    State.SLEEPING: frozenset({State.ASLEEP, State.STOPPED, State.AWAKE, State.UNKNOWN}),
    # what was found alive at the start may be awake by that (adopt: alive)
    State.UNKNOWN: frozenset({State.SLEEPING, State.WAKING, State.AWAKE}),
}
