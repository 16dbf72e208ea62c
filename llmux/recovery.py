"""What is awake when llmux starts: what was noted down before, and what the models say."""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs
from twisted.internet.defer import Deferred, gatherResults

from llmux.budget import Placement
from llmux.config import Adoption
from llmux.events import Events
from llmux.hookruns import HookRuns, Occasion
from llmux.hooks.contract import IDLE, Hook, IHookRunner, Leftover, Reason
from llmux.journal import Memory, ModelRecord
from llmux.lifecycle import Model
from llmux.states import State

AT_REST = (State.ASLEEP.value, State.STOPPED.value)
"""How states are noted in which a model holds nothing that it needs to serve."""


@attrs.define(eq=False)
class Recovery:
    """
    Finds out about models of which nothing is known yet.

    :param hooks: runs their scripts.
    :param runner: waits for hooks that another llmux has left running.
    :param events: logs what is found.
    :param finished: called with each hook that was waited for.
    :param changed: called when a model has answered.
    :ivar asking: the models that are being asked.
    """

    _hooks: HookRuns
    _runner: IHookRunner
    _events: Events
    _finished: Callable[[Leftover], None]
    _changed: Callable[[], None]
    asking: set[Model] = attrs.Factory(set)

    def stop(self) -> None:
        """End what is being asked: nobody needs the answers any more."""
        for model in tuple(self.asking):
            self._hooks.stop(model)

    async def await_leftovers(self, memory: Memory) -> None:
        """Wait until no hook runs any more that another llmux has begun."""
        for leftover in memory.hooks:
            self._events.hook_left(leftover.model, leftover.hook.value, leftover.process.pid)
        await gatherResults(
            [Deferred.fromCoroutine(self._await_leftover(one)) for one in memory.hooks]
        )

    async def _await_leftover(self, leftover: Leftover) -> None:
        finished = self._runner.finish(leftover)
        if leftover.hook is Hook.PREPARE:
            self._runner.stop(leftover.model)  # nobody waits for what could only help
        await finished
        self._finished(leftover)

    async def look(self, models: Collection[Model], memory: Memory | None) -> None:
        """
        Ask all models at once whether they are alive, and let them enter the state that follows.

        One that is alive, or says nothing, or that held something when its last state was noted,
        holds it still as far as anybody knows: its wake hook runs before it is asked anything, or
        its sleep hook before another one is woken.  One that is alive is awake by that alone if the
        configuration says so.

        :param memory: what was noted; ``None`` later than at the start: then others may be awake,
            and being alive alone makes nobody so.
        """
        records = {} if memory is None else memory.models
        await gatherResults(
            [
                Deferred.fromCoroutine(
                    self._look(model, records.get(model.name), adopt=memory is not None)
                )
                for model in models
            ]
        )

    async def _look(self, model: Model, record: ModelRecord | None, *, adopt: bool) -> None:
        if record is not None:
            _remember(model, record)
        alive: bool | None = False
        if self._hooks.has(model, Hook.ALIVE):
            alive = await self._ask(model)
        if alive:
            model.health.agreed = model.config.alive
        held = record is not None and record.state not in AT_REST
        if alive is False and not held:
            if record is not None and record.state == State.ASLEEP.value:
                if model.state is State.STOPPED:  # it may be asleep though not alive
                    model.enter(State.ASLEEP, self._hooks.clock.seconds())
                model.kept = record.kept
            return
        if not held and (record is None or not record.kept):
            model.placement = None  # somebody else has started it, wherever that was
        now = self._hooks.clock.seconds()
        why = "its alive hook agrees" if alive else "its alive hook says nothing"
        if record is not None and held and not alive:
            why = f"it was {record.state} before"
        model.enter(State.UNKNOWN, now)
        if alive and adopt and model.config.adopt is Adoption.ALIVE:
            model.enter(State.AWAKE, now)
        self._events.model_found(model.name, model.state.value, why)

    async def _ask(self, model: Model) -> bool | None:
        """
        Ask ``alive``.

        :returns: ``None`` if it says nothing: it hangs, is ended by a signal or cannot be run.
        """
        self.asking.add(model)
        try:
            said = await self._hooks.ask(model, Hook.ALIVE, Occasion(IDLE, IDLE, Reason.START))
        finally:
            self.asking.discard(model)
            self._changed()
        if said.success or said.timed_out or said.exit_code is None:
            return True if said.success else None
        return False


def record_of(model: Model) -> ModelRecord:
    """Say what a restart must know of a model."""
    return ModelRecord(
        state=model.state.value,
        asked=model.asked,
        agreed=model.health.agreed,
        config=model.config.as_json(),
        placement=None if model.placement is None else model.placement.as_json(),
        pin=model.pin,
        kept=dict(model.kept),
    )


def _remember(model: Model, record: ModelRecord) -> None:
    """Let a model know what was noted of it."""
    model.health.agreed = record.agreed
    told_so = record.config.get("pinned") == model.config.pinned  # else the file has the last word
    if model.pin is None and told_so:
        model.pin = record.pin
    try:
        model.placement = (
            None if record.placement is None else Placement.from_json(record.placement)
        )
    except ValueError:
        model.placement = None  # it may be anywhere
