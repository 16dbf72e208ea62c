"""Tests of :mod:`llmux.simulate.engine`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.simulate.engine import Engine, EngineFigures, Work

Asked = tuple[float, int, int]  # when, prompt tokens, output tokens

REQUESTS = st.lists(
    st.tuples(st.integers(0, 40).map(lambda tenths: tenths / 10), st.integers(0, 9000),
              st.integers(0, 200)), max_size=8,
)  # fmt: skip
FIGURES = st.builds(
    EngineFigures,
    prompt_rate=st.sampled_from([1000.0, 6000.0]),
    token_secs=st.sampled_from([0.0, 0.02]),
    slowdown=st.sampled_from([0.0, 0.02, 1.0]),
    most=st.integers(1, 4),
)


class Bench:
    """An engine, and what it did."""

    def __init__(self, figures: EngineFigures | None = None) -> None:
        self.clock = VirtualClock()
        self.engine = Engine(self.clock, figures)
        self.works: list[Work] = []
        self.first: dict[int, float] = {}
        self.done: dict[int, float] = {}

    def serve(self, prompt_tokens: int, output_tokens: int) -> Work:
        """Ask for something now."""
        number = len(self.works)

        def first() -> None:
            self.first[number] = self.clock.now

        def done() -> None:
            self.done[number] = self.clock.now

        self.works.append(self.engine.serve(prompt_tokens, output_tokens, first, done))
        return self.works[-1]

    def replay(self, requests: list[Asked]) -> None:
        """Ask for all of it, and wait until all has ended."""
        for at, prompt, output in requests:
            self.clock.callLater(at, self.serve, prompt, output)
        while self.clock.run_next():
            pass


def stepped(figures: EngineFigures, requests: list[Asked]) -> list[tuple[float, float]]:
    """Say when each request has its first token and its last, one small event after the other."""
    ends = [(0.0, 0.0)] * len(requests)
    coming = list(enumerate(requests))
    queue: list[int] = []
    left: dict[int, list[float]] = {}  # of those that run: of the prompt, of the answer
    now = 0.0
    while coming or left:
        speed = figures.speed(len(left)) if left else 1.0
        times = [max(0.0, sum(each[:1]) / speed) for each in left.values()]
        times += [max(0.0, asked[0] - now) for _, asked in coming[:1]]
        passed = min(times)
        now += passed
        for number, parts in tuple(left.items()):
            parts[0] -= passed * speed
            if parts[0] <= 1e-9:
                parts.pop(0)
                ends[number] = (now, now) if parts else (ends[number][0], now)
                if not parts:
                    del left[number]
        while coming and coming[0][1][0] <= now:
            queue.append(coming.pop(0)[0])
        while queue and len(left) < figures.most:
            _, prompt, output = requests[queue[0]]
            left[queue.pop(0)] = [figures.prompt_secs(prompt), output * figures.token_secs]
    return ends


class EngineTests(SynchronousTestCase):
    """How long requests take."""

    def test_alone(self) -> None:
        """A request alone takes what its prompt and its answer take."""
        bench = Bench()
        bench.replay([(1.0, 3000, 100)])
        self.assertAlmostEqual(bench.first[0], 1.5)
        self.assertAlmostEqual(bench.done[0], 3.5)

    def test_shared(self) -> None:
        """Two that run at once slow each other down, for as long as both run."""
        bench = Bench(EngineFigures(slowdown=1.0))
        bench.replay([(0.0, 0, 100), (1.0, 0, 100)])
        self.assertAlmostEqual(bench.done[0], 3.0)  # 1 s alone, 1 s of work at half the speed
        self.assertAlmostEqual(bench.done[1], 4.0)

    def test_most(self) -> None:
        """Who comes to a full engine waits there, and the first who came is next."""
        bench = Bench(EngineFigures(most=1))
        for _ in range(3):
            bench.serve(0, 50)
        self.assertEqual((bench.engine.running, bench.engine.queued), (1, 2))
        bench.clock.advance(10)
        self.assertEqual([round(end, 6) for end in bench.done.values()], [1.0, 2.0, 3.0])
        self.assertEqual((bench.engine.running, bench.engine.queued), (0, 0))

    def test_nothing_to_do(self) -> None:
        """Even an empty request does not end before its client knows that it was taken."""
        bench = Bench()
        bench.serve(0, 0)
        self.assertEqual(bench.done, {})
        bench.clock.advance(0)
        self.assertEqual((bench.first, bench.done), ({0: 0.0}, {0: 0.0}))

    def test_abort(self) -> None:
        """Whoever gives up a request makes room for another, and hears of it no more."""
        bench = Bench(EngineFigures(most=2))
        running, queued = [bench.serve(0, 50) for _ in range(4)][1:3]
        bench.engine.abort(running)
        bench.engine.abort(queued)
        self.assertEqual((bench.engine.running, bench.engine.queued), (2, 0))
        bench.clock.advance(10)
        self.assertEqual(set(bench.done), {0, 3})

    def test_abort_at_the_end(self) -> None:
        """A request that is given up in the very moment of its end hears nothing more, either."""
        clock, heard = VirtualClock(), []
        engine = Engine(clock)

        def nothing() -> None:
            pass

        engine.serve(0, 50, nothing, lambda: engine.abort(second))
        second = engine.serve(0, 50, nothing, lambda: heard.append("second"))
        clock.advance(10)
        self.assertEqual(heard, [])

    @given(FIGURES, REQUESTS)
    def test_exact(self, figures: EngineFigures, requests: list[Asked]) -> None:
        """Whatever comes, all ends as if it were served bit by bit."""
        requests.sort(key=lambda asked: asked[0])
        bench = Bench(figures)
        bench.replay(requests)
        for number, (first, done) in enumerate(stepped(figures, requests)):
            self.assertAlmostEqual(bench.first[number], first, places=5)
            self.assertAlmostEqual(bench.done[number], done, places=5)

    def test_figures(self) -> None:
        """An engine that could never end anything is none."""
        for figures in ({"prompt_rate": 0}, {"token_secs": -1}, {"slowdown": -1}, {"most": 0}):
            self.assertRaises(ValueError, EngineFigures, **figures)
