"""Stand-ins that obey the same contracts as the real parts, without processes and without time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from llmux.config import Backend, ModelConfig
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner, Leftover
from llmux.lease import Lease
from llmux.lifecycle import Model
from llmux.operator import IOperator, OrderRefused
from llmux.policy import ISwitchPolicy, PolicyContext, PolicyDecision
from llmux.test.statuses import a_status
from llmux.waiting import WaitingRoom


def model_config(name: str, **settings: object) -> ModelConfig:
    """Make the configuration of a model whose hooks nobody will really run."""
    defaults: dict[str, object] = {
        "backend": Backend("127.0.0.1", 1),
        "wake": f"wake {name}",
        "sleep": f"sleep {name}",
    }
    return ModelConfig(name=name, **{**defaults, **settings})  # type: ignore[arg-type]  # the test's own


def make_model(clock: IReactorTime, name: str = "a", **settings: object) -> Model:
    """Make a model that is asleep, and that no switcher knows of."""
    room = WaitingRoom(clock, None, lambda waiter, timed_out: None, lambda: 1)
    return Model(config=model_config(name, **settings), waiting=room)


def lease_out(model: Model, count: int) -> None:
    """Let a model have so many leases, whatever it had before."""
    leases = (Lease(model.name, 0, 0.0, 0.0, lambda lease, outcome: None) for _ in range(count))
    model.held = dict.fromkeys(leases)


@attrs.define(eq=False)
class RunningHook:
    """
    A hook that runs for as long as the test lets it.

    :ivar call: what was asked.
    :ivar ended: becomes its result.
    :ivar stopped: whether it was to be ended by :meth:`FakeHookRunner.stop`.
    :ivar planned: its end, if that is set already.
    """

    call: HookCall
    ended: Deferred[HookResult]
    _began: float
    _clock: IReactorTime
    stopped: bool = False
    planned: IDelayedCall | None = None

    def exit(self, code: int = 0, output: str = "") -> None:
        """End it with an exit status."""
        self._end(exit_code=code, output=output)

    def time_out(self) -> None:
        """End it as its deadline would."""
        self._end(signal=15, timed_out=not self.stopped)

    def _end(self, **how: Any) -> None:
        if self.planned is not None and self.planned.active():
            self.planned.cancel()
        seconds = self._clock.seconds() - self._began
        self.ended.callback(HookResult(seconds=seconds, stopped=self.stopped, **how))


@implementer(IHookRunner)
class FakeHookRunner:
    """
    Runs no scripts: a hook ends when the test says so, or after a set time with a set status.

    :param clock: times the hooks.
    :param alive: the models that have an ``alive`` hook.
    :ivar calls: every call, in order.
    :ivar running: the hooks that have not ended.
    :ivar script: decides over (exit status, seconds) of a call; ``None`` leaves it to the test.
    :ivar deadlines: by model, seconds after which a hook that has not ended is ended.
    :ivar output: what hooks of the script's print.
    :ivar freed: the models that have a ``freed`` hook.
    :ivar kill: the models that have a ``kill`` hook.
    :ivar stops: the models that have a ``stop`` hook.
    :ivar prepares: the models that have a ``prepare`` hook.
    :ivar stubborn: the models whose hooks do not end when they are stopped, but when the test ends
        them.
    :ivar expected: the calls that are expected, in order.
    :ivar finishing: what another llmux has left running, in order, for the test to end.
    """

    def __init__(self, clock: IReactorTime, alive: frozenset[str] = frozenset()) -> None:
        self._clock = clock
        self._alive = alive
        self.calls: list[HookCall] = []
        self.running: list[RunningHook] = []
        self.script: Callable[[HookCall], tuple[int, float] | None] = lambda call: None
        self.deadlines: dict[str, float] = {}
        self.output = ""
        self.freed: set[str] = set()
        self.kill: set[str] = set()
        self.stops: set[str] = set()
        self.prepares: set[str] = set()
        self.stubborn: set[str] = set()
        self.expected: list[HookCall] = []
        self.finishing: list[tuple[Leftover, Deferred[None]]] = []

    def has(self, model: str, hook: Hook) -> bool:
        """See :meth:`IHookRunner.has`."""
        optional = {
            Hook.ALIVE: self._alive,
            Hook.FREED: self.freed,
            Hook.KILL: self.kill,
            Hook.STOP: self.stops,
            Hook.PREPARE: self.prepares,
        }
        return hook not in optional or model in optional[hook]

    def expect(self, call: HookCall) -> None:
        """See :meth:`IHookRunner.expect`."""
        self._take(call)
        self.expected.append(call)

    def forgo(self, model: str) -> None:
        """See :meth:`IHookRunner.forgo`."""
        self.expected = [call for call in self.expected if call.model != model]

    def run(self, call: HookCall) -> Deferred[HookResult]:
        """See :meth:`IHookRunner.run`."""
        self._take(call)
        self.calls.append(call)
        if not self.has(call.model, call.hook):
            return succeed(HookResult(seconds=0.0, error="there is no such hook"))
        hook = RunningHook(call, Deferred(), self._clock.seconds(), self._clock)
        self.running.append(hook)

        def forget(result: HookResult) -> HookResult:
            self.running.remove(hook)
            return result

        hook.ended.addCallback(forget)
        deadline = self.deadlines.get(call.model, math.inf)
        if call.limit is not None:
            deadline = max(0.0, min(deadline, call.limit))
        planned = self.script(call)
        if planned is not None and planned[1] <= deadline:
            code, seconds = planned
            hook.planned = self._clock.callLater(seconds, hook.exit, code, self.output)
        elif deadline < math.inf:
            hook.planned = self._clock.callLater(deadline, hook.time_out)
        return hook.ended

    def stop(self, model: str) -> None:
        """See :meth:`IHookRunner.stop`."""
        for hook in [each for each in self.running if each.call.model == model]:
            hook.stopped = True
            if model not in self.stubborn:
                hook.time_out()

    def finish(self, leftover: Leftover) -> Deferred[None]:
        """See :meth:`IHookRunner.finish`."""
        finished: Deferred[None] = Deferred()
        self.finishing.append((leftover, finished))
        return finished

    def _take(self, call: HookCall) -> None:
        key = call.model, call.hook
        self.expected = [each for each in self.expected if (each.model, each.hook) != key]

    def names(self) -> list[str]:
        """Give all calls so far as ``hook model``."""
        return [f"{call.hook.value} {call.model}" for call in self.calls]


@implementer(ISwitchPolicy)
class ScriptedPolicy:
    """
    Decides what the test tells it to.

    :param decide: what it decides.
    :ivar observed: what it was shown, in order, as ``event model``.
    :ivar contexts: every context it was asked with.
    """

    def __init__(self, decide: Callable[[PolicyContext], PolicyDecision]) -> None:
        self._decide = decide
        self.observed: list[str] = []
        self.contexts: list[PolicyContext] = []

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """See :meth:`ISwitchPolicy.decide`."""
        self.contexts.append(context)
        return self._decide(context)

    def arrived(self, model: str, now: float) -> None:
        """See :meth:`ISwitchPolicy.arrived`."""
        self.observed.append(f"arrived {model}")

    def completed(self, model: str, now: float, seconds: float) -> None:
        """See :meth:`ISwitchPolicy.completed`."""
        self.observed.append(f"completed {model}")

    def left(self, model: str, now: float) -> None:
        """See :meth:`ISwitchPolicy.left`."""
        self.observed.append(f"left {model}")

    def switched(self, target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """See :meth:`ISwitchPolicy.switched`."""
        self.observed.append(f"switched {target} {success}")

    def as_json(self) -> dict[str, object]:
        """See :meth:`ISwitchPolicy.as_json`."""
        return {}

    def learn(self, learnt: Mapping[str, object]) -> None:
        """See :meth:`ISwitchPolicy.learn`."""


@implementer(IOperator)
class FakeOperator:
    """
    Does nothing: an order has been carried out when the test says so.

    :param outputs: what hooks have printed, by model and hook.
    :ivar document: the status that it tells.
    :ivar orders: every order, in order, as ``order model``.
    :ivar pending: what the test fires, for each order.
    :ivar held: by id, the reservations that there are.
    :ivar recorded_to: the file that requests are recorded to.
    """

    def __init__(self, outputs: Mapping[tuple[str, str], str] | None = None) -> None:
        self.document = a_status()
        self.orders: list[str] = []
        self.pending: list[Deferred[Any]] = []
        self.held: dict[str, dict[str, object]] = {}
        self.recorded_to: str | None = None
        self._outputs = outputs or {}

    def status(self) -> dict[str, object]:
        """See :meth:`IOperator.status`."""
        return self.document

    def timeline(self) -> dict[str, object]:
        """See :meth:`IOperator.timeline`."""
        return {"kept_secs": 21600.0, "lanes": []}

    def wake(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.wake`."""
        return self._order(f"wake {model}")

    def sleep(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.sleep`."""
        return self._order(f"sleep {model}")

    def kill(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.kill`."""
        return self._order(f"kill {model}")

    def reload(self) -> Deferred[dict[str, object]]:
        """See :meth:`IOperator.reload`."""
        return self._order("reload")

    def pin(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.pin`."""
        return self._order(f"pin {model}")

    def unpin(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.unpin`."""
        return self._order(f"unpin {model}")

    def reservations(self) -> list[dict[str, object]]:
        """See :meth:`IOperator.reservations`."""
        return list(self.held.values())

    def reservation(self, id: str) -> dict[str, object]:
        """See :meth:`IOperator.reservation`."""
        if id not in self.held:
            raise OrderRefused(404, "There is no such reservation")
        return self.held[id]

    def reserve(
        self, needs: Mapping[str, float] | None, ttl: float, note: str
    ) -> Deferred[dict[str, object]]:
        """See :meth:`IOperator.reserve`."""
        amounts = "everything"
        if needs is not None:
            amounts = " ".join(f"{name}={amount:g}" for name, amount in needs.items())
        return self._order(f"reserve {amounts} for {ttl:g} s, {note}")

    def renew(self, id: str, ttl: float | None) -> dict[str, object]:
        """See :meth:`IOperator.renew`."""
        self.orders.append(f"renew {id} {ttl}")
        return self.reservation(id)

    def release(self, id: str) -> dict[str, object]:
        """See :meth:`IOperator.release`."""
        self.orders.append(f"release {id}")
        told = self.reservation(id)
        del self.held[id]
        return told

    def recording(self) -> dict[str, object]:
        """See :meth:`IOperator.recording`."""
        return {"path": self.recorded_to, "since": None, "rows": 0, "lost": 0}

    def record(self, path: str) -> dict[str, object]:
        """See :meth:`IOperator.record`; a name with a slash is refused."""
        self.orders.append(f"record {path}")
        if "/" in path:
            raise OrderRefused(400, "This is no name")
        self.recorded_to = path
        return self.recording()

    def stop_recording(self) -> dict[str, object]:
        """See :meth:`IOperator.stop_recording`."""
        self.orders.append("stop_recording")
        self.recorded_to = None
        return self.recording()

    def output(self, model: str, hook: str) -> str:
        """See :meth:`IOperator.output`."""
        if (model, hook) not in self._outputs:
            raise OrderRefused(404, f"Model not found: {model}")
        return self._outputs[model, hook]

    def _order(self, order: str) -> Deferred[Any]:
        self.orders.append(order)
        done: Deferred[Any] = Deferred()
        self.pending.append(done)
        return done
