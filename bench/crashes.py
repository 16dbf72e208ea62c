"""
Kills llmux at random moments: ``python -m bench.crashes --times 200 --seed 1``.

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
from pathlib import Path
from typing import Any

import attrs

from bench.asking import ANSWERED, REFUSED, STUCK, WRONG, Answer, Question, ask
from bench.fleet import CHANGING, Fleet, HookRun, count_runs, overlaps
from bench.helpers import HERE
from bench.lives import Llmux, read_log
from bench.processes import BenchError
from bench.report import say
from bench.violations import Violations
from bench.watch import look

MODELS = dict.fromkeys(("red", "green", "blue"), "demo")
SETTINGS = {
    "LOAD_SECS": "0.1",
    "TOKENS_PER_SEC": "500",
    # llmux is back within a second: a hook that it leaves running must take longer to be met again
    "WAKE_LINGERS": "0.7",
    "SLEEP_LINGERS": "0.3",
}
SECTIONS: dict[str, Any] = {
    "policy": {"request_timeout_secs": 60, "drain_timeout_secs": 10, "settle_secs": 0},
    "hooks": {
        "wake_timeout_secs": 20,
        "sleep_timeout_secs": 10,
        "alive_timeout_secs": 5,
        "alive_interval_secs": 2,
    },
}
EARLY = 0.5  # how many new processes are killed again while they start
STARTING = 2.5  # seconds: longer than llmux takes from its start to its first switch
SWITCHES = 2.0  # seconds: longer than a switch takes
SERVED = 60.0  # seconds in which a new process has to have served every model


@attrs.define
class Crashes:
    """
    Clients that have llmux switch all the time, and what becomes of them.

    :param llmux: whom they ask.
    :param chance: decides.
    :param violations: takes what must not be.
    :ivar served: the models that have answered in this life of llmux.
    :ivar kills: when it was killed (seconds since 1970), and what it was doing in its own words.
    """

    llmux: Llmux
    chance: random.Random
    violations: Violations
    outcomes: Counter[str] = attrs.Factory(Counter)
    served: set[str] = attrs.Factory(set)
    kills: list[tuple[float, str]] = attrs.Factory(list)
    slowest: float = 0.0

    async def client(self) -> None:
        """Ask on and on, each time another model."""
        while True:
            backend = self.chance.choice(self.llmux.fleet.backends)
            question = Question(
                backend=backend,
                prompt=f"What is {self.chance.randrange(10**9)}?",
                tokens=self.chance.randint(4, 60),
                stream=self.chance.random() < 0.5,
                bound=120,
            )
            life, up = self.llmux.life, self.llmux.up
            answer = await ask(self.llmux.fleet.port, question)
            same = self.llmux.life is life
            self._take_down(backend.name, answer, same, up and same and self.llmux.up)
            await asyncio.sleep(self.chance.uniform(0, 0.1) if answer.outcome == ANSWERED else 0.1)

    def _take_down(self, name: str, answer: Answer, same: bool, up: bool) -> None:
        self.outcomes[answer.outcome] += 1
        if answer.outcome == ANSWERED:
            if same:
                self.served.add(name)
        elif up or answer.outcome in (REFUSED, WRONG, STUCK):
            self.violations.add(
                f"{answer.outcome}: {answer.what}; {name} was asked, and it is healthy",
                life=len(self.llmux.lives),
                seconds=round(answer.seconds, 2),
            )

    async def watch(self) -> None:
        """Compare what llmux says with what there is, on and on."""
        while True:
            await asyncio.sleep(0.1)
            life = self.llmux.life
            if not self.llmux.up:
                continue
            found = await asyncio.to_thread(look, self.llmux.fleet, self.llmux)
            if self.llmux.up and self.llmux.life is life:
                for complaint, context in found:
                    self.violations.add(complaint, life=len(self.llmux.lives), **context)

    async def kill(self) -> None:
        """Kill llmux."""
        doing = "starts up"
        if self.llmux.up:
            status = await asyncio.to_thread(self.llmux.status)
            if status is not None:
                doing = status["phase"] if status["switch"] is None else status["switch"]["phase"]
        self.violations.note(f"kill {len(self.kills) + 1}, {doing}")
        self.kills.append((time.time(), doing))
        await asyncio.to_thread(self.llmux.end, signal.SIGKILL)

    async def live(self) -> None:
        """Start llmux, and see it serve every model."""
        self.served.clear()
        began = time.monotonic()
        await asyncio.to_thread(self.llmux.start)
        while missing := set(self.llmux.fleet.names) - self.served:
            self.llmux.life.process.check()
            if time.monotonic() - began > SERVED:
                self.violations.add(
                    f"{missing} not served within {SERVED:g} s after the start",
                    status=await asyncio.to_thread(self.llmux.status),
                )
                break
            await asyncio.sleep(0.05)
        self.slowest = max(self.slowest, time.monotonic() - began)


async def crash(fleet: Fleet, llmux: Llmux, options: argparse.Namespace) -> dict[str, Any]:
    """Run it; give the report."""
    violations, chance = Violations(), random.Random(options.seed)
    run = Crashes(llmux, chance, violations)
    await asyncio.to_thread(llmux.start)
    working = [asyncio.create_task(run.client()) for _ in range(options.clients)]
    working.append(asyncio.create_task(run.watch()))
    began = time.monotonic()
    try:
        await asyncio.sleep(chance.uniform(0, SWITCHES))
        for number in range(1, options.times + 1):
            await run.kill()
            while len(run.kills) < options.times and chance.random() < EARLY:
                llmux.start(wait=False)  # and kill it again while it finds out what is there
                await asyncio.sleep(chance.uniform(0, STARTING))
                await run.kill()
            await run.live()
            if number % 10 == 0:
                say(f"{len(run.kills)} kills, {violations.count} violations")
            for task in working:
                if task.done():
                    task.result()
            if len(run.kills) >= options.times:
                break
            await asyncio.sleep(chance.uniform(0, SWITCHES))
        seconds = time.monotonic() - began
    except BaseException:
        fleet.end()
        raise
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    code = await asyncio.to_thread(llmux.end, signal.SIGTERM)
    if code != 0:
        violations.add(f"llmux ended with status {code} after TERM")
    events, bugs = read_log(fleet.log)
    for bug in bugs:
        violations.add(f"a bug: {bug}")
    runs = fleet.hook_runs()
    for overlap in overlaps(runs):
        violations.add(overlap)
    return {
        "seed": options.seed,
        "kills": len(run.kills),
        "seconds": round(seconds, 1),
        "killed_while": _moments(run.kills, runs),
        "requests": sum(run.outcomes.values()),
        "outcomes": dict(run.outcomes.most_common()),
        "slowest_until_all_were_served_secs": round(run.slowest, 2),
        "switches": events.get("model_activated", 0),
        "hooks": count_runs(runs),
        "hooks_waited_for": events.get("hook_left", 0),
        "events": events,
        "violations": violations.count,
        "found": violations.found,
    }


def _moments(kills: list[tuple[float, str]], runs: list[HookRun]) -> dict[str, int]:
    """Count kills by what was going on: a hook, or else what llmux had said right before."""
    counts: Counter[str] = Counter()
    for at, doing in kills:
        running = [
            run.hook for run in runs if run.ended is not None and run.began <= at <= run.ended
        ]
        running.sort(key=lambda hook: hook not in CHANGING)
        counts[f"{running[0]} runs" if running else doing] += 1
    return dict(counts.most_common())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.crashes", description=__doc__)
    add = parser.add_argument
    add("--times", type=int, default=200, help="how often llmux is killed (%(default)s)")
    add("--seed", type=int, default=1, help="decides about all that is random (%(default)s)")
    add("--clients", type=int, default=6, help="how many clients ask (%(default)s)")
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
    with contextlib.ExitStack() as stack:
        if options.keep:
            options.keep.mkdir(parents=True)
            directory = options.keep.absolute()
        else:
            temporary = tempfile.TemporaryDirectory(prefix="llmux-crashes-")
            directory = Path(stack.enter_context(temporary))
        fleet = Fleet(directory, MODELS, SETTINGS)
        fleet.write(SECTIONS)
        stack.callback(fleet.end)
        try:
            report = asyncio.run(crash(fleet, Llmux(fleet), options))
        except BenchError as error:
            say(str(error))
            return 1
    options.results.mkdir(parents=True, exist_ok=True)
    results = options.results / f"crashes-{options.seed}.json"
    results.write_text(json.dumps(report, indent=1))
    print(json.dumps({key: value for key, value in report.items() if key != "events"}, indent=2))
    say(f"all of it: {results}")
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
