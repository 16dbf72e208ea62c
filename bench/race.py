"""The race for a connection that its backend closes at the moment when it is used again."""

from __future__ import annotations

from bench.figures import Bench, Case, Figure, Samples, Scale
from bench.helpers import run_load
from bench.proxy import Proxy

_CLIENTS = 8
_WAYS = {
    "silent": ("/closing?requests=3", 0, "after 3 answers, silently"),
    "idle": ("/closing?idle_ms=20", 20_000, "after 0 to 20 ms of idleness, silently"),
    "polite": ("/closing?requests=3&announce=1", 0, "after 3 answers, as announced"),
}


def _figures(scale: Scale) -> list[Figure]:
    return [
        Figure(f"race_{key}", f"failed of 10,000, closed {words}", "")
        for key, (_, _, words) in _WAYS.items()
    ]


def _measure(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.pid is None:
        return {}  # it is a race of whoever keeps connections, and there it would be our client
    samples: Samples = {}
    each = bench.scale.race // _CLIENTS
    for key, (path, gap, words) in _WAYS.items():
        outcome = run_load(
            bench.directory,
            proxy,
            path,
            clients=_CLIENTS,
            requests=each,
            gap_random_us=gap,
            patience=120,
        )
        failed = each * _CLIENTS - outcome.with_status(200)
        samples[f"race_{key}"] = failed / (each * _CLIENTS) * 10_000
        bench.note(
            f"backend closes {words}, {contender}: of {each * _CLIENTS:,} requests"
            f" {outcome.with_status(200):,} x 200, {outcome.with_status(502)} x 502, of which"
            f' {outcome.count("closed_before")} say "closed before answering";'
            f" others: {failed - outcome.with_status(502)}"
        )
    return samples


RACE = Case("race", _figures, _measure, rounds=1)
