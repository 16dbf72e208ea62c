"""
A policy that knows what is to come: when every request comes, and how long its answer is.

Nobody can have it; it tells how much is to be gained by knowing more.  It is no proven bound.  At
every decision it tries out what would become of each thing that it could do now, with a simpler
rule from then on (to leave a model when it is idle, or after three switches' costs), and does what
costs the least waiting.  That is a rollout, as in Bertsekas' *Dynamic Programming and Optimal
Control*: never worse than the simpler rule, as far as what is tried out is true.

What it tries out is simpler than the simulation itself: an answer takes as long as the number of
those that run when it begins makes it take, and hooks take what they cost, without chance.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping

import attrs
from zope.interface import implementer

from llmux.errors import LLMuxError
from llmux.policy.contract import ISwitchPolicy, Phase, PolicyContext, PolicyDecision
from llmux.simulate.engine import EngineFigures
from llmux.simulate.trace import Trace
from llmux.states import State

NAME = "clairvoyant"
"""What this policy is called."""

MOST = 5000
"""Requests of the longest trace that it takes: it is slow."""

_QUANTUM = 3.0  # switches' costs after which the simpler rule leaves a model
_AHEAD = 14.0  # switches' costs of arrivals that are looked at
_DELAYS = (0.25, 0.5, 1.0, 2.0)  # switches' costs for which it may be better to stay first


class NotForeseeable(LLMuxError):
    """A trace of which nobody can know before when its requests come."""


@attrs.frozen
class _Request:
    """
    One request.

    :param arrived: when it comes, in seconds.
    :param seconds: how long its answer takes, alone.
    """

    arrived: float
    seconds: float


@attrs.define
class _Scene:
    """
    How things stand at some time, as far as it matters for what may come.

    :ivar now: that time, in seconds.
    :ivar awake: the model that is awake.
    :ivar since: since when it is.
    :ivar ends: a heap of when its answers in flight will have ended.
    :ivar seen: by model, how many of its requests have come.
    :ivar waiting: by model, those of them that wait.
    """

    now: float
    awake: str
    since: float
    ends: list[float]
    seen: dict[str, int]
    waiting: dict[str, list[_Request]]

    def copy(self) -> _Scene:
        """Give another one in which things may happen."""
        waiting = {model: list(queue) for model, queue in self.waiting.items()}
        return attrs.evolve(self, ends=list(self.ends), seen=dict(self.seen), waiting=waiting)


@implementer(ISwitchPolicy)
class ClairvoyantPolicy:
    """
    Decides with what it knows of the future; one model is awake at a time.

    :param trace: what is to come.
    :param models: the names of all models.
    :param engine: gives a model's engine.
    :param cost: gives what a switch from one model to another takes, in seconds.
    :raises NotForeseeable: if clients wait for their own answers, or any of several models may
        answer, or there are too many requests.
    """

    def __init__(
        self,
        trace: Trace,
        models: Iterable[str],
        engine: Callable[[str], EngineFigures],
        cost: Callable[[str, str], float],
    ) -> None:
        if len(trace) > MOST:
            raise NotForeseeable(f"{NAME} takes at most {MOST} requests; there are {len(trace)}")
        self._engine, self._cost = engine, cost
        self._future: dict[str, list[_Request]] = {model: [] for model in models}
        for row in trace:
            if row.model not in self._future:
                raise NotForeseeable(
                    f"{NAME} knows who answers which request, and those for {row.model} may be"
                    " answered by any of several models"
                )
            if row.arrived_at is None:
                raise NotForeseeable(
                    f"{NAME} knows when requests come, and those of a session come when their"
                    " client has its answers"
                )
            figures = engine(row.model)
            seconds = figures.prompt_secs(row.prompt_tokens) + (
                row.output_tokens * figures.token_secs
            )
            self._future[row.model].append(_Request(row.arrived_at, seconds))
        for requests in self._future.values():
            requests.sort(key=lambda request: request.arrived)
        self._ends: dict[str, list[float]] = {model: [] for model in self._future}
        self._started: dict[str, int] = dict.fromkeys(self._future, 0)
        self._seen: dict[str, int] = dict.fromkeys(self._future, 0)
        self._open: str | None = None  # the model whose requests are served as they come

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """Try out what could be done, and do what costs least."""
        if context.phase is not Phase.SETTLED:
            return self._go(context.target)
        wanted = [
            name
            for name, model in context.models.items()
            if model.waiting and model.state is not State.AWAKE and model.evicts is not None
        ]
        awake = next(
            (name for name, each in context.models.items() if each.state is State.AWAKE), None
        )
        if not wanted:
            return PolicyDecision()
        if awake is None:
            return self._go(min(wanted, key=lambda name: _oldest(name, context)))
        scene = self._scene(awake, context)
        switch = max(self._cost(awake, name) for name in wanted)
        until = context.now + _AHEAD * switch
        going = {name: self._costs_of(scene, until, target=name) for name in wanted}
        delays = {delay: self._costs_of(scene, until, context.now + delay) for delay in
                  (switch * part for part in _DELAYS)}  # fmt: skip
        target = min(going, key=going.__getitem__)
        delay = min(delays, key=delays.__getitem__)
        if going[target] <= delays[delay]:
            return self._go(target)
        return PolicyDecision(ask_at=context.now + delay)

    def _go(self, target: str | None) -> PolicyDecision:
        self._open = None
        return PolicyDecision(target=target, forced=True)

    def _scene(self, awake: str, context: PolicyContext) -> _Scene:
        waiting = {
            name: self._future[name][self._started[name] : self._seen[name]]
            for name in self._future
            if name != awake
        }
        ends = [end for end in self._ends[awake] if end > context.now]
        heapq.heapify(ends)
        since = context.models[awake].awake_since
        return _Scene(context.now, awake, since, ends, dict(self._seen), {awake: [], **waiting})

    def _costs_of(
        self, scene: _Scene, until: float, stay: float = 0.0, target: str | None = None
    ) -> float:
        """
        Try out what becomes of a scene.

        :param until: requests that come up to then count.
        :param stay: until when the model that is awake is not left, or
        :param target: to whom it is left now.
        :returns: how long those wait together who count, in seconds.
        """
        scene, costs = scene.copy(), 0.0
        while True:
            if target is None:
                target = self._stays(scene, until, stay)
                if target is None:
                    return costs
            costs += self._goes(scene, target)
            target, stay = None, 0.0

    def _stays(self, scene: _Scene, until: float, stay: float) -> str | None:
        """
        Serve until the simpler rule leaves.

        :returns: for whom, or ``None`` when all have been served who count.
        """
        while True:
            first = min(
                ((queue[0].arrived, name) for name, queue in scene.waiting.items() if queue),
                default=None,
            )
            coming = self._next_arrival(scene)
            if first is None and coming > until:
                return None
            times = [coming, *scene.ends[:1]]
            if first is not None:
                quantum = _QUANTUM * self._cost(scene.awake, first[1])
                leave_at = max(stay, scene.since + quantum if scene.ends else scene.now)
                if leave_at <= scene.now:
                    return first[1]
                times.append(leave_at)
            scene.now = min(times)
            self._arrive(scene, scene.now, scene.awake)
            while scene.ends and scene.ends[0] <= scene.now:
                heapq.heappop(scene.ends)

    def _goes(self, scene: _Scene, target: str) -> float:
        """
        Drain, switch, and serve who has waited.

        :returns: how long these have waited together, in seconds.
        """
        drained = max(scene.ends, default=scene.now)
        scene.now = max(scene.now, drained) + self._cost(scene.awake, target)
        self._arrive(scene, scene.now, None)
        queue = scene.waiting[target]
        scene.awake, scene.since, scene.ends = target, scene.now, []
        scene.waiting[target] = []
        for request in queue:
            self._serve(scene, request)
        return sum(scene.now - request.arrived for request in queue)

    def _arrive(self, scene: _Scene, now: float, awake: str | None) -> None:
        """Let all come who come up to a time; those for the model that is awake are served."""
        for name, requests in self._future.items():
            seen = scene.seen[name]
            upto = bisect_right(requests, now, lo=seen, key=lambda request: request.arrived)
            for request in requests[seen:upto]:
                if name == awake:
                    self._serve(scene, request)
                else:
                    scene.waiting.setdefault(name, []).append(request)
            scene.seen[name] = upto

    def _serve(self, scene: _Scene, request: _Request) -> None:
        figures = self._engine(scene.awake)
        running = min(len(scene.ends) + 1, figures.most)
        heapq.heappush(scene.ends, scene.now + request.seconds / figures.speed(running))

    def _start(self, model: str, now: float) -> None:
        """Take note of those that are served from now on."""
        figures, ends = self._engine(model), self._ends[model]
        for request in self._future[model][self._started[model] : self._seen[model]]:
            running = min(len(ends) + 1, figures.most)
            heapq.heappush(ends, now + request.seconds / figures.speed(running))
        self._started[model] = self._seen[model]

    def _next_arrival(self, scene: _Scene) -> float:
        """Say when the next request comes for whatever model, in seconds."""
        coming = (
            requests[scene.seen[name]].arrived
            for name, requests in self._future.items()
            if scene.seen[name] < len(requests)
        )
        return min(coming, default=math.inf)

    def arrived(self, model: str, now: float) -> None:
        """Count it; one for the open model is served at once."""
        self._seen[model] += 1
        if model == self._open:
            self._start(model, now)

    def completed(self, model: str, now: float, seconds: float) -> None:
        """Take note that one of its answers has ended."""
        if self._ends[model]:
            heapq.heappop(self._ends[model])

    def left(self, model: str, now: float) -> None:
        """Observe nothing: whoever waits, stays."""

    def switched(self, target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """Take note that those are served who have waited."""
        self._open = target if success else None
        if success:
            self._ends[target] = []
            self._start(target, now)

    def as_json(self) -> dict[str, object]:
        """Give nothing."""
        return {}

    def learn(self, learnt: Mapping[str, object]) -> None:
        """Take nothing back."""


def _oldest(name: str, context: PolicyContext) -> float:
    return min(view.oldest for view in context.models[name].waiting.values())
