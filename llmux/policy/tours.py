"""How long a tour was for whoever waits, at its shortest."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from llmux.policy.contenders import Contender, tour
from llmux.policy.contract import PolicyContext


class ShortestTours:
    """
    Remembers the shortest of all tours since the first came who waits for a model.

    Where more come than can be served, the drain grows for as long as the model stays, and a bound
    in tours with it: no wait would ever be too long.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}  # by model: who is the first, and seconds

    def bound(self, waiting: Iterable[Contender], context: PolicyContext) -> list[Contender]:
        """
        Give contenders again, so that their tours are no longer than they once were.

        :param waiting: all contenders.
        """
        waiting = list(waiting)
        known = {}
        for each in waiting:
            first, seconds = each.place[0], tour(each, waiting, context)
            before = self._known.get(each.name)
            if before is not None and before[0] == first:
                seconds = min(seconds, before[1])
            known[each.name] = (first, seconds)
        self._known = known
        return [attrs.evolve(each, longest_tour=known[each.name][1]) for each in waiting]
