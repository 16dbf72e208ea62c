"""Tests of :mod:`llmux.traffic`: it says what the client library's own metrics would say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from twisted.trial.unittest import SynchronousTestCase

from llmux.traffic import Traffic

BUCKETS = (0.1, 1.0, 2.5)
SECONDS = st.one_of(st.sampled_from((0.0, 0.05, *BUCKETS, 2.6, 600.0)), st.floats(0, 1000))
ANSWERS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from((200, 499)), SECONDS))


class TrafficTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have both."""
        self.registry, self.others = CollectorRegistry(), CollectorRegistry()
        self.traffic = Traffic(BUCKETS)
        self.registry.register(self.traffic)
        self.in_flight = Gauge(
            "llmux_model_in_flight",
            "Current in-flight requests per model",
            ("model",),
            registry=self.others,
        )
        labels = "model", "status"
        self.requests = Counter(
            "llmux_requests_total", "Total requests processed", labels, registry=self.others
        )
        self.durations = Histogram(
            "llmux_request_duration_seconds",
            "End-to-end request duration (time to first byte)",
            labels,
            registry=self.others,
            buckets=BUCKETS,
        )

    def compare(self) -> None:
        """Hold what the one says against what the others say, but for when it all began."""
        said, expected = (
            [line for line in generate_latest(each).decode().splitlines() if "_created" not in line]
            for each in (self.registry, self.others)
        )
        self.assertEqual(said, expected)

    @given(ANSWERS)
    def test_answers(self, answers: list[tuple[str, int, float]]) -> None:
        """Answers are counted, and fall into the bucket that they fit into."""
        self.setUp()
        for model, status, seconds in answers:
            self.traffic.answered(model, status, seconds)
            self.requests.labels(model, str(status)).inc()
            self.durations.labels(model, str(status)).observe(seconds)
        self.compare()

    @given(st.lists(st.sampled_from("abc")))
    def test_in_flight(self, names: list[str]) -> None:
        """Requests that have begun and not ended are in flight; a known model has a zero."""
        self.setUp()
        self.traffic.know("ab")
        self.in_flight.labels("a")
        self.in_flight.labels("b")
        for name in names:
            self.traffic.began(name)
            self.in_flight.labels(name).inc()
        for name in names[::2]:
            self.traffic.ended(name)
            self.in_flight.labels(name).dec()
        self.traffic.know("ab")  # which does not begin anew
        self.compare()
