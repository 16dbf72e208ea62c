"""
Having the hooks ready that will probably run next, so that a switch does not wait for their start.

Like all that the conductor does this is level-triggered: whenever nothing is left to be done, what
stands ready is compared with what ought to.  It is a hint to whoever runs the hooks; to be wrong
costs a shell that ends without its script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
from twisted.internet.interfaces import IDelayedCall

from llmux.budget import Budget
from llmux.config import ModelConfig
from llmux.hookruns import HookRuns
from llmux.hooks.contract import Hook, HookCall
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.states import State
from llmux.switching import Switch

_NOT_BEGUN = (State.ASLEEP, State.STOPPED, State.UNKNOWN)
_Key = tuple[str, Hook]
_Told = tuple[HookCall, ModelConfig, Budget]  # on which all depends that a hook is and is told

MOMENT = 0.01
"""Seconds that something must have been expected: what is over sooner needs nothing ready."""


@attrs.define(eq=False)
class Foresight:
    """
    Expects ``sleep`` and ``wake`` hooks.

    :param models: every model by name.
    :param outlook: says who would have to go for whom.
    :param hooks: are told.
    """

    _models: Mapping[str, Model]
    _outlook: Outlook
    _hooks: HookRuns
    _coming: Sequence[Switch] = ()
    _ready: dict[_Key, _Told] = attrs.Factory(dict)
    _timer: IDelayedCall | None = None
    _foreseen: Switch | None = None
    _seen: object = None  # what was so when that was foreseen

    def look(self, switches: Sequence[Switch], named: str | None) -> None:
        """
        Expect what the switches that are under way will run next, or the one that will come.

        :param switches: those that are under way.
        :param named: the model that is expected next where there is none; perhaps no model's name.
        """
        if not switches and named is None and not self._coming:  # as is so mostly
            return
        foreseen = None if switches else self._foresee(named)
        self._coming = tuple(switches) if foreseen is None else (foreseen,)
        calls = self._calls()
        for model in {model for model, _ in self._ready.keys() - calls.keys()}:
            self._hooks.forgo(model)
            self._ready = {key: told for key, told in self._ready.items() if key[0] != model}
        lacking = any(self._ready.get(key) != told for key, told in calls.items())
        if lacking and self._timer is None:
            # Not in the midst of a switch: it would wait for what is for the next one.
            self._timer = self._hooks.clock.callLater(MOMENT, self._get_ready)
        elif not lacking and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Expect nothing any more."""
        self.look((), None)

    def _get_ready(self) -> None:
        self._timer = None
        for key, told in self._calls().items():
            if self._ready.get(key) != told:
                self._hooks.expect(told[0])
                self._ready[key] = told

    def _calls(self) -> dict[_Key, _Told]:
        """Say what will run, and has not begun yet."""
        calls = [told for switch in self._coming for told in self._calls_of(switch)]
        return {(told[0].model, told[0].hook): told for told in calls}

    def _calls_of(self, switch: Switch) -> Iterator[_Told]:
        hooks, occasion, budget = self._hooks, switch.occasion, self._outlook.budget
        if not switch.committed:
            for victim in switch.victims:
                yield hooks.call(victim, Hook.SLEEP, occasion), victim.config, budget
        target = switch.target
        if target is not None and target.state in _NOT_BEGUN:
            wake = hooks.call(target, Hook.WAKE, occasion, switch.placement)
            yield wake, target.config, budget

    def _foresee(self, named: str | None) -> Switch | None:
        """Say which switch there will be when a policy goes where it says that it will."""
        model = self._models.get(named or "")
        configs = [each.config for each in self._models.values()]
        seen = named, self._outlook.situation(), configs
        if seen != self._seen:
            now = self._hooks.clock.seconds()
            plan = None if model is None else self._outlook.plan(model, now)
            self._foreseen = None if plan is None else Switch.to(model, plan, now)
            self._seen = seen
        return self._foreseen
