"""Tests of :mod:`llmux.metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from twisted.trial.unittest import SynchronousTestCase

from llmux.metrics import BUCKETS, CONTENT_TYPE, Metrics

# The metrics of llmux 2.4.0: name, type, labels, help.
OLD = """\
llmux_switch_total | counter | from to result | Total model switches attempted
llmux_switch_duration_seconds | histogram | from to | Wall-clock duration of model switches (drain + sleep + wake)
llmux_switch_drain_duration_seconds | histogram | from to | Time spent draining in-flight requests before a switch
llmux_model_active_duration_seconds | histogram | model | How long a model stayed active before being switched out
llmux_switch_cost_ema_seconds | gauge | from to | EMA-smoothed estimated switch cost per (from, to) pair
llmux_request_queue_depth | gauge | model | Number of requests waiting for a model to become active
llmux_request_queue_wait_seconds | histogram | model | Time a request spent queued waiting for model readiness
llmux_model_in_flight | gauge | model | Current in-flight requests per model
llmux_requests_total | counter | model status | Total requests processed
llmux_request_duration_seconds | histogram | model status | End-to-end request duration (time to first byte)
llmux_hook_duration_seconds | histogram | model hook | Hook script execution time
llmux_hook_failures_total | counter | model hook | Total hook script failures
"""  # noqa: E501
NEW = """\
llmux_requests_cut_total | counter | model reason | Requests whose answer was cut after its head had been sent
llmux_backend_failures_total | counter | model reason | Requests that got no answer from their backend
llmux_connections_refused_total | counter |  | Connections of clients that were one too many
llmux_worker_restarts_total | counter |  | Workers that were started again
llmux_wake_duration_seconds | histogram | model prepared | Time from the start of a wake hook until the model was awake
llmux_max_wait_missed_total | counter | model | Requests that waited for longer than max_wait_secs
llmux_prepared_in_vain_total | counter | model | Times that a model was prepared and another one was woken in its place
"""  # noqa: E501


def exercise(metrics: Metrics) -> None:
    """Let everything happen once, so that each metric has a series."""
    metrics.model_woken("a", "yes", 3.0)
    metrics.prepared_in_vain("a")
    metrics.max_wait_missed("a", 2)
    metrics.request_queued("a")
    metrics.request_dequeued("a")
    metrics.lease_granted("a", 2.0)
    metrics.lease_released("a")
    metrics.request_answered("a", 200, 0.3)
    metrics.request_cut("a", "client")
    metrics.backend_failed("a", "backend_closed")
    metrics.connection_refused()
    metrics.switch_drained("a", "b", 1.0)
    metrics.switch_succeeded("a", "b", 42.0, 41.0)
    metrics.model_slept("a", 3600.0)
    metrics.hook_ended("a", "wake", 40.0, success=False)


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make the metrics of two models."""
        self.registry = CollectorRegistry()
        self.metrics = Metrics(["a", "b"], self.registry)

    def sample(self, name: str, **labels: str) -> float | None:
        """Give a value."""
        return self.registry.get_sample_value(name, labels)

    def rendered(self) -> str:
        """Give what Prometheus gets."""
        return self.metrics.render().decode("utf-8")

    def test_names(self) -> None:
        """Names, types and help are those of the table, so that dashboards go on working."""
        expected = set()
        for row in (OLD + NEW).splitlines():
            name, kind, _, help = row.split(" | ")
            expected |= {f"# TYPE {name} {kind}", f"# HELP {name} {help}"}
        comments = {line for line in self.rendered().splitlines() if line.startswith("#")}
        self.assertEqual(comments, expected)

    def test_labels(self) -> None:
        """Every series has the labels of the table, and no others but a bucket's limit."""
        exercise(self.metrics)
        labels: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(self.rendered()):
            suffix = "_total" if family.type == "counter" else ""
            for sample in family.samples:
                found = labels.setdefault(family.name + suffix, set())
                found.add(" ".join(sorted(set(sample.labels) - {"le"})))
        expected = {}
        for row in (OLD + NEW).splitlines():
            name, _, names, _ = row.split(" | ")
            expected[name] = {" ".join(sorted(names.split()))}
        self.assertEqual(labels, expected)

    def test_histograms(self) -> None:
        """Histograms have buckets, a sum and a count, from a millisecond to ten minutes."""
        exercise(self.metrics)
        names = [row.split(" | ")[0] for row in OLD.splitlines() if "| histogram |" in row]
        self.assertEqual(len(names), 6)
        families = {f.name: f for f in text_string_to_metric_families(self.rendered())}
        for name in names:
            samples = families[name].samples
            self.assertEqual(
                {sample.name for sample in samples},
                {f"{name}_bucket", f"{name}_sum", f"{name}_count"},
            )
            limits = {sample.labels["le"] for sample in samples if "le" in sample.labels}
            self.assertEqual(limits, {str(limit) for limit in BUCKETS} | {"+Inf"})
        self.assertEqual((min(BUCKETS), max(BUCKETS)), (0.001, 600.0))

    def test_no_created_series(self) -> None:
        """There are no _created series, which would double the number of series."""
        exercise(self.metrics)
        self.assertNotIn("_created", self.rendered())

    def test_content_type(self) -> None:
        """The text is that of version 0.0.4, which every Prometheus reads."""
        self.assertEqual(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        self.assertNotIn("# EOF", self.rendered())

    def test_zero_instead_of_a_gap(self) -> None:
        """Gauges of every configured model are there before its first request."""
        for name in ("llmux_request_queue_depth", "llmux_model_in_flight"):
            for model in ("a", "b"):
                self.assertEqual(self.sample(name, model=model), 0)

    def test_switch(self) -> None:
        """A switch is counted with both its models and how it ended, and timed if it succeeded."""
        self.metrics.switch_drained("a", "b", 1.0)
        self.metrics.switch_succeeded("a", "b", 42.0, 41.0)
        self.metrics.switch_succeeded("a", "b", 44.0, 41.5)
        self.metrics.switch_failed("idle", "a")
        pair = {"from": "a", "to": "b"}
        cold = {"from": "idle", "to": "a"}
        self.assertEqual(self.sample("llmux_switch_total", result="success", **pair), 2)
        self.assertEqual(self.sample("llmux_switch_total", result="failure", **pair), None)
        self.assertEqual(self.sample("llmux_switch_total", result="failure", **cold), 1)
        self.assertEqual(self.sample("llmux_switch_duration_seconds_sum", **pair), 86)
        self.assertEqual(self.sample("llmux_switch_duration_seconds_count", **cold), None)
        self.assertEqual(self.sample("llmux_switch_drain_duration_seconds_sum", **pair), 1)
        self.assertEqual(self.sample("llmux_switch_drain_duration_seconds_count", **cold), None)
        self.assertEqual(self.sample("llmux_switch_cost_ema_seconds", **pair), 41.5)

    def test_queue(self) -> None:
        """The queue's depth goes up and down; who did not wait is no observation of a wait."""
        for _ in range(3):
            self.metrics.request_queued("a")
        self.metrics.request_dequeued("a")
        self.assertEqual(self.sample("llmux_request_queue_depth", model="a"), 2)
        self.metrics.lease_granted("a", None)
        self.assertEqual(self.sample("llmux_request_queue_wait_seconds_count", model="a"), None)
        self.metrics.lease_granted("a", 0.0)
        self.metrics.lease_granted("a", 3.0)
        self.assertEqual(self.sample("llmux_request_queue_wait_seconds_count", model="a"), 2)
        self.assertEqual(self.sample("llmux_request_queue_wait_seconds_sum", model="a"), 3)
        self.assertEqual(self.sample("llmux_model_in_flight", model="a"), 3)
        self.metrics.lease_released("a")
        self.assertEqual(self.sample("llmux_model_in_flight", model="a"), 2)
        self.assertEqual(self.sample("llmux_model_in_flight", model="b"), 0)

    def test_requests(self) -> None:
        """Requests are counted and timed by model and status."""
        self.metrics.request_answered("a", 200, 0.3)
        self.metrics.request_answered("a", 200, 0.4)
        self.metrics.request_answered("a", 499, 9.0)
        self.metrics.request_cut("b", "backend")
        ok = {"model": "a", "status": "200"}
        self.assertEqual(self.sample("llmux_requests_total", **ok), 2)
        self.assertApproximates(self.sample("llmux_request_duration_seconds_sum", **ok), 0.7, 1e-9)
        self.assertEqual(self.sample("llmux_requests_total", model="a", status="499"), 1)
        self.assertEqual(self.sample("llmux_requests_cut_total", model="b", reason="backend"), 1)

    def test_unknown_models(self) -> None:
        """Names that clients make up are one series, however many there are."""
        for name in ("", "A", "a ", "gpt-4", "x" * 10_000):
            self.metrics.request_answered(name, 404, 0.001)
        self.assertEqual(self.sample("llmux_requests_total", model="", status="404"), 5)
        name = "llmux_request_duration_seconds_count"
        self.assertEqual(self.sample(name, model="", status="404"), 5)
        self.assertNotIn("gpt-4", self.rendered())

    def test_hooks(self) -> None:
        """Hooks are timed however they end; failures are counted, from zero on."""
        hook = {"model": "a", "hook": "sleep"}
        self.metrics.hook_ended("a", "sleep", 2.0, success=True)
        self.assertEqual(self.sample("llmux_hook_failures_total", **hook), 0)
        self.metrics.hook_ended("a", "sleep", 3.0, success=False)
        self.assertEqual(self.sample("llmux_hook_failures_total", **hook), 1)
        self.assertEqual(self.sample("llmux_hook_duration_seconds_sum", **hook), 5)
        self.assertEqual(self.sample("llmux_hook_duration_seconds_count", **hook), 2)

    def test_active(self) -> None:
        """How long a model was awake is measured when it sleeps."""
        self.metrics.model_slept("a", 3600.0)
        self.assertEqual(self.sample("llmux_model_active_duration_seconds_sum", model="a"), 3600)

    def test_names_with_quotes(self) -> None:
        """A model's name goes through as it is, whatever it holds."""
        name = 'facebook/"opt"\\125m\n'
        metrics = Metrics([name])
        metrics.request_answered(name, 200, 1.0)
        text = metrics.render().decode("utf-8")
        families = {f.name: f for f in text_string_to_metric_families(text)}
        self.assertEqual(families["llmux_requests"].samples[0].labels["model"], name)

    def test_two_apps(self) -> None:
        """Two apps in one process count apart."""
        one, other = Metrics(["a"]), Metrics(["a"])
        one.request_queued("a")
        self.assertIn('llmux_request_queue_depth{model="a"} 1.0', one.render().decode())
        self.assertIn('llmux_request_queue_depth{model="a"} 0.0', other.render().decode())

    def test_someone_elses_registry(self) -> None:
        """In a registry that is somebody else's too, their metrics are shown and left alone."""

        class Mine(Collector):
            def __init__(self) -> None:
                self.metric = CounterMetricFamily("mine", "m", 3, created=5)

            def collect(self) -> Iterator[Metric]:
                yield self.metric

        mine = Mine()
        self.registry.register(mine)
        Gauge("files_created", "A gauge that only sounds like it", registry=self.registry).set(7)
        text = self.rendered()
        self.assertIn("mine_total 3.0", text)
        self.assertNotIn("mine_created", text)
        self.assertIn("files_created 7.0", text)
        self.assertEqual(len(mine.metric.samples), 2)
