"""Preparing that goes wrong: nothing but a line in the log comes of it."""

from __future__ import annotations

import http.client
import signal

import pytest

from e2e.faults import scenes
from e2e.faults.house import HOOK, House, is_running
from e2e.program import WAIT, wait_until

HANGS = "while :; do sleep 0.05; done"
STUBBORN = f"trap '' TERM; {HANGS}"


def prepare(house: House) -> int:
    """Have b prepared while a is in the midst of an answer, and give the hook's process."""
    wait_until(lambda: "prepare b prepare" in house.calls("prepare"))
    return house.hook()


@pytest.mark.parametrize("script", [HANGS, STUBBORN], ids=["hears TERM", "ignores TERM"])
def test_hangs(script: str, house: House) -> None:
    """It is ended before its model is woken, by KILL if need be, with all that it started."""
    house.have("b", prepare=HOOK)
    house.fault("b", "prepare", f"sleep 600 & echo $! >>$house/child; {script}")
    house.start()
    scene = scenes.draining(house)
    pid = prepare(house)
    scene.ends_well()
    (child,) = (house.directory / "child").read_text().split()
    assert not is_running(pid)
    assert not is_running(int(child))
    assert house.told("hook_stopped", hook="prepare", model="b")
    house.serves("a", "b")


def test_fails(house: House) -> None:
    """The log says so, and its model is woken as if there were no such hook."""
    house.have("b", prepare=HOOK)
    house.fault("b", "prepare", "echo no such file; exit 3")
    house.start()
    scene = scenes.draining(house)
    wait_until(lambda: house.told("hook_failed", hook="prepare", model="b"))
    scene.ends_well()
    (failed,) = house.told("hook_failed")
    assert (failed["exit_code"], failed["stderr"]) == (3, "no such file")
    house.serves("a", "b")


def test_deadline(house: House) -> None:
    """It is ended at its deadline, too, and its model is woken later all the same."""
    house.have("b", prepare=HOOK, prepare_timeout_secs=0.2)
    house.fault("b", "prepare", HANGS)
    house.start()
    scene = scenes.draining(house)
    wait_until(lambda: house.told("hook_failed", hook="prepare", model="b"))
    assert "was ended at its deadline" in house.told("hook_failed")[0]["how"]
    scene.ends_well()
    house.serves("a", "b")


def test_llmux_is_killed(house: House) -> None:
    """What a killed llmux has left of it is ended at the next start, long before its deadline."""
    house.have("b", prepare=HOOK)
    house.fault("b", "prepare", HANGS)
    house.start()
    scene = scenes.draining(house)
    pid = prepare(house)
    house.kill()
    for client in (scene.streaming, scene.waiting):
        assert client is not None
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            client.answer()
    house.go_on.open()
    assert is_running(pid)
    house.mend("b", "prepare")
    house.start()
    assert house.told("hook_left", hook="prepare", model="b")
    house.serves("b", "a")
    assert not is_running(pid)


def test_llmux_ends(house: House) -> None:
    """When llmux ends it is ended, too."""
    house.have("b", prepare=HOOK)
    house.fault("b", "prepare", HANGS)
    house.start()
    scenes.draining(house)
    pid = prepare(house)
    house.program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not is_running(pid))
    house.go_on.open()
    assert house.program.process.wait(WAIT) == 0
