"""The wall clock is set back and forth by hours; whatever takes time takes its time."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from e2e.faults import scenes
from e2e.faults.house import House
from e2e.program import wait_until

JUMPING = str(Path(__file__).parent / "jumping.py")


def start(house: House) -> None:
    """Start llmux under such a clock."""
    house.start(house.environment["PYTHON"], JUMPING)


def jumps(number: int) -> None:
    """Wait until it was set so many times."""
    until = time.monotonic() + number / 4
    wait_until(lambda: time.monotonic() >= until)


@pytest.fixture(autouse=True)
def _has_jumped(house: House) -> object:
    """See that the clock was set, and that no duration in the log knows of it."""
    yield
    events = [json.loads(line) for one in house.programs for line in one.printed().splitlines()]
    seen = [datetime.fromisoformat(each["time"]).timestamp() for each in events]
    assert max(seen) - min(seen) > 3600
    for event in events:
        for name, value in event.items():
            if name.endswith("_secs") and value is not None:
                assert 0 <= value < 60, event
    assert 0 <= house.status()["uptime_secs"] < 60


def test_waiting_and_waking(house: House) -> None:
    """Hooks and requests have the time that they are given, and no less."""
    house.config["policy"]["request_timeout_secs"] = 600
    house.have("a", alive_interval_secs=0.5)
    start(house)
    scene = scenes.waking(house)
    jumps(8)
    assert house.look("b")["waiters"]["count"] == 1
    assert house.look("b")["state"] == "waking"
    scene.ends_well()
    house.serves("a")
    jumps(5)
    assert house.look("a")["state"] == "awake"
    house.serves("b")


def test_deadlines(house: House) -> None:
    """Deadlines come when they are due, and not hours later: of a wait, a hook, a drain."""
    house.config["policy"]["drain_timeout_secs"] = 1
    house.have("b", wake_timeout_secs=3, request_timeout_secs=2)
    start(house)
    scene = scenes.draining(house)
    assert scene.streaming is not None
    scene.streaming.is_cut()
    assert scene.waiting is not None
    scene.waiting.is_served("b")
    house.serves("a")
    house.fault("b", "wake", "while :; do sleep 0.05; done")
    assert house.ask("b").status == 504
    wait_until(lambda: house.told("hook_failed", hook="wake", model="b"))
    house.mend("b", "wake")
    house.is_("b", "asleep")
    house.serves("a", "b")


def test_killed_with_a_hook(house: House) -> None:
    """A hook that was left running is waited for, and not ended, whatever time it seems to be."""
    start(house)
    scene = scenes.waking(house)
    house.kill()
    start(house)
    assert house.told("hook_left")
    client = house.send("b")
    jumps(5)
    assert house.look("b")["waiters"]["count"] == 1
    scene.go_on()
    client.is_served("b")
    house.serves("a", "b")
