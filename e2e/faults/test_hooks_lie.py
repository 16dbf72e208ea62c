"""Hooks that contradict each other, or the truth."""

from __future__ import annotations

from e2e.faults.house import House
from e2e.program import wait_until


def test_alive_disagrees_after_a_wake(house: House) -> None:
    """Wake exits 0, alive does not agree until its deadline: 503, cleaned up, a back-off."""
    house.have("a", wake_timeout_secs=1)
    house.start()
    house.serves("a", "b")
    (house.directory / "sick").touch()
    answer = house.ask("a")
    assert answer.is_refusal(), answer
    house.is_("a", "asleep")
    assert house.calls()[-2:] == ["wake a request", "sleep a wake_failed"]
    (failed,) = house.told("switch_failed", model="a")
    assert "the wake hook succeeded, but the alive hook" in failed["error"]
    assert house.look("a")["back_off"]["failures"] == 1
    assert house.ask("a").is_refusal(), "it has a back-off, and no hook runs"
    assert house.calls()[-1] == "sleep a wake_failed"
    (house.directory / "sick").unlink()
    house.serves("b", "a")


def test_alive_that_has_never_agreed(house: House) -> None:
    """It is warned about after each wake, and not believed: the request is served."""
    house.have("a", wake_timeout_secs=0.7, alive_interval_secs=0.1)
    house.fault("a", "alive", "exit 1")
    house.start()
    house.serves("a")
    (doubted,) = house.told("alive_doubted")
    assert doubted["model"] == "a"
    assert house.look("a")["health"]["alive"] == "unproven"
    asked = len(house.calls("alive"))
    wait_until(lambda: len(house.calls("alive")) > asked + 4)
    assert not house.told("model_down")
    house.serves("a", "b", "a")
    assert len(house.told("alive_doubted")) == 2
    assert house.calls() == ["wake a request", "sleep a request", "wake b request",
                             "sleep b request", "wake a request"]  # fmt: skip


def test_sleep_fails_while_alive_agrees(house: House) -> None:
    """Once more, kill, called off: the model goes on serving, the others get 503."""
    house.have("a", kill=house.config["models"]["a"]["sleep"])
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 1")
    house.fault("a", "kill", "exit 1")
    engine = house.engine("a")
    answer = house.ask("b")
    assert answer.is_refusal(), answer
    assert house.calls()[1:] == ["sleep a request", "sleep a sleep_failed", "kill a sleep_failed"]
    assert len(house.told("sleep_hook_failed", model="a")) == 3
    assert house.look("a")["state"] == "awake"
    assert house.look("a")["back_off"]["sleep_secs"] > 0
    house.serves("a")
    assert house.engine("a") == engine
    house.mend("a", "kill")
    house.serves("b", "a")


def test_kill_helps(house: House) -> None:
    """A sleep hook that fails, and a kill that works: the other client sees only a delay."""
    house.have("a", kill=house.config["models"]["a"]["sleep"])
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 1")
    house.send("b").is_served("b")
    assert house.calls()[1:] == [
        "sleep a request", "sleep a sleep_failed", "kill a sleep_failed", "wake b request",
    ]  # fmt: skip
    assert not house.has_engine("a")
    house.serves("a", "b")


def test_sleep_fails_twice_in_a_row(house: House) -> None:
    """Two switches that are called off, one after the other, lose nobody."""
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 1")
    assert house.ask("b").is_refusal()
    house.serves("a")
    waiting = house.send("b")  # nobody tries it again before the back-off is over
    assert waiting.answer().is_refusal()
    assert house.look("a")["back_off"]["failures"] == 2
    assert len(house.calls("sleep")) == 4
    house.serves("a")
    house.mend("a", "sleep")
    house.serves("b", "a")


def test_sleep_fails_because_it_is_gone(house: House) -> None:
    """A sleep hook that fails while alive says that the engine has gone: it is asleep."""
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "kill -KILL $(cat engine.pid); exit 1")
    house.send("b").is_served("b")
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    house.mend("a", "sleep")
    house.serves("a", "b")


def test_sleep_leaves_it_answering(house: House) -> None:
    """Sleep exits 0 and its engine runs on: only freed can tell, and does; without it, nobody."""
    house.have("a", freed=house.config["models"]["a"]["sleep"], sleep_timeout_secs=0.7)
    house.start()
    house.serves("a", "b", "a")
    house.fault("a", "sleep", "exit 0")
    assert house.ask("b").is_refusal()
    assert house.has_engine("a")
    assert not house.has_engine("b")
    house.have("a", freed=None)
    house.write()
    house.reload()
    house.serves("b")
    assert house.has_engine("a")
    asked = house.asked()
    house.serves("b", "a")
    assert house.asked() == [*asked, "b", "a"], "nobody was answered by the engine that was left"
