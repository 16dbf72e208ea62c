"""
Random states in which somebody has to go, and what is best in them, found in two other ways.

:func:`best_choice` goes through every choice there is; :func:`least_loss` halves the candidates and
puts the halves' choices together, which serves for sixteen.  Neither has anything in common with
what is tested: both leave nothing out, and do it with plain sums of floats.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from random import Random

from llmux.amounts import Amounts, add
from llmux.eviction import Way

Candidates = Sequence[Sequence[Way]]

FAMILIES = ("coarse", "fine", "alike", "small and large")
"""
What states are made of.

coarse
    few different sizes and losses, 0 among them: many choices lose the same
fine
    any size and loss, so hardly two choices are the same
alike
    sizes and losses that differ little, so many choices are nearly as good as the best
small and large
    sizes from a thousandth to a billion, losses from a millisecond to a day

All losses are whole milliseconds: they are the same, or differ by more than roundings do.
"""


def random_state(random: Random, number: int, family: str) -> tuple[Amounts, Candidates]:
    """
    Make up a state.

    :param number: how many candidates it has, of which some may be of no use.
    :param family: one of :data:`FAMILIES`.
    :returns: what is lacking, of one to four resources, and the candidates; one state in about a
        hundred cannot be helped.
    """

    def amount() -> float:
        if family == "coarse":
            return random.choice((0.0, 1.0, 2.0, 4.0))
        if family == "alike":
            return random.uniform(19.0, 21.0)
        return random.uniform(0.0, 40.0) if family == "fine" else 10.0 ** random.uniform(-3, 9)

    def loss() -> float:
        if family == "coarse":
            return random.choice((0.0, 10.0, 20.0, 30.0))
        if family == "alike":
            return random.choice((10.0, round(random.uniform(9.9, 10.1), 3)))
        size = random.uniform(0.0, 100.0) if family == "fine" else 10.0 ** random.uniform(-3, 5)
        return round(size, 3)

    resources = [f"r{index}" for index in range(random.randint(1, 4))]
    density = random.choice((0.4, 0.7, 1.0))
    deeper = random.choice((0.0, 0.3, 0.7, 1.0))
    candidates = []
    for index in range(number):
        sleep = Way(
            f"m{index}", {r: amount() for r in resources if random.random() < density}, loss()
        )
        candidates.append([sleep])
        if random.random() < deeper:
            more = {r: amount() for r in resources if random.random() < density}
            candidates[-1].append(Way(sleep.model, add(sleep.frees, more), sleep.loss + loss()))
    most = add(*(ways[-1].frees for ways in candidates))
    share = random.choice((0.2, 0.5, 1.0, 1.02))
    lacking = {r: most.get(r, 0.0) * random.uniform(0.05, share) for r in resources}
    return lacking, candidates


def _slack(amount: float) -> float:
    return 1e-9 * max(1.0, amount)


def _all_sums(numbers: Sequence[Sequence[float]]) -> list[float]:
    """
    Sum up every choice.

    :param numbers: of each candidate, what its ways add.
    :returns: by the choice's number, whose digits say which way is taken: the first candidate's is
        the lowest, 0 is none, 1 the first way.
    """
    sums = [0.0]
    for ways in numbers:
        sums = [before + more for more in (0.0, *ways) for before in sums]
    return sums


def _digits(number: int, candidates: Candidates) -> list[int]:
    digits = []
    for ways in candidates:
        number, digit = divmod(number, len(ways) + 1)
        digits.append(digit)
    return digits


def best_choice(lacking: Amounts, candidates: Candidates) -> list[Way] | None:
    """Look at every choice there is; of those that lose the same, see which is to be preferred."""
    losses = _all_sums([[way.loss for way in ways] for ways in candidates])
    enough: Sequence[int] = range(len(losses))
    for resource, amount in lacking.items():
        freed = _all_sums([[way.frees.get(resource, 0.0) for way in ways] for ways in candidates])
        least = amount - _slack(amount)
        enough = [number for number in enough if freed[number] >= least]
    if not enough:
        return None
    loss = min(losses[number] for number in enough)
    tied = [_digits(number, candidates) for number in enough if losses[number] < loss + 1e-6]

    def order(digits: list[int]) -> tuple[int, list[int], list[int]]:
        used = [index for index, digit in enumerate(digits) if digit]
        return len(used), used, digits

    best = min(tied, key=order)
    return [ways[digit - 1] for ways, digit in zip(candidates, best, strict=True) if digit]


def least_loss(lacking: Amounts, candidates: Candidates) -> float | None:
    """
    Find what has to be lost at least.

    The choices of one half are sorted by loss.  For each resource and each of the other half's
    choices those among them that free enough are a set of bits; the lowest bit that all resources'
    sets have is the best to go with it.
    """
    half = len(candidates) // 2
    left, right = candidates[:half], candidates[half:]
    losses = _all_sums([[way.loss for way in ways] for ways in right])
    order = sorted(range(len(losses)), key=losses.__getitem__)
    tables = []
    for resource, amount in lacking.items():
        one, other = (
            _all_sums([[way.frees.get(resource, 0.0) for way in ways] for ways in part])
            for part in (left, right)
        )
        # from what frees most downwards: the sets of those that free at least so much
        by_freed = sorted((-other[number], place) for place, number in enumerate(order))
        sets, bits = [0], 0
        for _, place in by_freed:
            bits |= 1 << place
            sets.append(bits)
        keys = [negative for negative, _ in by_freed]
        tables.append((one, amount - _slack(amount), keys, sets))
    best = None
    for number, loss in enumerate(_all_sums([[way.loss for way in ways] for ways in left])):
        bits = (1 << len(order)) - 1
        for one, least, keys, sets in tables:
            bits &= sets[bisect_right(keys, one[number] - least)]
        if bits:
            together = loss + losses[order[(bits & -bits).bit_length() - 1]]
            best = together if best is None else min(best, together)
    return best
