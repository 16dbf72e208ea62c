"""
What leaving a model has turned out to cost those who came for it afterwards.

Before it leaves a model, a policy reckons with as many arrivals as there were before.  Some clients
do not come while their model is away: an agent that waits for another model's answer first.  How
much was suffered in the past, compared with what was reckoned with, says how much to believe next.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import attrs

from llmux.costs import ALPHA

_Kind = tuple[str, bool]  # the model, and whether it was idle when it was left

_MOST = 5.0
"""No more than so many times of what is expected is reckoned with, whatever was suffered before.

Where many come at any time, more would have a model stay for as long as they do."""


@attrs.define
class _Departure:
    """
    A model that was left a short while ago.

    :ivar kind: see :data:`_Kind`.
    :ivar back_at: when it was expected back, in seconds.
    :ivar expected: what was reckoned with, in square seconds.
    :ivar suffered: what has been suffered until now, in square seconds.
    """

    kind: _Kind
    back_at: float
    expected: float
    suffered: float = 0.0


@attrs.define
class _Balance:
    """Moving averages of both, in square seconds."""

    expected: float
    suffered: float


class Departures:
    """Learns by which factor to correct what is reckoned with."""

    def __init__(self) -> None:
        self._under_way: dict[str, _Departure] = {}
        self._past: dict[_Kind, _Balance] = {}

    def factor(self, model: str, idle: bool) -> float:
        """
        Say how much is suffered of what is expected.

        :param idle: whether nothing is in flight at the model that is to be left.
        """
        past = self._past.get((model, idle))
        return 1.0 if past is None else min(_MOST, past.suffered / past.expected)

    def leaves(self, model: str, idle: bool, now: float, away: float, expected: float) -> None:
        """
        Take in that a model is left.

        :param idle: whether nothing is in flight there.
        :param away: for how many seconds it is expected to be away.
        :param expected: what those who come meanwhile are expected to suffer, in square seconds.
        """
        if expected > 0:
            self._under_way[model] = _Departure((model, idle), now + away, expected)

    def stays(self, model: str) -> None:
        """Take in that it is not left after all."""
        self._under_way.pop(model, None)

    def arrived(self, model: str, now: float) -> None:
        """Take in that somebody comes for a model."""
        departure = self._under_way.get(model)
        if departure is not None and now < departure.back_at:
            departure.suffered += (departure.back_at - now) ** 2

    def settle(self, now: float) -> None:
        """Learn from those whose time is over."""
        over = [name for name, each in self._under_way.items() if now >= each.back_at]
        for name in over:
            departure = self._under_way.pop(name)
            past = self._past.get(departure.kind)
            if past is None:
                self._past[departure.kind] = _Balance(departure.expected, departure.suffered)
                continue
            past.expected += ALPHA * (departure.expected - past.expected)
            past.suffered += ALPHA * (departure.suffered - past.suffered)

    def forget(self, models: Collection[str]) -> None:
        """Leave out what was learnt of all but some models: there are no others any more."""
        for kind in [kind for kind in self._past if kind[0] not in models]:
            del self._past[kind]

    def as_json(self) -> list[object]:
        """Give what was learnt as plain JSON values."""
        return [
            [model, idle, past.expected, past.suffered]
            for (model, idle), past in self._past.items()
        ]

    def learn(self, learnt: object) -> None:
        """
        Take back what :meth:`as_json` gave.

        :raises ValueError: if it is anything else.
        """
        if not isinstance(learnt, list):
            raise ValueError(f"{learnt!r} is no list of departures")
        past: dict[_Kind, _Balance] = {}
        for each in learnt:
            match each:
                case [str(model), bool(idle), int() | float() as expected, int() | float() as paid]:
                    if not (0 < expected < math.inf and 0 <= paid < math.inf):
                        raise ValueError(f"{each!r} is no departure")
                    past[model, idle] = _Balance(float(expected), float(paid))
                case _:
                    raise ValueError(f"{each!r} is no departure")
        self._past = past
