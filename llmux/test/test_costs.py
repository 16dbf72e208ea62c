"""Tests of :mod:`llmux.costs`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.costs import SwitchCosts

names = st.text(max_size=20)
seconds = st.floats(0, 1e6)


def is_taken(document: Any) -> bool:
    """Tell whether something passes for costs."""
    try:
        SwitchCosts.from_json(document)
    except ValueError:
        return False
    return True


class SwitchCostsTests(SynchronousTestCase):
    def test_first(self) -> None:
        """The first observation is taken as it is."""
        costs = SwitchCosts()
        costs.slept("a", 3.0)
        costs.woke("a", 40.0)
        costs.served("a", 0.5)
        self.assertEqual(costs.lease, {"a": 0.5})
        self.assertEqual(costs.switched("a", "b", 43.0), 43.0)
        self.assertEqual((costs.sleep, costs.wake), ({"a": 3.0}, {"a": 40.0}))

    def test_average(self) -> None:
        """A later observation weighs three tenths, all before it seven."""
        costs = SwitchCosts()
        for observed in (10.0, 20.0):
            costs.slept("a", observed)
            costs.woke("a", observed * 2)
            costs.served("a", observed * 4)
            average = costs.switched("a", "b", observed * 3)
        self.assertApproximates(costs.sleep["a"], 13.0, 1e-9)
        self.assertApproximates(costs.wake["a"], 26.0, 1e-9)
        self.assertApproximates(costs.lease["a"], 52.0, 1e-9)
        self.assertApproximates(average, 39.0, 1e-9)
        self.assertEqual(costs.pair, {("a", "b"): average})

    def test_zero_is_an_observation(self) -> None:
        """A hook that took no time at all counts like any other."""
        costs = SwitchCosts()
        costs.woke("a", 0.0)
        costs.woke("a", 10.0)
        self.assertApproximates(costs.wake["a"], 3.0, 1e-9)

    def test_apart(self) -> None:
        """Directions, models and cold starts are learnt apart."""
        costs = SwitchCosts()
        for source, target, cost in (("a", "b", 1.0), ("b", "a", 2.0), ("idle", "b", 3.0)):
            costs.switched(source, target, cost)
        self.assertEqual(costs.pair, {("a", "b"): 1.0, ("b", "a"): 2.0, ("idle", "b"): 3.0})
        self.assertEqual((costs.sleep, costs.wake), ({}, {}))

    @given(st.lists(seconds, min_size=1, max_size=20))
    def test_within_what_was_seen(self, observed: list[float]) -> None:
        """The average never leaves the range of what was observed."""
        costs = SwitchCosts()
        for cost in observed:
            average = costs.switched("a", "b", cost)
        slack = 1e-9 * max(observed)
        self.assertTrue(min(observed) - slack <= average <= max(observed) + slack)

    @given(
        st.dictionaries(names, seconds),
        st.dictionaries(names, seconds),
        st.dictionaries(st.tuples(names, names), seconds),
        st.dictionaries(names, seconds),
    )
    def test_survives_a_restart(
        self,
        sleep: dict[str, float],
        wake: dict[str, float],
        pair: dict[tuple[str, str], float],
        lease: dict[str, float],
    ) -> None:
        """What was learnt is the same after it was written as JSON and read again."""
        costs = SwitchCosts(sleep, wake, pair, lease)
        self.assertEqual(SwitchCosts.from_json(json.loads(json.dumps(costs.as_json()))), costs)

    def test_json_is_a_copy(self) -> None:
        """What was written does not change when more is learnt."""
        costs = SwitchCosts()
        costs.slept("a", 1.0)
        written = costs.as_json()
        costs.slept("a", 2.0)
        self.assertEqual(written["sleep"], {"a": 1.0})

    def test_something_else(self) -> None:
        """JSON that is not what was written is refused, whatever it is."""
        good: dict[str, object] = {
            "sleep": {"a": 1},
            "wake": {},
            "pair": [["a", "b", 1.5]],
            "lease": {},
        }
        self.assertEqual(SwitchCosts.from_json(good).pair, {("a", "b"): 1.5})
        wrong_costs: list[object] = ["1.5", None, True, -1, float("nan"), float("inf"), 10**400, []]
        changes: list[Any] = [
            *({"sleep": {"a": cost}} for cost in wrong_costs),
            *({"wake": {"a": cost}} for cost in wrong_costs),
            *({"lease": {"a": cost}} for cost in wrong_costs),
            *({"pair": [["a", "b", cost]]} for cost in wrong_costs),
            *({key: wrong} for key in good for wrong in (None, 3, "text")),
            {"sleep": []},
            {"wake": []},
            {"pair": {}},
            {"pair": [["a", 1.0]]},
            {"pair": [["a", "b", "c", 1.0]]},
            {"pair": ["ab1"]},
            {"pair": [[1, "b", 1.0]]},
            {"pair": [7]},
        ]
        wrong: list[Any] = [{**good, **change} for change in changes]
        wrong += [{name: good[name] for name in good if name != key} for key in good]
        wrong += [[], None, "text"]
        self.assertEqual([document for document in wrong if is_taken(document)], [])
