"""Clients that leave, in each phase of their requests."""

from __future__ import annotations

from e2e.faults import scenes
from e2e.faults.house import House
from e2e.program import wait_until


def left(house: House, model: str) -> None:
    """Wait until the access log says that a client has left."""
    wait_until(lambda: "client" in house.hows(model))


def test_while_waiting_for_a_place(house: House) -> None:
    """Whoever leaves the queue is gone at once; its engine never hears of it."""
    house.have("a", max_concurrency=1)
    house.start()
    scene = scenes.waiting(house)
    assert scene.waiting is not None
    scene.waiting.leave()
    left(house, "a")
    assert house.look("a")["waiters"]["count"] == 0
    scene.waiting = None
    scene.ends_well()
    assert house.asked() == ["a"]
    house.serves("a", "b")


def test_while_draining(house: House) -> None:
    """The switch that it was for is called off, and the model stays awake."""
    house.start()
    scene = scenes.draining(house)
    assert scene.waiting is not None
    scene.waiting.leave()
    house.is_("a", "awake")
    left(house, "b")
    (off,) = house.told("switch_called_off")
    assert off["reason"] == "nobody wants it any more"
    house.serves("a")  # at once, beside the stream
    scene.waiting = None
    scene.ends_well()
    assert house.calls() == ["wake a request"]
    house.serves("b", "a")


def test_while_sleeping(house: House) -> None:
    """The point of no return is passed: the switch goes through, and nobody is answered."""
    house.start()
    scene = scenes.sleeping(house)
    assert scene.waiting is not None
    scene.waiting.leave()
    left(house, "b")
    scene.go_on()
    house.is_("b", "awake")
    house.rests()
    assert house.calls() == ["wake a request", "sleep a request", "wake b request"]
    assert house.asked() == ["a"]
    house.serves("b", "a")


def test_while_waking(house: House) -> None:
    """A wake that nobody waits for any more is finished, and not broken off."""
    house.start()
    scene = scenes.waking(house)
    assert scene.waiting is not None
    scene.waiting.leave()
    left(house, "b")
    scene.go_on()
    house.is_("b", "awake")
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    assert house.asked() == ["a"]
    house.serves("b", "a")


def test_before_the_head(house: House) -> None:
    """The engine's connection is closed, and only then does another model's turn come."""
    house.start()
    scene = scenes.unanswered(house)
    assert scene.waiting is not None
    other = house.send("b")
    house.is_("a", "draining")
    scene.waiting.leave()
    other.is_served("b")
    left(house, "a")
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    house.serves("a", "b")


def test_mid_stream(house: House) -> None:
    """The same, in the midst of an answer."""
    house.start()
    scene = scenes.draining(house)
    assert scene.streaming is not None
    scene.streaming.leave()
    scene.streaming = None
    scene.ends_well()
    left(house, "a")
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    house.serves("a", "b")


def test_settle_secs(house: House) -> None:
    """An engine whose client has left is left alone for a while before it is put to sleep."""
    house.config["policy"]["settle_secs"] = 1.0
    house.start()
    scene = scenes.draining(house)
    assert scene.streaming is not None
    assert house.status()["switch"]["phase"] == "draining"
    scene.streaming.leave()
    wait_until(lambda: (house.status()["switch"] or {}).get("phase") == "settling")
    assert house.calls() == ["wake a request"]
    scene.streaming = None
    scene.ends_well()
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    house.serves("a", "b")


def test_all_leave_and_come_back(house: House) -> None:
    """Clients that lose patience and ask again, over and over, keep nothing from its turn."""
    house.start()
    scene = scenes.draining(house)
    for _ in range(10):
        assert scene.waiting is not None
        scene.waiting.leave()
        scene.waiting = house.send("b")
    house.is_("a", "draining")
    scene.ends_well()
    assert house.calls() == ["wake a request", "sleep a request", "wake b request"]
    house.serves("a", "b")


def test_drain_timeout(house: House) -> None:
    """What a drain has waited for long enough is cut, visibly, and the log says so."""
    house.have("a", drain_timeout_secs=0.5)
    house.start()
    stream = house.stream("a")
    silent = house.send("a", silent=True)
    wait_until(lambda: house.look("a")["leases"] == 2)
    other = house.send("b")
    stream.is_cut()
    answer = silent.answer()
    assert answer.is_refusal(), answer
    assert "drain_timeout_secs" in answer.message
    other.is_served("b")
    wait_until(lambda: house.hows("a") == ["drain_timeout", "drain_timeout"])
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    house.serves("a", "b")


def test_client_that_does_not_read(house: House) -> None:
    """Without drain_timeout_secs a client that takes nothing cannot hold a model: it is cut."""
    house.have("a", client_stall_secs=0.5)
    house.start()
    client = house.send("a", flood=True)
    wait_until(lambda: house.look("a")["leases"] == 1)
    house.send("b").is_served("b")
    wait_until(lambda: house.hows("a") == ["stalled"])
    client.is_cut()
    house.serves("a", "b")
