"""Small requests: what each costs, how long it takes, and whether a huge one is in its way."""

from __future__ import annotations

import time

from bench.contenders import MAIN, QUIET, WORKERS
from bench.figures import MEGABYTE, PACED, Bench, Case, Figure, Samples, Scale, Wanted
from bench.helpers import Load, run_load, run_wrk
from bench.proxy import SMALL_ANSWER, Proxy

_CONNECTIONS = 16


def _small_figures(scale: Scale) -> list[Figure]:
    full, silent, shared = (
        Wanted(14, than="nginx"),
        Wanted(12, than="nginx"),
        Wanted(1.2, of="small_cpu"),
    )
    return [
        Figure("small_cpu", "CPU of a small request", "us", full),
        Figure("small_cpu_quiet", "CPU of a small request, no access log", "us", silent),
        Figure("small_cpu_workers", "CPU of a small request, two workers", "us", shared),
        Figure("small_rate", f"small requests, {_CONNECTIONS} connections", "1/s"),
        Figure("small_rate_quiet", "small requests, no access log", "1/s"),
        Figure("small_rate_workers", "small requests, two workers", "1/s"),
    ]


def _measure_small(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    run_load(bench.directory, proxy, SMALL_ANSWER, clients=4, requests=25)
    before = proxy.cpu_seconds()
    outcome = run_wrk(bench.directory, proxy, bench.scale.seconds, _CONNECTIONS)
    if outcome.failed:
        bench.note(f"small requests, {contender}: {outcome.failed} failed")
    samples = {"small_rate": outcome.per_second}
    if proxy.pid is not None:
        samples["small_cpu"] = (proxy.cpu_seconds() - before) / outcome.requests * 1e6
    return samples


def _latency_figures(scale: Scale) -> list[Figure]:
    return [
        Figure("latency_p50", "small request, median", "ms"),
        Figure("latency_p99", "small request, 99th percentile", "ms"),
        Figure("latency_max", "small request, the longest", "ms"),
        Figure(
            "added_p50", "small request, added by the proxy, median", "ms",
            Wanted(15, than="nginx"), added_to="latency_p50",
        ),
        Figure(
            "added_p99", "small request, added by the proxy, 99th", "ms", added_to="latency_p99"
        ),
        Figure("paced_cpu", "CPU of a small request, paced", "us"),
    ]  # fmt: skip


def _measure_latency(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    before = proxy.cpu_seconds()
    outcome = run_load(bench.directory, proxy, SMALL_ANSWER, seconds=bench.scale.seconds, **PACED)
    used = proxy.cpu_seconds() - before
    bench.note_failures(f"latency, {contender}", outcome)
    samples = {
        f"latency_{which}": outcome.milliseconds("first_byte", which)
        for which in ("p50", "p99", "max")
    }
    if proxy.pid is not None:
        samples["paced_cpu"] = used / outcome.answers * 1e6
    return samples


def _upload_figures(scale: Scale) -> list[Figure]:
    size = f"{scale.upload // MEGABYTE} MB"
    return [
        Figure("held_up", f"small request beside a body of {size}, the longest", "ms"),
        Figure("upload", f"the body of {size}, until its answer", "ms"),
    ]


def _measure_upload(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    directory = bench.directory
    often = {"clients": 4, "gap_us": 2000, "gap_random_us": 6000, "seconds": 120}
    with Load(directory, proxy, SMALL_ANSWER, **often) as small:
        small.wait_for("begun")
        time.sleep(0.3)
        upload = run_load(directory, proxy, "/sink", requests=1, body=bench.scale.upload)
        outcome = small.stop()
    bench.note_failures(f"huge body, {contender}", upload)
    bench.note_failures(f"beside a huge body, {contender}", outcome)
    return {
        "held_up": outcome.milliseconds("first_byte", "max"),
        "upload": upload.milliseconds("first_byte", "max"),
    }


SMALL = Case("small", _small_figures, _measure_small, makes=(MAIN, QUIET, WORKERS))
LATENCY = Case("latency", _latency_figures, _measure_latency, rounds=5)
UPLOAD = Case("upload", _upload_figures, _measure_upload)
