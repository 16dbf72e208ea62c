"""HUP, in each phase, with a bad and a good file; and what a good one can take away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.faults import scenes
from e2e.faults.house import House
from e2e.faults.scenes import Scene
from e2e.program import free_port, wait_until


@pytest.mark.parametrize("scene", scenes.SCENES, ids=scenes.name_of)
def test_bad_and_good(scene: Callable[[House], Scene], house: House) -> None:
    """A bad file changes nothing and says why; a good one counts; nobody notices either."""
    house.have("a", max_concurrency=1)
    house.start()
    found = scene(house)
    before = house.calls()
    models = house.config["models"]
    house.config["models"] = {**models, "b": {"prot": 1}}
    house.write()
    rejected = house.reload("config_rejected")
    assert any("did you mean port?" in problem for problem in rejected["problems"])
    house.config["models"] = {**models, "c": house.model()}
    house.have("b", request_timeout_secs=25)
    house.write()
    reloaded = house.reload()
    assert (reloaded["added"], reloaded["changed"], reloaded["removed"]) == (["c"], ["b"], [])
    assert house.calls() == before, "no hook has run for it"
    found.ends_well()
    house.serves("c", "b", "a")


def test_while_starting(house: House) -> None:
    """While it is not known yet what is awake, a file is taken over, and the start goes on."""
    gate = house.gate("a", "alive")
    house.launch()
    house.runs("alive a start")
    house.program.wait_until_it_serves()
    client = house.send("a")
    models = house.config["models"]
    house.config["models"] = {**models, "b": {"prot": 1}}
    house.write()
    house.reload("config_rejected")
    house.config["models"] = {**models, "c": house.model()}
    house.write()
    before = len(house.told("config_reloaded"))
    house.program.process.send_signal(1)
    gate.open()
    client.is_served("a")
    wait_until(lambda: len(house.told("config_reloaded")) > before)
    house.serves("c", "b", "a")


def test_file_is_gone(house: House) -> None:
    """A file that is not there any more is a bad one."""
    house.start()
    scene = scenes.draining(house)
    house.path.unlink()
    assert "No such file" in house.reload("config_rejected")["problems"][0]
    scene.ends_well()
    house.write()
    house.reload()
    house.serves("a", "b")


def test_new_hooks(house: House) -> None:
    """A new hook counts from its next run on; a hook that runs goes on."""
    house.start()
    scene = scenes.waking(house)
    house.have("b", sleep=f"touch {house.directory}/new; {house.config['models']['b']['sleep']}")
    house.write()
    assert house.reload()["changed"] == ["b"]
    scene.ends_well()
    house.serves("a")
    assert (house.directory / "new").exists()
    house.serves("b")


def test_removed_model_drains_and_sleeps(house: House) -> None:
    """It takes nobody new (404), its stream comes to its end, it sleeps, and is forgotten."""
    house.start()
    scene = scenes.streaming(house)
    model = house.config["models"].pop("a")
    house.write()
    assert house.reload()["removed"] == ["a"]
    assert house.ask("a").status == 404
    assert house.look("a")["removed"] is True
    assert house.calls() == ["wake a request"]
    scene.ends_well()
    wait_until(lambda: [each["name"] for each in house.status()["models"]] == ["b"])
    assert house.calls() == ["wake a request", "sleep a config"]
    assert not house.has_engine("a")
    house.config["models"]["a"] = model
    house.write()
    house.reload()
    house.serves("b", "a")


@pytest.mark.parametrize("moved", [False, True], ids=["removed", "moved"])
def test_model_that_has_to_go_and_will_not(moved: bool, house: House) -> None:
    """Nobody waits for ever for a model that has to go and does not: 503, until it is gone."""
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 1")
    if moved:
        house.have("a", port=free_port())
    else:
        del house.config["models"]["a"]
    house.write()
    house.reload()
    house.runs("sleep a sleep_failed")
    clients = [house.send(model) for model in (("a", "b") if moved else ("b",))]
    for client in clients:
        assert client.answer().is_refusal()
    house.mend("a", "sleep")
    house.serves("b")
    if moved:
        house.serves("a")


@pytest.mark.parametrize("scene", [scenes.draining, scenes.sleeping], ids=scenes.name_of)
def test_removed_before_its_wake(scene: Callable[[House], Scene], house: House) -> None:
    """Who waits for a model that is removed gets 404, and it is not woken."""
    house.start()
    found = scene(house)
    model = house.config["models"].pop("b")
    house.write()
    house.reload()
    assert found.waiting is not None
    assert found.waiting.answer().status == 404
    found.waiting = None
    found.ends_well()
    house.rests()
    assert not [call for call in house.calls() if " b " in call]
    wait_until(lambda: [each["name"] for each in house.status()["models"]] == ["a"])
    house.serves("a")
    house.config["models"]["b"] = model
    house.write()
    house.reload()
    house.serves("b", "a")


def test_removed_while_it_is_woken(house: House) -> None:
    """Its clients get 404; the wake is finished, and then it is put to sleep."""
    house.start()
    scene = scenes.waking(house)
    model = house.config["models"].pop("b")
    house.write()
    house.reload()
    assert scene.waiting is not None
    assert scene.waiting.answer().status == 404
    scene.go_on()
    wait_until(lambda: [each["name"] for each in house.status()["models"]] == ["a"])
    assert house.calls()[-2:] == ["wake b request", "sleep b config"]
    assert not house.has_engine("b")
    house.serves("a")
    house.config["models"]["b"] = model
    house.write()
    house.reload()
    house.serves("b", "a")


def test_removed_and_back_while_it_drains(house: House) -> None:
    """A model that is back in the file before it has gone stays, with its stream."""
    house.start()
    scene = scenes.streaming(house)
    model = house.config["models"].pop("a")
    house.write()
    house.reload()
    house.is_("a", "draining")
    house.config["models"]["a"] = model
    house.write()
    house.reload()
    house.is_("a", "awake")
    scene.ends_well()
    house.serves("a")
    assert house.calls() == ["wake a request"]
    house.serves("b")


@pytest.mark.parametrize("scene", [scenes.streaming, scenes.waking], ids=scenes.name_of)
def test_another_address(scene: Callable[[House], Scene], house: House) -> None:
    """What is in flight ends at the old address; then it sleeps there, and wakes at the new one."""
    house.start()
    model = "a" if scene is scenes.streaming else "b"
    found = scene(house)
    other = free_port()
    house.have(model, port=other)
    house.write()
    assert house.reload()["changed"] == [model]
    new = house.send(model)
    found.ends_well()
    new.is_served(model)
    wait_until(lambda: house.look(model)["backend"] == f"http://127.0.0.1:{other}")
    house.serves("a", "b")
    assert f"sleep {model} config" in house.calls()
