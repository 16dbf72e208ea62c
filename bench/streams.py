"""Streams: what an event costs, how late it comes, how soon the first, and what idle ones hold."""

from __future__ import annotations

import time

from bench.contenders import MAIN, WORKERS
from bench.figures import MEGABYTE, Bench, Case, Figure, Samples, Scale, Wanted
from bench.helpers import Load, Outcome, run_load
from bench.processes import pss, raise_file_limit, rss
from bench.proxy import SHORT_STREAM, SMALL_ANSWER, STREAM, Proxy
from llmux.descriptors import room_for_clients

_SPARE_CLIENTS = 24  # that ask for something else


def _events_figures(scale: Scale) -> list[Figure]:
    streams = f"{scale.streams} streams"
    alone, shared = Wanted(1.9, than="nginx"), Wanted(1.15, of="event_cpu")
    return [
        Figure("event_cpu", f"CPU of a streamed event, {streams}", "us", alone),
        Figure("event_cpu_workers", "CPU of a streamed event, two workers", "us", shared),
        Figure(
            "event_cpu_each_workers",
            f"CPU of a streamed event, two workers, {streams} each",
            "us",
            shared,
        ),
        Figure("event_p50", f"event under way, {streams}, median", "ms"),
        Figure("event_p99", f"event under way, {streams}, 99th percentile", "ms"),
    ]


def _measure_events(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    streams = bench.scale.streams
    outcome, cpu = _relay_events(bench, contender, proxy, streams)
    samples = {f"event_{which}": outcome.milliseconds("lag", which) for which in ("p50", "p99")}
    if proxy.pid is not None:
        samples["event_cpu"] = cpu
    if proxy.workers:  # two of them, in every contender
        _, samples["event_cpu_each"] = _relay_events(bench, contender, proxy, 2 * streams)
    return samples


def _relay_events(
    bench: Bench, contender: str, proxy: Proxy, streams: int
) -> tuple[Outcome, float]:
    """
    Have a proxy relay streams.

    :returns: what their clients saw, and microseconds of processor time for an event.
    """
    seconds = bench.scale.seconds
    with Load(bench.directory, proxy, STREAM, clients=streams, seconds=seconds) as load:
        load.wait_for("begun")
        before = proxy.cpu_seconds()
        outcome = load.outcome()
        used = proxy.cpu_seconds() - before
    bench.note_failures(f"streams, {contender}", outcome)
    bench.note_missing(f"streams, {contender}", outcome, streams * seconds * 1000 // proxy.pace)
    return outcome, used / max(outcome.count("events"), 1) * 1e6


def _begin_figures(scale: Scale) -> list[Figure]:
    return [
        Figure("begin_p50", "stream, time to first byte, median", "ms"),
        Figure("begin_p99", "stream, time to first byte, 99th percentile", "ms"),
        Figure(
            "begin_added_p50", "stream, added to its first byte, median", "ms",
            Wanted(15, than="nginx"), added_to="begin_p50",
        ),
        Figure(
            "begin_added_p99", "stream, added to its first byte, 99th", "ms", added_to="begin_p99"
        ),
    ]  # fmt: skip


def _measure_begin(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    outcome = run_load(
        bench.directory,
        proxy,
        SHORT_STREAM,
        clients=8,
        seconds=bench.scale.seconds,
    )
    bench.note_failures(f"beginning streams, {contender}", outcome)
    return {f"begin_{which}": outcome.milliseconds("first_byte", which) for which in ("p50", "p99")}


def _idle_figures(scale: Scale) -> list[Figure]:
    figures = [
        Figure(
            f"idle_{kind}_{count}", f"memory of an idle stream, {kind.upper()}, {count:,}", "KiB"
        )
        for count in _counts(scale)
        for kind in ("rss", "pss")
    ]
    whole = f"RSS of the process with {scale.idle[-1]:,} idle streams"
    return [*figures, Figure("idle_whole", whole, "MB", Wanted(500))]


def _counts(scale: Scale) -> list[int]:
    most = room_for_clients(raise_file_limit()) - _SPARE_CLIENTS
    return sorted({min(count, most) for count in scale.idle})


def _measure_idle(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.pid is None:
        return {}
    counts, wanted = _counts(bench.scale), bench.scale.idle[-1]
    if counts[-1] < wanted:
        bench.note(
            f"no more than {counts[-1]:,} idle streams: the limit on open files is too low;"
            f" the process's RSS with {wanted:,} is reckoned from theirs"
        )
    run_load(bench.directory, proxy, SMALL_ANSWER, clients=4, requests=50)
    before = {"rss": rss(proxy.pid), "pss": pss(proxy.pid)}
    samples: Samples = {}
    loads: list[Load] = []
    try:
        for count, more in zip(counts, _differences(counts), strict=True):
            options = {"clients": more, "seconds": 120, "rate": 500}
            loads.append(Load(bench.directory, proxy, "/silent", **options))
            loads[-1].wait_for("begun")
            time.sleep(0.5)
            for kind, now in (("rss", rss(proxy.pid)), ("pss", pss(proxy.pid))):
                samples[f"idle_{kind}_{count}"] = (now - before[kind]) / count / 1024
        grown = samples[f"idle_rss_{counts[-1]}"] * 1024 * wanted
        samples["idle_whole"] = (before["rss"] + grown) / MEGABYTE
        for load in loads:
            bench.note_failures(f"idle streams, {contender}", load.stop())
    finally:
        for load in loads:
            load.__exit__(None, None, None)
    return samples


def _differences(counts: list[int]) -> list[int]:
    return [count - before for before, count in zip([0, *counts], counts, strict=False)]


EVENTS = Case("streams", _events_figures, _measure_events, makes=(MAIN, WORKERS))
BEGIN = Case("streams", _begin_figures, _measure_begin, rounds=5)
IDLE = Case("idle", _idle_figures, _measure_idle, rounds=1, fresh=True)
