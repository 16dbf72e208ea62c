"""Tests of :mod:`llmux.demo.engine`."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from llmux.demo.engine import Engine, Pace
from llmux.simulate.engine import Engine as Simulated
from llmux.simulate.engine import EngineFigures


class EngineTests(SynchronousTestCase):
    """How long answers take."""

    def setUp(self) -> None:
        """Take an engine that reads 100 tokens a second, and gives two answers at once."""
        self.clock = Clock()
        self.engine = Engine(self.clock, Pace(10, 100, slowdown=1, most=2))
        self.ended: dict[str, float] = {}

    def answer(self, name: str, prompt: int, tokens: int) -> Deferred[None]:
        """Have it give an answer."""

        async def answering() -> None:
            async with self.engine.place() as begun:
                pace = self.engine.pace
                await self.engine.until(begun + pace.reading(prompt) + pace.speaking(tokens))
            self.ended[name] = self.clock.seconds()

        return Deferred.fromCoroutine(answering())

    def wait(self, seconds: float) -> None:
        """Let time pass; the steps have no rounding errors."""
        self.clock.pump([0.25] * int(seconds * 4))

    def test_alone(self) -> None:
        """An answer takes its prompt's time, and then its own."""
        self.answer("a", prompt=50, tokens=10)
        self.wait(5)
        self.assertEqual(self.ended, {"a": 1.5})

    def test_together(self) -> None:
        """Two answers slow each other down for as long as both are there."""
        self.answer("long", prompt=100, tokens=10)
        self.wait(1)
        self.answer("short", prompt=0, tokens=5)
        self.wait(5)
        self.assertEqual(self.ended, {"short": 2.0, "long": 2.5})

    def test_no_room(self) -> None:
        """More than fit wait, without slowing anybody down, until there is room."""
        for name in ("a", "b", "c"):
            self.answer(name, prompt=0, tokens=10)
        self.wait(5)
        self.assertEqual(self.ended, {"a": 2.0, "b": 2.0, "c": 3.0})

    def test_leaving(self) -> None:
        """Whoever leaves makes room, and slows nobody down any more."""
        leaving = self.answer("a", prompt=0, tokens=20)
        self.answer("b", prompt=0, tokens=10)
        queued = self.answer("c", prompt=0, tokens=10)
        self.wait(1)
        leaving.cancel()
        queued.cancel()
        self.wait(5)
        self.assertEqual(self.ended, {"b": 1.5})
        self.failureResultOf(leaving)
        self.failureResultOf(queued)

    @given(
        st.lists(
            st.tuples(st.integers(0, 20), st.integers(0, 400), st.integers(1, 50)),
            min_size=1,
            max_size=12,
        )
    )
    def test_as_simulated(self, requests: list[tuple[int, int, int]]) -> None:
        """It takes as long as the engine of ``llmux simulate``, though that reckons otherwise."""
        self.clock, self.ended = Clock(), {}
        self.engine = Engine(self.clock, Pace(10, 100, slowdown=0.25, most=3))
        simulated = Simulated(self.clock, EngineFigures(100, 0.1, 0.25, 3))
        expected: dict[str, float] = {}

        def begin(name: str, prompt: int, tokens: int) -> None:
            self.answer(name, prompt, tokens)
            simulated.serve(
                prompt, tokens, lambda: None,
                lambda: expected.__setitem__(name, self.clock.seconds()),
            )  # fmt: skip

        for number, (at, prompt, tokens) in enumerate(requests):
            self.clock.callLater(at, begin, str(number), prompt, tokens)
        while calls := self.clock.getDelayedCalls():
            due = min(call.getTime() for call in calls)
            self.clock.advance(max(0.0, due - self.clock.seconds()))
        self.assertEqual(self.ended.keys(), expected.keys())
        for name, ended in expected.items():
            self.assertAlmostEqual(self.ended[name], ended, places=6)
