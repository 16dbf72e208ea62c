"""What a hook is asked, and what it answers: all that the switcher knows of scripts."""

from __future__ import annotations

import enum

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

IDLE = "idle"
"""What stands for a model where there is none: in metrics, events and ``LLMUX_FROM``/``_TO``."""


class Hook(enum.Enum):
    """The scripts that a model can have."""

    WAKE = "wake"
    SLEEP = "sleep"
    ALIVE = "alive"


class Reason(enum.Enum):
    """Why a hook runs: its demand."""

    REQUEST = "request"
    """Requests wait for a model that is not awake."""
    WAKE_FAILED = "wake_failed"
    """A wake hook failed, and what it left behind is cleaned up."""
    SLEEP_FAILED = "sleep_failed"
    """A sleep hook failed, and llmux has to know whether the model is still there."""


@attrs.frozen
class HookCall:
    """
    One hook to be run.

    :param model: whose hook it is.
    :param hook: which.
    :param source: the model that is being switched away from, or :data:`IDLE`.
    :param target: the model that is being switched to, or :data:`IDLE`.
    :param reason: the demand behind it.
    """

    model: str
    hook: Hook
    source: str
    target: str
    reason: Reason


@attrs.frozen
class HookResult:
    """
    How a hook ended.

    :param seconds: how long it ran.
    :param exit_code: its exit status; ``None`` if it did not exit by itself.
    :param signal: the number of the signal that ended it, if one did.
    :param timed_out: whether it was ended because its deadline had passed.
    :param error: why it could not be run at all, if so.
    :param output: the last lines of what it printed, for operators only.
    """

    seconds: float
    exit_code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    error: str | None = None
    output: str = ""

    @property
    def success(self) -> bool:
        """Whether the hook did what it is for: it exited by itself, with status 0."""
        return self.exit_code == 0 and not self.timed_out

    def describe(self) -> str:
        """Say how it ended, in words that fit behind "the wake hook of llama"; no output in it."""
        if self.error is not None:
            return f"could not be run: {self.error}"
        if self.timed_out:
            return f"was ended at its deadline, after {self.seconds:.1f} s"
        if self.signal is not None:
            return f"was ended by signal {self.signal}"
        return f"exited with status {self.exit_code}"


class IHookRunner(Interface):
    """Runs hooks; how, is its own affair."""

    def has(model: str, hook: Hook) -> bool:
        """Tell whether a model has such a hook; ``wake`` and ``sleep`` every model has."""

    def run(call: HookCall) -> Deferred[HookResult]:
        """
        Run a hook to its end, or to its deadline.

        :returns: its result; this Deferred does not fail, whatever happens to the hook.
        """
