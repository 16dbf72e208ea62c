"""Which models there are and what they do: found out at the start, and when that changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred, DeferredLock, succeed

from llmux.admission import Admission
from llmux.conductor import Conductor
from llmux.config import ModelConfig
from llmux.health import HealthCheck
from llmux.journal import Memory
from llmux.recovery import Recovery
from llmux.roster import Changes, Roster


@attrs.define(eq=False)
class Census:
    """
    Finds out, one thing after the other; meanwhile no switch is begun.

    :param admission: has the models.
    :param roster: takes over configurations.
    :param recovery: asks the models.
    :param conductor: is kept from beginning a switch.
    :param health: looks after those that are awake.
    :param note: has it written down what is known.
    :ivar starting: whether it is not known yet what is awake at the start.
    """

    _admission: Admission
    _roster: Roster
    _recovery: Recovery
    _conductor: Conductor
    _health: HealthCheck
    _note: Callable[[], None]
    starting: bool = False
    _turn: DeferredLock = attrs.Factory(DeferredLock)

    async def start(self, memory: Memory) -> None:
        """
        Find out what is awake.

        :param memory: what the llmux before has left.
        """
        models = self._admission.models
        async with self._turn:
            self.starting = self._conductor.holding = True
            self._admission.count_from(
                max((record.asked for record in memory.models.values()), default=0)
            )
            for name, record in memory.models.items():
                if record.takes_something:
                    self._roster.recall(name, record.config)
                if name in models:
                    models[name].asked = record.asked
            try:
                await self._recovery.await_leftovers(memory)
                await self._recovery.look(tuple(models.values()), memory)
            finally:
                self._found()

    async def reconfigure(
        self, configs: Mapping[str, ModelConfig], shared: Mapping[str, tuple[str, ...]]
    ) -> Changes:
        """
        Take over another configuration, and find out whether new models are awake.

        :param configs: by name, in the order of the configuration.
        :param shared: by name, the models of which any can serve a request for it.
        """
        async with self._turn:
            self._conductor.holding = True
            try:
                changes = self._roster.reconfigure(configs, shared)
                self._conductor.consider()  # places may have become free
                added = [self._admission.models[name] for name in changes.added]
                await self._recovery.look(added, None)
            finally:
                self._found()
            return changes

    def started(self) -> Deferred[object]:
        """Give what fires when nothing is being found out any more."""
        return self._turn.run(lambda: succeed(None))

    def _found(self) -> None:
        """Go on, now that it is known what is awake; unless there is more to be found out."""
        if self._conductor.stopped:
            return  # in the midst of it, perhaps: what was noted down before counts on
        self.starting = False
        if self._turn.waiting:
            return
        self._conductor.holding = False
        self._roster.settle()
        for model in self._admission.models.values():
            self._roster.check_place(model)
            self._health.attend(model)
        self._note()
        self._conductor.consider()
