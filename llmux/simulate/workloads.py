"""
Traces that are made up, each of a kind of traffic that a policy has to cope with.

Requests that have nothing to do with each other come as a Poisson process: the time to the next
one is exponential.  How long prompts and answers are is log-normal, as it is in traces of real
services.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from random import Random

import attrs

from llmux.simulate.trace import Row, Trace
from llmux.urgency import BATCH, Urgency

HOUR = 3600.0
_SPREAD = 0.6  # the standard deviation of the logarithm of sizes


@attrs.frozen
class Workload:
    """
    A kind of traffic.

    :param name: what it is called.
    :param why: why a policy has to cope with it.
    :param make: makes a trace of it, given a source of chance.
    """

    name: str
    why: str
    make: Callable[[Random], Iterator[Row]]

    def trace(self, seed: int) -> Trace:
        """
        Make a trace.

        :param seed: the same seed makes the same trace.
        """
        return tuple(self.make(Random(f"{self.name} {seed}")))  # noqa: S311  # chance is all it is


@attrs.frozen
class _Kind:
    """
    How long the requests of some traffic are.

    :param prompt: the median of the tokens of their prompts.
    :param answer: the median of those of their answers.
    """

    prompt: int
    answer: int

    def row(self, chance: Random, model: str, arrived_at: float | None, **more: object) -> Row:
        """Make a request."""
        prompt = _size(chance, self.prompt)
        answer = _size(chance, self.answer)
        return Row(model, prompt, answer, arrived_at, **more)  # type: ignore[arg-type]  # a Row's


_CHAT = _Kind(600, 220)
_CODE = _Kind(2000, 40)
_AGENT = _Kind(3000, 150)
_INDEX = _Kind(1000, 40)


def _size(chance: Random, median: int) -> int:
    return max(1, round(median * math.exp(chance.gauss(0, _SPREAD))))


def _poisson(chance: Random, rate: float, until: float, begin: float = 0.0) -> Iterator[float]:
    """Give times at which something comes, so many times a second on an average."""
    now = begin + chance.expovariate(rate)
    while now < until:
        yield now
        now += chance.expovariate(rate)


def _stream(
    chance: Random, model: str, rate: float, kind: _Kind = _CHAT, until: float = HOUR
) -> list[Row]:
    return [kind.row(chance, model, at) for at in _poisson(chance, rate, until)]


def _symmetric(chance: Random) -> Iterator[Row]:
    for model in ("a", "b", "c"):
        yield from _stream(chance, model, 0.08)


def _two_alike(chance: Random) -> Iterator[Row]:
    for model in ("a", "b"):
        yield from _stream(chance, model, 0.3)


def _five_alike(chance: Random) -> Iterator[Row]:
    for number in range(5):
        yield from _stream(chance, f"m{number}", 0.04)


def _asymmetric(chance: Random) -> Iterator[Row]:
    yield from _stream(chance, "busy", 0.6)
    yield from _stream(chance, "rare", 0.015)


def _three_kinds(chance: Random) -> Iterator[Row]:
    yield from _stream(chance, "chat", 0.25)
    yield from _stream(chance, "coder", 0.1, _CODE)
    yield from _stream(chance, "writer", 0.02, _Kind(300, 900))


def _unequal(chance: Random) -> Iterator[Row]:
    for number, rate in enumerate((0.3, 0.1, 0.03, 0.01)):
        yield from _stream(chance, f"m{number}", rate)


def _bursts(chance: Random) -> Iterator[Row]:
    for model in ("a", "b", "c"):
        for begin in _poisson(chance, 1 / 300, HOUR):
            until = begin + chance.uniform(20, 60)
            for at in _poisson(chance, 0.5, until, begin):
                yield _CHAT.row(chance, model, at)


def _long_tail(chance: Random) -> Iterator[Row]:
    for number in range(8):
        yield from _stream(chance, f"m{number}", 0.2 / (number + 1) ** 1.2)


def _agents(chance: Random) -> Iterator[Row]:
    for agent in range(4):
        session = f"agent-{agent}"
        yield _AGENT.row(chance, "planner", chance.uniform(0, 60), session=session)
        for step in range(25):
            for _ in range(chance.randint(6, 10)):
                think = chance.uniform(0.5, 3)
                yield _AGENT.row(chance, "executor", None, session=session, think_secs=think)
            if step < 24:
                yield _AGENT.row(chance, "planner", None, session=session, think_secs=0.5)


def _batch(chance: Random) -> Iterator[Row]:
    yield from _stream(chance, "chat", 0.15)
    for worker in range(4):
        session, urgency = f"worker-{worker}", Urgency(BATCH)
        begin: float | None = chance.uniform(0, 60)
        for _ in range(100):
            yield _INDEX.row(chance, "indexer", begin, session=session, urgency=urgency)
            begin = None


def _chats(chance: Random) -> Iterator[Row]:
    for number, at in enumerate(_poisson(chance, 1 / 45, HOUR)):
        session, model = f"chat-{number}", chance.choice(("small", "large", "coder"))
        yield _CHAT.row(chance, model, at, session=session)
        for _ in range(min(12, int(chance.expovariate(1 / 5)))):
            think = _size(chance, 25)
            yield _CHAT.row(chance, model, None, session=session, think_secs=float(think))


def _home(chance: Random) -> Iterator[Row]:
    day = 12 * HOUR
    for number, at in enumerate(_poisson(chance, 1 / 600, day)):
        session = f"chat-{number}"
        yield _CHAT.row(chance, "chat", at, session=session)
        for _ in range(min(8, int(chance.expovariate(1 / 3)))):
            think = float(_size(chance, 40))
            yield _CHAT.row(chance, "chat", None, session=session, think_secs=think)
    for begin in _poisson(chance, 1 / 1800, day):
        for at in _poisson(chance, 1 / 8, begin + 600, begin):
            yield _CODE.row(chance, "coder", at)
    for at in _poisson(chance, 1 / 1800, day):
        yield _Kind(400, 60).row(chance, "vision", at)


_ALL = (
    Workload(
        "symmetric",
        "Three models that are asked for equally often, a request every four seconds between them."
        " There is no reason to prefer any of them, so what a policy loses here it loses by"
        " switching too often, or by closing a model that still answers.",
        _symmetric,
    ),
    Workload(
        "two alike",
        "Two models, both asked for every three seconds: the load at which a machine is just"
        " about to be too small. An engine answers many at once, so the longer a model stays the"
        " more it serves; but its queue is hardly ever empty.",
        _two_alike,
    ),
    Workload(
        "five alike",
        "Five models, and a request every five seconds among them. So many do not leave any of them"
        " time to be idle before somebody waits for another one.",
        _five_alike,
    ),
    Workload(
        "asymmetric",
        "One model that is hardly ever idle, and another that is asked for once a minute. Who"
        " serves until the queue is empty lets the rare one starve; who switches for each rare"
        " request makes dozens wait for one.",
        _asymmetric,
    ),
    Workload(
        "three kinds",
        "A chat, a coding assistant with short answers, and a writer of long texts, asked for"
        " once a minute, at which a drain waits for long.",
        _three_kinds,
    ),
    Workload(
        "unequal",
        "Four models, each asked for three times as often as the next. Whose turn it is must follow"
        " from who has waited for how long, and not from who shouts loudest.",
        _unequal,
    ),
    Workload(
        "bursts",
        "Three models that are asked for in bursts of half a minute or so, and not at all in"
        " between. In the midst of a burst leaving is expensive; after it staying is.",
        _bursts,
    ),
    Workload(
        "long tail",
        "Eight models of which the first is asked for twelve times as often as the last. With more"
        " than two models it counts to whom to switch, and the rare ones must not starve.",
        _long_tail,
    ),
    Workload(
        "agents",
        "Four agents: a planner's answer leads to six to ten calls of an executor, one after the"
        " other, and these to the next plan. Nobody asks while they wait, so that silence means"
        " nothing, and what counts is when the last of them has ended.",
        _agents,
    ),
    Workload(
        "batch",
        "People who chat, and four workers that build an index beside them: each asks for the next"
        " document when it has the answer for the one before. Nobody sits and waits for the index;"
        " it has to be built all the same.",
        _batch,
    ),
    Workload(
        "chats",
        "Conversations with one of three models: a client reads and types for half a minute before"
        " it goes on. A model that was left comes back into use after a while.",
        _chats,
    ),
    Workload(
        "home",
        "Half a day of a machine at home: someone chats now and then, a coding assistant asks every"
        " few seconds for ten minutes, and a camera has an image described twice an hour. Nearly"
        " always there is time enough; each needless switch is felt by whoever sits there.",
        _home,
    ),
)

WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in _ALL}
"""All of them, by name."""
