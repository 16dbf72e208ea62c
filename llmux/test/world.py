"""
A world for a switcher: clients, engines and scripts that do what they like, and the truth.

Its methods are the events that can happen; :meth:`World.check` holds the core's rules, as the
architecture page of the documentation has them, against what the switcher made of them.  The world
knows by itself which engines really hold memory and who really holds a lease, so that a switcher
that fools itself does not fool the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

import attrs
from twisted.internet.defer import Deferred

from llmux.budget import Budget
from llmux.clock import VirtualClock
from llmux.config import Backend, ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import TooManyWaiting
from llmux.estimate import LONGEST
from llmux.hooks.contract import Hook, HookCall, HookResult, Leftover, ProcessId, Reason
from llmux.journal import Memory, ModelRecord
from llmux.lease import Lease, Outcome, Revocation
from llmux.metrics import Metrics
from llmux.orders import Kind
from llmux.policy import FifoPolicy
from llmux.states import State
from llmux.switcher import Switcher
from llmux.switching import LETTING_GO
from llmux.test.fakes import FakeHookRunner, RunningHook, model_config
from llmux.test.switching import RecordedEvents

TIMEOUT = 30.0
"""Seconds that a request for c may wait."""

COOL = 20.0
"""Seconds that a stays awake at least."""

DRAIN = 40.0
"""Seconds after which requests that hold up a switch are cut, at a and at d."""

DEFAULTS: dict[str, dict[str, object]] = {
    "a": {"min_active_secs": COOL, "alive": "alive a", "drain_timeout_secs": DRAIN},
    "b": {"drain_before_switch": False, "kill": "kill b"},
    "c": {"request_timeout_secs": TIMEOUT, "alive": "alive c", "settle_secs": 0.0},
    "d": {"freed": "freed d", "drain_timeout_secs": DRAIN, "alive_interval_secs": None},
}
"""Models that differ in all that makes a difference; a configuration has some of them."""

_JOURNALED = (Hook.WAKE, Hook.SLEEP, Hook.KILL)


@attrs.define(eq=False)
class Asker:
    """
    A request.

    :ivar model: the name that it has.
    :ivar asked_at: when it came.
    :ivar waiting: what the switcher gave it.
    :ivar lease: its lease, while it is held.
    :ivar endings: how often its waiting has ended.
    :ivar error: what it ended with, if it was refused.
    :ivar revoked_at: since when its lease is wanted back.
    :ivar tries: how often it was given a lease.
    :ivar prompt: whether its lease is given back in the moment when it is wanted back.
    """

    model: str
    asked_at: float
    waiting: Deferred[Lease] = attrs.Factory(Deferred)
    lease: Lease | None = None
    endings: int = 0
    error: BaseException | None = None
    revoked_at: float | None = None
    tries: int = 0
    prompt: bool = False


class CountedMetrics(Metrics):
    """
    Metrics whose gauges can be read at no cost.

    :ivar depth: by model, how many requests wait.
    :ivar in_flight: by model, how many leases are held.
    """

    def __init__(self) -> None:
        super().__init__(DEFAULTS)
        self.depth: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()

    def request_queued(self, model: str) -> None:
        """See :meth:`Metrics.request_queued`."""
        super().request_queued(model)
        self.depth[model] += 1

    def request_dequeued(self, model: str) -> None:
        """See :meth:`Metrics.request_dequeued`."""
        super().request_dequeued(model)
        self.depth[model] -= 1

    def lease_granted(self, model: str, waited: float | None) -> None:
        """See :meth:`Metrics.lease_granted`."""
        super().lease_granted(model, waited)
        self.in_flight[model] += 1

    def lease_released(self, model: str) -> None:
        """See :meth:`Metrics.lease_released`."""
        super().lease_released(model)
        self.in_flight[model] -= 1


class WorldHooks(FakeHookRunner):
    """
    Scripts of this world.

    :param world: which is told when they start, and what they bring about.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.world = world
        self.stubborn = set(DEFAULTS)  # what is stopped ends when it does, as in reality

    def has(self, model: str, hook: Hook) -> bool:
        """See :meth:`IHookRunner.has`."""
        config = self.world.configs.get(model)
        return config is not None and getattr(config, hook.value) is not None

    def run(self, call: HookCall) -> Deferred[HookResult]:
        """See :meth:`IHookRunner.run`."""
        if self is not self.world.hooks:
            return Deferred()  # of a llmux that was killed, and is torn apart by the collector
        self.world.hook_starts(call)
        return super().run(call).addCallback(self._ended, call)

    def _ended(self, result: HookResult, call: HookCall) -> HookResult:
        self.world.hook_ended(call, result)
        return result


class World:
    """
    Everything outside of the switcher.

    :param slots: how many models may be awake at once.
    :param names: the models that the first configuration has, of :data:`DEFAULTS`.
    :param limits: by model, how many requests may be served and how many may wait.
    :ivar breaches: the rules that did not hold.
    :ivar memory: the models that really take up memory, or may.
    :ivar serving: those of them that can serve, and whose ``alive`` says so.
    """

    def __init__(
        self, slots: int, names: str, limits: Mapping[str, tuple[int | None, int]]
    ) -> None:
        self.slots = slots
        self.limits = limits
        self.clock = VirtualClock()
        self.clock.advance(1000)
        self.breaches: list[str] = []
        self.memory: set[str] = set()
        self.serving: set[str] = set()
        self.askers: list[Asker] = []
        self.configs: dict[str, ModelConfig] = {}
        self.told: dict[str, ModelConfig] = {name: self.config(name) for name in names}
        self.configs.update(self.told)
        self.woken_at: dict[str, float] = {}
        self.settled_at: dict[str, float] = {}
        self.failed_wake_at: dict[str, float] = {}
        self.ordered: list[tuple[Kind, str]] = []
        self.closing = False
        self._arrivals = 0
        self._left: list[RunningHook] = []
        self.begin(Memory())

    def config(self, name: str, port: int = 1, **settings: object) -> ModelConfig:
        """Make the configuration of a model."""
        places, seats = self.limits.get(name, (None, 1000))
        return model_config(
            name,
            max_concurrency=places,
            max_waiting=seats,
            **{"backend": Backend("127.0.0.1", port), **DEFAULTS[name], **settings},
        )

    def begin(self, memory: Memory) -> None:
        """Start a switcher that knows what the one before has left."""
        self.hooks = WorldHooks(self)
        self.events = RecordedEvents()
        self.metrics = CountedMetrics()
        self.records: dict[str, ModelRecord] = dict(memory.models)
        self.ordered = []
        self.switcher = Switcher(
            models=self.told,
            hooks=self.hooks,
            policy=FifoPolicy(),
            clock=self.clock,
            budget=Budget(self.slots),
            metrics=self.metrics,
            events=self.events,
            costs=SwitchCosts(),
            configured=partial(self._configured, self.hooks),
            forgotten=partial(self._forgotten, self.hooks),
            remember=partial(self._note, self.hooks),
        )
        self.configs = {**self.configs, **self.told}
        started = self.switcher.start(memory)
        started.addErrback(self._failed, self.switcher)

    # What can happen.

    def arrive(self, name: str) -> Asker:
        """Let a request come."""
        self._arrivals += 1
        asker = Asker(name, self.clock.seconds(), prompt=self._arrivals % 3 == 0)
        waiting = self.depth(name)
        self._wait(asker, self.switcher.acquire(name))
        if isinstance(asker.error, TooManyWaiting) and waiting < self.limits[name][1]:
            self.breaches.append(f"{name}: too many, with {waiting} waiting")
        if not asker.error:
            self.askers.append(asker)
        return asker

    def leave(self, asker: Asker) -> None:
        """Let a client hang up that waits."""
        asker.waiting.cancel()
        if asker.endings != 1:
            self.breaches.append("rule 4: a client that left was not told so at once")

    def finish(self, asker: Asker, outcome: Outcome) -> None:
        """Let a request end at its backend."""
        lease, asker.lease = asker.lease, None
        self.askers.remove(asker)
        assert lease is not None
        if outcome is Outcome.ABORTED:
            settle = self.configs[asker.model].settle_secs
            settled = max(self.settled_at.get(asker.model, 0.0), self.clock.seconds() + settle)
            self.settled_at[asker.model] = settled
        lease.release(outcome)

    def refuse(self, asker: Asker) -> None:
        """Let a request find that nobody listens; it asks again, once."""
        if asker.tries > 1 or self.clock.seconds() - asker.asked_at >= TIMEOUT:
            self.finish(asker, Outcome.REFUSED)
            return
        lease, asker.lease, asker.endings = asker.lease, None, 0
        asker.revoked_at = None
        assert lease is not None
        self._wait(asker, self.switcher.acquire_again(lease))

    def end_hook(self, hook: RunningHook, outcome: int | None) -> None:
        """Let a hook end: with a status, or at its deadline (``None``); some tell the truth."""
        model = hook.call.model
        if outcome is None:
            hook.time_out()
        elif hook.call.hook is Hook.ALIVE:
            alive = model in self.serving
            if not alive and hook.call.reason is Reason.SLEEP_FAILED:
                self.memory.discard(model)  # alive decides; here it never lies
            hook.exit(0 if alive else 1)
        elif hook.call.hook is Hook.FREED:
            if outcome == 0 and model not in self.serving:
                self.memory.discard(model)
            hook.exit(1 if model in self.memory else 0)
        else:
            hook.exit(outcome)

    def crash(self, name: str) -> None:
        """Let an engine die; its memory is free."""
        self.memory.discard(name)
        self.serving.discard(name)
        self.woken_at.pop(name, None)

    def wedge(self, name: str) -> None:
        """Let an engine hang; it holds its memory and does not serve."""
        self.serving.discard(name)

    def order(self, kind: Kind, name: str) -> None:
        """Let an operator order something."""
        if name not in self.switcher.models:
            return
        self.ordered.append((kind, name))
        ordered = self.ordered
        self.switcher.order(kind, name).addBoth(lambda _: ordered.remove((kind, name)))

    def reload(self, names: str, port: int, **settings: object) -> None:
        """Let the configuration change."""
        self.told = {name: self.config(name, port, **settings) for name in names}
        reloaded = self.switcher.reconfigure(self.told)
        reloaded.addErrback(self._failed, self.switcher)

    def close(self, *, sleep_models: bool) -> None:
        """Let llmux end in order; it is started again by :meth:`restart`."""
        if not self.closing:
            self.closing = True
            closed = Deferred.fromCoroutine(self.switcher.close(5.0, sleep_models))
            closed.addErrback(self._failed, self.switcher)

    def restart(self) -> None:
        """Kill llmux and start it again; what its hooks do goes on, and its clients are cut."""
        self.askers.clear()
        self.closing = False
        self.switcher._conductor.stopped = True  # the collector may go through it once more
        self._left += [hook for hook in self.hooks.running if hook.call.hook in _JOURNALED]
        leftovers = [
            Leftover(hook.call.model, hook.call.hook, ProcessId(number, 0, ""), 60.0)
            for number, hook in enumerate(self._left)
        ]
        for call in self.clock.getDelayedCalls():
            call.cancel()  # the old one's timers have ended with it
        self.woken_at.clear()
        self.settled_at.clear()
        self.failed_wake_at.clear()
        self.begin(Memory(models=self.records, hooks=tuple(leftovers)))

    def end_leftover(self, outcome: int) -> None:
        """Let a hook end that another llmux has left running."""
        hook = self._left.pop(0)
        seconds = self.clock.seconds()
        self.hook_ended(hook.call, HookResult(seconds=seconds, exit_code=outcome))
        self.failed_wake_at.clear()  # nobody has seen how it ended
        self.woken_at.clear()
        for number, (leftover, ended) in enumerate(self.hooks.finishing):
            if (leftover.model, leftover.hook) == (hook.call.model, hook.call.hook):
                del self.hooks.finishing[number]
                ended.callback(None)
                return

    def pass_time(self, seconds: float) -> None:
        """Let nothing else happen for a while."""
        self.clock.advance(seconds)

    # What there is.

    @property
    def waiting(self) -> list[Asker]:
        """Those who wait."""
        return [asker for asker in self.askers if not asker.endings]

    @property
    def served(self) -> list[Asker]:
        """Those who hold a lease."""
        return [asker for asker in self.askers if asker.lease is not None]

    @property
    def left(self) -> list[RunningHook]:
        """Hooks of another llmux that still run."""
        return self._left

    def depth(self, name: str) -> int:
        """Say how many wait for a model, as the metrics have it."""
        return self.metrics.depth[name]

    # What the switcher makes of it.

    def hook_starts(self, call: HookCall) -> None:
        """Hold the rules about hooks against one that starts."""
        now, name = self.clock.seconds(), call.model
        breach = self.breaches.append
        if name not in self.configs:
            breach(f"{call}, of a model that there is no longer")
            return
        running = [hook.call for hook in (*self.hooks.running, *self._left)]
        if any(other.model == name for other in running):
            breach(f"two hooks of {name} at once: {call} beside {running}")
        if call.hook in (Hook.SLEEP, Hook.KILL):
            self._check_leases(call, now)
            self.woken_at.pop(name, None)  # whatever comes of it, its cool-down is over
        if call.hook is Hook.WAKE:
            if len(self.memory - {name}) >= self.slots:
                breach(f"rule 3: {name} is woken beside {self.memory}")
            if self.hooks.finishing or self.switcher.phase == "starting":
                breach(f"{name} is woken before anybody knows what is awake")
            failed_at = self.failed_wake_at.get(name)
            hasty = failed_at is not None and now < failed_at + 2.0
            if hasty and call.reason is not Reason.OPERATOR:
                breach(f"{name} is woken again at once after a wake that failed")
            self.memory.add(name)  # from now on, however it ends
        if not self._is_wanted(call):
            breach(f"rule 5: nobody wants {call}")

    def hook_ended(self, call: HookCall, result: HookResult) -> None:
        """Let a hook have had its effect."""
        name, now = call.model, self.clock.seconds()
        if call.hook is Hook.WAKE:
            if result.success and name in self.memory:
                self.serving.add(name)
                self.woken_at[name] = now
                self.failed_wake_at.pop(name, None)
            elif not result.success:
                self.failed_wake_at[name] = now
        elif call.hook in (Hook.SLEEP, Hook.KILL) and (
            result.success or name not in self.serving  # what hangs does not survive a try
        ):
            self.serving.discard(name)
            if not self.hooks.has(name, Hook.FREED):  # else it takes a while
                self.memory.discard(name)

    def _check_leases(self, call: HookCall, now: float) -> None:
        name, config = call.model, self.configs[call.model]
        held = [asker for asker in self.served if asker.model == name]
        if call.reason in (Reason.SLEEP_FAILED, Reason.WAKE_FAILED):
            return  # it has begun to go already, or was never awake
        if config.drain_before_switch:
            late = [
                asker.revoked_at is not None and now >= asker.revoked_at + LETTING_GO
                for asker in held
            ]
            if not all(late):
                self.breaches.append(f"rule 2: {call} with {len(held)} requests in flight")
            if not held and now < self.settled_at.get(name, 0.0):
                self.breaches.append(f"rule 2: {call} while it may still be aborting")
        if call.reason is Reason.REQUEST and now < self.woken_at.get(name, 0.0) + (
            config.min_active_secs
        ):
            self.breaches.append(f"{name} is put to sleep before its cool-down is over")

    def _is_wanted(self, call: HookCall) -> bool:
        """Tell whether a hook has a demand that there really is."""
        name, reason, switch = call.model, call.reason, self.switcher.switch
        if call.hook in (Hook.ALIVE, Hook.FREED):
            return True
        if reason is Reason.REQUEST:
            began = call.hook is Hook.SLEEP or call.source == "idle"
            return not began or self.depth(call.target) > 0
        if reason is Reason.OPERATOR:
            return any(wanted == name for _, wanted in self.ordered) or call.target != "idle"
        if reason is Reason.CONFIG:
            config = self.told.get(name)
            return config is None or config.backend != self.configs[name].backend
        if reason is Reason.BACKEND_DOWN:
            return any(event["model"] == name for event in self.events.named("model_down"))
        if reason in (Reason.SLEEP_FAILED, Reason.WAKE_FAILED):
            return switch is not None or self.closing
        if reason is Reason.START:
            return sum(state.holds for state in self.switcher.states().values()) > self.slots
        return reason is Reason.SHUTDOWN and self.closing

    def _wait(self, asker: Asker, waiting: Deferred[Lease]) -> None:
        asker.waiting = waiting
        waiting.addCallbacks(self._granted, self._refused, (asker,), {}, (asker,))

    def _granted(self, lease: Lease, asker: Asker) -> None:
        asker.endings += 1
        asker.tries += 1
        asker.lease = lease
        state = self.switcher.states()[asker.model]
        if state is not State.AWAKE:
            self.breaches.append(f"rule 1: a lease for {asker.model}, which is {state.value}")
        for earlier in self.askers:
            if earlier is asker:
                break
            if earlier.model == asker.model and not earlier.endings:
                self.breaches.append(f"rule 4: a later request for {asker.model} is served first")
        lease.on_revoked(lambda why: self._revoked(asker, why))

    def _refused(self, failure: object, asker: Asker) -> None:
        asker.endings += 1
        asker.error = failure.value  # type: ignore[attr-defined]  # a Failure
        if asker in self.askers:
            self.askers.remove(asker)

    def _revoked(self, asker: Asker, why: Revocation) -> None:
        asker.revoked_at = self.clock.seconds()
        if asker.prompt and asker in self.askers:
            self.finish(asker, Outcome.ABORTED)

    # What a llmux does that was killed, when the collector tears it apart, is not looked at.

    def _configured(self, hooks: WorldHooks, config: ModelConfig) -> None:
        if hooks is self.hooks:
            self.configs[config.name] = config

    def _forgotten(self, hooks: WorldHooks, name: str) -> None:
        if hooks is self.hooks:
            self.configs.pop(name, None)
            self.records.pop(name, None)
            self.failed_wake_at.pop(name, None)

    def _note(self, hooks: WorldHooks) -> None:
        if hooks is self.hooks:
            self.records.update(self.switcher.records())

    def _failed(self, failure: object, switcher: Switcher) -> None:
        if switcher is not self.switcher:
            return
        self.breaches.append(f"the switcher failed: {failure.getTraceback()}")  # type: ignore[attr-defined]  # a Failure

    def check(self) -> None:
        """
        Hold the rules against what is so now.

        :raises AssertionError: if one does not hold.
        """
        assert not self.breaches, self.breaches
        assert not self.events.named("policy_unsettled"), "fifo changes its mind"
        switcher, now = self.switcher, self.clock.seconds()
        states = switcher.states()
        found = {event["model"] for event in self.events.named("model_found")}
        holding = [name for name, state in states.items() if state.holds]
        if switcher.phase == "serving":
            too_many = [name for name in holding if name not in found]
            assert len(too_many) <= self.slots, f"rule 3: {states}"
            unseen = self.memory - set(holding) - {hook.call.model for hook in self._left}
            assert not unseen - (set(DEFAULTS) - set(states)), f"rule 3: {unseen} lost: {states}"
        for asker in self.askers:
            assert asker.endings <= 1, "rule 4: told two things"
            if asker.model == "c" and not asker.endings:
                assert now - asker.asked_at <= TIMEOUT + 1e-6, "rule 7"
        for name, model in switcher.models.items():
            waiting = [asker for asker in self.waiting if asker.model == name]
            leased = [asker for asker in self.served if asker.model == name]
            assert self.depth(name) == len(waiting), f"{name}: {self.depth(name)}, {waiting}"
            assert switcher.in_flight(name) == len(leased) == self.metrics.in_flight[name], name
            deadline = model.config.drain_timeout_secs
            if model.state is State.DRAINING and deadline is not None:
                late = now > model.since + deadline + 0.1
                assert not late or all(asker.revoked_at for asker in leased), (
                    f"rule 6: {name} drains"
                )
            most = model.config.max_concurrency
            assert most is None or len(leased) <= most or not model.config.drain_before_switch, name
            if model.admitting and model.free_places:
                assert not waiting, f"somebody waits for {name}, which has a free place"
            assert 1 <= switcher.estimate(name) <= LONGEST
            before = [switcher.waiting_before(asker.waiting) for asker in waiting]
            assert before == list(range(len(before))), f"rule 4: {name} has lost count: {before}"
        if self.waiting:
            under_way = self.hooks.running or self.served or self.hooks.finishing
            assert under_way or self.clock.next_due() is not None, "rule 6: nothing is under way"
