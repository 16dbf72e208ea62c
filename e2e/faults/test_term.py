"""TERM, in each phase: nobody new, nobody forgotten, status 0; and the next start serves."""

from __future__ import annotations

import signal

import pytest

from e2e.faults import scenes
from e2e.faults.house import House
from e2e.program import WAIT, wait_until


def term(house: House) -> None:
    """Send TERM, and wait until llmux has heard it."""
    house.program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: house.told("stopping"))


def ends(house: House) -> None:
    """See llmux end in order."""
    assert house.program.process.wait(WAIT) == 0
    assert house.told("stopped")
    assert not [event for event in house.events() if "traceback" in event]


def test_idle(house: House) -> None:
    """It ends; its models stay awake, and the next start adopts them."""
    house.start()
    scenes.idle(house)
    engine = house.engine("a")
    term(house)
    ends(house)
    assert house.has_engine("a")
    house.start()
    house.serves("a")
    assert house.engine("a") == engine
    assert house.calls() == ["wake a request", "wake a request"]
    house.serves("b")


@pytest.mark.parametrize("scene", [scenes.waiting, scenes.draining], ids=scenes.name_of)
def test_with_a_stream(scene: scenes.Scene, house: House) -> None:
    """Who waits gets 503 at once; the stream comes to its end; no hook is begun for anybody."""
    house.have("a", max_concurrency=1)
    house.start()
    found = scene(house)  # type: ignore[operator]
    term(house)
    assert found.waiting.answer().is_refusal()
    assert house.program.process.poll() is None
    found.waiting = None
    found.ends_well()
    ends(house)
    assert house.calls() == ["wake a request"]
    house.start()
    house.serves("a", "b")


def test_streaming(house: House) -> None:
    """A stream comes to its end within the grace."""
    house.start()
    scene = scenes.streaming(house)
    term(house)
    scene.ends_well()
    ends(house)
    house.start()
    house.serves("a", "b")


def test_streaming_for_too_long(house: House) -> None:
    """After the grace a stream is cut, visibly, and what has no head yet gets 503."""
    house.config["shutdown"] = {"grace_secs": 0.3}
    house.start()
    scene = scenes.streaming(house)
    silent = house.send("a", silent=True)
    wait_until(lambda: house.look("a")["leases"] == 2)
    term(house)
    assert scene.streaming is not None
    scene.streaming.is_cut()
    assert silent.answer().is_refusal()
    ends(house)
    assert house.hows("a") == ["shutdown", "shutdown"]
    house.start()
    house.serves("a", "b")


def test_sleep_hook_runs(house: House) -> None:
    """It is waited for; nothing is woken that nobody waits for any more."""
    house.start()
    scene = scenes.sleeping(house)
    term(house)
    assert scene.waiting is not None
    assert scene.waiting.answer().is_refusal()
    assert house.program.process.poll() is None
    scene.go_on()
    ends(house)
    assert house.calls() == ["wake a request", "sleep a request"]
    assert not house.has_engine("a")
    house.start()
    house.serves("b", "a")


def test_wake_hook_runs(house: House) -> None:
    """It is waited for; the model is awake for the next start."""
    house.start()
    scene = scenes.waking(house)
    term(house)
    assert scene.waiting is not None
    assert scene.waiting.answer().is_refusal()
    scene.go_on()
    ends(house)
    assert house.has_engine("b")
    house.start()
    house.serves("b")
    assert house.calls()[-1] == "wake b request"
    house.serves("a")


def test_hook_hangs(house: House) -> None:
    """A hook that hangs holds llmux's end up to its own deadline, and no longer."""
    house.have("b", wake_timeout_secs=1)
    house.start()
    scene = scenes.waking(house)
    term(house)
    assert scene.waiting is not None
    assert scene.waiting.answer().is_refusal()
    ends(house)
    assert house.told("hook_failed", hook="wake")
    assert house.calls()[-1] == "sleep b wake_failed"
    house.mend("b", "wake")
    house.start()
    house.serves("b", "a")


def test_while_starting(house: House) -> None:
    """TERM while it is not known yet what is awake: who waits gets 503, the status is 0."""
    house.have("a", alive_timeout_secs=1)
    gate = house.gate("a", "alive")
    house.launch()
    wait_until(lambda: house.calls("alive"))
    house.program.wait_until_it_serves()
    client = house.send("a")
    house.waits("a")
    assert house.status()["phase"] == "starting"
    term(house)
    assert client.answer().is_refusal()
    ends(house)
    gate.open()
    house.start()
    house.serves("a", "b")


def test_twice(house: House) -> None:
    """A second TERM waits for nobody: what is in flight is cut, and the status is 1."""
    house.start()
    scene = scenes.streaming(house)
    term(house)
    house.program.process.send_signal(signal.SIGTERM)
    assert house.program.process.wait(WAIT) == 1
    assert scene.streaming is not None
    scene.streaming.is_cut()
    house.start()
    house.serves("a", "b")


def test_twice_while_a_hook_runs(house: House) -> None:
    """After a second TERM a hook goes on, and the next start waits for it."""
    house.start()
    scene = scenes.waking(house)
    term(house)
    house.program.process.send_signal(signal.SIGTERM)
    assert house.program.process.wait(WAIT) == 1
    assert scene.waiting is not None
    assert scene.waiting.answer().is_refusal()
    house.start()
    assert house.told("hook_left", model="b", hook="wake")
    client = house.send("b")
    scene.go_on()
    client.is_served("b")
    assert house.calls()[2:] == ["wake b request", "wake b request"]
    house.serves("a")


def test_sleep_models(house: House) -> None:
    """With shutdown.sleep_models what is awake is put to sleep at the end."""
    house.config["shutdown"] = {"sleep_models": True}
    house.start()
    house.serves("a")
    house.end()
    assert house.calls() == ["wake a request", "sleep a shutdown"]
    assert not house.has_engine("a")
    house.start()
    house.serves("a", "b")
