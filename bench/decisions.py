"""What a decision of each policy costs llmux, with what it is shown; nobody else makes any."""

from __future__ import annotations

import time
from statistics import median

from bench.figures import Bench, Case, Figure, Samples, Scale
from bench.proxy import Proxy
from llmux.budget import Budget
from llmux.clock import VirtualClock
from llmux.config import Backend, ModelConfig
from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.policy import POLICIES, ISwitchPolicy, Phase
from llmux.states import State
from llmux.waiting import WaitingRoom
from llmux.worth import Worth

_MODELS = 8
_WAITERS = (10, 1_000, 10_000)


def _figures(scale: Scale) -> list[Figure]:
    few = _WAITERS[0]
    figures = []
    for name in POLICIES:
        for count in _WAITERS:
            told = f"CPU of a decision of {name}, {_MODELS} models, {count:,} waiters"
            figures.append(Figure(f"decision_{name}_{count}", told, "us"))
        for count in _WAITERS[1:]:
            told = f"... with {count:,}, as a multiple of that with {few}"
            figures.append(Figure(f"decision_{name}_{count}_times", told, ""))
    return figures


def _measure(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.gate is None:
        return {}
    samples: Samples = {}
    for name, policy in POLICIES.items():
        for count in _WAITERS:
            spent = _microseconds(policy.make({}), count, bench.scale.decisions)
            samples[f"decision_{name}_{count}"] = spent
        few = samples[f"decision_{name}_{_WAITERS[0]}"]
        for count in _WAITERS[1:]:
            samples[f"decision_{name}_{count}_times"] = samples[f"decision_{name}_{count}"] / few
    return samples


def _microseconds(policy: ISwitchPolicy, waiters: int, times: int) -> float:
    """
    Measure a decision about one awake model and others for which requests wait.

    :param times: how often it is made.
    :returns: what one takes mostly, with the making of its context.
    """
    clock, costs = VirtualClock(), SwitchCosts()
    models = {name: _model(name, clock) for name in (f"m{each}" for each in range(_MODELS))}
    awake, *others = models.values()
    awake.state = State.AWAKE
    for number in range(1, waiters + 1):
        clock.advance(0.01)
        asleep = others[number % len(others)]
        asleep.asked = number
        asleep.waiting.add(number)
        policy.arrived(asleep.name, clock.seconds())
    outlook = Outlook(models, Budget.slots(), Worth(costs))
    spent = []
    for _ in range(times):
        began = time.process_time_ns()
        decision = policy.decide(outlook.context(clock.seconds(), Phase.SETTLED, costs))
        spent.append(time.process_time_ns() - began)
        assert decision.target != awake.name
    return median(spent) / 1000


def _model(name: str, clock: VirtualClock) -> Model:
    backend = Backend("127.0.0.1", 1)
    config = ModelConfig(name=name, backend=backend, wake="true", sleep="true")
    room = WaitingRoom(clock, None, lambda waiter, timed_out: None, lambda: 1)
    return Model(config=config, waiting=room)


DECISIONS = Case("decisions", _figures, _measure)
