"""Hooks that end in odd ways: by a signal, with something left running, or without having begun."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from e2e.faults.house import House, is_running
from e2e.program import wait_until

LONGEST = 8 * 1024 * 1024
A_GIGABYTE_SECS = 120.0  # in which any machine can write one


def test_wake_is_killed(house: House) -> None:
    """A wake hook that somebody kills has failed: 503, cleaned up, a back-off."""
    house.gate("a", "wake")
    house.start()
    client = house.send("a")
    house.runs("wake a request")
    os.killpg(os.getpgid(house.hook()), signal.SIGKILL)
    assert client.answer().is_refusal()
    (failed,) = house.told("hook_failed", hook="wake")
    assert failed["how"] == "was ended by signal 9"
    house.is_("a", "asleep")
    assert house.calls() == ["wake a request", "sleep a wake_failed"]
    house.mend("a", "wake")
    house.serves("b", "a")


def test_sleep_is_killed(house: House) -> None:
    """A sleep hook whose script is killed is run once more; the client sees only a delay."""
    gate = house.gate("a", "sleep")
    house.start()
    house.serves("a")
    client = house.send("b")
    house.runs("sleep a request")
    os.kill(house.hook(), signal.SIGKILL)
    house.runs("sleep a sleep_failed")
    gate.open()
    client.is_served("b")
    assert house.calls()[1:] == ["sleep a request", "sleep a sleep_failed", "wake b request"]
    (failed,) = house.told("hook_failed", hook="sleep")
    assert failed["how"] == "exited with status 137"  # as shells tell of it
    house.serves("a")


def test_alive_is_killed(house: House) -> None:
    """An alive that somebody kills, by the clock, is one failure; the next one agrees again."""
    house.have("a", alive_interval_secs=0.1)
    house.start()
    house.serves("a")
    house.fault("a", "alive", "[ -e killed ] || { touch killed; kill -KILL $$; }")
    wait_until(lambda: house.told("hook_failed", hook="alive"))
    asked = len(house.calls("alive"))
    wait_until(lambda: len(house.calls("alive")) > asked + 3)
    assert house.look("a")["health"]["failures"] == 0
    assert not house.told("model_down")
    house.serves("a", "b")


@pytest.mark.parametrize("hook", ["freed", "kill"])
def test_freed_or_kill_is_killed(hook: str, house: House) -> None:
    """A freed that somebody kills is asked again; a kill is a failure, and the model goes on."""
    sleep = house.config["models"]["a"]["sleep"]
    house.have("a", freed=sleep, kill=sleep)
    house.start()
    house.serves("a")
    if hook == "kill":
        house.fault("a", "sleep", "exit 1")
    house.fault("a", hook, "[ -e killed ] || { touch killed; kill -KILL 0; }")
    answer = house.ask("b")
    if hook == "kill":
        assert answer.is_refusal(), answer
        assert house.told("hook_failed", hook="kill")[0]["how"] == "was ended by signal 9"
        assert house.look("a")["state"] == "awake"
    else:
        assert answer.served_by == "b"
        assert len(house.calls("freed")) == 2
    house.serves("a", "b")


def test_hook_forks_and_exits(house: House) -> None:
    """A hook has ended when it has exited, though a server it left with & holds its output."""
    house.fault("a", "wake", "(while :; do echo tick; sleep 0.05; done) & echo $! >ticking")
    house.start()
    house.serves("a")
    pid = int((house.state / "models/a/ticking").read_text())
    output = house.state / "models/a/hooks.log"
    size = output.stat().st_size
    wait_until(lambda: output.stat().st_size > size + 10)
    assert house.look("a")["hooks"]["wake"]["result"] == "success"
    house.serves("b")
    assert is_running(pid)
    house.serves("a")


def test_hook_prints_a_gigabyte(house: House) -> None:
    """Its output does not fill the disk, nor llmux's memory; the request is served."""
    gigabyte = "head -c 1000000000 /dev/zero"
    printing = f"{gigabyte}; touch printed; until [ -e go_on ]; do sleep 0.02; done"
    house.fault("a", "wake", printing)
    program = house.start()
    memory = Path(f"/proc/{program.process.pid}/statm")
    before = int(memory.read_text().split()[1])
    client = house.send("a")
    directory = house.state / "models/a"
    wait_until((directory / "printed").exists, A_GIGABYTE_SECS)

    def is_cut() -> bool:
        with (directory / "hooks.log").open("rb") as file:
            return (
                file.read(15) == b"[cut by llmux]\n" and os.fstat(file.fileno()).st_size < LONGEST
            )

    wait_until(is_cut)
    (directory / "go_on").touch()
    client.is_served("a")
    assert int(memory.read_text().split()[1]) - before < 32 * 256, "pages of memory"
    asked = program.get("/llmux/models/a/output?hook=wake")[1]
    assert 60_000 < len(asked) <= 64 * 1024
    house.serves("b", "a")


@pytest.mark.parametrize("fault", ["missing", "not executable"])
def test_wake_hook_missing(fault: str, house: House) -> None:
    """A wake hook that cannot be run: 503, the log says why; HUP with a better file mends it."""
    good = house.config["models"]["a"]["wake"]
    house.have("a", wake=bad_path(house, fault))
    house.start()
    answer = house.ask("a")
    assert answer.is_refusal(), answer
    (failed,) = house.told("hook_failed", hook="wake")
    assert failed["exit_code"] == (127 if fault == "missing" else 126)
    assert ("not found" if fault == "missing" else "ermission denied") in failed["stderr"]
    house.is_("a", "asleep")
    assert house.calls() == ["sleep a wake_failed"]
    house.serves("b")
    house.have("a", wake=good)
    house.write()
    house.reload()
    house.serves("a")


@pytest.mark.parametrize("fault", ["missing", "not executable"])
def test_sleep_hook_missing(fault: str, house: House) -> None:
    """A sleep hook that cannot be run: the model goes on, the others get 503 until it is mended."""
    good = house.config["models"]["a"]["sleep"]
    house.have("a", sleep=bad_path(house, fault))
    house.start()
    house.serves("a")
    assert house.ask("b").is_refusal()
    assert [each["exit_code"] for each in house.told("hook_failed", hook="sleep")] == (
        [127, 127] if fault == "missing" else [126, 126]
    )
    assert house.look("a")["state"] == "awake"
    house.serves("a")
    house.have("a", sleep=good)
    house.write()
    house.reload()
    house.serves("b", "a")


@pytest.mark.parametrize("hook", ["alive", "freed", "kill"])
def test_other_hook_missing(hook: str, house: House) -> None:
    """Whatever hook is missing, both models are served again when the file has it right."""
    house.start()
    house.serves("a", "b", "a")
    good = house.config["models"]["a"]["sleep"]
    house.have("a", **{hook: bad_path(house, "missing")}, sleep_timeout_secs=0.5,
               wake_timeout_secs=1)  # fmt: skip
    house.write()
    house.reload()
    if hook == "kill":
        house.fault("a", "sleep", "exit 1")
    before = house.calls()
    answer = house.ask("b")
    if hook == "alive":  # it is not asked: the sleep hook has succeeded
        assert answer.served_by == "b"
        house.serves("a")  # an alive that has never agreed is not believed
        assert house.told("alive_doubted", model="a")
    else:
        assert answer.is_refusal(), answer
        assert house.told("hook_failed", hook=hook)[0]["exit_code"] == 127
        assert house.calls()[len(before) :] == ["sleep a request", "sleep a sleep_failed"]
    house.have("a", **{hook: good})
    house.write()
    house.reload()
    house.serves("b", "a")


def bad_path(house: House, fault: str) -> str:
    """Give a path at which there is no program."""
    path = house.directory / "nothing.sh"
    if fault != "missing":
        path.write_text("#!/bin/sh\n")
        path.chmod(0o644)
    return str(path)
