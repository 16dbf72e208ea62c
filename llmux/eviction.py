"""
Whose loss costs least: the choice of those who have to go so that there is room.

How the choice is made is said in :mod:`llmux.covering`, and where it is exact in
:mod:`llmux.bounding`.  Here losses and amounts become whole numbers: losses in nanoseconds, amounts
as shares of what is lacking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from llmux.amounts import Amounts, covers, fits, tolerance
from llmux.bounding import WHOLE, Option
from llmux.covering import cover


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


def cheapest(lacking: Amounts, candidates: Sequence[Sequence[Way]]) -> tuple[Way, ...] | None:
    """
    Choose whom to use, and in which way, so that nothing is lacking any more and least is lost.

    Nobody is chosen who need not be, and nobody in a deeper way than need be.  Of choices that lose
    the same, to the nanosecond, the one with fewer models is taken, and then the one with those
    that stand first.

    :param lacking: by resource, how much has to be freed.
    :param candidates: of each, its ways, the lesser first; a deeper one frees no less, and no less
        is lost by it.
    :returns: what is chosen, in the order of the candidates; ``None`` if all together are not
        enough.
    """
    needed = {name: lacking[name] for name in sorted(lacking) if not covers(0.0, lacking[name])}
    if not needed:
        return ()
    if len(candidates) == 1:  # as it mostly is, and always with one slot
        enough = (way for way in candidates[0] if fits(needed, way.frees))
        only = next(enough, None)
        return None if only is None else (only,)
    useful = [helpful for ways in candidates if (helpful := list(_helpful(ways, needed)))]
    menus, unit = _menus(useful)
    chosen = cover(menus, [_enough(amount) for amount in needed.values()], unit)
    if chosen is None:
        return None
    in_order = sorted(chosen, key=lambda option: option.rank)
    return tuple(useful[option.rank][option.depth][0] for option in in_order)


_Helpful = tuple[Way, tuple[int, ...]]  # with what it frees, as shares of what is lacking


def _helpful(ways: Sequence[Way], needed: Amounts) -> Iterator[_Helpful]:
    """Give the ways that free anything of what is needed."""
    for way in ways:
        shares = tuple(_share(way.frees.get(name, 0.0), needed[name]) for name in needed)
        if any(shares):
            yield way, shares


def _enough(amount: float) -> int:
    """Say which share is enough; the tolerance is far above what rounding can do."""
    return max(1, int(WHOLE * (1.0 - tolerance(amount) / amount)))


def _share(freed: float, amount: float) -> int:
    return WHOLE if freed >= amount else max(0, round(freed / amount * WHOLE))


def _menus(useful: Sequence[Sequence[_Helpful]]) -> tuple[list[list[Option]], int]:
    """
    Give a cost to each way, such that no two choices cost the same.

    The digits of a cost, from the lowest, say how deep each candidate is used, which candidates are
    used (the first weighs most), how many they are, and what is lost by it.

    :returns: by candidate, the ways that no other one makes pointless; and a nanosecond's cost.
    """
    number = len(useful)
    deep = max((len(ways) - 1 for ways in useful), default=0).bit_length()
    unit = 1 << (number * deep + number + number.bit_length() + 1)
    menus = []
    for rank, ways in enumerate(useful):
        behind = number - 1 - rank
        used = ((1 << number) - (1 << behind)) << (number * deep)
        menu: list[Option] = []
        for depth, (way, shares) in enumerate(ways):
            cost = round(way.loss * 1e9) * unit + used + (depth << (deep * behind))
            option = Option(rank, depth, shares, cost, cost / unit)
            if not any(other.beats(option) for other in menu):
                menu = [*(other for other in menu if not option.beats(other)), option]
        menus.append(menu)
    return menus, unit
