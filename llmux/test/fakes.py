"""Stand-ins that obey the same contracts as the real parts, without processes and without time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from llmux.config import Backend, ModelConfig
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner
from llmux.lifecycle import Model
from llmux.policy import ISwitchPolicy, PolicyContext, PolicyDecision
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


@attrs.define(eq=False)
class RunningHook:
    """
    A hook that runs for as long as the test lets it.

    :ivar call: what was asked.
    :ivar ended: becomes its result.
    """

    call: HookCall
    ended: Deferred[HookResult]
    _began: float
    _clock: IReactorTime

    def exit(self, code: int = 0, output: str = "") -> None:
        """End it with an exit status."""
        seconds = self._clock.seconds() - self._began
        self.ended.callback(HookResult(seconds=seconds, exit_code=code, output=output))

    def time_out(self) -> None:
        """End it as its deadline would."""
        seconds = self._clock.seconds() - self._began
        self.ended.callback(HookResult(seconds=seconds, signal=15, timed_out=True))


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
    """

    def __init__(self, clock: IReactorTime, alive: frozenset[str] = frozenset()) -> None:
        self._clock = clock
        self._alive = alive
        self.calls: list[HookCall] = []
        self.running: list[RunningHook] = []
        self.script: Callable[[HookCall], tuple[int, float] | None] = lambda call: None
        self.deadlines: dict[str, float] = {}
        self.output = ""

    def has(self, model: str, hook: Hook) -> bool:
        """See :meth:`IHookRunner.has`."""
        optional = {Hook.ALIVE: self._alive}
        return hook in (Hook.WAKE, Hook.SLEEP) or model in optional.get(hook, ())

    def run(self, call: HookCall) -> Deferred[HookResult]:
        """See :meth:`IHookRunner.run`."""
        self.calls.append(call)
        if not self.has(call.model, call.hook):
            return succeed(HookResult(seconds=0.0, error="there is no such hook"))
        hook = RunningHook(call, Deferred(), self._clock.seconds(), self._clock)
        self.running.append(hook)

        def forget(result: HookResult) -> HookResult:
            self.running.remove(hook)
            return result

        hook.ended.addCallback(forget)
        planned = self.script(call)
        if call.model in self.deadlines:
            self._clock.callLater(self.deadlines[call.model], hook.time_out)
        elif planned is not None:
            code, seconds = planned
            self._clock.callLater(seconds, hook.exit, code, self.output)
        return hook.ended

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
