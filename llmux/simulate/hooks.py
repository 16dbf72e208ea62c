"""Hooks that are only pretended: they take the time that real ones take, and all succeed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from random import Random

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from llmux.costs import SwitchCosts
from llmux.errors import LLMuxError
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner, Leftover, Reason

JITTER = 0.1
"""The standard deviation of the logarithm of what a hook takes."""

_SLEEP_SHARE = 0.2  # of a switch of which it is not known how much of it is sleep
_LEAST = 0.001  # seconds that any hook takes, so that it is seen that it ran
_UNKNOWN = 3.0  # seconds of a switch of which nothing is known


class CostsError(LLMuxError):
    """A file of costs that cannot be used."""


@attrs.frozen
class HookCosts:
    """
    What hooks take, in seconds.

    What was measured of a hook itself comes first, then what was measured of switches between two
    models, then what a switch takes otherwise.  Of a whole switch, one fifth is sleep and four
    fifths are wake.

    :param switch: a switch between two models of which nothing else is known.
    :param measured: what is known of models and of pairs of them.
    """

    switch: float = attrs.field(validator=attrs.validators.gt(0.0))
    measured: SwitchCosts = attrs.Factory(SwitchCosts)

    @classmethod
    def from_file(cls, path: str | Path, switch: float | None = None) -> HookCosts:
        """
        Read what was measured: a JSON object with ``sleep``, ``wake`` (by model), ``pair`` (a list
        of from, to, seconds), all of which may be left out, and perhaps ``switch``.

        :param path: the file.
        :param switch: wins over the file's; without any, the mean of what is known of pairs, or of
            models, counts.
        :raises CostsError: if it is anything else.
        """
        try:
            document = json.loads(Path(path).read_bytes())
            if not isinstance(document, dict):
                raise ValueError("it has to be an object")
            empty: dict[str, object] = {"sleep": {}, "wake": {}, "pair": [], "lease": {}}
            measured = SwitchCosts.from_json({**empty, **document})
            said = document.get("switch", _mean(measured)) if switch is None else switch
            if not (isinstance(said, int | float) and 0 < said < math.inf):
                raise ValueError(f"switch: {said!r} is no number of seconds")
        except (OSError, ValueError) as error:
            raise CostsError(f"{path}: the costs cannot be read: {error}") from error
        return cls(float(said), measured)

    def of(self, call: HookCall) -> float:
        """Say how long a hook takes without chance, in seconds."""
        if call.hook is Hook.WAKE:
            own, pair, share = self.measured.wake, (call.source, call.model), 1 - _SLEEP_SHARE
        elif call.hook is Hook.SLEEP:
            own, pair, share = self.measured.sleep, (call.model, call.target), _SLEEP_SHARE
        else:
            return 0.0
        seconds = own.get(call.model)
        if seconds is None:
            seconds = self.measured.pair.get(pair, self.switch) * share
        return max(_LEAST, seconds)

    def between(self, source: str, target: str) -> float:
        """Say how long the hooks of a switch from one model to another take without chance."""
        return sum(
            self.of(HookCall(model, hook, source, target, Reason.REQUEST))
            for model, hook in ((source, Hook.SLEEP), (target, Hook.WAKE))
        )


@implementer(IHookRunner)
class SimulatedHooks:
    """
    Runs no scripts, and lets the time pass that they would take.

    :param clock: the only time there is.
    :param costs: how long they take.
    :param seed: of the chance in that.
    :param jitter: the standard deviation of its logarithm; 0: none.
    :param stops: the models that have a ``stop`` hook.
    """

    def __init__(
        self,
        clock: IReactorTime,
        costs: HookCosts,
        seed: int = 0,
        jitter: float = JITTER,
        stops: frozenset[str] = frozenset(),
    ) -> None:
        self._clock = clock
        self._costs = costs
        self._random = Random(seed)  # noqa: S311  # chance is all that is asked of it
        self._jitter = jitter
        self._stops = stops

    def has(self, model: str, hook: Hook) -> bool:
        """See :meth:`IHookRunner.has`."""
        return hook in (Hook.WAKE, Hook.SLEEP) or (hook is Hook.STOP and model in self._stops)

    def expect(self, call: HookCall) -> None:
        """See :meth:`IHookRunner.expect`; nothing would be any faster."""

    def forgo(self, model: str) -> None:
        """See :meth:`IHookRunner.forgo`."""

    def stop(self, model: str) -> None:
        """See :meth:`IHookRunner.stop`; nobody orders that in a simulation."""

    def finish(self, leftover: Leftover) -> Deferred[None]:
        """See :meth:`IHookRunner.finish`; nothing was left running."""
        return succeed(None)

    def run(self, call: HookCall) -> Deferred[HookResult]:
        """See :meth:`IHookRunner.run`."""
        seconds = self._costs.of(call) * math.exp(self._random.gauss(0, self._jitter))
        ended: Deferred[HookResult] = Deferred()
        self._clock.callLater(seconds, ended.callback, HookResult(seconds=seconds, exit_code=0))
        return ended


def _mean(measured: SwitchCosts) -> float:
    """Give what a switch takes on an average, in seconds."""
    if measured.pair:
        return sum(measured.pair.values()) / len(measured.pair)
    parts: tuple[Mapping[str, float], ...] = (measured.sleep, measured.wake)
    means = [sum(part.values()) / len(part) for part in parts if part]
    return sum(means) if means else _UNKNOWN
