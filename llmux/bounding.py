"""
Search for the best choice that covers all that is wanted: branch and bound.

Each of some candidates offers a menu of options, of which one can be taken at most; an option gives
something of each resource, and has a cost.  All is in whole numbers, so that sums are the same in
whatever order they are made.

First prices are sought for the resources, such that what options give is worth about what they
cost.  From them follows what any choice costs at least: the price of all that is wanted, and for
each option taken what it costs beyond the worth of what it gives, which can be less than nothing
(the Lagrangian bound).  With that the search goes through all choices that could be better than
the best one known.

Up to :data:`EXACT` candidates it goes to its end: the choice is exact.  With more it decides about
the :data:`CORE` candidates about which the prices leave most doubt, one after the other, and
follows only so many choices side by side as :data:`WORK` allows, those of the lowest bounds.  What
it finds then is what it began with or better, and exact if there was never one too many.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import ge, mul

import attrs

EXACT = 12
"""Up to so many candidates the choice is exact."""

CORE = 24
"""Beyond, the search is for the best choice among so many of them."""

WORK = 1 << 17
"""Beyond, so many choices are followed, divided by the square of the number of candidates."""

LEAST = 16
"""However many candidates there are, so many choices are followed."""

ROUNDS = 16
"""So often prices are made better."""

WHOLE = 1 << 40
"""The unit of what options give; of no resource more than this is wanted, or given by one."""


@attrs.frozen(eq=False)
class Option:
    """
    What a candidate offers.

    :param rank: which candidate.
    :param depth: which of its options.
    :param gives: by resource, how much.
    :param cost: what it costs, more than 0; no two choices may cost the same.
    :param rough: the same, in a larger unit.
    """

    rank: int
    depth: int
    gives: tuple[int, ...]
    cost: int
    rough: float

    def beats(self, other: Option) -> bool:
        """Tell whether it makes another option of the same candidate pointless."""
        return self.cost <= other.cost and all(map(ge, self.gives, other.gives))


Menus = Sequence[Sequence[Option]]


def cost_of(chosen: Sequence[Option]) -> int:
    """Sum up what a choice costs."""
    return sum(option.cost for option in chosen)


def improve(menus: Menus, wanted: Sequence[int], best: list[Option], unit: int) -> list[Option]:
    """
    Search for the best choice.

    :param menus: of each candidate, its options; see :func:`llmux.covering.cover`.
    :param wanted: by resource, how much.
    :param best: a choice that is good already.
    :param unit: the unit of ``rough``, as a ``cost``.
    :returns: what is best of all; or, where the search has no end, at least as good as ``best``.
    """
    return _Search(menus, wanted, best, unit).run()


# What it adds to the bound, what it gives, packed into one number, and what it is, if not nothing.
_Choice = tuple[int, int, Option | None]
_Path = tuple[Option, ...]
_Part = tuple[int, _Path]  # the bound of all choices that begin with these options


class _Search:
    """
    Branch and bound.

    :param menus: of each candidate, what can be chosen.
    :param wanted: by resource, how much.
    :param best: a choice that is good already.
    :param unit: the unit of ``rough``, as a ``cost``.
    """

    def __init__(self, menus: Menus, wanted: Sequence[int], best: list[Option], unit: int) -> None:
        self._best = best
        self._limit = cost_of(best) * WHOLE  # costs are multiplied here, so that prices are whole
        self._number = len(menus)
        # Vectors are packed, with a lane for each resource.  What is chosen is added to what makes
        # a lane reach its highest bit just when there is enough, so one look sees them all.
        lane = (WHOLE * (len(menus) + 1)).bit_length() + 1
        self._full = _packed([1 << (lane - 1)] * len(wanted), lane)
        given = self._full - _packed(wanted, lane)
        rough = _prices(menus, wanted, sum(option.rough for option in best))
        prices = [int(price * (1 << 60)) * unit >> 60 for price in rough]
        bound = sum(map(mul, prices, wanted))
        rows: list[list[_Choice]] = []
        for menu in menus:
            row: list[_Choice] = [(0, 0, None)]
            for option in menu:
                beyond = option.cost * WHOLE - sum(map(mul, prices, option.gives))
                row.append((beyond, _packed(option.gives, lane), option))
            rows.append(sorted(row, key=_beyond))
        # Whatever is too dear even if all others are chosen at their best goes; those with the
        # least difference between their choices come last.
        room = self._limit - bound - sum(row[0][0] for row in rows)
        rows = [row[:1] + [each for each in row[1:] if each[0] - row[0][0] < room] for row in rows]
        certain = [row[0] for row in rows if len(row) == 1]
        rows = sorted((row for row in rows if len(row) > 1), key=lambda row: row[0][0] - row[1][0])
        if self._number > EXACT:
            certain += [row[0] for row in rows[:-CORE]]
            rows = rows[-CORE:]
        self._certain = [option for _, _, option in certain if option is not None]
        self._bound = bound + sum(beyond for beyond, _, _ in certain)
        self._given = given + sum(gives for _, gives, _ in certain)
        self._rows = rows
        # from a depth on: the least that is added to the bound, the most that can be given
        self._least = [0] * (len(rows) + 1)
        self._most = [0] * (len(rows) + 1)
        self._seen: list[dict[int, int]] = [{} for _ in rows]
        for depth in range(len(rows) - 1, -1, -1):
            self._least[depth] = self._least[depth + 1] + rows[depth][0][0]
            self._most[depth] = self._most[depth + 1] + max(gives for _, gives, _ in rows[depth])

    def run(self) -> list[Option]:
        """Give the best choice, or one that is nearly as good."""
        if self._given & self._full == self._full:
            self._take(())
        elif (self._given + self._most[0]) & self._full == self._full:
            if self._number <= EXACT:
                self._go_deep(0, self._given, self._bound, ())
            else:
                self._go_broad(max(LEAST, WORK // self._number**2))
        return self._best

    def _go_deep(self, depth: int, given: int, bound: int, path: _Path) -> None:
        """Choose for the candidates from a depth on, in every way that can be the best."""
        seen = self._seen[depth]
        if given in seen and seen[given] <= bound:
            return  # it has been given for less
        seen[given] = bound
        for beyond, gives, option in self._rows[depth]:
            if bound + beyond + self._least[depth + 1] >= self._limit:
                return  # the others are no better
            further = path if option is None else (*path, option)
            if (given + gives) & self._full == self._full:
                self._take(further)
            elif (given + gives + self._most[depth + 1]) & self._full == self._full:
                self._go_deep(depth + 1, given + gives, bound + beyond, further)

    def _go_broad(self, width: int) -> None:
        """
        Choose for one candidate after the other, in many ways side by side.

        :param width: how many are followed at most: those of the lowest bounds.
        """
        layer: dict[int, _Part] = {self._given: (self._bound, ())}
        for depth, row in enumerate(self._rows, 1):
            least, most, full = self._least[depth], self._most[depth], self._full
            following: dict[int, _Part] = {}
            for before, (so_far, path) in layer.items():
                for beyond, gives, option in row:
                    bound, given = so_far + beyond, before + gives
                    if bound + least >= self._limit:
                        break
                    further = path if option is None else (*path, option)
                    if given & full == full:
                        self._take(further)
                    elif (given + most) & full == full and (
                        given not in following or following[given][0] > bound
                    ):
                        following[given] = bound, further
            if len(following) > width:
                following = dict(sorted(following.items(), key=_bound)[:width])
            layer = following

    def _take(self, path: _Path) -> None:
        chosen = [*self._certain, *path]
        if (cost := cost_of(chosen) * WHOLE) < self._limit:
            self._limit, self._best = cost, chosen


def _bound(part: tuple[int, _Part]) -> int:
    return part[1][0]


def _beyond(choice: _Choice) -> int:
    return choice[0]


def _packed(numbers: Sequence[int], lane: int) -> int:
    packed = 0
    for number in numbers:
        packed = (packed << lane) + number
    return packed


def _prices(menus: Menus, wanted: Sequence[int], limit: float) -> list[float]:
    """
    Seek prices that make the bound high: go where it rises, in steps that become shorter.

    :param limit: what a good choice costs, roughly.
    :returns: by resource, the price of a :data:`WHOLE`, in the unit of ``rough``.
    """
    whole = [each / WHOLE for each in wanted]
    options = [option for menu in menus for option in menu]
    costs = [option.rough for option in options]
    columns = [[o.gives[resource] / WHOLE for o in options] for resource in range(len(whole))]
    numbers = iter(range(len(options)))
    menus_of = [[next(numbers) for _ in menu] for menu in menus]
    prices = best = [limit / len(whole)] * len(whole)
    highest, pace = float("-inf"), 1.0
    for _ in range(ROUNDS):
        beyond = costs
        for price, column in zip(prices, columns, strict=True):
            beyond = [cost - price * gives for cost, gives in zip(beyond, column, strict=True)]
        lowest = [
            menu[0] if len(menu) == 1 else min(menu, key=beyond.__getitem__) for menu in menus_of
        ]
        taken = [number for number in lowest if beyond[number] < 0.0]
        bound = sum(map(mul, prices, whole)) + sum(beyond[number] for number in taken)
        slope = [
            share - sum(column[number] for number in taken)
            for share, column in zip(whole, columns, strict=True)
        ]
        if bound > highest:
            highest, best = bound, prices
        else:
            pace *= 0.7
        steepness = sum(map(mul, slope, slope))
        if steepness <= 0.0 or highest >= limit:
            break
        step = pace * (limit - bound) / steepness
        prices = [max(0.0, a + step * b) for a, b in zip(prices, slope, strict=True)]
    return best
