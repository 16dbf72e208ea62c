"""Tests of :mod:`llmux.simulate.replay`: traces before the real switcher."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import SLOT
from llmux.config import Config, ModelConfig
from llmux.policy import POLICIES, FifoPolicy, PolicyContext, PolicyDecision
from llmux.policy.plugins import BuiltIn, UnknownPolicy
from llmux.simulate import fifo240, policies
from llmux.simulate.engine import EngineFigures
from llmux.simulate.hooks import HookCosts
from llmux.simulate.policies import check_names
from llmux.simulate.replay import PATIENCE, Setup, SimulationError, config_of, simulate
from llmux.simulate.run import Run, Span
from llmux.simulate.trace import Row, Trace
from llmux.states import SERVING, State
from llmux.test.fakes import model_config
from llmux.urgency import BATCH, INTERACTIVE, Urgency

TRACES = st.lists(
    st.builds(
        Row,
        model=st.sampled_from("abc"),
        prompt_tokens=st.integers(0, 6000),
        output_tokens=st.integers(1, 500),
        arrived_at=st.integers(0, 100).map(float),
        urgency=st.sampled_from([None, Urgency(BATCH, 2)]),
    ),
    min_size=1,
    max_size=20,
).map(tuple)


def rows(*requests: tuple[float, str, int]) -> Trace:
    """Make requests of when they come, for which model, and how many seconds their answers take."""
    return tuple(Row(model, 0, 50 * seconds, at) for at, model, seconds in requests)


def setup(trace: Trace, configs: Mapping[str, ModelConfig] | None = None) -> Setup:
    """Make what a trace meets: switches of about 10 s, and engines that nothing slows down."""
    config = config_of(trace) if configs is None else Config(models=configs)
    return Setup(config, HookCosts(10.0), EngineFigures(slowdown=0.0))


def models(*names: str, **settings: object) -> dict[str, ModelConfig]:
    """Make some models that have these settings."""
    return {name: model_config(name, **settings) for name in names}


class SimulateTests(SynchronousTestCase):
    """What is seen of a run."""

    def spans(self, run: Run, model: str) -> list[Span]:
        """Give the spans of a model."""
        return [span for span in run.spans if span.model == model]

    def test_one_request(self) -> None:
        """A request waits for its model's wake, and is answered."""
        trace = (Row("a", 6000, 100, 5.0, urgency=Urgency(BATCH)),)
        run = simulate(setup(trace), trace, "fifo")
        (served,) = run.served
        self.assertEqual((served.model, served.kind, served.arrived), ("a", "batch", 5.0))
        self.assertTrue(5 < served.leased - served.arrived < 12)  # 8 s and some chance
        self.assertAlmostEqual(served.first - served.leased, 1.0)
        self.assertAlmostEqual(served.done - served.first, 2.0)
        self.assertEqual((run.policy, run.ended, run.failed), ("fifo", served.done, 0))
        woken = served.leased
        self.assertEqual(
            run.spans,
            (
                Span("a", State.ASLEEP, 0.0, 5.0),
                Span("a", State.WAKING, 5.0, woken),
                Span("a", State.AWAKE, woken, run.ended),
            ),
        )

    def test_switch(self) -> None:
        """The model that has to go is drained before the other one is woken."""
        trace = rows((0, "a", 60), (20, "b", 1))
        run = simulate(setup(trace), trace, "fifo")
        first, second = run.served
        states = [span.state for span in self.spans(run, "a")]
        self.assertEqual(states, [State.WAKING, State.AWAKE, State.DRAINING, State.SLEEPING,
                                  State.ASLEEP])  # fmt: skip
        draining = self.spans(run, "a")[2]
        self.assertEqual((draining.began, draining.ended), (20.0, first.done))
        self.assertTrue(second.leased > first.done)

    def test_sessions(self) -> None:
        """A later request of a session comes when its client has thought about the answer."""
        trace = (
            Row("a", 0, 50, 1.0, "x"),
            Row("a", 0, 50, 2.0),
            Row("a", 0, 50, None, "x", 7.0),
            Row("a", 0, 50, None, "x", 0.0),
        )
        run = simulate(setup(trace), trace, "fifo")
        one, _, two, three = sorted(run.served, key=lambda served: served.arrived)
        self.assertAlmostEqual(two.arrived, one.done + 7)
        self.assertAlmostEqual(three.arrived, two.done)
        self.assertAlmostEqual(run.ended, three.done)

    def test_engines(self) -> None:
        """One model may have another engine than the rest."""
        trace = rows((0, "a", 10), (0, "b", 10))
        slow = EngineFigures(token_secs=0.2)
        run = simulate(attrs.evolve(setup(trace), engines={"b": slow}), trace, "fifo")
        seconds = {served.model: round(served.done - served.leased, 6) for served in run.served}
        self.assertEqual(seconds, {"a": 10.0, "b": 100.0})

    def test_configuration(self) -> None:
        """Models that fit beside each other are awake beside each other, by whatever name."""
        configs = {**models("a"), **models("b", aliases=("c",))}
        config = Config(models=configs, resources={SLOT: 2.0}, first_awake={"any": ("b", "a")})
        trace = rows((0, "a", 100), (20, "c", 100), (60, "any", 1))
        run = simulate(Setup(config, HookCosts(10.0)), trace, "fifo")
        self.assertEqual([served.model for served in run.served], ["b", "a", "b"])
        self.assertNotIn(State.DRAINING, [span.state for span in run.spans])
        old = simulate(Setup(config, HookCosts(10.0)), trace, fifo240.NAME)  # it knows one slot
        self.assertIn(State.DRAINING, [span.state for span in old.spans])

    def test_timeout(self) -> None:
        """A request that waits too long has failed, and its session goes on."""
        trace = (*rows((0, "a", 60), (20, "b", 1)), Row("b", 0, 1, 21.0, "x"),
                 Row("a", 0, 1, None, "x", 1.0))  # fmt: skip
        run = simulate(setup(trace, models("a", "b", request_timeout_secs=15.0)), trace, "fifo")
        self.assertEqual((len(run.served), run.failed), (2, 2))

    def test_cut(self) -> None:
        """A request that holds up a switch for too long is cut, and its engine is free again."""
        trace = rows((0, "a", 1000), (20, "b", 1))
        run = simulate(setup(trace, models("a", "b", drain_timeout_secs=5.0)), trace, "fifo")
        self.assertEqual(([served.model for served in run.served], run.failed), (["b"], 1))
        self.assertTrue(run.ended < 60)

    def test_residency(self) -> None:
        """What the owner wants in quiet times happens, too."""
        trace = rows((30, "a", 1), (600, "a", 1))
        settings = models("a", wake_at_start=True, idle_sleep_secs=60.0)
        run = simulate(setup(trace, settings), trace, "fifo")
        self.assertEqual(run.served[0].leased, 30.0)
        self.assertTrue(run.served[1].leased > 600)

    def test_classes(self) -> None:
        """Requests that say no class have that of their model, and the urgent ones go first."""
        trace = (*rows((0, "a", 1)), Row("a", 0, 1, 1.0, urgency=Urgency(INTERACTIVE)))
        configs = models("a", kind=BATCH, max_concurrency=1)
        run = simulate(setup(trace, configs), trace, "fifo")
        self.assertEqual([served.kind for served in run.served], [INTERACTIVE, BATCH])

    def test_unknown_model(self) -> None:
        """A trace that asks for what there is not is refused before it begins."""
        trace = rows((0, "llama", 1))
        error = self.assertRaises(
            SimulationError, simulate, setup(trace, models("lama")), trace, "fifo"
        )
        self.assertIn("Model not found: llama; did you mean lama?", str(error))

    def test_unknown_policy(self) -> None:
        """A policy that nobody offers is told, with those that there are."""
        trace = rows((0, "a", 1))
        error = self.assertRaises(UnknownPolicy, simulate, setup(trace), trace, "fibo")
        self.assertIn("there is no policy 'fibo', but fifo,", str(error))

    def offer(self, policy: type[FifoPolicy]) -> str:
        """Have one more policy; give its name."""
        POLICIES["other"] = BuiltIn("other", policy)
        self.addCleanup(POLICIES.pop, "other")
        return "other"

    def test_for_ever(self) -> None:
        """A policy that leaves somebody waiting for ever is found out."""

        class Idle(FifoPolicy):
            def decide(self, context: PolicyContext) -> PolicyDecision:
                return PolicyDecision()

        trace = rows((0, "a", 1))
        error = self.assertRaises(SimulationError, simulate, setup(trace), trace, self.offer(Idle))
        self.assertEqual(
            str(error), "other: 1 requests are left at 0 s, and nothing happens any more; there"
            " wait: 1 for a",
        )  # fmt: skip

    def test_failing_policy(self) -> None:
        """A policy that fails is not forgiven as it would be in production."""

        class Broken(FifoPolicy):
            def completed(self, model: str, now: float, seconds: float) -> None:
                raise ZeroDivisionError

        trace = rows((0, "a", 1))
        error = self.assertRaises(
            SimulationError, simulate, setup(trace), trace, self.offer(Broken)
        )
        self.assertEqual(str(error), "other: the policy has failed; the log says how")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_looking_for_ever(self) -> None:
        """So is one that keeps thinking about it."""

        class Hesitant(FifoPolicy):
            def decide(self, context: PolicyContext) -> PolicyDecision:
                return PolicyDecision(ask_at=context.now + 60)

        trace = rows((0, "a", 1), (PATIENCE * 3, "a", 1))
        error = self.assertRaises(
            SimulationError, simulate, setup(trace), trace, self.offer(Hesitant)
        )
        self.assertIn("2 for a", str(error))

    @given(TRACES, st.sampled_from(["fifo", fifo240.NAME]), st.integers(0, 3))
    def test_rules(self, trace: Trace, policy: str, seed: int) -> None:
        """All are served, each after it came, by its model while that is awake, one at a time."""
        run = simulate(setup(trace), trace, policy, seed)
        self.assertEqual(run, simulate(setup(trace), trace, policy, seed))
        self.assertEqual(len(run.served), len(trace))
        self.assertEqual(
            sorted((served.model, served.arrived) for served in run.served),
            sorted((row.model, row.arrived_at) for row in trace),
        )
        for served in run.served:
            self.assertTrue(served.arrived <= served.leased <= served.first <= served.done)
            self.assertTrue(
                any(
                    span.state in (State.AWAKE, State.DRAINING)
                    and span.began <= served.leased <= served.done <= span.ended
                    for span in together(self.spans(run, served.model))
                )
            )
        for name in {row.model for row in trace}:
            spans = self.spans(run, name)
            self.assertEqual([span.began for span in spans[1:]], [s.ended for s in spans[:-1]])
            self.assertEqual((spans[0].began, spans[-1].ended), (0.0, run.ended))
        holding = sorted((span.began, span.ended) for span in run.spans if span.state.holds)
        for (_, ended), (began, _) in pairwise(holding):
            self.assertTrue(ended <= began)


def together(spans: list[Span]) -> list[Span]:
    """Take awake and draining for one thing."""
    joined: list[Span] = []
    for span in spans:
        if span.state in SERVING and joined and joined[-1].state in SERVING:
            span = attrs.evolve(joined.pop(), ended=span.ended)  # a drain may be called off
        joined.append(span)
    return joined


class Fifo240Tests(SynchronousTestCase):
    """How llmux 2.4.0 switches."""

    def order(self, policy: str, *requests: tuple[float, str, int]) -> list[str]:
        """Say which models were woken, in order."""
        trace = rows(*requests)
        spans = simulate(setup(trace), trace, policy).spans
        return [span.model for span in spans if span.state is State.WAKING]

    def test_stale_ticket(self) -> None:
        """A ticket of somebody served long ago lets another pass who has waited longer."""
        # The first for b wakes it for both who wait for it, and the ticket of the second stays in
        # the line behind that for c: so it is called up before that of the second for a.
        requests = [(0.0, "a", 30), (1.0, "b", 1), (2.0, "c", 1), (3.0, "b", 1),
                    (53.0, "a", 1), (54.0, "b", 1)]  # fmt: skip
        self.assertEqual(self.order("fifo", *requests), ["a", "b", "c", "a", "b"])
        self.assertEqual(self.order(fifo240.NAME, *requests), ["a", "b", "c", "b", "a"])

    def test_useless_ticket(self) -> None:
        """A stale ticket for whom nobody waits is thrown away."""
        requests = [(0.0, "a", 30), (1.0, "b", 1), (2.0, "c", 1), (3.0, "b", 1), (53.0, "a", 1)]
        self.assertEqual(self.order(fifo240.NAME, *requests), ["a", "b", "c", "a"])

    def test_put_to_sleep(self) -> None:
        """A model that went to sleep by itself is woken again."""
        trace = rows((0, "a", 1), (200, "a", 1))
        settings = models("a", idle_sleep_secs=60.0)
        run = simulate(setup(trace, settings), trace, fifo240.NAME)
        self.assertEqual(len(run.served), 2)

    def test_names(self) -> None:
        """It can be compared with, and nobody can configure it."""
        self.assertEqual(policies.names(), (*POLICIES, "fifo-2.4.0"))
        self.assertEqual(check_names(["fifo-2.4.0", "fifo"]), ("fifo-2.4.0", "fifo"))
        self.assertNotIn("fifo-2.4.0", POLICIES)
