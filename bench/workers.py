"""Two workers: whether both have work, and who loses what if one is killed."""

from __future__ import annotations

import os
import signal

from bench.contenders import WORKERS
from bench.figures import Bench, Case, Figure, Samples, Scale, Wanted
from bench.helpers import Load, run_load
from bench.processes import children, wait_until
from bench.proxy import SMALL_ANSWER, Proxy
from bench.sockets import connections, listening_children


def _figures(scale: Scale) -> list[Figure]:
    return [
        Figure(
            "split_workers", f"share of the busier of two workers, {scale.spread:,} connections",
            "%", Wanted(60),
        ),
        Figure("lost_workers", "streams of others lost with a killed worker", "", Wanted(0)),
        Figure("refused_workers", "requests that failed after its death", "", Wanted(0)),
    ]  # fmt: skip


def _measure(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.pid is None:
        return {}
    run_load(bench.directory, proxy, SMALL_ANSWER, requests=1)
    path = "/stream?count=1000000&pace_ms=500"
    options = {"clients": bench.scale.spread, "seconds": 120}
    with Load(bench.directory, proxy, path, **options) as load:
        load.wait_for("begun")
        shares = {pid: connections(pid, proxy.port) for pid in proxy.relays}
        load.part()
        victim = max(children(proxy.pid), key=lambda pid: shares.get(pid, 0))
        workers = len(listening_children(proxy.pid, proxy.port))
        os.kill(victim, signal.SIGKILL)
        _wait_for_another(proxy.pid, proxy.port, victim, workers)
        after = run_load(bench.directory, proxy, SMALL_ANSWER, clients=8, requests=10)
        outcome = load.stop()
    bench.note_failures("after a worker's death", after)
    lost = outcome.count("cut")
    total, own = sum(shares.values()), shares[victim]
    bench.note(f"of {total:,} streams a killed worker had {own:,}, and {lost:,} were lost")
    return {
        "split": max(shares.values()) / total * 100,
        "lost": max(0, lost - own),
        "refused": 80 - after.with_status(200),
    }


def _wait_for_another(pid: int, port: int, victim: int, workers: int) -> None:
    def is_there() -> bool:
        there = listening_children(pid, port)
        return victim not in there and len(there) == workers

    wait_until(is_there, "another worker takes the killed one's place")


DEATH = Case("workers", _figures, _measure, rounds=1, fresh=True, makes=(WORKERS,))
