"""Small requests: what each costs, how long it takes, and whether a huge one is in its way."""

from __future__ import annotations

import time

from bench.contenders import Proxy
from bench.figures import MEGABYTE, PACED, Bench, Case, Figure, Samples, Scale
from bench.helpers import Load, run_load, run_wrk
from bench.processes import cpu_seconds

_CONNECTIONS = 16


def _small_figures(scale: Scale) -> list[Figure]:
    return [
        Figure("small_cpu", "CPU of a small request", "us"),
        Figure("small_rate", f"small requests, {_CONNECTIONS} connections", "1/s"),
    ]


def _measure_small(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    run_load(bench.directory, proxy.port, "/small", requests=100)
    before = 0.0 if proxy.pid is None else cpu_seconds(proxy.pid)
    outcome = run_wrk(bench.directory, proxy.port, bench.scale.seconds, _CONNECTIONS)
    if outcome.failed:
        bench.note(f"small requests, {contender}: {outcome.failed} failed")
    samples = {"small_rate": outcome.per_second}
    if proxy.pid is not None:
        samples["small_cpu"] = (cpu_seconds(proxy.pid) - before) / outcome.requests * 1e6
    return samples


def _latency_figures(scale: Scale) -> list[Figure]:
    return [
        Figure("latency_p50", "small request, median", "ms"),
        Figure("latency_p99", "small request, 99th percentile", "ms"),
        Figure("latency_max", "small request, the longest", "ms"),
        Figure("added_p50", "... added by the proxy, median", "ms", added_to="latency_p50"),
        Figure("added_p99", "... added by the proxy, 99th", "ms", added_to="latency_p99"),
    ]


def _measure_latency(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    seconds = bench.scale.seconds
    outcome = run_load(bench.directory, proxy.port, "/small", seconds=seconds, **PACED)
    bench.note_failures(f"latency, {contender}", outcome)
    return {
        f"latency_{which}": outcome.milliseconds("first_byte", which)
        for which in ("p50", "p99", "max")
    }


def _upload_figures(scale: Scale) -> list[Figure]:
    size = f"{scale.upload // MEGABYTE} MB"
    return [
        Figure("held_up", f"small request beside a body of {size}, the longest", "ms"),
        Figure("upload", f"the body of {size}, until its answer", "ms"),
    ]


def _measure_upload(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    directory, port = bench.directory, proxy.port
    often = {"clients": 4, "gap_us": 2000, "gap_random_us": 6000, "seconds": 120}
    with Load(directory, port, "/small", "bench", **often) as small:
        small.wait_for("begun")
        time.sleep(0.3)
        upload = run_load(directory, port, "/sink", requests=1, body=bench.scale.upload)
        outcome = small.stop()
    bench.note_failures(f"huge body, {contender}", upload)
    bench.note_failures(f"beside a huge body, {contender}", outcome)
    return {
        "held_up": outcome.milliseconds("first_byte", "max"),
        "upload": upload.milliseconds("first_byte", "max"),
    }


SMALL = Case("small", _small_figures, _measure_small)
LATENCY = Case("latency", _latency_figures, _measure_latency)
UPLOAD = Case("upload", _upload_figures, _measure_upload)
