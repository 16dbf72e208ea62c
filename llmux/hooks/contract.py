"""What a hook is asked, and what it answers: all that the switcher knows of scripts."""

from __future__ import annotations

import enum
from collections.abc import Mapping

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
    FREED = "freed"
    KILL = "kill"
    STOP = "stop"
    PREPARE = "prepare"


class Reason(enum.Enum):
    """Why a hook runs: its demand."""

    REQUEST = "request"
    """Requests wait for a model that is not awake."""
    OPERATOR = "operator"
    """An operator wants it."""
    WAKE_FAILED = "wake_failed"
    """A model could not be woken, and what that left behind is cleaned up."""
    SLEEP_FAILED = "sleep_failed"
    """A sleep hook failed, and the model has to go all the same."""
    BACKEND_DOWN = "backend_down"
    """A model that was awake does not serve any more, or seems not to."""
    HEALTH = "health"
    """Time has passed, and llmux looks whether the model is still healthy."""
    START = "start"
    """llmux has started, and has to know what is there."""
    CONFIG = "config"
    """The model is not in the configuration any more, or has another address there."""
    IDLE = "idle"
    """Nothing was asked of the model for a while, or of any, and the idle model is to be awake."""
    PRELOAD = "preload"
    """llmux has started, and the model is to be awake from the start."""
    RESERVATION = "reservation"
    """Somebody who is no model wants its room."""
    PREPARE = "prepare"
    """The model is expected next, and can be got ready meanwhile."""
    SHUTDOWN = "shutdown"
    """llmux ends, and ``shutdown.sleep_models`` wants its models asleep."""


@attrs.frozen
class HookCall:
    """
    One hook to be run.

    :param model: whose hook it is.
    :param hook: which.
    :param source: the model that is being switched away from, or :data:`IDLE`.
    :param target: the model that is being switched to, or :data:`IDLE`.
    :param reason: the demand behind it.
    :param limit: seconds that it may take, if that is less than its own deadline.
    :param placement: by resource, how much the model takes where it is, or is to be; ``None`` where
        nobody knows.
    """

    model: str
    hook: Hook
    source: str
    target: str
    reason: Reason
    limit: float | None = None
    placement: Mapping[str, float] | None = None


@attrs.frozen
class HookResult:
    """
    How a hook ended.

    :param seconds: how long it ran.
    :param exit_code: its exit status; ``None`` if it did not exit by itself.
    :param signal: the number of the signal that ended it, if one did.
    :param timed_out: whether it was ended because its deadline had passed.
    :param stopped: whether it was ended by :meth:`IHookRunner.stop`.
    :param error: why it could not be run at all, if so.
    :param output: the last lines of what it printed, for operators only.
    """

    seconds: float
    exit_code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    stopped: bool = False
    error: str | None = None
    output: str = ""

    @property
    def success(self) -> bool:
        """Whether the hook did what it is for: it exited by itself, with status 0."""
        return self.exit_code == 0 and not self.timed_out and not self.stopped

    def describe(self) -> str:
        """Say how it ended, in words that fit behind "the wake hook of llama"; no output in it."""
        if self.error is not None:
            return f"could not be run: {self.error}"
        if self.timed_out:
            return f"was ended at its deadline, after {self.seconds:.1f} s"
        if self.stopped:
            return f"was ended after {self.seconds:.1f} s, for nobody needed it any more"
        if self.signal is not None:
            return f"was ended by signal {self.signal}"
        return f"exited with status {self.exit_code}"


@attrs.frozen
class ProcessId:
    """
    A process, and no other one that gets its number later.

    :param pid: its number, which is its process group's, too.
    :param started: when it started, in clock ticks since the machine did (proc(5), field 22).
    :param boot: which start of the machine that was.
    """

    pid: int
    started: int
    boot: str


@attrs.frozen
class Leftover:
    """
    A hook that was running when another llmux ended, or was killed.

    :param model: whose hook it is.
    :param hook: which.
    :param process: its process.
    :param deadline: seconds that it may take, from its start.
    """

    model: str
    hook: Hook
    process: ProcessId
    deadline: float


class IHookRunner(Interface):
    """Runs hooks; how, is its own affair."""

    def has(model: str, hook: Hook) -> bool:
        """Tell whether a model has such a hook; ``wake`` and ``sleep`` every model has."""

    def expect(call: HookCall) -> None:
        """
        Get a hook ready that will probably run soon, if that makes its start any faster.

        Nothing of it is seen to happen.  It is a hint: the hook may run with another call, too, or
        never, which :meth:`forgo` then tells.
        """

    def forgo(model: str) -> None:
        """Expect no hook of a model any more; those that run are not concerned."""

    def stop(model: str) -> None:
        """
        End all hooks of a model that run, as their deadline would; their results come when they
        have ended, and are no success.
        """

    def finish(leftover: Leftover) -> Deferred[None]:
        """
        Wait for a hook that another llmux has left running, and end it at its deadline.

        :returns: fires when nothing is left of it, at once if it has ended already; does not fail.
        """

    def run(call: HookCall) -> Deferred[HookResult]:
        """
        Run a hook to its end, or to its deadline.

        :returns: its result; this Deferred does not fail, whatever happens to the hook.
        """
