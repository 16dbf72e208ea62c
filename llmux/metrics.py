"""
The Prometheus metrics: names, labels and help of llmux 2.4.0, and what this program adds.

Label values come from the configuration alone; a name that a client made up is counted as ``""``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from llmux.observed import Observed, Watched
from llmux.traffic import Traffic

BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
"""Seconds: from a relayed token to a big model that is loaded from a slow disk."""

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The media type of :meth:`Metrics.render`."""


class Metrics:
    """
    Everything that is counted and measured.

    :param models: the configured names.
    :param registry: where the metrics are kept; one of its own for each app, so that two apps in
        one process do not clash.
    """

    def __init__(self, models: Iterable[str], registry: CollectorRegistry | None = None) -> None:
        self._registry = registry = CollectorRegistry() if registry is None else registry
        self._models: frozenset[str] = frozenset()
        self._traffic = Traffic(BUCKETS)
        registry.register(self._traffic)

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(name, help, labels, registry=registry)

        def gauge(name: str, help: str, *labels: str) -> Gauge:
            return Gauge(name, help, labels, registry=registry)

        def histogram(name: str, help: str, *labels: str) -> Histogram:
            return Histogram(name, help, labels, registry=registry, buckets=BUCKETS)

        self._switches = counter(
            "llmux_switch_total", "Total model switches attempted", "from", "to", "result"
        )
        self._switch_duration = histogram(
            "llmux_switch_duration_seconds",
            "Wall-clock duration of model switches (drain + sleep + wake)",
            "from",
            "to",
        )
        self._drain_duration = histogram(
            "llmux_switch_drain_duration_seconds",
            "Time spent draining in-flight requests before a switch",
            "from",
            "to",
        )
        self._active_duration = histogram(
            "llmux_model_active_duration_seconds",
            "How long a model stayed active before being switched out",
            "model",
        )
        self._switch_cost = gauge(
            "llmux_switch_cost_ema_seconds",
            "EMA-smoothed estimated switch cost per (from, to) pair",
            "from",
            "to",
        )
        self._queue_depth = gauge(
            "llmux_request_queue_depth",
            "Number of requests waiting for a model to become active",
            "model",
        )
        self._queue_wait = histogram(
            "llmux_request_queue_wait_seconds",
            "Time a request spent queued waiting for model readiness",
            "model",
        )
        self._requests_cut = counter(
            "llmux_requests_cut_total",
            "Requests whose answer was cut after its head had been sent",
            "model",
            "reason",
        )
        self._backend_failures = counter(
            "llmux_backend_failures_total",
            "Requests that got no answer from their backend",
            "model",
            "reason",
        )
        self._connections_refused = Counter(
            "llmux_connections_refused_total",
            "Connections of clients that were one too many",
            registry=registry,
        )
        self._worker_restarts = Counter(
            "llmux_worker_restarts_total", "Workers that were started again", registry=registry
        )
        self._hook_duration = histogram(
            "llmux_hook_duration_seconds", "Hook script execution time", "model", "hook"
        )
        self._hook_failures = counter(
            "llmux_hook_failures_total", "Total hook script failures", "model", "hook"
        )
        self._wake_duration = histogram(
            "llmux_wake_duration_seconds",
            "Time from the start of a wake hook until the model was awake",
            "model",
            "prepared",
        )
        self._prepared_in_vain = counter(
            "llmux_prepared_in_vain_total",
            "Times that a model was prepared and another one was woken in its place",
            "model",
        )
        self._max_wait_missed = counter(
            "llmux_max_wait_missed_total",
            "Requests that waited for longer than max_wait_secs",
            "model",
        )
        self.know(models)

    def watch(self, observe: Callable[[], Observed]) -> None:
        """
        Show what is so at the moment when the metrics are asked for.

        :param observe: sees it.
        """
        self._registry.register(Watched(observe))

    def know(self, models: Iterable[str]) -> None:
        """
        Count for these models from now on.

        What has been counted for others stays: a counter that goes would look like a restart.
        """
        self._models = frozenset(models)
        for model in self._models:  # so that a dashboard shows a zero, not a gap
            self._queue_depth.labels(model)
        self._traffic.know(self._models)

    def render(self) -> bytes:
        """Give all metrics in Prometheus's text format 0.0.4."""
        return generate_latest(_WithoutCreated(self._registry))

    def request_queued(self, model: str) -> None:
        """Count a request that begins to wait."""
        self._queue_depth.labels(model).inc()

    def request_dequeued(self, model: str) -> None:
        """Count a request that no longer waits, however that ended."""
        self._queue_depth.labels(model).dec()

    def lease_granted(self, model: str, waited: float | None) -> None:
        """
        Count a request that is in flight from now on.

        :param waited: how long it was queued, in seconds; ``None`` if it was not.
        """
        self._traffic.began(model)
        if waited is not None:
            self._queue_wait.labels(model).observe(waited)

    def max_wait_missed(self, model: str, late: int) -> None:
        """Count requests that have waited for longer than was promised."""
        self._max_wait_missed.labels(model).inc(late)

    def lease_released(self, model: str) -> None:
        """Count a request that is no longer in flight."""
        self._traffic.ended(model)

    def request_answered(self, model: str, status: int, seconds: float) -> None:
        """
        Count a request as its answer begins.

        :param model: the name that the client gave.
        :param status: the answer's status; 499 for a client that left before it.
        :param seconds: from its arrival to this moment.
        """
        self._traffic.answered(model if model in self._models else "", status, seconds)

    def request_cut(self, model: str, reason: str) -> None:
        """Count an answer that ended before its end, and who broke it off."""
        self._requests_cut.labels(model, reason).inc()

    def backend_failed(self, model: str, reason: str) -> None:
        """
        Count a request that got no answer.

        :param reason: the error's code, such as ``backend_closed``.
        """
        self._backend_failures.labels(model, reason).inc()

    def connection_refused(self) -> None:
        """Count a connection that was not taken because there were too many."""
        self._connections_refused.inc()

    def worker_restarted(self) -> None:
        """Count that a worker has ended that another one takes the place of."""
        self._worker_restarts.inc()

    def switch_drained(self, source: str, target: str, seconds: float) -> None:
        """Measure how long the drain of a switch took."""
        self._drain_duration.labels(source, target).observe(seconds)

    def switch_succeeded(self, source: str, target: str, seconds: float, cost: float) -> None:
        """
        Count a switch that came to its end.

        :param seconds: drain, sleep and wake together.
        :param cost: the average of this pair's hooks, in seconds.
        """
        self._switches.labels(source, target, "success").inc()
        self._switch_duration.labels(source, target).observe(seconds)
        self._switch_cost.labels(source, target).set(cost)

    def switch_failed(self, source: str, target: str) -> None:
        """Count a switch that did not come to its end."""
        self._switches.labels(source, target, "failure").inc()

    def model_slept(self, model: str, seconds: float) -> None:
        """Measure how long a model had been awake."""
        self._active_duration.labels(model).observe(seconds)

    def hook_ended(self, model: str, hook: str, seconds: float, success: bool) -> None:
        """Measure how long a hook ran, and count it if it failed."""
        self._hook_duration.labels(model, hook).observe(seconds)
        failures = self._hook_failures.labels(model, hook)
        if not success:
            failures.inc()

    def model_woken(self, model: str, prepared: str, seconds: float) -> None:
        """
        Measure how long it took until a model was awake.

        :param prepared: ``yes``, ``partly`` or ``no``.
        """
        self._wake_duration.labels(model, prepared).observe(seconds)

    def prepared_in_vain(self, model: str) -> None:
        """Count that a model was prepared that was not the next to be woken."""
        self._prepared_in_vain.labels(model).inc()


class _WithoutCreated(Collector):
    """
    A registry's metrics without prometheus_client's ``_created`` series, which would double them.

    :param registry: whose metrics; it stays as it is, for it may be somebody else's too.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        for metric in self._registry.collect():
            kept = copy(metric)
            kept.samples = [s for s in metric.samples if s.name != f"{metric.name}_created"]
            yield kept
