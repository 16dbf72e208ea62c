"""
Covering at the least cost: choose so that enough of everything comes together.

Whatever is needed in any case comes first; that leaves a smaller problem.  Then there is a greedy
choice: over and over the option that costs least for what it gives of what is still wanted.  From
:data:`~llmux.bounding.EXACT` to :data:`~llmux.bounding.CORE` candidates that is done with an
emphasis on each resource in turn, too, and the best is kept.  There a search begins for something
better: how, and where it is exact, is said in :mod:`llmux.bounding`.  Last, whatever turns out not
to be needed is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from operator import gt, mul, sub

from llmux.bounding import CORE, EXACT, Menus, Option, cost_of, improve

EMPHASIS = 4
"""What one resource counts for in a greedy choice that looks at it above all."""


def cover(menus: Menus, wanted: Sequence[int], unit: int) -> list[Option] | None:
    """
    Choose at most one option of each candidate so that all is covered and the cost is least.

    Exact or not, nothing that is chosen can be left out, or be replaced by what costs less.

    :param menus: of each candidate, its options, from the one that gives least to the one that
        gives most; none of them beats another.
    :param wanted: by resource, how much; more than 0.
    :param unit: the unit of ``rough``, as a ``cost``.
    :returns: ``None`` if all together are not enough.
    """
    if not menus:
        return None
    most = _sum([menu[-1] for menu in menus])
    spare = [gives - amount for gives, amount in zip(most, wanted, strict=True)]
    if min(spare) < 0:
        return None
    forced = [menu[-1] for menu in menus if _is_forced(menu, spare)]
    rest, still = _rest(menus, wanted, forced) if forced else (menus, wanted)
    chosen = [*forced, *(_best(rest, still, unit) if still else ())]
    whole = {(option.rank, option.depth): option for menu in menus for option in menu}
    return _lessened([whole[o.rank, o.depth] for o in chosen], menus, wanted)


def _is_forced(menu: Sequence[Option], spare: Sequence[int]) -> bool:
    """Tell whether nothing less will do than the most that a candidate offers."""
    less = menu[-2].gives if len(menu) > 1 else (0,) * len(spare)
    return any(map(gt, map(sub, menu[-1].gives, less), spare))


def _rest(
    menus: Menus, wanted: Sequence[int], forced: Sequence[Option]
) -> tuple[Menus, Sequence[int]]:
    """Give what there is to choose besides, where nothing gives more than is wanted then."""
    given = _sum(forced)
    left = [amount - gives for amount, gives in zip(wanted, given, strict=True)]
    lacking = [index for index, amount in enumerate(left) if amount > 0]
    taken = {option.rank for option in forced}
    rest: list[list[Option]] = []
    for menu in menus:
        kept: list[Option] = []
        for o in menu if menu[0].rank not in taken else ():
            gives = tuple(min(o.gives[index], left[index]) for index in lacking)
            option = Option(o.rank, o.depth, gives, o.cost, o.rough)
            if any(gives) and not any(other.beats(option) for other in kept):
                kept = [*(other for other in kept if not option.beats(other)), option]
        if kept:
            rest.append(kept)
    return rest, [left[index] for index in lacking]


def _best(menus: Menus, wanted: Sequence[int], unit: int) -> list[Option]:
    weightings = [[1] * len(wanted)]
    if EXACT < len(menus) <= CORE:
        some = range(len(wanted))
        weightings += [[EMPHASIS if each == one else 1 for each in some] for one in some]
    found = [_lessened(_greedy(menus, wanted, each), menus, wanted) for each in weightings]
    best = min(found, key=cost_of)
    limit = cost_of(best)
    menus = [left for menu in menus if (left := [each for each in menu if each.cost <= limit])]
    return improve(menus, wanted, best, unit)


def _sum(chosen: Sequence[Option]) -> list[int]:
    return [sum(column) for column in zip(*(option.gives for option in chosen), strict=True)]


def _by_rank(menus: Menus) -> dict[int, Sequence[Option]]:
    return {menu[0].rank: menu for menu in menus}


def _greedy(menus: Menus, wanted: Sequence[int], weights: Sequence[int]) -> list[Option]:
    """
    Take what costs least for what it gives of what is still wanted, over and over.

    :param weights: by resource, what it counts.
    """
    left = list(wanted)
    nothing = (0,) * len(left)
    chosen: dict[int, Option] = {}

    def rate(option: Option) -> float | None:
        before = chosen.get(option.rank)
        had, paid = (before.gives, before.rough) if before else (nothing, 0.0)
        gain = sum(
            weight * min(gives - less, lacking)
            for gives, less, lacking, weight in zip(option.gives, had, left, weights, strict=True)
            if lacking > 0
        )
        return (option.rough - paid) / gain if gain > 0 else None

    # A rate only ever rises, for less and less is wanted, unless another option of its candidate is
    # taken: so one that is still the lowest when it is worked out again is the lowest of all.
    queue = [
        (option.rough / sum(map(mul, option.gives, weights)), option.rank, option.depth, option)
        for menu in menus
        for option in menu
    ]
    heapify(queue)
    by_rank = _by_rank(menus)
    while any(lacking > 0 for lacking in left):
        _, rank, depth, option = heappop(queue)
        now = rate(option)
        if now is None:
            continue
        if queue and now > queue[0][0]:
            heappush(queue, (now, rank, depth, option))
            continue
        before = chosen[rank].gives if rank in chosen else nothing
        left = [a - b + c for a, b, c in zip(left, option.gives, before, strict=True)]
        chosen[rank] = option
        for other in by_rank[rank]:
            if (now := rate(other)) is not None:
                heappush(queue, (now, rank, other.depth, other))
    return list(chosen.values())


def _lessened(chosen: Sequence[Option], menus: Menus, wanted: Sequence[int]) -> list[Option]:
    """Leave out what is not needed, or replace it by less, beginning with what costs most."""
    by_rank = _by_rank(menus)
    kept = []
    spare = [a - b for a, b in zip(_sum(chosen), wanted, strict=True)]
    for option in sorted(chosen, key=lambda option: -option.cost):
        without = [a - b for a, b in zip(spare, option.gives, strict=True)]
        if min(without) >= 0:
            spare = without
            continue
        for other in sorted(by_rank[option.rank], key=lambda other: other.cost):
            instead = [a + b for a, b in zip(without, other.gives, strict=True)]
            if other is option or min(instead) >= 0:
                kept.append(other)
                spare = instead
                break
    return kept
