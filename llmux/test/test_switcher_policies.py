"""The switcher and policies of all sorts: what they are asked, told, and cannot break."""

from __future__ import annotations

import math
from asyncio import CancelledError
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from llmux.policy import FifoPolicy, ISwitchPolicy, Phase, PolicyContext, PolicyDecision
from llmux.policy.guard import GuardedPolicy
from llmux.test.fakes import ScriptedPolicy, model_config
from llmux.test.switching import Bench, Client


class BrokenPolicy(ScriptedPolicy):
    """A policy in which everything raises."""

    def __init__(self) -> None:
        super().__init__(self._raise)

    def _raise(self, *arguments: object) -> PolicyDecision:
        raise RuntimeError("planted")

    arrived = completed = left = switched = _raise  # type: ignore[assignment]  # all alike


FIFO = object()
_NAMES: Any = st.one_of(st.just("x"), st.integers(), st.just(""), st.lists(st.text(max_size=2)))
SAID: Any = st.one_of(
    st.just(FIFO),
    st.sampled_from([ValueError("planted"), RecursionError(), KeyError("{x}"), None, "b", 7, ()]),
    st.builds(PolicyDecision, target=_NAMES),
    st.builds(PolicyDecision, target=st.sampled_from("abc"), evict=_NAMES),
    st.builds(PolicyDecision, ask_at=st.sampled_from([math.nan, -math.inf, "soon", 0.0, [], True])),
    st.builds(PolicyDecision, target=st.sampled_from("abc"), admit=_NAMES),
)
"""What a policy may come up with: sense, failures, and nonsense of all sorts."""


def _step(bench: Bench, clients: list[Client], step: str) -> None:
    """Let something go on: a hook ends, an answer ends, or time passes."""
    if step == "hook" and bench.hooks.running:
        bench.hooks.running[0].exit()
    elif step == "time":
        bench.clock.advance(5)
    elif step == "answer":
        for client in clients:
            if client.lease is not None and client.lease.held:
                client.finish()
                break


def to_b(context: PolicyContext) -> PolicyDecision:
    """Want b, whatever happens."""
    return PolicyDecision(target="b")


class ContractTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The guard and the stand-in provide all of the contract."""
        for policy in (GuardedPolicy(FifoPolicy()), ScriptedPolicy(to_b)):
            self.assertTrue(verifyObject(ISwitchPolicy, policy))

    def test_phases(self) -> None:
        """A policy is asked before a switch, during its drain, and at its point of no return."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench(policy=policy)
        running = bench.wake("a")
        policy.contexts.clear()
        bench.request("b")
        running.finish()
        phases = [context.phase for context in policy.contexts]
        self.assertEqual(phases, [Phase.SETTLED, Phase.DRAINING, Phase.COMMITTING])
        self.assertEqual([context.target for context in policy.contexts], [None, "b", "b"])

    def test_observations(self) -> None:
        """A policy is told of all who come, end and leave, and of every switch."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench(policy=policy)
        bench.wake("a").finish()
        bench.request("b").leave()
        bench.request("b")
        bench.exit()
        bench.exit(1)
        expected = ["arrived a", "switched a True", "completed a", "arrived b", "left b"]
        self.assertEqual(policy.observed[:5], expected)
        self.assertEqual(policy.observed[-2:], ["switched b False", "left b"])

    def test_asked_again(self) -> None:
        """A policy that wants nothing yet is asked again when it has said."""
        policy = ScriptedPolicy(
            lambda context: PolicyDecision(target="a" if context.now >= 1005 else None, ask_at=1005)
        )
        bench = Bench(policy=policy)
        client = bench.request("a")
        bench.clock.advance(4.9)
        self.assertEqual(bench.hooks.names(), [])
        bench.clock.advance(0.2)
        bench.exit()
        self.assertIsNotNone(client.lease)

    def test_asking_at_once(self) -> None:
        """A policy that wants to be asked again at once is asked soon, and does not spin."""
        policy = ScriptedPolicy(lambda context: PolicyDecision(ask_at=context.now))
        bench = Bench(policy=policy)
        bench.request("a")
        bench.clock.advance(0.01)
        self.assertLess(len(policy.contexts), 20)

    def test_asking_in_ages(self) -> None:
        """One that wants to be asked when no timer can ring any more is asked once a day."""
        policy = ScriptedPolicy(lambda context: PolicyDecision(ask_at=1e300))
        bench = Bench(policy=policy)
        bench.request("a")
        (timer,) = bench.clock.getDelayedCalls()
        self.assertLessEqual(timer.getTime() - bench.clock.seconds(), 86_400)

    def test_open_drain(self) -> None:
        """A policy can keep a draining model open to new requests."""
        policy = ScriptedPolicy(lambda context: PolicyDecision(target="b", admit=True))
        bench = Bench(policy=policy)
        policy._decide = FifoPolicy().decide
        bench.wake("a")
        policy._decide = lambda context: PolicyDecision(target="b", admit=True)
        bench.request("b")
        self.assertEqual(bench.states()["a"], "draining")
        self.assertIsNotNone(bench.request("a").lease)

    def test_end_of_an_open_drain(self) -> None:
        """When its leases are wanted back, nobody new is let in, whatever a policy says."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench([model_config("a", drain_timeout_secs=10.0), "b"], policy=policy)
        bench.wake("a")
        policy._decide = lambda context: PolicyDecision(target="b", admit=True)
        bench.request("b")
        bench.clock.advance(10)
        self.assertEqual(bench.states()["a"], "draining")
        self.assertIsNone(bench.request("a").lease)

    def test_forced(self) -> None:
        """A policy that has said its last word is not asked again before the hooks."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench(policy=policy)
        running = bench.wake("a")
        policy._decide = lambda context: PolicyDecision(target="b", forced=True)
        policy.contexts.clear()
        bench.request("b")
        running.finish()
        self.assertEqual([context.phase for context in policy.contexts], [Phase.SETTLED])
        self.assertEqual(bench.hooks.names()[-1], "sleep a")

    def test_late_change_of_mind(self) -> None:
        """At the point of no return a policy can still choose another target."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench(["a", "b", "c"], policy=policy)
        running = bench.wake("a")
        bench.request("b")
        client = bench.request("c")
        policy._decide = lambda context: PolicyDecision(
            target="c" if context.phase is not Phase.DRAINING else "b"
        )
        running.finish()
        bench.exit()
        bench.exit()
        self.assertIsNotNone(client.lease)


class GuardTests(SynchronousTestCase):
    def test_policy_that_raises(self) -> None:
        """Where a policy raises, first come is first served, and it is logged."""
        bench = Bench(policy=BrokenPolicy())
        bench.wake("a").finish()
        client = bench.request("b")
        bench.exit()
        bench.exit()
        self.assertIsNotNone(client.lease)
        self.assertTrue(self.flushLoggedErrors(RuntimeError))

    def test_policy_that_exits(self) -> None:
        """A policy that would end the program has its failure logged like every other."""
        for error in (SystemExit, GeneratorExit, CancelledError):

            def leave(context: PolicyContext, error: type[BaseException] = error) -> PolicyDecision:
                raise error

            bench = Bench(policy=ScriptedPolicy(leave))
            client = bench.request("b")
            bench.exit()
            self.assertIsNotNone(client.lease, error)
            self.assertEqual(len(self.flushLoggedErrors(error)), 1)

    def test_no_decision(self) -> None:
        """Where a policy says what is no decision, first come is first served, and it is logged."""
        of_type: list[Any] = [
            None,
            "b",
            PolicyDecision(target=["b"]),  # type: ignore[arg-type]  # that is the point
            PolicyDecision(target="b", evict=5),  # type: ignore[arg-type]  # likewise
            PolicyDecision(target="b", evict=(["a"],)),  # type: ignore[arg-type]  # likewise
            PolicyDecision(target="b", prepare=5),  # type: ignore[arg-type]  # likewise
            PolicyDecision(target="b", admit=None),  # type: ignore[arg-type]  # likewise
            PolicyDecision(target="b", forced=1),  # type: ignore[arg-type]  # likewise
            PolicyDecision(ask_at=True),
            PolicyDecision(ask_at="soon"),  # type: ignore[arg-type]  # likewise
        ]
        of_value = [
            PolicyDecision(target=""),
            PolicyDecision(target="x"),
            PolicyDecision(target="b", evict=("a", "x")),
            PolicyDecision(ask_at=math.nan),
            PolicyDecision(ask_at=math.inf),
            PolicyDecision(ask_at=999.9),
        ]
        of_size = [PolicyDecision(ask_at=10**400)]  # more than a float can hold
        kinds = ((TypeError, of_type), (ValueError, of_value), (OverflowError, of_size))
        for error, nonsense in kinds:
            for said in nonsense:
                bench = Bench(policy=ScriptedPolicy(lambda context, said=said: said))  # type: ignore[misc]  # mypy#15459
                bench.request("b")
                self.assertEqual(bench.hooks.names(), ["wake b"], said)
                self.assertEqual(len(self.flushLoggedErrors(error)), 1, said)

    def test_log_is_not_flooded(self) -> None:
        """One that fails all the time is logged once a minute, with how often it did meanwhile."""
        guard = GuardedPolicy(BrokenPolicy())
        with capturedLogs() as seen:
            for seconds in range(150):
                guard.arrived("a", 1000.0 + seconds)
        told = [formatEvent(event) for event in seen if "log_failure" in event]
        more = " (59 more failures went before)"
        first = "the policy BrokenPolicy failed to observe"
        self.assertEqual(told, [first, first + more, first + more])
        self.assertEqual(guard.failures, 150)
        guard.replace(BrokenPolicy())
        guard.arrived("a", 1150.0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4, "another one is told anew")

    def test_what_it_has_learnt(self) -> None:
        """What no journal could keep is left out; what it can is a copy, whatever becomes of it."""
        policy = ScriptedPolicy(to_b)
        learnt: Any = {"a": [1]}
        policy.as_json = lambda: learnt  # type: ignore[method-assign]  # any policy's
        guard = GuardedPolicy(policy)
        kept = guard.as_json()
        learnt["a"].append({1, 2})
        self.assertEqual(kept, {"a": [1]})
        for nonsense in ([1], None, "text", {"a": {1, 2}}, {("a", "b"): 1}):
            learnt = nonsense
            self.assertEqual(guard.as_json(), {})
        self.assertEqual(guard.failures, 5)
        self.flushLoggedErrors(TypeError)

    @given(st.data())
    def test_whatever_it_says(self, data: st.DataObject) -> None:
        """Whatever comes out of a policy, every request is served."""

        def decide(context: PolicyContext) -> PolicyDecision:
            said = data.draw(SAID)
            if isinstance(said, Exception):
                raise said
            if said is FIFO:
                return FifoPolicy().decide(context)
            return cast(PolicyDecision, said)

        self.addCleanup(self.flushLoggedErrors)
        bench = Bench(["a", "b", "c"], policy=ScriptedPolicy(decide))
        clients = []
        for name in data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=8)):
            clients.append(bench.request(name))
            for step in data.draw(st.lists(st.sampled_from(["hook", "answer", "time"]))):
                _step(bench, clients, step)
        for _ in range(200):
            for step in ("hook", "answer", "time"):
                _step(bench, clients, step)
        self.assertEqual([client.endings for client in clients], [1] * len(clients))
        self.assertEqual([client.error for client in clients], [None] * len(clients))

    def test_stubborn_policy(self) -> None:
        """No policy can have a switch made that nobody waits for, or waits for any more."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench(["a", "b", "c"], policy=policy)
        running = bench.wake("a")
        policy._decide = lambda context: PolicyDecision(target="b", forced=True)
        bench.request("c")
        self.assertEqual(bench.states()["a"], "awake")
        client = bench.request("b")
        self.assertEqual(bench.states()["a"], "draining")
        client.leave()
        self.assertEqual(bench.states()["a"], "awake")
        running.finish()
        self.assertEqual(bench.hooks.names(), ["wake a"])

    def test_policy_that_does_not_settle(self) -> None:
        """A policy that changes its mind over and over is asked again a second later."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench(policy=policy)
        running = bench.wake("a")
        policy._decide = lambda context: PolicyDecision(
            target="b" if context.phase is Phase.SETTLED else None
        )
        client = bench.request("b")
        self.assertEqual(bench.events.names()[-1], "policy_unsettled")
        policy._decide = FifoPolicy().decide
        running.finish()
        bench.clock.advance(1)
        bench.exit()
        bench.exit()
        self.assertIsNotNone(client.lease)

    def test_cool_down_cannot_be_broken(self) -> None:
        """No policy, however forceful, puts a model to sleep before its cool-down is over."""
        policy = ScriptedPolicy(FifoPolicy().decide)
        bench = Bench([model_config("a", min_active_secs=30), "b"], policy=policy)
        bench.wake("a").finish()
        policy._decide = lambda context: PolicyDecision(target="b", forced=True)
        bench.request("b")
        bench.clock.advance(29)
        self.assertEqual(bench.states()["a"], "awake")
        bench.clock.advance(1.1)
        self.assertEqual(bench.states()["a"], "sleeping")

    def test_bug_in_the_midst_of_a_switch(self) -> None:
        """After a bug nobody waits for ever, and the next request is served."""
        bench = Bench()

        def broken(*arguments: object) -> None:
            raise RuntimeError("planted")

        bench.events.hook_completed = broken  # type: ignore[method-assign,assignment]  # a planted bug
        client = bench.request("a")
        bench.exit()
        self.assertEqual(client.endings, 1)
        self.assertEqual(bench.states()["a"], "unknown")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        del bench.events.hook_completed
        bench.clock.advance(3)
        again = bench.request("a")
        bench.exit()
        self.assertIsNotNone(again.lease)
