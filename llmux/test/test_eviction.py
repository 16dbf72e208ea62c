"""Tests of the choice of whom to evict, against a search over everything there is to choose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from llmux.amounts import Amounts, add, fits
from llmux.eviction import Way, cheapest

Candidates = Sequence[Sequence[Way]]


def random_state(random: Random, number: int) -> tuple[Amounts, Candidates]:
    """Make up what is lacking, and candidates: coarse numbers, of which many are equal, or fine."""
    coarse = random.random() < 0.5

    def amount() -> float:
        return random.choice((0.0, 1.0, 2.0, 4.0)) if coarse else random.uniform(0.0, 10.0)

    def loss() -> float:
        return random.choice((0.0, 10.0, 20.0)) if coarse else random.uniform(0.0, 100.0)

    resources = [f"r{index}" for index in range(random.randint(1, 4))]
    candidates = []
    for index in range(number):
        sleep = Way(f"m{index}", {r: amount() for r in resources if random.random() < 0.7}, loss())
        more = {r: amount() for r in resources if random.random() < 0.4}
        stop = Way(sleep.model, add(sleep.frees, more), sleep.loss + loss())
        candidates.append([sleep, stop] if random.random() < 0.5 else [sleep])
    most = add(*(ways[-1].frees for ways in candidates))
    lacking = {r: most.get(r, 0.0) * random.uniform(0.05, 1.05) for r in resources}
    return lacking, candidates


def search_all(lacking: Amounts, candidates: Candidates) -> list[Way] | None:
    """Look at every choice there is."""
    best: tuple[object, list[Way]] | None = None
    for depths in product(*([-1, *range(len(ways))] for ways in candidates)):
        chosen = [ways[d] for ways, d in zip(candidates, depths, strict=True) if d >= 0]
        if fits(lacking, add(*(way.frees for way in chosen))):
            used = [index for index, depth in enumerate(depths) if depth >= 0]
            key = sum(round(way.loss * 1e9) for way in chosen), len(used), used, depths
            if best is None or key < best[0]:  # type: ignore[operator]
                best = key, chosen
    return None if best is None else best[1]


class CheapestTests(SynchronousTestCase):
    """The choice that costs least."""

    def test_small_states(self) -> None:
        """With few candidates it is what a search over all choices finds."""
        random = Random(5)
        for number in range(1000):
            lacking, candidates = random_state(random, random.randint(0, 5))
            found = cheapest(lacking, candidates)
            expected = search_all(lacking, candidates)
            self.assertEqual(None if found is None else list(found), expected, f"state {number}")
