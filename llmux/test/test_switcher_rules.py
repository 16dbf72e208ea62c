"""
The core's rules, held against random events on the virtual clock.

The rules are those of the architecture page of the documentation; each is an assertion, made after
every event or at the moment when the thing that it is about happens.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import TooManyWaiting
from llmux.estimate import LONGEST
from llmux.hooks.contract import Hook, HookCall, HookResult, Reason
from llmux.states import State
from llmux.test.fakes import FakeHookRunner, model_config
from llmux.test.switching import Bench, Client

MODELS = ("a", "b", "c")
TIMEOUT = 30.0  # seconds that a request for c may wait
COOL = 20.0  # seconds that a stays awake at least

limits = st.fixed_dictionaries(
    {
        model: st.tuples(st.sampled_from((None, 1, 2)), st.sampled_from((1000, 3)))
        for model in MODELS
    }
)
"""By model, how many may be served and how many may wait."""


class WatchedHooks(FakeHookRunner):
    """Hooks that check the rules about hooks when they start."""

    bench: WatchedBench

    def run(self, call: HookCall) -> Deferred[HookResult]:
        """Run a hook, if that is in order."""
        bench = self.bench
        if any(hook.call.model == call.model for hook in self.running):
            bench.breaches.append(f"two hooks of {call.model} at once")
        evicting = call.hook is Hook.SLEEP and call.reason is Reason.REQUEST
        if evicting and call.model != "b" and bench.switcher.in_flight(call.model):
            bench.breaches.append(f"rule 2: {call.model} is put to sleep with requests in flight")
        if evicting and bench.clock.seconds() < bench.woken.get(call.model, 0.0) + COOL:
            bench.breaches.append(f"{call.model} is put to sleep before its cool-down is over")
        if call.hook is Hook.WAKE and len(bench.memory - {call.model}) >= bench.slots:
            bench.breaches.append(f"rule 3: {call.model} is woken beside {bench.memory}")
        cold = call.hook is Hook.WAKE and call.source == "idle"
        if (evicting or cold) and not bench.depth(call.target):
            bench.breaches.append(f"rule 5: {call.hook.value} {call.model}, but nobody waits")
        if call.hook is Hook.WAKE:
            bench.memory.add(call.model)  # from now on, however it ends
        return super().run(call).addCallback(self._take_effect, call)

    def _take_effect(self, result: HookResult, call: HookCall) -> HookResult:
        bench = self.bench
        if call.hook is Hook.SLEEP and result.success:
            bench.memory.discard(call.model)
            bench.woken.pop(call.model, None)
        if call.hook is Hook.WAKE and result.success and call.model == "a":
            bench.woken["a"] = bench.clock.seconds()
        return result


class WatchedBench(Bench):
    """
    Three models, of which a has a cool-down, b is not drained and c has a time limit.

    :param slots: how many may be awake at once.
    :param limits: by model, how many may be served, and how many may wait.
    :ivar breaches: the rules that did not hold; not raised at once, for the switcher survives what
        goes wrong inside a hook runner or a client.
    :ivar memory: the models that really take up memory, or may.
    :ivar woken: since when a is awake, while it is.
    """

    def __init__(self, slots: int, limits: dict[str, tuple[int | None, int]]) -> None:
        self.slots = slots
        self.places = {model: places or 10**9 for model, (places, _) in limits.items()}
        self.seats = {model: seats for model, (_, seats) in limits.items()}
        self.breaches: list[str] = []
        self.memory: set[str] = set()
        self.woken: dict[str, float] = {}
        self.clients: list[Client] = []
        special: dict[str, dict[str, object]] = {
            "a": {"min_active_secs": COOL},
            "b": {"drain_before_switch": False},
            "c": {"request_timeout_secs": TIMEOUT},
        }
        models = [
            model_config(model, max_concurrency=places, max_waiting=seats, **special[model])
            for model, (places, seats) in limits.items()
        ]
        super().__init__(models, slots=slots, alive=frozenset({"a"}))

    def make_hooks(self, alive: frozenset[str]) -> FakeHookRunner:
        """Make hooks that look at this bench."""
        hooks = WatchedHooks(self.clock, alive)
        hooks.bench = self
        return hooks

    def depth(self, model: str) -> float:
        """Say how many wait for a model."""
        return self.sample("llmux_request_queue_depth", model=model) or 0.0

    def granted(self, client: Client) -> None:
        """Check the rules about leases."""
        bench = self
        state = self.switcher.states()[client.model]
        if state is not State.AWAKE:
            bench.breaches.append(f"rule 1: a lease for {client.model}, which is {state.value}")
        for earlier in self.clients:
            if earlier is client:
                break
            if earlier.model == client.model and not earlier.endings:
                bench.breaches.append(
                    f"rule 4: a later request for {client.model} was served first"
                )


class SwitcherMachine(RuleBasedStateMachine):
    """Everything that can happen to a switcher, in any order."""

    @initialize(slots=st.integers(1, 2), limits=limits)
    def begin(self, slots: int, limits: dict[str, tuple[int | None, int]]) -> None:
        """Start with all models asleep."""
        self.bench = WatchedBench(slots, limits)
        self.slots = slots
        self.asked_at: dict[Client, float] = {}

    @rule(model=st.sampled_from(MODELS), count=st.integers(1, 3))
    def arrive(self, model: str, count: int) -> None:
        """Some clients ask for a model in the same turn."""
        for _ in range(count):
            waiting = self.bench.depth(model)
            client = self.bench.request(model)
            if isinstance(client.error, TooManyWaiting):
                assert waiting == self.bench.depth(model) == self.bench.seats[model]
                continue
            self.bench.clients.append(client)
            self.asked_at[client] = self.bench.clock.seconds()

    @rule(data=st.data())
    @precondition(lambda self: self.waiting())
    def leave(self, data: st.DataObject) -> None:
        """A client that waits hangs up."""
        client = data.draw(st.sampled_from(self.waiting()))
        client.leave()
        assert client.endings == 1, "rule 4: a client that left was not told so at once"

    @rule(data=st.data())
    @precondition(lambda self: self.in_flight())
    def finish(self, data: st.DataObject) -> None:
        """An answer ends."""
        client = data.draw(st.sampled_from(self.in_flight()))
        self.bench.clients.remove(client)
        client.finish()

    @rule(data=st.data(), outcome=st.sampled_from((0, 0, 0, 1, None)))
    @precondition(lambda self: self.bench.hooks.running)
    def hook_ends(self, data: st.DataObject, outcome: int | None) -> None:
        """A hook succeeds, fails or runs into its deadline."""
        hook = data.draw(st.sampled_from(self.bench.hooks.running))
        if hook.call.hook is Hook.ALIVE:  # it tells the truth
            hook.exit(0 if hook.call.model in self.bench.memory else 1)
        elif outcome is None:
            hook.time_out()
        else:
            hook.exit(outcome)

    @rule(model=st.sampled_from(MODELS))
    def crash(self, model: str) -> None:
        """An engine dies, and its memory is free."""
        self.bench.memory.discard(model)

    @rule(seconds=st.sampled_from((0.0, 0.5, 2.0, 10.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while."""
        self.bench.clock.advance(seconds)

    @invariant()
    def no_rule_was_broken(self) -> None:
        """Nothing happened that must not."""
        assert not self.bench.breaches, self.bench.breaches
        assert not self.bench.events.named("policy_unsettled"), "fifo changes its mind"

    @invariant()
    def budget_holds(self) -> None:
        """No more models hold something than fit."""
        states = self.bench.switcher.states()
        holding = [name for name, state in states.items() if state.holds]
        assert len(holding) <= self.slots, f"rule 3: {states}"

    @invariant()
    def everybody_ends_at_most_once(self) -> None:
        """No client is told two things."""
        assert all(client.endings <= 1 for client in self.bench.clients), "rule 4"

    @invariant()
    def nobody_waits_beyond_the_limit(self) -> None:
        """Who may wait for so long has not waited for longer."""
        now = self.bench.clock.seconds()
        for client in self.waiting():
            if client.model == "c":
                assert now - self.asked_at[client] <= TIMEOUT, "rule 7"

    @invariant()
    def counts_are_true(self) -> None:
        """What is counted is what there is."""
        for model in MODELS:
            waiting = sum(client.model == model for client in self.waiting())
            leased = sum(client.model == model for client in self.in_flight())
            assert self.bench.depth(model) == waiting
            assert self.bench.switcher.in_flight(model) == leased

    @invariant()
    def places_are_given_to_who_waits(self) -> None:
        """No model serves more than it may, and no place is free while somebody waits for it."""
        for model, state in self.bench.switcher.states().items():
            free = self.bench.places[model] - self.bench.switcher.in_flight(model)
            assert free >= 0, f"{model} serves more than it may"
            waiting = self.bench.depth(model)
            assert waiting <= self.bench.seats[model], f"more wait for {model} than may"
            if state is State.AWAKE and free:
                assert not waiting, f"somebody waits for {model}, which has a free place"

    @invariant()
    def everybody_can_be_told(self) -> None:
        """Who waits knows how many are before him, and everybody how long it may take."""
        switcher = self.bench.switcher
        for model, state in switcher.states().items():
            assert 1 <= switcher.estimate(model) <= LONGEST
            before = [
                switcher.waiting_before(client.waiting)
                for client in self.waiting()
                if client.model == model
            ]
            assert before == list(range(len(before)))
            wanted_back = switcher.leaving_since(model) is not None
            if state in (State.DRAINING, State.AWAKE):
                assert wanted_back == (state is State.DRAINING or bool(before))
        for client in self.in_flight():
            assert client.lease is not None
            waited = client.lease.granted_at - self.asked_at[client]
            assert abs(client.lease.queued - waited) < 1e-6
            assert 0 <= client.lease.switching <= client.lease.queued

    @invariant()
    def something_is_under_way_for_who_waits(self) -> None:
        """Who waits, waits for a hook, an answer's end or a timer: nothing is stuck."""
        if self.waiting():
            under_way = self.bench.hooks.running or self.in_flight()
            assert under_way or self.bench.clock.next_due() is not None, "rule 6"

    def teardown(self) -> None:
        """When all goes well from now on, whoever waits is served, and each model can be woken."""
        bench = self.bench
        for model in MODELS:
            self.arrive(model, 1)
            for _ in range(1000):
                for client in self.in_flight():
                    self.finish_one(client)
                for hook in list(bench.hooks.running):
                    hook.exit(0)
                bench.clock.advance(1.0)
                if not self.waiting() and not self.in_flight():
                    break
            assert not self.waiting(), "rule 6: somebody waits for ever"
        for model in MODELS:
            bench.clock.advance(100)
            client = bench.request(model)
            while bench.hooks.running:
                bench.hooks.running[0].exit(0)
            assert client.lease is not None, f"rule 6: {model} cannot be served any more"
            client.finish()
        self.no_rule_was_broken()

    def finish_one(self, client: Client) -> None:
        """Let a certain answer end."""
        self.bench.clients.remove(client)
        client.finish()

    def waiting(self) -> list[Client]:
        """Give the clients that wait."""
        return [client for client in self.bench.clients if not client.endings]

    def in_flight(self) -> list[Client]:
        """Give the clients that hold a lease."""
        return [client for client in self.bench.clients if client.lease is not None]


class SwitcherRulesTests(SynchronousTestCase):
    def test_no_sequence_of_events_breaks_a_rule(self) -> None:
        """Whatever happens in whatever order, the core's rules hold."""
        bounded = settings(max_examples=150, stateful_step_count=50, deadline=None)
        run_state_machine_as_test(SwitcherMachine, settings=bounded)
