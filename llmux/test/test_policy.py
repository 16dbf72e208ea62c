"""Tests of :mod:`llmux.policy`, and of what :mod:`llmux.outlook` shows a policy."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from llmux.budget import Budget
from llmux.clock import VirtualClock
from llmux.costs import SwitchCosts
from llmux.lifecycle import Model
from llmux.outlook import Outlook
from llmux.policy import (
    INTERACTIVE,
    POLICIES,
    FifoPolicy,
    ISwitchPolicy,
    ModelView,
    Phase,
    PolicyContext,
    PolicyDecision,
    WaitingView,
)
from llmux.states import State
from llmux.test.fakes import lease_out, make_model
from llmux.worth import Worth

NOBODY: dict[str, int] = {}


def view(
    waiting: dict[str, int],
    state: State = State.ASLEEP,
    evicts: tuple[str, ...] | None = (),
    rank: int = 0,
) -> ModelView:
    """Make a model for whom, by class, the first of some requests had this number."""
    return ModelView(
        state=state,
        waiting={
            kind: WaitingView(1, oldest=0.0, first=first, arrivals=0.0, squares=0.0, rank=rank)
            for kind, first in waiting.items()
        },
        leases=0,
        awake_since=0.0,
        not_before=0.0,
        evicts=evicts,
    )


def context(
    models: dict[str, ModelView], phase: Phase = Phase.SETTLED, target: str | None = None
) -> PolicyContext:
    """Make what a policy is shown."""
    return PolicyContext(now=9.0, phase=phase, models=models, target=target, costs=SwitchCosts())


class PoliciesTests(SynchronousTestCase):
    """What holds for every policy that can be named in a configuration."""

    def test_names(self) -> None:
        """The policies are those of the documentation."""
        self.assertEqual(list(POLICIES), ["fifo", "quantum", "balanced"])

    def test_contract(self) -> None:
        """Every policy can do all that the switcher asks of one."""
        for policy in POLICIES.values():
            self.assertTrue(verifyObject(ISwitchPolicy, policy.make({})))

    def test_nobody_waits(self) -> None:
        """While nobody waits, nothing is to be switched."""
        models = {state.value: view(NOBODY, state) for state in State}
        for policy in POLICIES.values():
            for phase in Phase:
                self.assertEqual(policy.make({}).decide(context(models, phase)).target, None)


class FifoPolicyTests(SynchronousTestCase):
    def decide(self, models: dict[str, ModelView]) -> PolicyDecision:
        """Ask it."""
        return FifoPolicy().decide(context(models))

    def test_oldest(self) -> None:
        """Whoever waits longest for a model that is not awake gets it."""
        models = {name: view({INTERACTIVE: n}) for name, n in (("a", 3), ("b", 1), ("c", 2))}
        self.assertEqual(self.decide(models), PolicyDecision(target="b"))

    def test_awake(self) -> None:
        """Requests for a model that is awake need no switch."""
        models = {"a": view({INTERACTIVE: 1}, State.AWAKE), "b": view({INTERACTIVE: 2})}
        self.assertEqual(self.decide(models).target, "b")

    def test_earlier_requests_for_the_model_that_would_go(self) -> None:
        """Who came earlier and waits for a place at the awake model is served before it leaves."""
        a, b = view({INTERACTIVE: 1}, State.AWAKE), view({INTERACTIVE: 2}, evicts=("a",))
        self.assertIsNone(self.decide({"a": a, "b": b}).target)
        later = view({INTERACTIVE: 3}, State.AWAKE)
        self.assertEqual(self.decide({"a": later, "b": b}).target, "b")
        self.assertEqual(self.decide({"a": later, "b": b, "c": a}).target, "b")

    def test_drain_that_has_begun(self) -> None:
        """A drain goes on, whoever waits for a place at a model that is none of its victims."""
        models = {
            "a": view(NOBODY, State.DRAINING),
            "b": view({INTERACTIVE: 2}, evicts=("c",)),
            "c": view({INTERACTIVE: 1}, State.AWAKE),
        }
        for phase in (Phase.DRAINING, Phase.COMMITTING):
            decision = FifoPolicy().decide(context(models, phase, "b"))
            self.assertEqual(decision.target, "b", phase)

    def test_cannot_come(self) -> None:
        """A model that cannot be woken now is passed over, and the next one in the line comes."""
        models = {"a": view({INTERACTIVE: 1}, evicts=None), "b": view({INTERACTIVE: 2})}
        self.assertEqual(self.decide(models).target, "b")
        self.assertIsNone(self.decide({"a": models["a"]}).target)

    def test_next_in_line(self) -> None:
        """While who came earlier is served by one that would have to go, another model can come."""
        models = {
            "a": view({INTERACTIVE: 1}, State.AWAKE),
            "b": view({INTERACTIVE: 2}, evicts=("a",)),
            "c": view({INTERACTIVE: 3}),
        }
        self.assertEqual(self.decide(models).target, "c")

    def test_any_of_several(self) -> None:
        """Of models any of which would do, the one that is liked best comes."""
        models = {name: view({INTERACTIVE: 4}, rank=rank) for name, rank in (("a", 1), ("b", 0))}
        self.assertEqual(self.decide(models).target, "b")
        models["b"] = view({INTERACTIVE: 4}, evicts=None)
        self.assertEqual(self.decide(models).target, "a")

    def test_draining(self) -> None:
        """A model that is being drained can be wanted like any other."""
        for state in set(State) - {State.AWAKE}:
            models = {"a": view({INTERACTIVE: 1}, state), "b": view({INTERACTIVE: 2})}
            self.assertEqual(self.decide(models).target, "a", state)

    def test_classes(self) -> None:
        """All classes of requests stand in one line."""
        models = {"a": view({INTERACTIVE: 5, "batch": 1}), "b": view({INTERACTIVE: 2})}
        self.assertEqual(self.decide(models).target, "a")

    def test_the_first_request_of_all(self) -> None:
        """The very first request, whose number is 0, is one."""
        models = {name: view({INTERACTIVE: n}) for name, n in (("a", 1), ("b", 0), ("c", 2))}
        self.assertEqual(self.decide(models).target, "b")

    def test_closed(self) -> None:
        """The model that leaves is closed, and everything else is left to the switcher."""
        decision = self.decide({"a": view({INTERACTIVE: 1})})
        self.assertEqual(
            (decision.admit, decision.evict, decision.forced, decision.ask_at),
            (False, None, False, None),
        )


class OutlookTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make three models that share a budget."""
        self.clock = VirtualClock()
        self.models = {
            name: make_model(self.clock, name, min_active_secs=10.0) for name in ("a", "b", "c")
        }

    def outlook(self, slots: int = 1) -> Outlook:
        """Look at them."""
        return Outlook(self.models, Budget.slots(slots), Worth(SwitchCosts()))

    def shown(self, slots: int = 1) -> PolicyContext:
        """Show them to a policy at 7 seconds."""
        costs = SwitchCosts(wake={"a": 3.0})
        return self.outlook(slots).context(7.0, Phase.SETTLED, costs)

    def hold(self, name: str, state: State, since: float = 0.0, leases: int = 0) -> Model:
        """Let a model be in a state."""
        model = self.models[name]
        model.state, model.since = state, since
        lease_out(model, leases)
        return model

    def names(
        self, target: str, wanted: tuple[str, ...] | None = None, slots: int = 1
    ) -> list[str]:
        """Say who has to go for a model."""
        plan = self.outlook(slots).plan(self.models[target], 500.0, wanted)
        assert plan is not None
        return [victim.name for victim in plan.victims]

    def test_context(self) -> None:
        """A policy sees the time, the phase, the target, the costs and every model in order."""
        self.hold("b", State.AWAKE, leases=2).awake_since = 5.0
        self.models["a"].waiting.add(4)
        shown = self.shown()
        self.assertEqual((shown.now, shown.phase, shown.target), (7.0, Phase.SETTLED, None))
        self.assertEqual(shown.costs.wake, {"a": 3.0})
        self.assertEqual(list(shown.models), ["a", "b", "c"])
        a, b = shown.models["a"], shown.models["b"]
        self.assertEqual((a.state, a.waiting[INTERACTIVE].first), (State.ASLEEP, 4))
        self.assertEqual((b.state, b.waiting, b.leases, b.awake_since), (State.AWAKE, {}, 2, 5.0))

    def test_evicts(self) -> None:
        """It sees who would have to go for those that are waited for, if they are not awake."""
        self.hold("a", State.AWAKE)
        self.hold("b", State.UNKNOWN)
        for number, model in enumerate(self.models.values()):
            model.waiting.add(number)
        shown = self.shown()
        got = {name: set(model.evicts or ()) for name, model in shown.models.items()}
        self.assertEqual(got, {"a": set(), "b": {"a"}, "c": {"a", "b"}})

    def test_cheapest(self) -> None:
        """Unless the policy says who, those go that nobody knows about, then the idlest."""
        self.models["b"].asked = 1
        self.hold("a", State.AWAKE, since=1.0, leases=1)
        self.hold("b", State.AWAKE, since=2.0)
        self.assertEqual(self.names("c", slots=2), ["b"])
        self.hold("a", State.AWAKE, since=1.0)
        self.assertEqual(self.names("c", slots=2), ["a"])
        self.hold("b", State.UNKNOWN, since=2.0, leases=5)
        self.assertEqual(self.names("c", slots=2), ["b"])
        self.assertEqual(self.names("c"), ["a", "b"])
        self.assertEqual(self.names("c", slots=3), [])

    def test_the_policy_says_who(self) -> None:
        """Whom the policy names goes, as far as needed; if that makes no room, the cheapest do."""
        self.hold("a", State.AWAKE, since=1.0)
        self.hold("b", State.AWAKE, since=2.0)
        self.assertEqual(self.names("c", ("b",), slots=2), ["b"])
        self.assertEqual(self.names("c", ("b", "a"), slots=2), ["b"], "no more than needed")
        self.assertEqual(self.names("c", ("b", "c", "x"), slots=2), ["b"])
        self.assertEqual(self.names("c", (), slots=2), ["a"])
        self.assertEqual(self.names("c", ("b",), slots=1), ["a", "b"])

    def test_target_stays(self) -> None:
        """A model has not to go for itself, whatever the policy says."""
        self.hold("a", State.UNKNOWN)
        self.assertEqual(self.names("a"), [])
        self.assertEqual(self.names("a", ("a",)), [])

    def test_not_before(self) -> None:
        """It sees when a model may be woken, or put to sleep, at the earliest."""
        for model in self.models.values():
            model.wake_backoff.until, model.sleep_backoff.until = 20.0, 30.0
            model.awake_since = 25.0
        expected = dict.fromkeys(State, 20.0)
        expected[State.AWAKE] = 35.0  # its cool-down, which is longer than its back-off
        for state, time in expected.items():
            self.hold("a", state)
            self.assertEqual(self.shown().models["a"].not_before, time, state)
        self.hold("a", State.AWAKE).sleep_backoff.until = 40.0
        self.assertEqual(self.shown().models["a"].not_before, 40.0)
