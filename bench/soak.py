"""
Runs the soak: ``python -m bench.soak --minutes 60 --seed 1``.

``docs/soak.rst`` says what it does, what it checks and what it prints.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import attrs

from bench.asking import (
    ANSWERED,
    CUT,
    LEFT,
    REFUSED,
    STUCK,
    UNANSWERED,
    UNHEARD,
    WRONG,
    Answer,
    Question,
    ask,
)
from bench.faults import SECTIONS, Faults
from bench.fleet import Fleet, count_runs, llama_models, overlaps
from bench.helpers import HERE
from bench.lives import Life, Llmux, read_log
from bench.processes import BenchError
from bench.report import say
from bench.violations import Violations
from bench.watch import flatness, watch

WAIT_BOUND = 60.0 + 30.0 + 15.0
"""Seconds until an answer begins: request_timeout_secs, first_byte_timeout_secs, and a margin."""

RECOVERY = 150.0  # seconds in which every model has to answer once nothing goes wrong any more


@attrs.define
class Soak:
    """
    The clients and what became of their requests.

    :param llmux: whom they ask.
    :param chance: decides.
    :param violations: takes what must not be.
    :ivar calm_since: from then on nothing goes wrong any more, so every request has to be answered.
    :ivar over: nobody asks any further question.
    """

    llmux: Llmux
    chance: random.Random
    violations: Violations
    outcomes: Counter[str] = attrs.Factory(Counter)
    refusals: Counter[str] = attrs.Factory(Counter)
    longest: dict[str, float] = attrs.Factory(dict)
    calm_since: float | None = None
    over: bool = False
    bursts: set[asyncio.Task[Answer]] = attrs.Factory(set)
    _asking: set[asyncio.Task[Answer]] = attrs.Factory(set)

    async def client(self) -> None:
        """Ask on and on, mostly the same model as before."""
        backend = self.chance.choice(self.llmux.fleet.backends)
        while not self.over:
            if self.chance.random() < 0.2:
                backend = self.chance.choice(self.llmux.fleet.backends)
            answer = await self.ask(self._question(backend.name))
            if answer.outcome == UNHEARD:
                await asyncio.sleep(0.5)
            await asyncio.sleep(self.chance.uniform(0, 0.6))

    async def ask(self, question: Question) -> Answer:
        """Ask, and take down what became of it."""
        life, up = self.llmux.life, self.llmux.up
        asking = asyncio.create_task(ask(self.llmux.fleet.port, question))
        self._asking.add(asking)
        try:
            await asyncio.wait([asking])
            answer = Answer(LEFT, "", 0, 0, 0) if asking.cancelled() else asking.result()
        finally:
            asking.cancel()
            self._asking.discard(asking)
        self._take_down(question, answer, up and self.llmux.up and self.llmux.life is life)
        return answer

    def vanish(self) -> None:
        """Have half of the clients leave."""
        for asking in list(self._asking)[::2]:
            asking.cancel()

    def burst(self, number: int) -> None:
        """Have many clients more ask at once."""
        names = self.llmux.fleet.names
        for _ in range(number):
            task = asyncio.create_task(self.ask(self._question(self.chance.choice(names))))
            self.bursts.add(task)
            task.add_done_callback(self.bursts.discard)

    def _question(self, name: str) -> Question:
        chance = self.chance
        kind = chance.choices(("plain", "stream", "leaves", "slow"), (4, 4, 2, 1))[0]
        backend = self.llmux.fleet.by_name[name]
        leave_after = chance.choice((0.01, 0.3, 1.0, 3.0, 8.0)) if kind == "leaves" else None
        long = kind == "slow" or chance.random() < 0.05
        tokens = chance.randint(100, 400) if long and backend.demo else chance.randint(4, 40)
        return Question(
            backend=backend,
            prompt=f"Say something about {chance.randrange(10**9)}.",
            tokens=tokens if backend.demo else min(tokens, 16),
            stream=kind == "slow" or kind != "plain",
            leave_after=leave_after,
            pause=0.02 if kind == "slow" else 0.0,
            bound=WAIT_BOUND + 55,
        )

    def _take_down(self, question: Question, answer: Answer, same_life: bool) -> None:
        self.outcomes[answer.outcome] += 1
        name = question.backend.name
        context = {
            "model": name,
            "waited_secs": round(answer.waited, 2),
            "seconds": round(answer.seconds, 2),
            "stream": question.stream,
        }
        if answer.outcome == REFUSED:
            self.refusals[answer.what[:120]] += 1
        if answer.outcome in (ANSWERED, REFUSED, CUT):
            self.longest[answer.outcome] = max(self.longest.get(answer.outcome, 0.0), answer.waited)
            if answer.waited > WAIT_BOUND:
                self.violations.add(f"a request for {name} waited too long", **context)
        if answer.outcome in (WRONG, STUCK):
            self.violations.add(f"{answer.outcome}: {answer.what}", **context)
        elif answer.outcome in (UNANSWERED, UNHEARD) and same_life:
            self.violations.add(
                f"{answer.outcome} while {answer.what}, though llmux ran all the time", **context
            )
        elif (
            self.calm_since is not None
            and answer.began >= self.calm_since
            and answer.outcome not in (ANSWERED, LEFT)
        ):
            self.violations.add(
                f"{answer.outcome} {answer.what}, though nothing goes wrong any more", **context
            )


async def soak(fleet: Fleet, llmux: Llmux, options: argparse.Namespace) -> dict[str, Any]:
    """Run it; give the report."""
    violations, chance = Violations(), random.Random(options.seed)
    seconds = options.minutes * 60
    run = Soak(llmux, chance, violations)
    faults = Faults(fleet, llmux, violations, chance, run.vanish, run.burst)
    await asyncio.to_thread(llmux.start)
    clients = [asyncio.create_task(run.client()) for _ in range(options.clients)]
    async with _background(watch(fleet, llmux, violations), fleet):
        await faults.go_on(seconds, seconds * 35 / 60, max(240.0 * seconds / 3600, 20.0))
        say("nothing goes wrong any more")
        await faults.finish()
        recovery = await _recover(run)
        run.calm_since = time.monotonic()
        await asyncio.sleep(min(20.0, seconds / 10))
        run.over = True
        try:
            await asyncio.wait_for(asyncio.gather(*clients, *run.bursts), WAIT_BOUND + 60)
        except TimeoutError:
            violations.add("requests that were asked had not ended at the end")
        gauges = await _rest(llmux)
        if gauges:
            violations.add(f"nobody asks anything, and yet: {gauges}")
        status = await asyncio.to_thread(llmux.status)
        llmux.sample()
    shape, complaints = flatness(llmux.life.samples, seconds)
    for complaint in complaints:
        violations.add(complaint)
    code = await asyncio.to_thread(llmux.end, signal.SIGTERM)
    if code != 0:
        violations.add(f"llmux ended with status {code} after TERM")
    events, bugs = read_log(fleet.log)
    runs = fleet.hook_runs()
    for bug in bugs:
        violations.add(f"a bug: {bug}")
    for overlap in overlaps(runs):
        violations.add(overlap)
    return {
        "seed": options.seed,
        "minutes": options.minutes,
        "models": {backend.name: backend.kind for backend in fleet.backends},
        "requests": sum(run.outcomes.values()),
        "outcomes": dict(run.outcomes.most_common()),
        "refusals": dict(run.refusals.most_common()),
        "longest_wait_secs": {key: round(value, 2) for key, value in run.longest.items()},
        "faults": dict(sorted(faults.counts.items())),
        "lives_of_llmux": len(llmux.lives),
        "recovered_after_secs": recovery,
        "last_life": shape,
        "hooks": count_runs(runs),
        "events": events,
        "violations": violations.count,
        "found": violations.found,
        "status_at_the_end": status,
        "samples": [_as_rows(life) for life in llmux.lives],
    }


async def _recover(run: Soak) -> dict[str, float]:
    """Have each model answer, whatever the faults have left: a back-off may have to pass."""
    took = {}
    began = time.monotonic()
    for backend in run.llmux.fleet.backends:
        while True:
            question = Question(backend=backend, prompt="And now?", tokens=8)
            answer = await run.ask(question)
            took[backend.name] = round(time.monotonic() - began, 2)
            if answer.outcome == ANSWERED:
                break
            if time.monotonic() - began > RECOVERY:
                run.violations.add(f"{backend.name} does not answer any more: {answer.what}")
                break
            await asyncio.sleep(1)
    return took


async def _rest(llmux: Llmux) -> dict[str, float]:
    """Wait until the last request has been counted out."""
    gauges: dict[str, float] = {}
    for _ in range(20):
        gauges = await asyncio.to_thread(llmux.gauges)
        if not gauges:
            break
        await asyncio.sleep(0.5)
    return gauges


@contextlib.asynccontextmanager
async def _background(doing: Coroutine[Any, Any, None], fleet: Fleet) -> AsyncIterator[None]:
    """Have something done meanwhile; if this is broken off, nobody waits for anything any more."""
    task = asyncio.create_task(doing)
    try:
        yield
    except BaseException:
        fleet.end()
        raise
    finally:
        if task.done():
            task.result()  # it never ends by itself
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _as_rows(life: Life) -> list[list[float]]:
    return [[round(each.at, 1), each.files, each.bytes] for each in life.samples]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=60.0, help="how long faults are made (%(default)s)")
    add("--seed", type=int, default=1, help="decides about all that is random (%(default)s)")
    add("--clients", type=int, default=12, help="how many clients ask (%(default)s)")
    add("--no-llama", action="store_true", help="without llama-server")
    add("--keep", type=Path, help="work in this new directory, and leave it: the log is in it")
    add("--results", type=Path, default=HERE / "results", help="where the report goes")
    return parser


def main(words: list[str]) -> int:
    """
    Run it.

    :param words: the command line, without the program.
    :returns: 0, or 1 if anything was not as it must be.
    """
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    llama, settings = ({}, {}) if options.no_llama else llama_models()
    if not llama:
        say("without llama-server: LLAMA_SERVER and LLAMA_MODEL say where it and its model are")
    demo = dict.fromkeys(["one", "two", "three", *([] if llama else ["four"])], "demo")
    settings |= {"LOAD_SECS": "0.3", "TOKENS_PER_SEC": "200"}
    with contextlib.ExitStack() as stack:
        if options.keep:
            options.keep.mkdir(parents=True)
            directory = options.keep.absolute()
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmux-soak-")))
        fleet = Fleet(directory, {**llama, **demo}, settings)
        fleet.write(SECTIONS)
        stack.callback(fleet.end)
        try:
            report = asyncio.run(soak(fleet, Llmux(fleet), options))
        except BenchError as error:
            say(str(error))
            return 1
    options.results.mkdir(parents=True, exist_ok=True)
    results = options.results / f"soak-{options.seed}.json"
    results.write_text(json.dumps(report, indent=1))
    brief = {key: value for key, value in report.items() if key not in ("samples", "events")}
    brief.pop("status_at_the_end")
    print(json.dumps(brief, indent=2))
    say(f"all of it: {results}")
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
