"""
A world for a switcher: clients, engines and scripts that do what they like, and the truth.

Its methods are the events that can happen; :meth:`World.check` holds the core's rules, as the
architecture page of the documentation has them, against what the switcher made of them.  The world
knows by itself which engines really hold memory and who really holds a lease, so that a switcher
that fools itself does not fool the test.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from llmux.amounts import Amounts, add, fits, minus, taken
from llmux.budget import Budget
from llmux.clock import VirtualClock
from llmux.config import Backend, ModelConfig
from llmux.costs import SwitchCosts
from llmux.errors import TooManyWaiting
from llmux.estimate import LONGEST
from llmux.hooks.contract import Hook, HookCall, HookResult, Leftover, ProcessId, Reason
from llmux.journal import Memory, ModelRecord
from llmux.lease import Lease, Outcome, Revocation
from llmux.leases import ILeases
from llmux.metrics import Metrics
from llmux.orders import Kind
from llmux.policy import ISwitchPolicy, PolicyContext, PolicyDecision
from llmux.policy.plugins import make_policy
from llmux.reservation import Reservation, ReservationRefused
from llmux.states import State
from llmux.switcher import Switcher
from llmux.switching import LETTING_GO
from llmux.test.fakes import FakeHookRunner, RunningHook
from llmux.test.switching import RecordedEvents
from llmux.test.terrain import NAMES, TIMEOUT, Terrain
from llmux.urgency import BATCH, ORDINARY, Urgency

_JOURNALED = (Hook.WAKE, Hook.SLEEP, Hook.KILL, Hook.STOP, Hook.PREPARE)
_URGENCIES = (ORDINARY, Urgency(BATCH), Urgency(priority=1), ORDINARY, Urgency(BATCH, 9))
_UNASKED = (Reason.REQUEST, Reason.IDLE, Reason.PRELOAD, Reason.RESERVATION)


@attrs.define(eq=False)
class Asker:
    """
    A request.

    :ivar model: the name that it has.
    :ivar server: the model that serves it, or did last.
    :ivar asked_at: when it came.
    :ivar number: its place among all.
    :ivar urgency: how much of a hurry it says that it is in.
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
    number: int = 0
    urgency: Urgency = ORDINARY
    waiting: Deferred[Lease] = attrs.Factory(Deferred)
    lease: Lease | None = None
    endings: int = 0
    error: BaseException | None = None
    revoked_at: float | None = None
    tries: int = 0
    prompt: bool = False
    server: str = ""

    @property
    def place(self) -> tuple[float, int]:
        """What orders those who wait for the same: who is in less of a hurry counts as later."""
        return self.asked_at + self.urgency.delay, self.number


class CountedMetrics(Metrics):
    """
    Metrics whose gauges can be read at no cost.

    :param world: which sees leases when they are given.
    :ivar depth: by model, how many requests wait.
    :ivar in_flight: by model, how many leases are held.
    """

    def __init__(self, world: World) -> None:
        super().__init__(NAMES)
        self._world = world
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
        self._world.lease_given(model)
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
        self.stubborn = set(NAMES)  # what is stopped ends when it does, as in reality

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


@implementer(ISwitchPolicy)
class GuessingPolicy:
    """
    A policy; and what is named to be prepared is a guess, or nonsense.

    :param policy: does all but that.
    :ivar guess: the name.
    :ivar admits: by target, whether those that are drained for it stay open.
    """

    def __init__(self, policy: ISwitchPolicy) -> None:
        self.guess = ""
        self.admits: dict[str | None, bool] = {}
        self._policy = policy
        self.arrived, self.completed = policy.arrived, policy.completed
        self.left, self.switched = policy.left, policy.switched
        self.as_json, self.learn = policy.as_json, policy.learn

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """Guess from the time."""
        self.guess = (NAMES + "?")[int(context.now) % (len(NAMES) + 1)]
        decision = self._policy.decide(context)
        self.admits[decision.target] = decision.admit
        return attrs.evolve(decision, prepare=self.guess)


def servers(name: str, sharings: Sequence[Mapping[str, tuple[str, ...]]]) -> set[str]:
    """Name the models that may serve a name by any of some configurations."""
    return {each for sharing in sharings for each in sharing.get(name, (name,))}


class World:
    """
    Everything outside of the switcher.

    :param terrain: the machine and its models.
    :param policy: the name of the policy that decides.
    :ivar breaches: the rules that did not hold.
    :ivar memory: by model, what it really takes while it is not asleep, or may take.
    :ivar resting: by model, what it takes whether it is asleep or not.
    :ivar serving: the models that can serve, and whose ``alive`` says so.
    :ivar pins: what an operator has said of models since the configuration has.
    :ivar reservations: those that were asked for and have not ended.
    :ivar slack: seconds by which deadlines may be late that are somebody else's to keep.
    :ivar up_to_date: whether the switcher knows of everything that has happened.
    """

    slack = 0.0
    up_to_date = True

    def __init__(self, terrain: Terrain, policy: str = "fifo") -> None:
        self.terrain = terrain
        self.policy_name = policy
        self.policy = GuessingPolicy(make_policy(policy, {}))
        self.capacity = dict(terrain.capacity)
        self.clock = VirtualClock()
        self.clock.advance(1000)
        self.breaches: list[str] = []
        self.memory: dict[str, Amounts] = {}
        self.resting: dict[str, Amounts] = {}
        self.serving: set[str] = set()
        self.askers: list[Asker] = []
        self.configs: dict[str, ModelConfig] = {}
        self.told = terrain.configs(terrain.names)
        self.sharing = terrain.sharing(terrain.names)
        self.configs.update(self.told)
        self.woken_at: dict[str, float] = {}
        self.settled_at: dict[str, float] = {}
        self.failed_wake_at: dict[str, float] = {}
        self.used_at: dict[str, float] = {}
        self.pins: dict[str, bool] = {}
        self.ordered: list[tuple[Kind, str]] = []
        self.reservations: list[Reservation] = []
        self.closing = False
        self.resized = False
        self._arrivals = 0
        self._left: list[RunningHook] = []
        self.begin(Memory())

    def begin(self, memory: Memory) -> None:
        """Start a switcher that knows what the one before has left."""
        self.hooks = WorldHooks(self)
        learnt = json.loads(json.dumps(self.policy.as_json()))
        self.policy = GuessingPolicy(make_policy(self.policy_name, {}))
        self.policy.learn(learnt)
        self.events = RecordedEvents()
        self.metrics = CountedMetrics(self)
        self.records: dict[str, ModelRecord] = dict(memory.models)
        self.ordered = []
        self._reloaded: Deferred[Any] = succeed(None)
        self._sharings = [self.sharing]
        self.switcher = Switcher(
            models=self.told,
            hooks=self.hooks,
            policy=self.policy,
            clock=self.clock,
            budget=Budget(self.capacity),
            metrics=self.metrics,
            events=self.events,
            costs=SwitchCosts(),
            configured=partial(self._configured, self.hooks),
            forgotten=partial(self._forgotten, self.hooks),
            remember=partial(self._note, self.hooks),
            shared=self.sharing,
            idle_model=self._idle_model(),
        )
        self.configs = {**self.configs, **self.told}
        started = self.switcher.start(memory)
        started.addErrback(self._failed, self.switcher)
        self.reservations = list(self.switcher.reservations.all.values())
        for name in [name for name in self.resting if name not in self.switcher.models]:
            del self.resting[name]  # nobody can make it give that back any more

    def _idle_model(self) -> str | None:
        return self.terrain.idle_model if self.terrain.idle_model in self.told else None

    # What can happen.

    def arrive(self, name: str) -> Asker:
        """Let a request come."""
        self._arrivals += 1
        number = self._arrivals
        urgency = _URGENCIES[number % len(_URGENCIES)]
        asker = Asker(name, self.clock.seconds(), number, urgency, prompt=number % 3 == 0)
        waiting = self.depth(name)
        self._wait(asker, self.leases_for(asker).acquire(name, urgency))
        members = self.sharing.get(name, (name,))
        most = min(
            (self.told[each].max_waiting for each in members if each in self.told), default=0
        )
        in_effect = self._reloaded.called  # until then the names may stand for others
        if isinstance(asker.error, TooManyWaiting) and in_effect and waiting < most:
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
            settle = self.configs[asker.server].settle_secs
            settled = max(self.settled_at.get(asker.server, 0.0), self.clock.seconds() + settle)
            self.settled_at[asker.server] = settled
        self.used_at[asker.server] = self.clock.seconds()
        lease.release(outcome)

    def refuse(self, asker: Asker) -> None:
        """Let a request find that nobody listens; it asks again, once."""
        if asker.tries > 1 or self.clock.seconds() - asker.asked_at >= TIMEOUT:
            self.finish(asker, Outcome.REFUSED)
            return
        lease, asker.lease, asker.endings = asker.lease, None, 0
        asker.revoked_at = None
        assert lease is not None
        self._wait(asker, self.leases_for(asker).acquire_again(lease))

    def end_hook(self, hook: RunningHook, outcome: int | None) -> None:
        """Let a hook end: with a status, or at its deadline (``None``); some tell the truth."""
        model = hook.call.model
        if outcome is None:
            hook.time_out()
        elif hook.call.hook is Hook.ALIVE:
            alive = model in self.serving
            if not alive and hook.call.reason is Reason.SLEEP_FAILED:
                self.memory.pop(model, None)  # alive decides; here it never lies
            hook.exit(0 if alive else 1)
        elif hook.call.hook is Hook.FREED:
            if outcome == 0 and model not in self.serving:
                self.memory.pop(model, None)
            hook.exit(1 if model in self.memory else 0)
        else:
            hook.exit(outcome)

    def crash(self, name: str) -> None:
        """Let an engine die; its memory is free."""
        self.memory.pop(name, None)
        self.resting.pop(name, None)
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

    def pin(self, name: str, *, pinned: bool) -> None:
        """Let an operator pin a model, or say that it need not stay."""
        if name in self.switcher.models and self.switcher.phase == "serving":
            self.pins[name] = pinned
            self.switcher.pin(name, pinned)

    def reserve(self, needs: Amounts | None, ttl: float) -> None:
        """Let somebody who is no model ask for room."""
        try:
            reservation = self.switcher.reservations.make(needs, ttl)
        except ReservationRefused:
            return
        self.reservations.append(reservation)
        hooks = self.hooks
        reservation.granted.addCallbacks(
            lambda _: self._reserved(reservation, hooks),
            lambda _: self.reservations.remove(reservation) if hooks is self.hooks else None,
        )

    def end_reservation(self, reservation: Reservation) -> None:
        """Let it be given back, or withdrawn while it waits."""
        if reservation.id not in self.switcher.reservations.all:
            if reservation in self.reservations:
                self.reservations.remove(reservation)
        elif reservation.held:
            self.reservations.remove(reservation)
            self.switcher.reservations.give_back(reservation.id)
        else:
            reservation.granted.cancel()

    def reload(self, names: str, port: int, **settings: object) -> None:
        """Let the configuration change."""
        before = {name: config.pinned for name, config in self.told.items()}
        backend = Backend("127.0.0.1", port)
        self.told = self.terrain.configs(names, backend=backend, **settings)
        self.sharing = self.terrain.sharing(names)
        if self._reloaded.called:
            del self._sharings[:-1]
        self._sharings.append(self.sharing)
        for name, config in self.told.items():
            if before.get(name, config.pinned) is not config.pinned:
                self.pins.pop(name, None)
        self._reloaded = self.switcher.reconfigure(
            self.told, Budget(self.capacity), self.sharing, self._idle_model()
        )
        self._reloaded.addErrback(self._failed, self.switcher)

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
        kept = self.switcher.reservations.records()
        self.used_at.clear()
        self.begin(Memory(models=self.records, hooks=tuple(leftovers), reservations=kept))

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

    def leases_for(self, asker: Asker) -> ILeases:
        """Say whom a request asks for its lease."""
        return self.switcher

    def hangs(self, asker: Asker) -> bool:
        """Tell whether what has to do with a request hangs."""
        return False

    def depth(self, name: str) -> int:
        """Say how many wait for a model, as the metrics have it."""
        return self.metrics.depth[name]

    # What the switcher makes of it.

    def lease_given(self, name: str) -> None:
        """Hold the first rule against a lease in the moment in which it is given."""
        state = self.switcher.states()[name]
        if state is not State.AWAKE and not (state is State.DRAINING and self._is_kept_open(name)):
            self.breaches.append(f"rule 1: a lease for {name}, which is {state.value}")

    def _is_kept_open(self, name: str) -> bool:
        """Tell whether the policy has a model take new requests although it is being drained."""
        return any(
            switch.target is not None and self.policy.admits.get(switch.target.name)
            for switch in self.switcher.switches
            if name in (victim.name for victim in switch.victims)
        )

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
        if call.hook is Hook.PREPARE:
            self._check_preparing(call, running)
        if call.hook is Hook.STOP and name in self.memory:
            breach(f"{name} is stopped, and does not sleep")
        if call.hook in (Hook.SLEEP, Hook.KILL):
            self._check_leases(call, now)
            if call.reason in _UNASKED and self._is_pinned(name, call.reason):
                breach(f"{name} is pinned, and put to sleep: {call}")
            self.woken_at.pop(name, None)  # whatever comes of it, its cool-down is over
        if call.hook is Hook.WAKE:
            self._check_room(call)
            if self.hooks.finishing or self.switcher.phase == "starting":
                breach(f"{name} is woken before anybody knows what is awake")
            failed_at = self.failed_wake_at.get(name)
            hasty = failed_at is not None and now < failed_at + 2.0
            if hasty and call.reason is not Reason.OPERATOR:
                breach(f"{name} is woken again at once after a wake that failed")
            # from now on, however it ends; what is somewhere already stays there
            self.memory.setdefault(name, call.placement or {})
            self.resting[name] = self.configs[name].asleep_needs
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
                self.memory.pop(name, None)
        if call.hook in (Hook.STOP, Hook.KILL) and result.success:
            self.resting.pop(name, None)

    def _is_pinned(self, name: str, reason: Reason) -> bool:
        config = self.configs[name]
        if not self.pins.get(name, config.pinned) or self.switcher.models[name].moving:
            return False
        if name not in self.woken_at:
            return False
        here = taken(self.memory.get(name, {}))  # where it may not be it can be made to go
        return reason is Reason.IDLE or here in [taken(needs) for needs in config.needs]

    def _taken(self, but: str = "") -> Amounts:
        """Say what is really taken, and reserved, of each resource."""
        return add(
            *(taken for name, taken in self.memory.items() if name != but),
            *(taken for name, taken in self.resting.items() if name != but),
            *(each.needs for each in self.reservations if self._holds(each)),
        )

    def _holds(self, reservation: Reservation) -> bool:
        ends = reservation.expires_at
        return ends is not None and ends > self.clock.seconds() + 1e-6

    def _check_room(self, call: HookCall) -> None:
        placement = self.memory.get(call.model, call.placement or {})
        needs = add(placement, self.configs[call.model].asleep_needs)
        room = minus(self.capacity, self._taken(but=call.model))
        if not fits(needs, room):
            self.breaches.append(
                f"rule 3: {call.model} is woken with {needs}, and there is {room}:"
                f" {self.memory} {self.resting}"
            )

    def _check_preparing(self, call: HookCall, running: list[HookCall]) -> None:
        model = self.switcher.models[call.model]
        if any(other.hook is Hook.PREPARE for other in running):
            self.breaches.append(f"two are prepared at once: {call} beside {running}")
        if model.state not in (State.ASLEEP, State.STOPPED) or model.moving:
            self.breaches.append(f"{call.model} is prepared, and is {model.state.value}")
        if call.model not in self.told or self.closing or self.switcher.phase != "serving":
            self.breaches.append(f"{call.model} is prepared for nobody")

    def _reserved(self, reservation: Reservation, hooks: WorldHooks) -> None:
        if hooks is not self.hooks:
            return
        taken = {name: self._taken().get(name, 0.0) for name in reservation.needs}
        if not fits(taken, self.capacity):
            self.breaches.append(f"rule 3: {reservation} holds what is not free: {self._taken()}")

    def _check_leases(self, call: HookCall, now: float) -> None:
        name, config = call.model, self.configs[call.model]
        held = [asker for asker in self.served if asker.server == name]
        if call.reason in (Reason.SLEEP_FAILED, Reason.WAKE_FAILED):
            return  # it has begun to go already, or was never awake
        if config.drain_before_switch:
            late = [
                asker.revoked_at is not None and now >= asker.revoked_at + LETTING_GO
                for asker in held
            ]
            if not all(late):
                self.breaches.append(f"rule 2: {call} with {len(held)} requests in flight")
            given_up = self.switcher.models[name].held
            if not held and not given_up and now < self.settled_at.get(name, 0.0) - 1e-6:
                self.breaches.append(f"rule 2: {call} while it may still be aborting")
        if call.reason is Reason.REQUEST and now < self.woken_at.get(name, 0.0) + (
            config.min_active_secs
        ):
            self.breaches.append(f"{name} is put to sleep before its cool-down is over")

    def _is_wanted(self, call: HookCall) -> bool:
        """Tell whether a hook has a demand that there really is."""
        name, reason, switches = call.model, call.reason, self.switcher.switches
        if call.hook in (Hook.ALIVE, Hook.FREED):
            return True
        if reason is Reason.REQUEST:
            began = call.hook is Hook.SLEEP or call.source == "idle"
            names = [
                each for each in (call.target, *self.sharing) if call.target in self._servers(each)
            ]
            return not began or any(self.depth(each) > 0 for each in names)
        if reason is Reason.PREPARE:
            targets = [each.target for each in switches if not each.committed]
            drains = any(target is not None and target.name == name for target in targets)
            names = [each for each in (name, *self.sharing) if name in self._servers(each)]
            waited_for = any(self.depth(each) > 0 for each in names)
            return drains or waited_for or name == self.policy.guess
        if reason is Reason.PRELOAD:
            return call.source == "idle"
        if reason is Reason.IDLE:
            return self._is_quiet(call)
        if reason is Reason.RESERVATION:
            asked = self.switcher.reservations.all.values()
            return any(not reservation.held for reservation in asked)
        if reason is Reason.OPERATOR:
            return any(wanted == name for _, wanted in self.ordered) or call.target != "idle"
        if reason is Reason.CONFIG:
            config = self.told.get(name)
            return config is None or config.backend != self.configs[name].backend
        if reason is Reason.BACKEND_DOWN:
            return any(event["model"] == name for event in self.events.named("model_down"))
        if reason in (Reason.SLEEP_FAILED, Reason.WAKE_FAILED):
            return bool(switches) or self.closing
        if reason is Reason.START:
            return not fits(self.switcher.used(), self.capacity)
        return reason is Reason.SHUTDOWN and self.closing

    def _is_quiet(self, call: HookCall) -> bool:
        """Tell whether the model of a hook, or every one, has been left in peace."""
        if call.target != "idle":
            return call.hook is not Hook.SLEEP or not self.served
        busy = [asker for asker in self.served if asker.server == call.model]
        since = self.used_at.get(call.model, 0.0)
        rest = self.configs[call.model].idle_sleep_secs or 0.0
        return not busy and self.clock.seconds() >= since + rest - 1e-6

    def _wait(self, asker: Asker, waiting: Deferred[Lease]) -> None:
        asker.waiting = waiting
        waiting.addCallbacks(self._granted, self._refused, (asker,), {}, (asker,))

    def _granted(self, lease: Lease, asker: Asker) -> None:
        asker.endings += 1
        asker.tries += 1
        asker.lease = lease
        asker.server = lease.model
        if lease.model not in self._could_serve(lease, asker):
            self.breaches.append(f"{asker.model} is served by {lease.model}")
        self._check_order(asker, [other for other in self.askers if not other.endings])
        lease.on_revoked(lambda why: self._revoked(asker, why))

    def _check_order(self, asker: Asker, waiting: list[Asker]) -> None:
        """Hold the order of those who wait against somebody who does not any more."""
        if any(o.model == asker.model and o.place < asker.place for o in waiting):
            self.breaches.append(f"rule 4: a later request for {asker.model} is served first")

    def _in_effect(self) -> list[dict[str, tuple[str, ...]]]:
        """Say whom names may stand for: what was told counts when it has been taken over."""
        return self._sharings[-1:] if self._reloaded.called else self._sharings

    def _servers(self, name: str) -> set[str]:
        """Name those that may serve a name."""
        return servers(name, self._in_effect())

    def _could_serve(self, lease: Lease, asker: Asker) -> set[str]:
        """Name those that might serve a request when it was given its lease."""
        return self._servers(asker.model)

    def _refused(self, failure: object, asker: Asker) -> None:
        asker.endings += 1
        asker.error = failure.value  # type: ignore[attr-defined]  # a Failure
        if asker in self.askers:
            self.askers.remove(asker)

    def _revoked(self, asker: Asker, why: Revocation) -> None:
        if asker.revoked_at is None:
            asker.revoked_at = self.clock.seconds()
        if asker.prompt and asker in self.askers:
            self.finish(asker, Outcome.ABORTED)

    # What a llmux does that was killed, when the collector tears it apart, is not looked at.

    def _configured(self, hooks: WorldHooks, config: ModelConfig) -> None:
        if hooks is self.hooks:
            self.configs[config.name] = config
            model = self.switcher.models[config.name]
            if config.name in self.resting and model.state not in (State.ASLEEP, State.STOPPED):
                self.resting[config.name] = config.asleep_needs  # with which it is yet to sleep

    def _forgotten(self, hooks: WorldHooks, name: str) -> None:
        if hooks is self.hooks:
            self.configs.pop(name, None)
            self.records.pop(name, None)
            self.failed_wake_at.pop(name, None)
            self.pins.pop(name, None)
            self.resting.pop(name, None)  # nobody can make it give that back any more

    def _note(self, hooks: WorldHooks) -> None:
        if hooks is self.hooks:
            self.records.update(self.switcher.records())

    def _check_places(self, name: str, waiting: list[Asker]) -> None:
        """Hold what those who wait for a model are told against the order in which they do."""
        before = [self.switcher.waiting_before(asker.waiting) for asker in waiting]
        if before != list(range(len(before))):
            self.breaches.append(f"rule 4: {name} has lost count: {before}")

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
        unsettled = self.events.named("policy_unsettled")
        assert not unsettled, f"{self.policy_name} changes its mind"
        assert not self.switcher.policy.failures, f"{self.policy_name} fails"
        switcher, now = self.switcher, self.clock.seconds()
        states = switcher.states()
        found = {event["model"] for event in self.events.named("model_found")}
        holding = [name for name, state in states.items() if state.holds]
        if switcher.phase == "serving":
            surplus = fits(switcher.used(), self.capacity)
            assert found or surplus or self.resized, f"rule 3: {states} {switcher.used()}"
            left = {hook.call.model for hook in self._left}
            unseen = set(self.memory) - set(holding) - left
            assert not unseen - (set(NAMES) - set(states)), f"rule 3: {unseen} lost: {states}"
            known = [name for name, model in switcher.models.items() if model.state.holds]
            for name in {*known} & {*self.memory} - {*found} - left:
                holds = switcher.models[name].holds
                assert fits(self.memory[name], holds), f"rule 3: {name} holds only {holds}"
        for asker in self.askers:
            assert asker.endings <= 1, "rule 4: told two things"
            if asker.model == "c" and not asker.endings and not self.hangs(asker):
                assert now - asker.asked_at <= TIMEOUT + self.slack + 1e-6, "rule 7"
        for name, model in switcher.models.items():
            waiting = [asker for asker in self.waiting if asker.model == name]
            waiting.sort(key=attrgetter("place"))
            leased = [asker for asker in self.served if asker.server == name]
            if self.up_to_date:
                assert self.depth(name) == len(waiting), (
                    f"{name}: {self.depth(name)} queued, {waiting}"
                )
                counted = switcher.in_flight(name)
                assert counted == len(leased), f"{name}: {counted} leases, and {len(leased)} held"
            assert switcher.in_flight(name) == self.metrics.in_flight[name], name
            deadline = model.config.drain_timeout_secs
            if model.state is State.DRAINING and deadline is not None:
                late = now > model.since + deadline + self.slack + 0.1
                assert not late or all(asker.revoked_at for asker in leased), (
                    f"rule 6: {name} drains"
                )
            most = model.config.max_concurrency
            in_places = most is None or len(leased) <= most or not model.config.drain_before_switch
            assert in_places, f"{name} has {len(leased)} leases, and {most} places"
            if model.admitting and model.free_places:
                sharings = self._in_effect()
                names = [n for n in self.sharing if all(name in s.get(n, ()) for s in sharings)]
                waits = [each for each in (name, *names) if self.depth(each)]
                assert not waits, f"somebody waits for {waits}, and {name} has a free place"
            assert 1 <= switcher.estimate(name) <= LONGEST
            self._check_places(name, waiting)
        if self.up_to_date and not switcher.switches and not self.waiting:
            assert not self.hooks.expected, f"nothing is to come: {self.hooks.expected}"
        if self.waiting:
            under_way = self.hooks.running or self.served or self.hooks.finishing
            assert under_way or self.clock.next_due() is not None, "rule 6: nothing is under way"
