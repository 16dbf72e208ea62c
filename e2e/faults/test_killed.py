"""llmux is killed, in each phase, and started again: nothing is lost from view."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Callable

import pytest

from e2e.faults import scenes
from e2e.faults.house import House, is_running
from e2e.faults.scenes import Scene
from e2e.program import BIN, WAIT, Program, free_port, wait_until


def kill(house: House, scene: Scene) -> None:
    """Kill llmux; all of its clients see that."""
    house.kill()
    for client in (scene.streaming, scene.waiting):
        if client is not None:
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                client.answer()


@pytest.mark.parametrize(
    "scene",
    [scenes.idle, scenes.waiting, scenes.draining, scenes.unanswered, scenes.streaming],
    ids=scenes.name_of,
)
def test_awake(scene: Callable[[House], Scene], house: House) -> None:
    """Its engine goes on; the next start finds it, and wakes it by its hook before it is asked."""
    house.have("a", max_concurrency=1)
    house.start()
    kill(house, scene(house))
    engine = house.engine("a")
    before = house.calls()
    house.start()
    house.send("a").is_served("a")
    assert house.calls() == [*before, "wake a request"]
    assert house.engine("a") == engine
    (found,) = house.told("model_found")
    assert (found["model"], found["state"]) == ("a", "unknown")
    house.serves("b")
    assert not house.has_engine("a")


def test_awake_and_another_one_is_wanted(house: House) -> None:
    """What was awake is put to sleep before anybody else is woken."""
    house.start()
    kill(house, scenes.idle(house))
    house.start()
    house.send("b").is_served("b")
    assert house.calls() == ["wake a request", "sleep a request", "wake b request"]
    assert not house.has_engine("a")
    house.serves("a")


def test_adopt_alive(house: House) -> None:
    """With adopt: alive what is alive is awake by that: no hook runs before it is asked."""
    house.have("a", adopt="alive")
    house.start()
    kill(house, scenes.idle(house))
    house.start()
    house.send("a").is_served("a")
    assert house.calls() == ["wake a request"]
    assert house.told("model_found")[0]["state"] == "awake"
    house.serves("b", "a")


def test_engine_dies_meanwhile(house: House) -> None:
    """An engine that dies while no llmux runs is woken anew."""
    house.have("a", adopt="alive")
    house.start()
    kill(house, scenes.idle(house))
    house.crash("a")
    house.start()
    house.send("a").is_served("a")
    assert house.calls() == ["wake a request", "wake a request"]
    house.serves("b", "a")


def test_without_alive(house: House) -> None:
    """Without alive what was awake is unknown, and sleeps before anybody else is woken."""
    house.have("a", alive=None)
    house.start()
    kill(house, scenes.idle(house))
    house.start()
    house.send("b").is_served("b")
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    assert not house.has_engine("a")
    house.serves("a")


@pytest.mark.parametrize("scene", [scenes.sleeping, scenes.waking], ids=scenes.name_of)
def test_hook_runs(scene: Callable[[House], Scene], house: House) -> None:
    """The hook goes on; the next start waits for it, and no other hook runs beside it."""
    house.start()
    found = scene(house)
    kill(house, found)
    before = house.calls()
    house.start()
    (waited,) = house.told("hook_left")
    assert waited["hook"] == ("sleep" if scene is scenes.sleeping else "wake")
    assert house.status()["phase"] == "starting"
    client = house.send("b")
    house.waits("b")
    assert house.calls() == before
    assert house.calls("alive")[-1] != "alive a start"
    found.go_on()
    client.is_served("b")
    after = (
        ["sleep a request", "wake b request"] if scene is scenes.sleeping else ["wake b request"]
    )
    assert house.calls()[len(before) :] == after
    house.serves("a", "b")


@pytest.mark.parametrize("stubborn", [False, True], ids=["hears TERM", "ignores TERM"])
def test_hook_that_hangs(stubborn: bool, house: House) -> None:
    """A hook that was left running is ended at its deadline, which counts from its start."""
    house.have("b", wake_timeout_secs=2)
    house.start()
    house.serves("a")
    trap = "trap '' TERM; " if stubborn else ""
    house.fault("b", "wake", f"{trap}while :; do sleep 0.05; done")
    client = house.send("b")
    house.runs("wake b request")
    pid = house.hook()
    kill(house, Scene(lambda: None, waiting=client))
    house.mend("b", "wake")
    house.start()
    assert house.told("hook_left", hook="wake", model="b")
    house.send("b").is_served("b")
    assert not is_running(pid)
    house.serves("a", "b")


def test_kill_while_it_starts(house: House) -> None:
    """Killed once more while it waits for a hook, the third one waits for that hook, too."""
    house.start()
    scene = scenes.waking(house)
    kill(house, scene)
    house.start()
    assert house.told("hook_left")
    house.kill()
    house.start()
    assert house.told("hook_left", model="b", hook="wake")
    before = house.calls()
    client = house.send("b")
    house.waits("b")
    assert house.calls() == before
    scene.go_on()
    client.is_served("b")
    house.serves("a", "b")


def test_term_while_a_hook_is_left(house: House) -> None:
    """TERM while a hook of the one before is waited for: status 0; the next one waits, too."""
    house.start()
    scene = scenes.waking(house)
    kill(house, scene)
    house.start()
    client = house.send("b")
    house.waits("b")
    house.program.process.send_signal(signal.SIGTERM)
    assert client.answer().is_refusal()
    assert house.program.process.wait(WAIT) == 0
    house.start()
    assert house.told("hook_left", model="b", hook="wake")
    scene.go_on()
    house.serves("b", "a")


def test_removed_meanwhile(house: House) -> None:
    """A model that the file has no longer is put to sleep with the hooks that it had."""
    house.start()
    kill(house, scenes.idle(house))
    model = house.config["models"].pop("a")
    house.start()
    house.rests()
    wait_until(lambda: [each["name"] for each in house.status()["models"]] == ["b"])
    assert house.calls() == ["wake a request", "sleep a config"]
    assert not house.has_engine("a")
    assert house.ask("a").status == 404
    house.serves("b")
    house.end()
    house.config["models"]["a"] = model
    house.start()
    house.serves("a")


def test_removed_meanwhile_while_its_hook_runs(house: House) -> None:
    """The same, for a model whose wake hook runs on: it is waited for first."""
    house.start()
    scene = scenes.waking(house)
    kill(house, scene)
    del house.config["models"]["b"]
    house.start()
    assert house.told("hook_left", model="b", hook="wake")
    client = house.send("a")
    house.waits("a")
    scene.go_on()
    client.is_served("a")
    wait_until(lambda: [each["name"] for each in house.status()["models"]] == ["a"])
    assert house.calls()[2:] == ["wake b request", "sleep b config", "wake a request"]
    assert not house.has_engine("b")
    house.serves("a")


def test_another_address_meanwhile(house: House) -> None:
    """A model that the file has at another address is put to sleep at the old one first."""
    house.start()
    kill(house, scenes.idle(house))
    engine = house.engine("a")
    house.have("a", port=free_port())
    house.start()
    house.send("a").is_served("a")
    assert house.calls()[1:] == ["sleep a config", "wake a request"]
    assert not is_running(engine)
    house.serves("b", "a")


@pytest.mark.parametrize("content", ["", '{"version": 1, "mod', "{}"], ids=["empty", "half", "no"])
def test_damaged_journal(content: str, house: House) -> None:
    """A journal that cannot be used is set aside, and told of; alive tells what is awake."""
    house.start()
    kill(house, scenes.idle(house))
    (house.state / "journal.json").write_text(content)
    house.start()
    house.send("b").is_served("b")
    assert house.told("journal_unreadable")
    assert (house.state / "journal.json.broken").read_text() == content
    assert house.calls() == ["wake a request", "sleep a request", "wake b request"]
    house.serves("a")


def test_both_are_awake(house: House) -> None:
    """More is found alive than fits: who was asked last stays, the others are put to sleep."""
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 0")  # its engine runs on
    house.serves("b")
    house.mend("a", "sleep")
    house.kill()
    house.start()
    house.rests()
    house.is_("a", "asleep")
    assert house.calls()[-1] == "sleep a start"
    assert not house.has_engine("a")
    engine = house.engine("b")
    house.serves("b")
    assert house.engine("b") == engine
    house.serves("a")


def test_both_are_awake_and_one_will_not_sleep(house: House) -> None:
    """Nobody waits for ever for what does not fit and will not go: 503, until it has gone."""
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 0")
    house.serves("b")
    house.fault("a", "sleep", "exit 1")
    house.kill()
    house.start()
    house.runs("sleep a sleep_failed")
    assert house.ask("b").is_refusal()
    house.mend("a", "sleep")
    house.serves("b", "a")


def test_second_llmux(house: House) -> None:
    """A second llmux on the same state is refused, names the first one, and ends with status 1."""
    program = house.start()
    house.serves("a")
    words = [str(BIN / "twistd"), "-n", "--pidfile=", "llmux", "--config", str(house.path)]
    second = Program(
        [*words, "--port", "0"],
        0,
        house.environment,
        house.directory / "second",
        cwd=house.directory,
    )
    house.programs.insert(0, second)
    assert second.process.wait(WAIT) == 1
    assert f"in use by another llmux, process {program.process.pid}" in second.printed()
    assert house.calls() == ["wake a request"]
    house.serves("a", "b")
    house.kill()
    house.start()
    house.serves("a")
