"""What is so at the moment when the metrics are asked for: gauges that are read and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmux.states import State


@attrs.frozen
class Observed:
    """
    What is so at the moment when it is asked for.

    :param capacity: by resource, how much there is.
    :param used: by resource, how much is held.
    :param states: by model, the name of its state.
    :param oldest: by model, or name of several, for how many seconds the first has waited who waits
        for it.
    """

    capacity: Mapping[str, float]
    used: Mapping[str, float]
    states: Mapping[str, str]
    oldest: Mapping[str, float]


class Watched(Collector):
    """
    Gauges that are read and not kept.

    :param observe: sees what they show.
    """

    def __init__(self, observe: Callable[[], Observed]) -> None:
        self._observe = observe

    def describe(self) -> Iterator[Metric]:
        """Give nothing: at registration there is nothing to be observed yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give the gauges."""
        seen = self._observe()
        capacity = GaugeMetricFamily(
            "llmux_resource_capacity", "How much there is of a resource", labels=["resource"]
        )
        used = GaugeMetricFamily(
            "llmux_resource_used",
            "How much of a resource models and reservations hold",
            labels=["resource"],
        )
        for resource, amount in seen.capacity.items():
            capacity.add_metric([resource], amount)
            used.add_metric([resource], seen.used.get(resource, 0.0))
        states = GaugeMetricFamily(
            "llmux_model_state",
            "1 for the state that a model is in, 0 for all others",
            labels=["model", "state"],
        )
        oldest = GaugeMetricFamily(
            "llmux_model_waiting_oldest_seconds",
            "For how long the request has waited that has waited longest for a model",
            labels=["model"],
        )
        for model, state in seen.states.items():
            for each in State:
                states.add_metric([model, each.value], float(each.value == state))
        for name, seconds in seen.oldest.items():
            oldest.add_metric([name], seconds)
        return iter((capacity, used, states, oldest))
