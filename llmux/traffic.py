"""
What is counted for every request: cheaply, for it is done for each of them.

The client library's own counters take a lock and look up what they count into each time, which is
right for threads, of which there is one here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import attrs
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


@attrs.define
class _Answers:
    """
    The answers of one model with one status.

    :ivar counts: by bucket, how many fall into it and into no lower one.
    :ivar seconds: how long they took altogether.
    """

    counts: list[int]
    seconds: float = 0.0


class Traffic(Collector):
    """
    The requests that are in flight, and those that were answered.

    :param buckets: upper bounds, in seconds, in order.
    """

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = tuple(buckets)
        bounds = (*buckets, math.inf)
        self._bounds = [str(floatToGoString(bound)) for bound in bounds]  # type: ignore[no-untyped-call]  # the library's
        self._answers: dict[tuple[str, int], _Answers] = {}
        self._in_flight: dict[str, int] = {}

    def know(self, models: Iterable[str]) -> None:
        """Show a zero for models, and no gap, as long as there is nothing of theirs."""
        for model in models:
            self._in_flight.setdefault(model, 0)

    def began(self, model: str) -> None:
        """Count a request that is in flight from now on."""
        self._in_flight[model] = self._in_flight.get(model, 0) + 1

    def ended(self, model: str) -> None:
        """Count a request that is no longer in flight."""
        self._in_flight[model] -= 1

    def answered(self, model: str, status: int, seconds: float) -> None:
        """Count an answer, and how long it took until it began."""
        answers = self._answers.get((model, status))
        if answers is None:
            answers = self._answers[model, status] = _Answers([0] * len(self._bounds))
        answers.counts[bisect_left(self._buckets, seconds)] += 1
        answers.seconds += seconds

    def describe(self) -> Iterator[Metric]:
        """Give nothing: at registration there is nothing to be shown yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        in_flight = GaugeMetricFamily(
            "llmux_model_in_flight", "Current in-flight requests per model", labels=["model"]
        )
        for model, count in self._in_flight.items():
            in_flight.add_metric([model], count)
        labels = ["model", "status"]
        requests = CounterMetricFamily(
            "llmux_requests_total", "Total requests processed", labels=labels
        )
        durations = HistogramMetricFamily(
            "llmux_request_duration_seconds",
            "End-to-end request duration (time to first byte)",
            labels=labels,
        )
        for (model, status), answers in self._answers.items():
            values = [model, str(status)]
            sums = list(accumulate(answers.counts))
            requests.add_metric(values, sums[-1])
            durations.add_metric(
                values, list(zip(self._bounds, sums, strict=True)), answers.seconds
            )
        return iter((in_flight, requests, durations))
