"""Hooks that do not end by themselves: each is ended at its deadline, with all that it started."""

from __future__ import annotations

import pytest

from e2e.faults.house import House, is_running
from e2e.program import wait_until

HANGS = "while :; do sleep 0.05; done"


def ended(house: House, hook: str, model: str) -> bool:
    """Tell whether the log says that a hook was ended at its deadline."""
    return any(
        "was ended at its deadline" in each["how"]
        for each in house.told("hook_failed", hook=hook, model=model)
    )


def test_wake_hangs(house: House) -> None:
    """Its client gets 503; the hook is ended, cleaned up after, and left alone for a while."""
    house.have("a", wake_timeout_secs=1)
    house.fault("a", "wake", f"sleep 600 & echo $! >>$house/child; {HANGS}")
    house.start()
    answer = house.ask("a")
    assert answer.is_refusal(), answer
    assert "could not be woken" in answer.message
    assert ended(house, "wake", "a")
    house.is_("a", "asleep")
    assert house.calls() == ["wake a request", "sleep a wake_failed"]
    assert house.look("a")["back_off"]["wake_secs"] > 0
    (child,) = (house.directory / "child").read_text().split()
    assert not is_running(int(child))
    house.serves("b")
    house.mend("a", "wake")
    house.serves("a")


def test_hook_ignores_term(house: House) -> None:
    """A hook that will not hear TERM is killed five seconds later; nobody waits for ever."""
    house.have("a", wake_timeout_secs=0.5)
    house.fault("a", "wake", f"trap '' TERM; {HANGS}")
    house.start()
    client = house.send("a")
    house.runs("wake a request")
    pid = house.hook()
    assert client.answer().is_refusal()
    assert not is_running(pid)
    assert ended(house, "wake", "a")
    house.mend("a", "wake")
    house.serves("a", "b")


def test_sleep_hangs(house: House) -> None:
    """It is tried once more; then the switch is called off, and the model goes on serving."""
    house.have("a", sleep_timeout_secs=0.5)
    house.start()
    house.serves("a")
    house.fault("a", "sleep", HANGS)
    answer = house.ask("b")
    assert answer.is_refusal(), answer
    assert ended(house, "sleep", "a")
    assert house.calls() == ["wake a request", "sleep a request", "sleep a sleep_failed"]
    assert house.look("a")["state"] == "awake"
    house.serves("a")
    house.mend("a", "sleep")
    house.serves("b", "a")


def test_alive_hangs_after_a_wake(house: House) -> None:
    """A model whose alive says nothing in time is not awake: 503, cleaned up, a back-off."""
    house.have("a", wake_timeout_secs=1.5, alive_timeout_secs=0.5)
    house.start()
    house.serves("a", "b")
    house.fault("a", "alive", HANGS)
    answer = house.ask("a")
    assert answer.is_refusal(), answer
    house.is_("a", "asleep")
    assert house.calls()[-2:] == ["wake a request", "sleep a wake_failed"]
    house.serves("b")
    house.mend("a", "alive")
    house.serves("a")


def test_alive_hangs_by_the_clock(house: House) -> None:
    """Three times in a row without an answer is down: cleaned up, and woken for the next one."""
    house.have("a", alive_timeout_secs=0.3, alive_interval_secs=0.1)
    house.start()
    house.serves("a")
    house.fault("a", "alive", HANGS)
    wait_until(lambda: house.told("model_down", model="a"))
    house.is_("a", "asleep")
    assert house.calls()[-1] == "sleep a backend_down"
    house.mend("a", "alive")
    house.serves("a", "b")


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "disagrees"])
def test_freed_never_agrees(hangs: bool, house: House) -> None:
    """Memory that is not freed in time: nobody is woken into it; 503 until it is."""
    house.have("a", freed=house.config["models"]["a"]["sleep"], sleep_timeout_secs=0.7)
    house.start()
    house.serves("a")
    house.fault("a", "freed", HANGS if hangs else "exit 1")
    answer = house.ask("b")
    assert answer.is_refusal(), answer
    assert house.calls() == ["wake a request", "sleep a request", "sleep a sleep_failed"]
    assert house.look("a")["state"] == "unknown"
    assert house.told("sleep_hook_failed", model="a")
    assert not house.has_engine("b")
    house.mend("a", "freed")
    house.serves("b", "a")


def test_kill_hangs(house: House) -> None:
    """A kill that hangs is ended, too; alive says that the model is there, and it goes on."""
    house.have("a", kill=house.config["models"]["a"]["sleep"], sleep_timeout_secs=0.7)
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 1")
    house.fault("a", "kill", HANGS)
    answer = house.ask("b")
    assert answer.is_refusal(), answer
    assert ended(house, "kill", "a")
    assert house.calls()[1:] == ["sleep a request", "sleep a sleep_failed", "kill a sleep_failed"]
    assert house.look("a")["state"] == "awake"
    house.serves("a")
    house.mend("a", "kill")
    house.serves("b", "a")
