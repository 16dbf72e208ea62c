"""What llmux must hold in memory at most: waiting bodies, and an answer that nobody takes."""

from __future__ import annotations

from bench.figures import MEGABYTE, PACED, Bench, Case, Figure, Samples, Scale, Wanted
from bench.helpers import Load, Outcome, run_load
from bench.processes import forget_peak, peak_rss, rss, wait_until
from bench.proxy import Proxy


def _bodies_figures(scale: Scale) -> list[Figure]:
    work = f"{scale.bodies} waiting bodies of {scale.body // MEGABYTE} MB"
    return [
        Figure("bodies", f"peak RSS with {work}", "MB", wanted=Wanted(300)),
        Figure("bodies_relayed", "... while they are relayed", "MB", wanted=Wanted(300)),
    ]


def _measure_bodies(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.pid is None or proxy.gate is None:
        return {}  # nobody waits there
    scale = bench.scale
    options = {"clients": scale.bodies, "requests": 1, "body": scale.body, "patience": 110}
    load = Load(bench.directory, proxy, "/sink", "held", **options)
    with proxy.gate.closed(), load:
        load.wait_for("sent")
        wait_until(lambda: proxy.waiting("held") == scale.bodies, "all bodies wait", 60)
        waiting = peak_rss(proxy.pid)
        forget_peak(proxy.pid)
        proxy.gate.open()
        outcome = load.outcome()
    bench.note_failures("waiting bodies", outcome)
    return {"bodies": waiting / MEGABYTE, "bodies_relayed": peak_rss(proxy.pid) / MEGABYTE}


def _stalled_figures(scale: Scale) -> list[Figure]:
    size = f"{scale.answer // MEGABYTE} MB"
    return [
        Figure("stalled", f"growth for a stalled reader of {size}", "MB", wanted=Wanted(10)),
        Figure("unstalled_p50", "... the others before, median", "ms"),
        Figure("stalled_p50", "... the others meanwhile, median", "ms"),
        Figure("unstalled_p99", "... the others before, 99th percentile", "ms"),
        Figure("stalled_p99", "... the others meanwhile, 99th percentile", "ms"),
    ]


def _measure_stalled(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.pid is None:
        return {}
    huge = f"/huge?bytes={bench.scale.answer}"
    run_load(bench.directory, proxy, "/huge?bytes=1000000", requests=20)
    before = _paced(bench, proxy)
    resident = rss(proxy.pid)
    forget_peak(proxy.pid)
    options = {"clients": 1, "stall_after": 65_536, "seconds": 60}
    with Load(bench.directory, proxy, huge, **options) as load:
        load.wait_for("begun")
        meanwhile = _paced(bench, proxy)
        grown = peak_rss(proxy.pid) - resident
        bench.note_failures(f"stalled reader, {contender}", load.stop())
    samples = {"stalled": grown / MEGABYTE}
    for name, outcome in (("unstalled", before), ("stalled", meanwhile)):
        for which in ("p50", "p99"):
            samples[f"{name}_{which}"] = outcome.milliseconds("first_byte", which)
    return samples


def _paced(bench: Bench, proxy: Proxy) -> Outcome:
    seconds = bench.scale.seconds
    outcome = run_load(bench.directory, proxy, "/small", seconds=seconds, **PACED)
    bench.note_failures("beside a stalled reader", outcome)
    return outcome


BODIES = Case("memory", _bodies_figures, _measure_bodies, rounds=1, fresh=True)
STALLED = Case("memory", _stalled_figures, _measure_stalled, rounds=1, fresh=True)
