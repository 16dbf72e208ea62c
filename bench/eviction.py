"""What it costs llmux to choose whom to evict; nobody else has to."""

from __future__ import annotations

import time
from random import Random

from bench.figures import Bench, Case, Figure, Samples, Scale
from bench.proxy import Proxy
from llmux.amounts import Amounts, add
from llmux.eviction import Way, cheapest

_CANDIDATES = (8, 16, 32, 64)
_GPUS = ("gpu0", "gpu1", "gpu2")
_State = tuple[Amounts, list[list[Way]]]


def _figures(scale: Scale) -> list[Figure]:
    few = _CANDIDATES[0]
    figures = [
        Figure(f"eviction_{n}", f"CPU of a choice among {n} candidates, four resources", "us")
        for n in _CANDIDATES
    ]
    figures += [
        Figure(f"eviction_{n}_times", f"... among {n}, as a multiple of that among {few}", "")
        for n in _CANDIDATES[1:]
    ]
    return [*figures, Figure("eviction_max", f"... among {_CANDIDATES[-1]}, the longest", "us")]


def _state(random: Random, candidates: int) -> _State:
    """Make up models on three GPUs, some of which keep host memory until they are stopped."""
    ways_of = []
    for number in range(candidates):
        gpus = random.sample(_GPUS, random.choice((1, 1, 1, 2)))
        needs = dict.fromkeys(gpus, random.uniform(1.0, 24.0))
        ways = [Way(f"m{number}", needs, random.uniform(0.0, 600.0))]
        if random.random() < 0.5:
            holds = add(needs, {"ram": random.uniform(1.0, 48.0)})
            ways.append(Way(f"m{number}", holds, ways[0].loss + random.uniform(1.0, 120.0)))
        ways_of.append(ways)
    most = add(*(ways[-1].frees for ways in ways_of))
    return {name: amount * random.uniform(0.05, 0.95) for name, amount in most.items()}, ways_of


def _measure(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.gate is None:
        return {}
    samples: Samples = {}
    random = Random(64)
    for candidates in _CANDIDATES:
        states = [_state(random, candidates) for _ in range(bench.scale.choices)]
        times = [_microseconds(state) for state in states]
        samples[f"eviction_{candidates}"] = sum(times) / len(times)
        samples["eviction_max"] = max(times)
    for candidates in _CANDIDATES[1:]:
        times_as_much = samples[f"eviction_{candidates}"] / samples[f"eviction_{_CANDIDATES[0]}"]
        samples[f"eviction_{candidates}_times"] = times_as_much
    return samples


def _microseconds(state: _State) -> float:
    begin = time.process_time_ns()
    chosen = cheapest(*state)
    used = time.process_time_ns() - begin
    assert chosen
    return used / 1000


EVICTION = Case("eviction", _figures, _measure)
