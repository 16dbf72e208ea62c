"""
Covering at the least cost: choose so that enough of everything comes together.

Each of some candidates offers a menu of options, of which one can be taken at most; an option gives
something of each resource, and has a cost.  All is in whole numbers, so that sums are the same in
whatever order they are made.

A greedy choice comes first: over and over the option that costs least for what it gives of what is
still wanted; then whatever turns out not to be needed is left out.  After that prices are sought
for the resources, such that what options give is worth about what they cost: from them follows how
much any choice costs at least (it is the Lagrangian bound).  With that a branch and bound goes
through all choices that could be better than the best one that is known.  Up to :data:`EXACT`
candidates it goes to its end: the choice is exact.  With more it looks at the :data:`CORE`
candidates about which the prices leave most doubt, and ends after :data:`STEPS` steps; what is best
by then is taken, which is the greedy choice or better.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from operator import ge, mul

import attrs

EXACT = 12
"""Up to so many candidates the choice is exact."""

CORE = 24
"""Beyond, the search goes over so many of them."""

STEPS = 1500
"""Beyond, the search ends after so many steps."""

WHOLE = 1 << 40
"""The unit of what options give."""


@attrs.frozen(eq=False)
class Option:
    """
    What a candidate offers.

    :param rank: which candidate.
    :param depth: which of its options.
    :param shares: by resource, what it gives.
    :param cost: what it costs, more than 0.
    :param price: the same, in a unit in which a rough number does.
    """

    rank: int
    depth: int
    shares: tuple[int, ...]
    cost: int
    price: float

    def beats(self, other: Option) -> bool:
        """Tell whether it makes another option of the same candidate pointless."""
        return self.cost <= other.cost and all(map(ge, self.shares, other.shares))


Menus = Sequence[Sequence[Option]]


def cover(menus: Menus, target: Sequence[int], unit: int) -> list[Option] | None:
    """
    Choose at most one option of each candidate so that all is covered and the cost is least.

    What is chosen is minimal in any case: nothing can be left out, or be replaced by an option
    that costs less.

    :param menus: of each candidate, its options, none of which beats another.
    :param target: by resource, how much is wanted.
    :param unit: what the unit of ``price`` is as a ``cost``.
    :returns: ``None`` if all together are not enough.
    """
    if not _enough([max(menu, key=lambda option: option.shares) for menu in menus], target):
        return None
    best = _lessened(_greedy(menus, target), menus, target)
    limit = _total(best)
    menus = [left for menu in menus if (left := [o for o in menu if o.cost <= limit])]
    return _lessened(_Search(menus, target, best, unit).run(), menus, target)


def _freed(chosen: Sequence[Option]) -> list[int]:
    return [sum(column) for column in zip(*(option.shares for option in chosen), strict=True)]


def _enough(chosen: Sequence[Option], target: Sequence[int]) -> bool:
    return bool(chosen) and all(
        freed >= wanted for freed, wanted in zip(_freed(chosen), target, strict=True)
    )


def _total(chosen: Sequence[Option]) -> int:
    return sum(option.cost for option in chosen)


def _greedy(menus: Menus, target: Sequence[int]) -> list[Option]:
    """Take what loses least for what it frees of what is still lacking, over and over."""
    left = list(target)
    chosen: dict[int, Option] = {}
    nothing = (0,) * len(left)

    def price(option: Option) -> float | None:
        before = chosen.get(option.rank)
        had, paid = (before.shares, before.price) if before else (nothing, 0.0)
        gain = sum(
            min(share - less, lacking)
            for share, less, lacking in zip(option.shares, had, left, strict=True)
            if lacking > 0
        )
        return (option.price - paid) / gain if gain > 0 else None

    # What a way frees of what is lacking only ever becomes less, unless its candidate is used in a
    # lesser way meanwhile: a price that is still the lowest when it is asked again is the lowest.
    queue = [
        (cost, option.rank, depth, option)
        for menu in menus
        for depth, option in enumerate(menu)
        if (cost := price(option)) is not None
    ]
    heapify(queue)
    by_rank = {menu[0].rank: menu for menu in menus}
    while any(lacking > 0 for lacking in left):
        _, rank, depth, option = heappop(queue)
        cost = price(option)
        if cost is None:
            continue
        if queue and cost > queue[0][0]:
            heappush(queue, (cost, rank, depth, option))
            continue
        before = chosen[rank].shares if rank in chosen else nothing
        left = [a - b + c for a, b, c in zip(left, option.shares, before, strict=True)]
        chosen[rank] = option
        for deeper, other in enumerate(by_rank[rank]):
            if (cost := price(other)) is not None:
                heappush(queue, (cost, rank, deeper, other))
    return list(chosen.values())


def _lessened(chosen: Sequence[Option], menus: Menus, target: Sequence[int]) -> list[Option]:
    """Leave out what is not needed, or replace it by less, beginning with what costs most."""
    by_rank = {menu[0].rank: menu for menu in menus}
    kept = {option.rank: option for option in chosen}
    spare = [a - b for a, b in zip(_freed(chosen), target, strict=True)]
    for option in sorted(chosen, key=lambda option: -option.cost):
        lesser = [other for other in by_rank[option.rank] if other.cost < option.cost]
        for other in [None, *sorted(lesser, key=lambda other: other.cost)]:
            instead = other.shares if other else (0,) * len(spare)
            after = [a - b + c for a, b, c in zip(spare, option.shares, instead, strict=True)]
            if min(after) >= 0:
                spare = after
                if other:
                    kept[option.rank] = other
                else:
                    del kept[option.rank]
                break
    return list(kept.values())


class _Search:
    """
    Branch and bound.

    :param menus: of each candidate, what can be chosen.
    :param target: by resource, what has to be freed.
    :param best: a choice that is good already.
    :param unit: what the unit of ``price`` is as a ``cost``.
    """

    def __init__(self, menus: Menus, target: Sequence[int], best: list[Option], unit: int) -> None:
        self._best = best
        self._limit = _total(best) * WHOLE
        self._exact = len(menus) <= EXACT
        self._steps = 0
        # Vectors are packed into one number each, a lane for each resource: that a sum reaches the
        # target in all lanes is seen by all the lanes' highest bits, once what is missing up to
        # there has been added.
        lane = WHOLE.bit_length() + len(menus).bit_length() + 1
        self._guard = _packed([1 << (lane - 1)] * len(target), lane)
        base = self._guard - _packed(target, lane)
        prices = _prices(menus, target, sum(option.price for option in best))
        exact = [(int(price * (1 << 60)) * unit) >> 60 for price in prices]
        worth = sum(map(mul, exact, target))
        rows = []
        for menu in menus:
            row: list[tuple[int, int, Option | None]] = [(0, 0, None)]
            for o in menu:
                reduced = o.cost * WHOLE - sum(map(mul, exact, o.shares))
                row.append((reduced, _packed(o.shares, lane), o))
            row.sort(key=lambda each: each[0])
            rows.append(row)
        floor = worth + sum(row[0][0] for row in rows)
        # What makes even the least possible loss too high goes; the most doubtful comes last.
        room = self._limit - floor
        rows = [[each for each in row if each[0] - row[0][0] < room] for row in rows]
        rows.sort(key=lambda row: row[0][0] - row[1][0] if len(row) > 1 else -self._limit)
        fixed = [row[0] for row in rows if len(row) == 1]
        rows = [row for row in rows if len(row) > 1]
        if not self._exact and len(rows) > CORE:
            fixed += [row[0] for row in rows[:-CORE]]
            rows = rows[-CORE:]
        self._rows = rows
        self._fixed = [each[2] for each in fixed if each[2] is not None]
        self._start = worth + sum(each[0] for each in fixed)
        self._base = base + sum(each[1] for each in fixed)
        self._least = [0] * (len(rows) + 1)  # from a depth on: the least that is added to the bound
        self._most = [0] * (len(rows) + 1)  # ... the most that can be freed
        for depth in range(len(rows) - 1, -1, -1):
            self._least[depth] = self._least[depth + 1] + rows[depth][0][0]
            deepest = max(rows[depth], key=lambda each: each[1])
            self._most[depth] = self._most[depth + 1] + deepest[1]

    def run(self) -> list[Option]:
        """Give the best choice."""
        if self._start + self._least[0] < self._limit:
            self._go(0, self._base, self._start, ())
        return self._best

    def _go(self, depth: int, freed: int, bound: int, path: tuple[Option, ...]) -> None:
        guard = self._guard
        if freed & guard == guard:
            chosen = [*self._fixed, *path]
            if (cost := _total(chosen) * WHOLE) < self._limit:
                self._limit, self._best = cost, chosen
            return
        if depth == len(self._rows):
            return
        self._steps += 1
        if self._steps > STEPS and not self._exact:
            return
        least, most = self._least[depth + 1], self._most[depth + 1]
        for reduced, packed, option in self._rows[depth]:
            if bound + reduced + least >= self._limit:
                return  # the next ones are no better
            if (freed + packed + most) & guard == guard:
                longer = path if option is None else (*path, option)
                self._go(depth + 1, freed + packed, bound + reduced, longer)


def _packed(shares: Sequence[int], lane: int) -> int:
    number = 0
    for share in shares:
        number = (number << lane) + share
    return number


_ROUNDS = 16


def _prices(menus: Menus, target: Sequence[int], limit: float) -> list[float]:
    """
    Seek prices for all of each resource that make the bound high, by subgradients.

    :param limit: what a good choice costs.
    """
    wanted = [share / WHOLE for share in target]
    table = [[(o.price, [share / WHOLE for share in o.shares]) for o in menu] for menu in menus]
    prices = best = [limit / len(wanted)] * len(wanted)
    highest, pace = float("-inf"), 1.0
    for _ in range(_ROUNDS):
        slope = list(wanted)
        bound = sum(map(mul, prices, wanted))
        for menu in table:
            least, taken = 0.0, None
            for cost, shares in menu:
                reduced = cost - sum(map(mul, prices, shares))
                if reduced < least:
                    least, taken = reduced, shares
            if taken is not None:
                bound += least
                slope = [a - b for a, b in zip(slope, taken, strict=True)]
        if bound > highest:
            highest, best = bound, prices
        else:
            pace *= 0.7
        steep = sum(map(mul, slope, slope))
        if steep <= 0.0 or highest >= limit:
            break
        step = pace * (limit - bound) / steep
        prices = [max(0.0, a + step * b) for a, b in zip(prices, slope, strict=True)]
    return best
