"""
Whose loss costs least: the choice of those who have to go so that there is room.

This is a covering problem in several resources, of which each candidate can be used in one of a
few ways.  Up to :data:`EXACT` candidates the choice is exact: a branch and bound over all of them.
With more, a greedy choice is made first, by loss for what is freed of that which is lacking; then
the same exact search goes over the candidates that are most promising, which are those of the
greedy choice and the next best ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import attrs

from llmux.amounts import Amounts, tolerance

EXACT = 12
"""Up to so many candidates the choice is exact."""


@attrs.frozen(eq=False)
class Way:
    """
    One way in which a model can make room: by sleeping, or by being stopped as well.

    :param model: its name.
    :param frees: by resource, what is free afterwards beyond what is free now.
    :param loss: what is lost by that, in seconds; 0 or more.
    """

    model: str
    frees: Amounts
    loss: float


@attrs.frozen
class _Option:
    """A way as the search sees it: what it frees, as shares of what is lacking; 1 is all of it."""

    way: Way
    shares: tuple[float, ...]
    loss: float


def cheapest(lacking: Amounts, candidates: Sequence[Sequence[Way]]) -> tuple[Way, ...] | None:
    """
    Choose whom to use, and in which way, so that nothing is lacking any more and least is lost.

    Nobody is chosen who need not be.  Of choices that cost the same, the one with fewer models is
    taken, and then the one with those that stand first.

    :param lacking: by resource, how much has to be freed.
    :param candidates: of each, its ways, the lesser first; a deeper one frees no less.
    :returns: what is chosen, in the order of the candidates; ``None`` if all together are not
        enough.
    """
    needed = [(name, amount) for name, amount in lacking.items() if amount > tolerance(amount)]
    if not needed:
        return ()
    useful = [options for ways in candidates if (options := _options(ways, needed))]
    if not _enough(useful, len(needed)):
        return None
    if len(useful) > EXACT:
        useful = _promising(useful, len(needed))
    chosen = _Search(useful, len(needed)).best()
    return tuple(option.way for option in chosen)


def _options(ways: Sequence[Way], needed: Sequence[tuple[str, float]]) -> list[_Option]:
    """Give the ways that help, each more than the one before it."""
    options: list[_Option] = []
    for way in ways:
        shares = tuple(min(1.0, way.frees.get(name, 0.0) / amount) for name, amount in needed)
        before = options[-1].shares if options else (0.0,) * len(shares)
        if any(more > less for more, less in zip(shares, before, strict=True)):
            options.append(_Option(way, shares, way.loss))
    return options


_WHOLE = 1.0 - 1e-9  # shares that are all of what is lacking, but for rounding


def _enough(useful: Sequence[Sequence[_Option]], resources: int) -> bool:
    return all(
        sum(options[-1].shares[index] for options in useful) >= _WHOLE for index in range(resources)
    )


def _promising(useful: list[list[_Option]], resources: int) -> list[list[_Option]]:
    """Choose the candidates among whom the search is worth its time."""
    chosen = _greedy(useful, resources)
    rest = sorted(
        (number for number in range(len(useful)) if number not in chosen),
        key=lambda number: _price(useful[number]),
    )
    room = max(0, EXACT - len(chosen))
    kept = sorted([*chosen, *rest[:room]])
    return [useful[number] for number in kept]


def _greedy(useful: Sequence[Sequence[_Option]], resources: int) -> set[int]:
    """Take whoever frees most of what is still lacking for what is lost by it, over and over."""
    left = [1.0] * resources
    chosen: list[int] = []
    waiting = set(range(len(useful)))
    while any(share > 1e-9 for share in left):
        best, best_price = -1, float("inf")
        for number in waiting:
            for option in useful[number]:
                gain = sum(map(min, option.shares, left))
                price = (option.loss + 1e-12) / gain if gain > 0 else float("inf")
                if price < best_price or best < 0:
                    best, best_price = number, price
        waiting.discard(best)
        chosen.append(best)
        left = [max(0.0, a - b) for a, b in zip(left, useful[best][-1].shares, strict=True)]
    return set(chosen)


def _price(options: Sequence[_Option]) -> float:
    return min(option.loss / sum(option.shares) for option in options)


class _Search:
    """
    Branch and bound, over the candidates in the order of their price.

    :param useful: of each candidate, its options.
    :param resources: how many are lacking.
    """

    def __init__(self, useful: Sequence[Sequence[_Option]], resources: int) -> None:
        order = sorted(range(len(useful)), key=lambda number: (_price(useful[number]), number))
        self._ranks = order
        self._useful = [useful[number] for number in order]
        self._resources = range(resources)
        self._rest = [[0.0] * resources for _ in range(len(order) + 1)]
        for depth in range(len(order) - 1, -1, -1):
            most = self._useful[depth][-1].shares
            self._rest[depth] = [
                after + share for after, share in zip(self._rest[depth + 1], most, strict=True)
            ]
        # by resource, the candidates from a depth on, the cheapest for this resource first
        self._cheap = [
            [self._by_price(depth, index) for depth in range(len(order) + 1)]
            for index in self._resources
        ]
        self._best: tuple[float, int, list[int]] | None = None
        self._found: list[tuple[int, _Option]] = []

    def best(self) -> list[_Option]:
        """Give the best choice; there has to be one."""
        self._go(0, [1.0] * len(self._resources), 0.0, [])
        return [option for _, option in sorted(self._found, key=itemgetter(0))]

    def _by_price(self, depth: int, index: int) -> list[tuple[float, float]]:
        """Give (loss for a whole, share) of those that can still be taken, the cheapest first."""
        found = []
        for options in self._useful[depth:]:
            helpful = [option for option in options if option.shares[index] > 0]
            if helpful:
                price = min(option.loss / option.shares[index] for option in helpful)
                found.append((price, max(option.shares[index] for option in helpful)))
        return sorted(found)

    def _bound(self, depth: int, left: list[float]) -> float:
        """Say what the rest costs at least: as if candidates could be taken in part."""
        bound = 0.0
        for index in self._resources:
            lacking = left[index]
            if lacking <= 1e-9:
                continue
            cost = 0.0
            for price, share in self._cheap[index][depth]:
                part = share if share < lacking else lacking
                cost += price * part
                lacking -= part
                if lacking <= 1e-9:
                    break
            bound = max(bound, cost)
        return bound

    def _go(
        self, depth: int, left: list[float], loss: float, chosen: list[tuple[int, _Option]]
    ) -> None:
        if all(share <= 1e-9 for share in left):
            self._take(loss, chosen)
            return
        rest = self._rest[depth]
        if any(share > more + 1e-9 for share, more in zip(left, rest, strict=True)):
            return
        if self._best is not None:
            most = self._best[0]
            if loss + self._bound(depth, left) > most + 1e-9 * max(1.0, most):
                return
        number = self._ranks[depth]
        for option in self._useful[depth]:
            after = [max(0.0, a - b) for a, b in zip(left, option.shares, strict=True)]
            self._go(depth + 1, after, loss + option.loss, [*chosen, (number, option)])
        self._go(depth + 1, left, loss, chosen)

    def _take(self, loss: float, chosen: list[tuple[int, _Option]]) -> None:
        key = (loss, len(chosen), sorted(number for number, _ in chosen))
        if self._best is None or self._is_better(key):
            self._best, self._found = key, chosen

    def _is_better(self, key: tuple[float, int, list[int]]) -> bool:
        assert self._best is not None
        if abs(key[0] - self._best[0]) > 1e-9 * max(1.0, self._best[0]):
            return key[0] < self._best[0]
        return key[1:] < self._best[1:]
