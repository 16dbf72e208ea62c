"""Many streams that say something now and then: what else comes along, and what an event costs."""

from __future__ import annotations

import time

from bench.figures import PACED, Bench, Case, Figure, Samples, Scale, Wanted
from bench.helpers import Load, run_load
from bench.proxy import SMALL_ANSWER, Proxy

_PACE = 200  # milliseconds from event to event
_BEHIND = 0.03
"""
Seconds in which events come that a huge body has held up.  Its client is there for longer: when it
ends the kernel closes and frees what it had, and that is nothing the proxy does.
"""


def _figures(scale: Scale) -> list[Figure]:
    crowd = f"{scale.crowd:,} streams"
    many, near = Wanted(1.3, of="event_cpu"), Wanted(25, than="nginx")
    kept = Wanted(10, of="crowd_event_p99")
    return [
        Figure("crowd_event_cpu", f"CPU of a streamed event, {crowd}", "us", many),
        Figure("crowd_event_p50", f"event under way, {crowd}, median", "ms"),
        Figure("crowd_event_p99", f"event under way, {crowd}, 99th percentile", "ms"),
        Figure("crowd_p50", f"small request beside {crowd}, median", "ms"),
        Figure("crowd_p99", f"small request beside {crowd}, 99th percentile", "ms"),
        Figure(
            "crowd_added_p50", f"small request beside {crowd}, added by the proxy, median", "ms",
            near, added_to="crowd_p50",
        ),
        Figure(
            "crowd_event_max", f"event under way, {crowd}, beside a huge body, the longest", "ms",
            kept,
        ),
    ]  # fmt: skip


def _measure(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    scale, directory = bench.scale, bench.directory
    options = {"clients": scale.crowd, "seconds": 120}
    with Load(directory, proxy, f"/stream?count=1000000&pace_ms={_PACE}", **options) as crowd:
        crowd.wait_for("begun")
        before = proxy.cpu_seconds()
        time.sleep(scale.seconds)
        used = proxy.cpu_seconds() - before
        alone = crowd.part()
        paced = run_load(directory, proxy, SMALL_ANSWER, seconds=scale.seconds, **PACED)
        crowd.part()
        crowd.leave_a_core()
        with Load(directory, proxy, "/sink", requests=1, body=scale.upload) as huge:
            huge.leave_a_core()
            upload = huge.outcome()
            time.sleep(_BEHIND)
            beside = crowd.stop()
    bench.note_missing(f"crowd, {contender}", alone, scale.crowd * scale.seconds * 1000 // _PACE)
    for outcome in (alone, paced, upload, beside):
        bench.note_failures(f"crowd, {contender}", outcome)
    samples = {
        "crowd_event_p50": alone.milliseconds("lag", "p50"),
        "crowd_event_p99": alone.milliseconds("lag", "p99"),
        "crowd_p50": paced.milliseconds("first_byte", "p50"),
        "crowd_p99": paced.milliseconds("first_byte", "p99"),
        "crowd_event_max": beside.milliseconds("lag", "max"),
    }
    if proxy.pid is not None:
        samples["crowd_event_cpu"] = used / alone.count("events") * 1e6
    return samples


CROWD = Case("crowd", _figures, _measure, rounds=5)
