"""Tests of the choice of whom to evict, against searches over everything there is to choose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import nextafter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.amounts import Amounts, add, fits
from llmux.eviction import Way, cheapest
from llmux.test.choices import FAMILIES, Candidates, best_choice, least_loss, random_state

THOUSANDTHS = st.integers(0, 100_000).map(lambda number: number / 1000)
AMOUNTS = st.integers(0, 12).map(float) | THOUSANDTHS
LOSSES = st.integers(0, 5).map(float) | THOUSANDTHS
VECTORS = st.dictionaries(st.sampled_from(("gpu0", "gpu1", "ram")), AMOUNTS)

TWELVE = 12  # up to so many candidates the choice has to be exact


@st.composite
def candidates_of(draw: st.DrawFn, most: int) -> Candidates:
    """Make up candidates with up to three ways each, the deeper ones freeing and losing more."""
    candidates = []
    for index in range(draw(st.integers(0, most))):
        ways: list[Way] = []
        frees: Amounts = {}
        loss = 0.0
        for _ in range(draw(st.integers(0, 3))):
            frees, loss = add(frees, draw(VECTORS)), loss + draw(LOSSES)
            ways.append(Way(f"m{index}", frees, loss))
        candidates.append(ways)
    return candidates


def loss_of(chosen: Sequence[Way]) -> float:
    """Sum up what is lost."""
    return sum(way.loss for way in chosen)


def names_of(chosen: Sequence[Way] | None) -> list[str] | None:
    """Give the models' names."""
    return None if chosen is None else [way.model for way in chosen]


def sleeper(name: str, amount: float, loss: float) -> list[Way]:
    """Make up a candidate that can only be put to sleep, and frees memory of one GPU by that."""
    return [Way(name, {"gpu0": amount}, loss)]


class StateTests(SynchronousTestCase):
    """Random states, in which what is best is found in another way."""

    def check_exact(self, random: Random, states: int, least: int, most: int) -> None:
        """Check that the choice is the best one, in states with so many candidates."""
        for number in range(states):
            family = FAMILIES[number % len(FAMILIES)]
            lacking, candidates = random_state(random, random.randint(least, most), family)
            found = cheapest(lacking, candidates)
            expected = best_choice(lacking, candidates)
            self.assertEqual(None if found is None else list(found), expected, (number, family))

    def test_few_candidates(self) -> None:
        """With up to seven candidates it is what a search over all choices finds: 9,500 states."""
        self.check_exact(Random(1), 9500, 0, 7)

    def test_up_to_twelve_candidates(self) -> None:
        """With eight to twelve candidates it is so, too: 500 states, up to 531,441 choices each."""
        self.check_exact(Random(2), 500, 8, TWELVE)

    def test_hardly_more_than_twelve(self) -> None:
        """With thirteen or fourteen candidates it is the best choice but where all are alike."""
        for number, family in product((13, 14), FAMILIES):
            if family == "alike":
                continue
            random = Random(11)
            for state in range(100):
                lacking, candidates = random_state(random, number, family)
                found = cheapest(lacking, candidates)
                least = least_loss(lacking, candidates)
                if found is None or least is None:
                    self.assertIs(found, least, (number, family, state))
                else:
                    self.assertAlmostEqual(loss_of(found), least, 6, (number, family, state))

    def test_needed_in_any_case(self) -> None:
        """Who is needed in any case, at a great loss, does not hide who goes best with that."""
        lacking, candidates = random_state(Random(208), 16, "small and large")
        found, least = cheapest(lacking, candidates), least_loss(lacking, candidates)
        assert found is not None
        assert least is not None
        self.assertAlmostEqual(loss_of(found), least, 6)

    def test_sixteen_candidates(self) -> None:
        """With sixteen candidates at most a fifth more is lost than has to be, and seldom any."""
        random = Random(3)
        exact = 0
        for number in range(400):  # six of them cannot be helped
            family = FAMILIES[number % len(FAMILIES)]
            lacking, candidates = random_state(random, 16, family)
            found = cheapest(lacking, candidates)
            least = least_loss(lacking, candidates)
            if found is None or least is None:
                self.assertIs(found, least, (number, family))
                continue
            self.assertTrue(fits(lacking, add(*(way.frees for way in found))))
            self.assertLessEqual(loss_of(found), 1.2 * least + 1e-6, (number, family))
            exact += loss_of(found) <= least + 1e-6
        self.assertGreater(exact, 370)

    def test_searches_agree(self) -> None:
        """The two searches that all this is compared with find the same."""
        random = Random(4)
        for number in range(200):
            family = FAMILIES[number % len(FAMILIES)]
            lacking, candidates = random_state(random, random.randint(2, 8), family)
            chosen, least = best_choice(lacking, candidates), least_loss(lacking, candidates)
            if chosen is None or least is None:
                self.assertIs(chosen, least)
            else:
                self.assertAlmostEqual(loss_of(chosen), least, 6)

    def test_many_candidates(self) -> None:
        """With many candidates room is made whenever that is possible, and nobody goes in vain."""
        random = Random(5)
        for number in range(80):
            family = FAMILIES[number % len(FAMILIES)]
            lacking, candidates = random_state(random, random.choice((32, 64, 150)), family)
            found = cheapest(lacking, candidates)
            if found is None:
                most = add(*(ways[-1].frees for ways in candidates))
                self.assertFalse(fits(lacking, most), (number, family))
            else:
                check_minimal(self, lacking, candidates, found)


def check_minimal(
    case: SynchronousTestCase, lacking: Amounts, candidates: Candidates, chosen: Sequence[Way]
) -> None:
    """Check that a choice is enough, and would not be with any less."""
    case.assertTrue(fits(lacking, add(*(way.frees for way in chosen))))
    ways_of = {way: ways for ways in candidates for way in ways}
    case.assertEqual(len({ways[0].model for ways in map(ways_of.__getitem__, chosen)}), len(chosen))
    for way in chosen:
        others = [other.frees for other in chosen if other is not way]
        ways = ways_of[way]
        for less in ({}, *(lesser.frees for lesser in ways[: ways.index(way)])):
            case.assertFalse(fits(lacking, add(less, *others)), way)


class RuleTests(SynchronousTestCase):
    """What holds for every choice."""

    @settings(max_examples=300)
    @given(lacking=VECTORS, candidates=candidates_of(20))
    def test_enough_and_no_more(self, lacking: Amounts, candidates: Candidates) -> None:
        """What is chosen is enough, and nothing of it can be spared; or all together are not."""
        found = cheapest(lacking, candidates)
        if found is None:
            most = add(*(ways[-1].frees for ways in candidates if ways))
            self.assertFalse(fits(lacking, most))
        else:
            check_minimal(self, lacking, candidates, found)

    @settings(max_examples=300)
    @given(lacking=VECTORS, candidates=candidates_of(6))
    def test_best(self, lacking: Amounts, candidates: Candidates) -> None:
        """Whatever the ways are, what is chosen is the best of all choices."""
        found = cheapest(lacking, candidates)
        expected = best_choice(lacking, candidates)
        self.assertEqual(None if found is None else list(found), expected)

    @settings(max_examples=200)
    @given(lacking=VECTORS, candidates=candidates_of(TWELVE), random=st.randoms())
    def test_order_of_candidates(
        self, lacking: Amounts, candidates: Candidates, random: Random
    ) -> None:
        """In whatever order the candidates stand, the same is lost."""
        mixed = list(candidates)
        random.shuffle(mixed)
        found, other = cheapest(lacking, candidates), cheapest(lacking, mixed)
        if found is None or other is None:
            self.assertIs(found, other)
        else:
            self.assertAlmostEqual(loss_of(found), loss_of(other), 6)
            self.assertEqual(len(found), len(other))

    @settings(max_examples=100)
    @given(lacking=VECTORS, candidates=candidates_of(20))
    def test_order_of_resources(self, lacking: Amounts, candidates: Candidates) -> None:
        """In whatever order the resources are named, the choice is the same."""
        self.check_turned(lacking, candidates)

    def test_order_of_resources_of_many(self) -> None:
        """It is so where the search is not gone through to its end, too."""
        random = Random(6)
        for number in range(40):
            self.check_turned(*random_state(random, 64, FAMILIES[number % len(FAMILIES)]))

    def check_turned(self, lacking: Amounts, candidates: Candidates) -> None:
        """Check that the order of the resources is of no consequence."""

        def turned(amounts: Amounts) -> Amounts:
            return {name: amounts[name] for name in reversed(list(amounts))}

        others = [
            [Way(way.model, turned(way.frees), way.loss) for way in ways] for ways in candidates
        ]
        found, other = cheapest(lacking, candidates), cheapest(turned(lacking), others)
        self.assertEqual(names_of(found), names_of(other))
        self.assertEqual(loss_of(found or ()), loss_of(other or ()))

    @settings(max_examples=200)
    @given(lacking=VECTORS, candidates=candidates_of(TWELVE))
    def test_one_more_candidate(self, lacking: Amounts, candidates: Candidates) -> None:
        """Who has one candidate more to choose from never loses more."""
        fewer, found = cheapest(lacking, candidates[:-1]), cheapest(lacking, candidates)
        if fewer is not None:
            assert found is not None
            self.assertLessEqual(loss_of(found), loss_of(fewer) + 1e-6)


class CornerTests(SynchronousTestCase):
    """Single cases."""

    def test_nothing_lacking(self) -> None:
        """Nobody goes where nothing is lacking, or no more than a rounding's worth."""
        candidates = [sleeper("a", 24.0, 0.0)]
        for lacking in ({}, {"gpu0": 0.0}, {"gpu0": -3.0}, {"gpu0": 1e-10}):
            self.assertEqual(cheapest(lacking, candidates), ())

    def test_not_enough(self) -> None:
        """Nobody goes in vain."""
        candidates = [sleeper("a", 4.0, 1.0), sleeper("b", 4.0, 1.0)]
        self.assertIsNone(cheapest({"gpu0": 8.1}, candidates))
        self.assertIsNone(cheapest({"gpu0": 8.0, "ram": 1.0}, candidates))
        self.assertIsNone(cheapest({"gpu0": 8.0}, []))
        self.assertIsNone(cheapest({"gpu0": 8.0}, [[], []]))

    def test_barely_lacking(self) -> None:
        """Somebody goes for what is just more than a rounding's worth."""
        candidates = [sleeper("a", 24.0, 1.0), sleeper("b", 24.0, 0.5)]
        barely = nextafter(1e-9, 1.0)
        self.assertEqual(names_of(cheapest({"gpu0": barely}, candidates)), ["b"])

    def test_roundings(self) -> None:
        """What is enough but for a rounding is enough, whatever the unit."""
        thirds = [sleeper(name, 0.1, 1.0) for name in "abc"]
        self.assertEqual(names_of(cheapest({"gpu0": 0.1 + 0.1 + 0.1}, thirds)), ["a", "b", "c"])
        self.assertEqual(names_of(cheapest({"gpu0": 0.3}, thirds)), ["a", "b", "c"])
        bytes_of = [sleeper(name, 8e9 / 3, 1.0) for name in "abc"]
        self.assertEqual(names_of(cheapest({"gpu0": 8e9}, bytes_of)), ["a", "b", "c"])
        self.assertIsNone(cheapest({"gpu0": 8e9 + 100}, bytes_of))

    def test_greedy_is_wrong(self) -> None:
        """Who frees most for what is lost by it is not always part of the best choice."""
        candidates = [sleeper("a", 9.0, 9.0), sleeper("b", 10.0, 11.0), sleeper("c", 2.0, 5.0)]
        self.assertEqual(names_of(cheapest({"gpu0": 10.0}, candidates)), ["b"])

    def test_one_for_two_resources(self) -> None:
        """One model that frees both resources goes rather than two that free one each."""
        both = [Way("both", {"gpu0": 20.0, "gpu1": 20.0}, 15.0)]
        one, other = [Way("one", {"gpu0": 20.0}, 8.0)], [Way("other", {"gpu1": 20.0}, 8.0)]
        lacking = {"gpu0": 18.0, "gpu1": 18.0}
        self.assertEqual(names_of(cheapest(lacking, [one, other, both])), ["both"])
        self.assertEqual(names_of(cheapest({"gpu0": 18.0}, [one, other, both])), ["one"])

    def test_deeper_only_if_need_be(self) -> None:
        """A model is stopped only if its sleep is not enough, even if no more is lost by it."""
        sleep, stop = Way("a", {"gpu0": 20.0}, 3.0), Way("a", {"gpu0": 20.0, "ram": 40.0}, 3.0)
        self.assertEqual(cheapest({"gpu0": 20.0}, [[sleep, stop]]), (sleep,))
        self.assertEqual(cheapest({"gpu0": 20.0, "ram": 1.0}, [[sleep, stop]]), (stop,))
        free = [Way("a", {"gpu0": 20.0}, 0.0), Way("a", {"gpu0": 21.0}, 0.0)]
        self.assertEqual(cheapest({"gpu0": 20.0}, [free]), (free[0],))

    def test_useless_sleep(self) -> None:
        """A model can be stopped though its sleep frees nothing of what is lacking."""
        sleep, stop = Way("a", {"gpu0": 20.0}, 3.0), Way("a", {"gpu0": 20.0, "ram": 40.0}, 5.0)
        self.assertEqual(cheapest({"ram": 10.0}, [[sleep, stop]]), (stop,))

    def test_equal_losses(self) -> None:
        """Where the same is lost, fewer models go, and then those that stand first."""
        small = [sleeper(name, 5.0, 5.0) for name in "abcd"]
        self.assertEqual(names_of(cheapest({"gpu0": 10.0}, small)), ["a", "b"])
        self.assertEqual(
            names_of(cheapest({"gpu0": 10.0}, [*small, sleeper("e", 10.0, 10.0)])), ["e"]
        )
        lossless = [sleeper("a", 5.0, 0.0), sleeper("b", 5.0, 0.0), sleeper("c", 10.0, 0.0)]
        self.assertEqual(names_of(cheapest({"gpu0": 10.0}, lossless)), ["c"])
        self.assertEqual(names_of(cheapest({"gpu0": 11.0}, lossless)), ["a", "c"])

    def test_nothing_to_lose(self) -> None:
        """All models of which nothing is lost go before one of which something is."""
        lossless = [sleeper(f"m{number}", 1.0, 0.0) for number in range(11)]
        dear = sleeper("dear", 11.0, 1e-6)
        self.assertEqual(len(cheapest({"gpu0": 11.0}, [dear, *lossless]) or ()), 11)
        self.assertEqual(names_of(cheapest({"gpu0": 11.5}, [dear, *lossless])), ["dear", "m0"])

    def test_huge_and_tiny_losses(self) -> None:
        """A millisecond counts beside a million years."""
        ages = 3e13
        candidates = [
            sleeper("a", 1.0, ages + 0.01),
            sleeper("b", 1.0, ages),
            sleeper("c", 1.0, 0.001),
        ]
        self.assertEqual(names_of(cheapest({"gpu0": 2.0}, candidates)), ["b", "c"])

    def test_all_alike(self) -> None:
        """Of twelve models that are alike the first ones go, and so of sixty-four."""
        for number in (TWELVE, 64):
            alike = [sleeper(f"m{index}", 20.0, 40.0) for index in range(number)]
            found = names_of(cheapest({"gpu0": 75.0}, alike))
            self.assertEqual(found, ["m0", "m1", "m2", "m3"])

    def test_hundreds(self) -> None:
        """Among a thousand models room is made as well."""
        many = [sleeper(f"m{index}", 1.0 + index % 7, 1.0 + index % 11) for index in range(1000)]
        found = cheapest({"gpu0": 500.0}, many)
        assert found is not None
        check_minimal(self, {"gpu0": 500.0}, many, found)
