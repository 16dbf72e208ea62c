"""What a policy is shown, made by a test: models, who waits for them, and what things cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from llmux.costs import SwitchCosts
from llmux.policy import BATCH, INTERACTIVE, ModelView, Phase, PolicyContext, WaitingView
from llmux.states import SERVING, State

NOW = 5000.0
"""The time at which a policy is asked, in seconds."""


def queue(*waits: float, first: int = 1) -> WaitingView:
    """Let requests wait that have waited for so many seconds, the longest wait in front."""
    times = [NOW - wait for wait in waits]
    return WaitingView(
        count=len(times),
        oldest=min(times),
        first=first,
        arrivals=sum(times),
        squares=sum(time**2 for time in times),
    )


def asleep(
    *waits: float,
    first: int = 1,
    evicts: tuple[str, ...] | None = ("a",),
    kind: str = INTERACTIVE,
    promise: float | None = None,
) -> ModelView:
    """Make a model that is asleep, and for which requests of one class wait."""
    return ModelView(
        state=State.ASLEEP,
        waiting={kind: queue(*waits, first=first)} if waits else {},
        leases=0,
        awake_since=0.0,
        not_before=0.0,
        evicts=evicts if waits else (),
        max_wait_secs=promise,
    )


def awake(leases: int = 0, since: float = 1000.0, batch: int = 0) -> ModelView:
    """Make a model that is awake since so many seconds."""
    return ModelView(
        state=State.AWAKE,
        waiting={},
        leases=leases,
        awake_since=NOW - since,
        not_before=0.0,
        evicts=(),
        batch_leases=batch,
    )


def costing(hooks: float = 10.0, answer: float = 2.0, names: Iterable[str] = "abc") -> SwitchCosts:
    """Say what every switch and every answer costs, in seconds."""
    names = tuple(names)
    pairs = {(source, target): hooks for source in ("idle", *names) for target in names}
    return SwitchCosts(pair=pairs, lease=dict.fromkeys(names, answer))


def shown(
    models: Mapping[str, ModelView],
    phase: Phase = Phase.SETTLED,
    target: str | None = None,
    costs: SwitchCosts | None = None,
) -> PolicyContext:
    """Make what a policy is shown at :data:`NOW`."""
    return PolicyContext(
        now=NOW,
        phase=phase,
        models=models,
        target=target,
        costs=costing() if costs is None else costs,
    )


_WAITS = st.lists(st.floats(0, 2000), max_size=4)
_SECONDS = st.sampled_from([0.0, 0.5, 2.0, 10.0, 60.0])
_FEW = st.integers(0, 3)


@st.composite
def contexts(draw: st.DrawFn) -> PolicyContext:
    """Make contexts of all sorts, as a switcher could show them."""
    names = "abcd"[: draw(st.integers(1, 4))]
    states = {name: draw(st.sampled_from(State)) for name in names}
    numbers = iter(draw(st.permutations(range(8))))
    models = {}
    for name, state in states.items():
        waiting = {}
        for kind in (INTERACTIVE, BATCH):
            waits, number = draw(_WAITS), next(numbers)
            if waits:
                waiting[kind] = queue(*waits, first=number)
        serving = state in SERVING
        leases = draw(_FEW) if serving else 0
        others = [each for each in names if each != name]
        some = st.lists(st.sampled_from(others), unique=True) if others else st.just([])
        evicts = draw(st.one_of(st.none(), some.map(tuple)))
        models[name] = ModelView(
            state=state,
            waiting=waiting,
            leases=leases,
            awake_since=NOW - draw(_SECONDS),
            not_before=NOW + draw(st.sampled_from([-1.0, 0.0, 7.0])),
            evicts=evicts if waiting and state is not State.AWAKE else (),
            batch_leases=draw(st.integers(0, leases)),
            max_wait_secs=draw(st.one_of(st.none(), st.just(30.0))),
        )
    phase = draw(st.sampled_from(Phase))
    target = None if phase is Phase.SETTLED else draw(st.sampled_from(names))
    costs = costing(draw(_SECONDS), draw(_SECONDS), names)
    return shown(models, phase, target, costs)
