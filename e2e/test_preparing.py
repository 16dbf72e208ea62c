"""The hook that gets a model ready while another one serves, with real scripts and backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from e2e.program import Backends, Program, chat, in_thread, wait_until

# The real server's model is so small that it has answered before anything could be prepared.
pytestmark = pytest.mark.parametrize("backends", ["demo"], indirect=True)

FIRST, SECOND = Backends.models
HANGS = 'echo $$ >"$LLMUX_STATE_DIR/preparing"; while :; do sleep 0.05; done'


def told(program: Program, event: str) -> list[dict[str, Any]]:
    """Give the events of a name that are about the second model."""
    lines = program.events()
    return [each for each in lines if each.get("event") == event and each["model"] == SECOND]


def wakes(program: Program, prepared: str) -> float:
    """Say how often the second model was woken."""
    labels = f'{{model="{SECOND}",prepared="{prepared}"}}'
    return program.metric(f"llmux_wake_duration_seconds_count{labels}")


def preparing(backends: Backends) -> int:
    """Wait until the second model is being prepared, and give its process."""
    mark = backends.state / "models" / SECOND.replace("/", "%2F") / "preparing"
    wait_until(lambda: mark.exists() and mark.read_text().strip())
    return int(mark.read_text())


def is_running(pid: int) -> bool:
    """Tell whether there is a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ask(program: Program, model: str, **settings: Any) -> Deferred[Any]:
    """Let a client ask, beside all else."""
    return deferToThread(chat, program.openai(), model, **settings)


def in_flight(program: Program) -> float:
    """Say how many requests are at the first model."""
    return program.metric(f'llmux_model_in_flight{{model="{FIRST}"}}')


@pytest_twisted.ensureDeferred
async def test_prepared(serve: Callable[..., Program], backends: Backends) -> None:
    """It runs while the other model still answers; then its own is woken, and that is measured."""
    backends.prepare = 'echo "warm for $LLMUX_TO ($LLMUX_REASON)"'
    program = serve()
    await ask(program, FIRST)
    long = ask(program, FIRST, max_tokens=400)
    await in_thread(wait_until, lambda: in_flight(program) == 1)
    answer = ask(program, SECOND)
    assert (await answer).choices[0].message.content
    assert (await long).usage.completion_tokens == 400
    assert [each["hook"] for each in told(program, "hook_completed")][:2] == ["prepare", "wake"]
    ended = [
        (each["model"], each["hook"])
        for each in program.events()
        if each.get("event") == "hook_completed"
    ]
    assert ended.index((SECOND, "prepare")) < ended.index((FIRST, "sleep"))
    assert len(told(program, "prepare_started")) == 1
    assert wakes(program, "yes") == 1
    cost = f'llmux_hook_duration_seconds_count{{hook="prepare",model="{SECOND}"}}'
    assert program.metric(cost) == 1
    log = backends.state / "models" / SECOND.replace("/", "%2F") / "hooks.log"
    assert f"warm for {SECOND} (prepare)" in log.read_text()


@pytest_twisted.ensureDeferred
async def test_it_hangs(serve: Callable[..., Program], backends: Backends) -> None:
    """One that would never end is ended when its model is to be woken, and nobody fails by it."""
    backends.prepare = HANGS
    program = serve()
    await ask(program, FIRST)
    long = ask(program, FIRST, max_tokens=100)
    await in_thread(wait_until, lambda: in_flight(program) == 1)
    answer = ask(program, SECOND)
    pid = await in_thread(preparing, backends)
    assert (await answer).choices[0].message.content
    await long
    assert not is_running(pid)
    assert wakes(program, "partly") == 1
    assert [each["hook"] for each in told(program, "hook_stopped")] == ["prepare"]
    assert told(program, "hook_failed") == []
