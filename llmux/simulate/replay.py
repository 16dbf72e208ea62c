"""
A trace of requests before the real switcher, on a virtual clock.

Only what is outside of the switcher is pretended: the clients, the engines, and the hooks.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from llmux.budget import ONE_SLOT, Budget
from llmux.clock import VirtualClock
from llmux.config import Backend, Config, ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import LLMuxError, SwitchError, UnknownModel
from llmux.events import Events
from llmux.journal import Memory
from llmux.lease import Lease, Outcome
from llmux.metrics import Metrics
from llmux.names import Names
from llmux.policy import ISwitchPolicy
from llmux.simulate import clairvoyant, fifo240
from llmux.simulate.engine import Engine, EngineFigures, Work
from llmux.simulate.hooks import HookCosts, SimulatedHooks
from llmux.simulate.policies import make_policy
from llmux.simulate.run import Run, Served, Span
from llmux.simulate.trace import Row, Trace
from llmux.states import State
from llmux.switcher import Switcher

PATIENCE = 6 * 3600.0
"""Seconds in which nothing happens, though somebody waits, until a run is given up."""


class SimulationError(LLMuxError):
    """A trace that cannot be replayed to its end."""


@attrs.frozen
class Setup:
    """
    What a trace meets.

    :param config: the models, what they share, and how long anybody waits.
    :param costs: how long hooks take.
    :param engine: how fast the engines are.
    :param engines: how fast those of certain models are, by name.
    """

    config: Config
    costs: HookCosts
    engine: EngineFigures = attrs.Factory(EngineFigures)
    engines: Mapping[str, EngineFigures] = attrs.Factory(dict)


def config_of(trace: Iterable[Row]) -> Config:
    """Make a configuration of the models that a trace names: one is awake at a time."""
    names = sorted({row.model for row in trace})
    backend = Backend("127.0.0.1", 1)
    models = [
        ModelConfig(name=name, backend=backend, wake="-", sleep="-", max_waiting=sys.maxsize)
        for name in names
    ]
    return Config(models={model.name: model for model in models})


def simulate(setup: Setup, trace: Trace, policy: str, seed: int = 0) -> Run:
    """
    Replay a trace.

    :param setup: what it meets.
    :param trace: the requests.
    :param policy: the name of the policy that decides; see
        :func:`llmux.simulate.policies.check_names`.
    :param seed: of the chance in what hooks take; the same seed gives the same run.
    :raises UnknownPolicy: if there is no such policy.
    :raises NotForeseeable: if it is the clairvoyant one, and nobody can know what is to come.
    :raises SimulationError: if the configuration does not know a model of the trace, if there are
        requests that would wait for ever, or if the policy fails, which in production is forgiven.
    """
    if policy in (fifo240.NAME, clairvoyant.NAME):
        setup = attrs.evolve(setup, config=_with_one_slot(setup.config))
    return _Replay(setup, trace, policy, seed).run()


class _Replay:
    """One run, while it runs."""

    def __init__(self, setup: Setup, trace: Trace, policy: str, seed: int) -> None:
        config = setup.config
        self._policy = policy
        self._clock = clock = VirtualClock()
        self._resolved = _resolve(trace, config)
        self._engines = {
            name: Engine(clock, setup.engines.get(name, setup.engine)) for name in config.models
        }
        stops = frozenset(name for name, model in config.models.items() if model.stop is not None)
        self._switcher = Switcher(
            models=config.models,
            hooks=SimulatedHooks(clock, setup.costs, seed, stops=stops),
            policy=self._make_policy(setup, trace),
            clock=clock,
            budget=Budget.of(config.resources),
            metrics=Metrics((*config.models, *config.first_awake)),
            events=_Unheard(),
            costs=SwitchCosts(),
            shared=config.first_awake,
            idle_model=config.idle_model,
        )
        self._spans = _Spans(clock, self._switcher)
        self._following: dict[str, deque[Row]] = defaultdict(deque)  # by session, who comes later
        self._coming = 0  # how many are to come at a time that is known
        self._left = len(trace)
        self._moved_at = 0.0  # when anything happened last that brings it nearer to its end
        self._served: list[Served] = []
        self._failed = 0
        self._bug: Failure | None = None
        for row in trace:
            if row.arrived_at is None:
                self._following[row.session].append(row)
            else:
                self._comes(row, row.arrived_at)

    def _make_policy(self, setup: Setup, trace: Trace) -> ISwitchPolicy:
        if self._policy != clairvoyant.NAME:
            return make_policy(self._policy, setup.config.policy)
        known = [attrs.evolve(row, model=self._resolved[row.model]) for row in trace]
        return clairvoyant.ClairvoyantPolicy(
            tuple(known),
            setup.config.models,
            lambda model: setup.engines.get(model, setup.engine),
            setup.costs.between,
        )

    def run(self) -> Run:
        """Let the time pass until the last request has ended."""
        self._switcher.start(Memory()).addErrback(self._found)
        while self._left:
            if self._bug is not None:
                self._bug.raiseException()
            if not self._clock.run_next() or self._is_stuck():
                raise SimulationError(self._complaint())
        if self._switcher.policy.failures:
            raise SimulationError(f"{self._policy}: the policy has failed; the log says how")
        ended = self._clock.now
        return Run(self._policy, tuple(self._served), self._spans.all(), ended, self._failed)

    def engine(self, model: str) -> Engine:
        """Give a model's engine."""
        self._moved_at = self._clock.now
        return self._engines[model]

    def ended(self, row: Row, served: Served | None) -> None:
        """
        Take in that a request has ended.

        :param served: how it went; ``None`` if with an error.
        """
        self._left -= 1
        self._moved_at = self._clock.now
        if served is None:
            self._failed += 1
        else:
            self._served.append(served)
        following = self._following.get(row.session)
        if following:
            row = following.popleft()
            self._comes(row, row.think_secs)

    def _comes(self, row: Row, delay: float) -> None:
        self._coming += 1
        self._clock.callLater(delay, self._arrive, row)

    def _arrive(self, row: Row) -> None:
        self._coming -= 1
        self._moved_at = self._clock.now
        request = _Request(self, self._clock, row)
        ending = self._acquire(row).addCallbacks(request.leased, request.refused)
        ending.addErrback(self._found)

    def _acquire(self, row: Row) -> Deferred[Lease]:
        """Ask for a lease: the only place where the switcher is told of a request."""
        return self._switcher.acquire(self._resolved[row.model], row.urgency)

    def _found(self, bug: Failure) -> None:
        self._bug = bug

    def _is_stuck(self) -> bool:
        """Tell whether nothing happens any more but that somebody looks whether anything does."""
        quiet_since = max(self._moved_at, self._spans.changed_at)
        if self._clock.now <= quiet_since + PATIENCE or self._coming:
            return False
        return not any(engine.running for engine in self._engines.values())

    def _complaint(self) -> str:
        waiting = {
            name: self._switcher.waiting(name) for name in sorted({*self._resolved.values()})
        }
        whom = ", ".join(f"{count} for {name}" for name, count in waiting.items() if count)
        return (
            f"{self._policy}: {self._left} requests are left at {self._clock.now:.0f} s, and"
            f" nothing happens any more; there wait: {whom or 'none'}"
        )


class _Request:
    """A request, from its arrival to the end of its answer."""

    def __init__(self, replay: _Replay, clock: VirtualClock, row: Row) -> None:
        self._replay = replay
        self._clock = clock
        self._row = row
        self._arrived = self._leased = self._first = clock.now

    def leased(self, lease: Lease) -> None:
        """Have the engine serve it."""
        self._leased = self._clock.now
        engine, row = self._replay.engine(lease.model), self._row
        work = engine.serve(
            row.prompt_tokens, row.output_tokens, self._has_begun, lambda: self._is_done(lease)
        )
        lease.on_revoked(lambda why: self._is_cut(lease, engine, work))

    def refused(self, failure: Failure) -> None:
        """Take in that there is no lease for it."""
        failure.trap(SwitchError)
        self._replay.ended(self._row, None)

    def _has_begun(self) -> None:
        self._first = self._clock.now

    def _is_done(self, lease: Lease) -> None:
        served = Served(
            lease.model, lease.urgency.kind,
            self._arrived, self._leased, self._first, self._clock.now,
        )  # fmt: skip
        lease.release(Outcome.COMPLETE)
        self._replay.ended(self._row, served)

    def _is_cut(self, lease: Lease, engine: Engine, work: Work) -> None:
        engine.abort(work)
        lease.release(Outcome.ABORTED)
        self._replay.ended(self._row, None)


class _Spans:
    """
    Watches in which state the models are.

    :ivar changed_at: when any of them last entered one, in the clock's seconds.
    """

    def __init__(self, clock: VirtualClock, switcher: Switcher) -> None:
        self._clock = clock
        self._spans: list[Span] = []
        self._now = {name: (model.state, clock.now) for name, model in switcher.models.items()}
        self.changed_at = clock.now
        for model in switcher.models.values():
            model.entered = self._entered

    def all(self) -> tuple[Span, ...]:
        """Give all of them, those that have not ended until now."""
        for name, (state, _) in self._now.items():
            self._entered(name, state)
        return tuple(self._spans)

    def _entered(self, name: str, state: State) -> None:
        now = self.changed_at = self._clock.now
        before, began = self._now[name]
        if began < now:
            self._spans.append(Span(name, before, began, now))
        self._now[name] = (state, now)


class _Unheard(Events):
    """Events that nobody logs: they would be dated today, and there are very many."""

    class log:  # noqa: N801
        @staticmethod
        def info(*words: object, **fields: object) -> None: ...

        warn = error = debug = info


def _with_one_slot(config: Config) -> Config:
    """Have one model awake at a time, whatever a configuration says of resources."""
    models = {
        name: attrs.evolve(model, needs=(ONE_SLOT,), asleep_needs={}, pinned=False)
        for name, model in config.models.items()
    }
    return attrs.evolve(config, models=models, resources={})


def _resolve(trace: Trace, config: Config) -> Mapping[str, str]:
    """
    Say what the names in a trace stand for.

    :raises SimulationError: if one stands for nothing.
    """
    names = Names(config)
    try:
        return {name: names.resolve(name) for name in sorted({row.model for row in trace})}
    except UnknownModel as error:
        raise SimulationError(
            f"the trace asks for what the configuration has not: {error}"
        ) from error
