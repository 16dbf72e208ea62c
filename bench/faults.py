"""What goes wrong in the soak, one thing every few seconds."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from bench.fleet import Fleet
from bench.lives import Llmux
from bench.processes import BenchError
from bench.violations import Violations

ORDER_BOUND = 200.0  # seconds: drain, three hooks of a ladder, each with freed, wake and clean-up

SECTIONS: dict[str, Any] = {
    "policy": {"request_timeout_secs": 60, "drain_timeout_secs": 20, "settle_secs": 0.5},
    "hooks": {
        "wake_timeout_secs": 20,
        "sleep_timeout_secs": 10,
        "alive_timeout_secs": 3,
        "alive_interval_secs": 5,
    },
    "backend": {"first_byte_timeout_secs": 30, "idle_timeout_secs": 20},
    "limits": {"max_waiting": 50, "client_stall_secs": 20},
    "keepalive_secs": 2,
    "shutdown": {"grace_secs": 10},
}
"""The configuration, but for where to listen and the models."""


@attrs.define
class Faults:
    """
    Lets things go wrong.

    :param fleet: the models.
    :param llmux: what is to survive it.
    :param violations: takes what llmux must not do.
    :param chance: decides.
    :param vanish: has half of the clients leave at once.
    :param burst: sends so many requests at once.
    :ivar counts: how often each was done.
    """

    fleet: Fleet
    llmux: Llmux
    violations: Violations
    chance: random.Random
    vanish: Callable[[], None]
    burst: Callable[[int], None]
    counts: Counter[str] = attrs.Factory(Counter)
    _tasks: set[asyncio.Task[None]] = attrs.Factory(set)
    _over: bool = False

    async def go_on(self, until: float, restarts_until: float, restart_every: float) -> None:
        """
        Do one every few seconds.

        :param until: when to end, in seconds since the beginning.
        :param restarts_until: after this llmux is not ended any more.
        :param restart_every: seconds between two restarts, on average.
        """
        kinds: list[tuple[int, str, Callable[[], Awaitable[None]]]] = [
            (4, "backend killed", lambda: self._signal(signal.SIGKILL)),
            (2, "backend terminated", lambda: self._signal(signal.SIGTERM)),
            (3, "backend stopped", self._stop),
            (4, "hook fails", lambda: self._arm("fail")),
            (2, "hook hangs", lambda: self._arm("hang")),
            (3, "hook is slow", lambda: self._arm(f"slow {self.chance.randint(2, 8)}")),
            (2, "freed disagrees", lambda: self._disagree("freed", 3, 14)),
            (3, "alive disagrees", lambda: self._disagree("alive", 3, 20)),
            (4, "operator's order", self._order),
            (2, "reload, unchanged", lambda: self._reload(changed=False)),
            (3, "reload, changed", lambda: self._reload(changed=True)),
            (2, "reload, bad", self._reload_bad),
            (3, "clients vanish", self._vanish),
            (2, "burst", self._burst),
        ]
        weights = [weight for weight, _, _ in kinds]
        next_restart = self.chance.uniform(0.5, 1.0) * restart_every
        while self.llmux.now < until:
            await asyncio.sleep(self.chance.uniform(2, 6))
            if self.llmux.now >= next_restart and self.llmux.now < restarts_until:
                next_restart = self.llmux.now + self.chance.uniform(0.7, 1.3) * restart_every
                await self._restart()
                continue
            _, name, fault = self.chance.choices(kinds, weights)[0]
            self.counts[name] += 1
            self.violations.note(f"fault: {name}")
            await fault()

    async def finish(self) -> None:
        """Let nothing go wrong any more, and wait for what still does."""
        self._over = True  # whoever is stopped goes on
        self.fleet.disarm()
        await asyncio.gather(*self._tasks)
        await self._reload(changed=False)

    def _later(self, doing: Awaitable[None]) -> None:
        async def run() -> None:
            await doing

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _some_backend(self) -> tuple[str, int] | None:
        found = [(model, pid) for model, pids in self.fleet.alive().items() for pid in pids]
        return self.chance.choice(found) if found else None

    async def _signal(self, number: signal.Signals) -> None:
        if found := self._some_backend():
            self.fleet.signal(*found, number)

    async def _stop(self) -> None:
        if found := self._some_backend():
            model, pid = found
            self.fleet.signal(model, pid, signal.SIGSTOP)
            self._later(self._continue(model, pid, self.chance.uniform(1, 40)))

    async def _continue(self, model: str, pid: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._over:
            await asyncio.sleep(0.5)
        self.fleet.signal(model, pid, signal.SIGCONT)

    async def _arm(self, what: str) -> None:
        hook = self.chance.choice(("wake", "wake", "sleep", "sleep", "alive", "kill"))
        self.fleet.arm(self.chance.choice(self.fleet.names), hook, what)

    async def _disagree(self, hook: str, least: int, most: int) -> None:
        model = self.chance.choice(self.fleet.names)
        if hook == "alive":
            self.fleet.disarm(model)  # hooks that lie twice over are beyond anybody's knowledge
        seconds = self.chance.randint(least, most)
        self.fleet.arm(model, hook, f"until {int(time.time()) + seconds}")

    async def _order(self) -> None:
        model = self.chance.choice(self.fleet.names)
        verb = self.chance.choice(("wake", "sleep", "kill"))
        self._later(self._give(verb, model))

    async def _give(self, verb: str, model: str) -> None:
        life, began = self.llmux.life, self.llmux.now
        path = f"/llmux/models/{model}/{verb}"
        try:
            status, body = await asyncio.to_thread(self.llmux.post, path, ORDER_BOUND)
        except TimeoutError:
            self.violations.add(f"{verb} of {model} was not answered within {ORDER_BOUND:g} s")
            return
        except OSError as error:
            if self.llmux.up and self.llmux.life is life:
                self.violations.add(f"{verb} of {model}: {error}, but llmux is there")
            return
        self.counts[f"operator's order: {verb}, {status}"] += 1
        if status not in (200, 404, 409, 503):
            took = self.llmux.now - began
            self.violations.add(f"{verb} of {model}: {status} {body[:300]} after {took:.1f} s")

    async def _reload(self, changed: bool) -> None:
        sections, without = dict(SECTIONS), None
        if changed:
            settle = self.chance.choice((0, 0.5, 1))
            active = self.chance.choice((0, 0, 2))
            sections["policy"] = {
                **SECTIONS["policy"], "settle_secs": settle, "min_active_secs": active
            }  # fmt: skip
            without = self.chance.choice((None, self.fleet.names[-1]))
        self.fleet.write(sections, without)
        await self._have_it_read(200)

    async def _reload_bad(self) -> None:
        before = self.fleet.config.read_text()
        self.fleet.config.write_text(before[: self.chance.randrange(len(before))])
        try:
            await self._have_it_read(400)
        finally:
            self.fleet.config.write_text(before)

    async def _have_it_read(self, expected: int) -> None:
        """Reload by an order or by SIGHUP."""
        if not self.llmux.up:
            return
        if self.chance.random() < 0.5:
            self.llmux.life.process.send(signal.SIGHUP)
            await asyncio.sleep(0.7)
            return
        try:
            status, body = await asyncio.to_thread(self.llmux.post, "/llmux/reload", ORDER_BOUND)
        except OSError as error:
            self.violations.add(f"reload: {error!r}")
            return
        if status not in (expected, 409):
            self.violations.add(f"reload: {status} {body[:300]}")

    async def _vanish(self) -> None:
        self.vanish()

    async def _burst(self) -> None:
        self.burst(60)

    async def _restart(self) -> None:
        """End or kill llmux, whatever it is at, and start it again."""
        number = self.chance.choice((signal.SIGTERM, signal.SIGKILL))
        name = f"llmux {number.name}"
        self.counts[name] += 1
        self.violations.note(f"fault: {name}")
        try:
            status = await asyncio.to_thread(self.llmux.end, number)
        except BenchError as error:
            self.violations.add(str(error))
            status = await asyncio.to_thread(self.llmux.end, signal.SIGKILL)
        if number is signal.SIGTERM and status != 0:
            self.violations.add(f"llmux ended with status {status} after TERM")
        await asyncio.sleep(self.chance.choice((0, 0, 1)))
        await asyncio.to_thread(self.llmux.start)
