"""Many requests released by one wake; without a wake to wait for, as many sent at once."""

from __future__ import annotations

from bench.figures import Bench, Case, Figure, Samples, Scale
from bench.helpers import Load, run_load
from bench.processes import cpu_seconds, wait_until
from bench.proxy import Gate, Proxy


def _figures(scale: Scale) -> list[Figure]:
    return [
        Figure("waiters", f"{scale.waiters:,} waiters, from the wake to the last first byte", "ms"),
        Figure("waiters_cpu", f"CPU of {scale.waiters:,} waiters", "ms"),
    ]


def _measure(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.pid is not None and proxy.gate is not None:
        return _measure_wake(bench, proxy, proxy.pid, proxy.gate)
    options = {"clients": bench.scale.waiters, "requests": 1, "rate": 1000, "together": 1}
    outcome = run_load(bench.directory, proxy, "/small", **options)
    bench.note_failures(f"waiters, {contender}", outcome)
    begin, end = outcome.count("first_sent_ns"), outcome.count("last_first_byte_ns")
    return {"waiters": (end - begin) / 1e6}


def _measure_wake(bench: Bench, proxy: Proxy, pid: int, gate: Gate) -> Samples:
    waiters = bench.scale.waiters
    run_load(bench.directory, proxy, "/small", requests=1)  # after that "held" is asleep
    options = {"clients": waiters, "requests": 1, "rate": 400}
    load = Load(bench.directory, proxy, "/small", "held", **options)
    with gate.closed(), load:
        load.wait_for("sent")
        wait_until(lambda: proxy.waiting("held") == waiters, f"{waiters} requests wait")
        before = cpu_seconds(pid)
        gate.open()
        outcome = load.outcome()
        used = cpu_seconds(pid) - before
        opened = gate.opened_ns()
    bench.note_failures("waiters, llmux", outcome)
    return {
        "waiters": (outcome.count("last_first_byte_ns") - opened) / 1e6,
        "waiters_cpu": used * 1000,
    }


WAITERS = Case("waiters", _figures, _measure)
