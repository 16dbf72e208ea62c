"""Backends that crash, hang, or find their place taken."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from e2e.faults.house import House
from e2e.program import wait_until

AGAIN = ["wake a request", "sleep a backend_down", "wake a request"]


@pytest.mark.parametrize("size", [0, 3_000_000], ids=["small", "large"])
def test_killed_idle(size: int, house: House) -> None:
    """The next request finds nobody: alive, sleep, wake, and it is served; it sees only a delay."""
    house.start()
    house.serves("a")
    house.crash("a")
    house.send("a", text="x" * size).is_served("a")
    assert house.calls() == AGAIN
    assert "alive a backend_down" in house.calls("alive")
    assert house.told("model_down", model="a")
    wait_until(lambda: house.hows("a") == ["complete", "complete"])
    house.serves("b", "a")


def test_killed_idle_without_alive(house: House) -> None:
    """Without alive, that nobody listens is enough to know."""
    house.have("a", alive=None)
    house.start()
    house.serves("a")
    house.crash("a")
    house.send("a").is_served("a")
    assert house.calls() == AGAIN
    house.serves("b", "a")


def test_killed_idle_and_not_wanted(house: House) -> None:
    """Alive, asked by the clock, finds it; nobody wants it, so it is cleaned up and sleeps."""
    house.have("a", alive_interval_secs=0.1)
    house.start()
    house.serves("a")
    house.crash("a")
    house.is_("a", "asleep")
    assert house.calls() == ["wake a request", "sleep a backend_down"]
    house.serves("a", "b")


def test_killed_mid_stream(house: House) -> None:
    """The stream is cut, visibly; the next request wakes the model again."""
    house.start()
    stream = house.stream("a")
    house.crash("a")
    stream.is_cut()
    wait_until(lambda: house.hows("a") == ["backend"])
    house.send("a").is_served("a")
    assert house.calls() == AGAIN
    house.serves("b", "a")


@pytest.mark.parametrize("wedged", [False, True], ids=["killed", "wedged"])
def test_dies_while_drained(wedged: bool, house: House) -> None:
    """An engine that dies while it is drained for another model holds nobody up."""
    house.have("a", alive_interval_secs=0.1, alive_timeout_secs=0.3)
    house.start()
    house.serves("a")
    stream = house.stream("a")
    other = house.send("b")
    house.is_("a", "draining")
    if wedged:
        os.kill(house.engine("a"), signal.SIGSTOP)
    else:
        house.crash("a")
    stream.is_cut()
    other.is_served("b")
    assert house.calls()[1:] == ["sleep a request", "wake b request"]
    house.serves("a", "b")


def test_killed_before_the_head(house: House) -> None:
    """A request that the engine may have begun is not sent twice: 502; the next is served."""
    house.start()
    house.serves("a")
    silent = house.send("a", silent=True)
    wait_until(lambda: house.asked() == ["a", "a"])
    house.crash("a")
    answer = silent.answer()
    assert answer.status == 502
    assert "closed the connection before answering" in answer.message
    assert house.asked() == ["a", "a"]
    house.send("a").is_served("a")
    assert house.calls() == AGAIN
    house.serves("b", "a")


def test_killed_between_two_requests(house: House) -> None:
    """On one connection, with a connection to the backend kept: the client sees only a delay."""
    house.have("a", reuse_secs=60)
    house.start()
    client = house.send("a")
    client.is_served("a")
    house.crash("a")
    client.ask("a")
    client.is_served("a")
    assert house.calls() == AGAIN
    assert house.asked() == ["a", "a"]
    house.serves("b", "a")


def test_killed_with_many_waiting(house: House) -> None:
    """Requests that find nobody at the same time cause one wake, and are all served."""
    house.start()
    house.serves("a")
    house.crash("a")
    clients = [house.send("a") for _ in range(10)]
    for client in clients:
        client.is_served("a")
    assert house.calls() == AGAIN
    house.serves("b", "a")


def test_refuses_again(house: House) -> None:
    """One request causes one re-wake: if the engine is gone again then, it gets a 502."""
    house.start()
    house.serves("a")
    house.crash("a")
    house.have("a", alive=None)
    house.write()
    house.reload()
    house.fault("a", "wake", "exit 0")  # it wakes nothing
    answer = house.ask("a")
    assert (answer.status, "refused" in answer.message) == (502, True), answer
    house.rests()
    assert house.calls() == [*AGAIN, "sleep a backend_down"]
    refused = house.ask("a")
    assert refused.is_refusal(), "it fell twice, and has shown nothing in between"
    house.serves("b")
    house.mend("a", "wake")
    house.serves("a")


def test_wedged(house: House) -> None:
    """It accepts and never answers: three alives fail, its requests end, it is woken again."""
    house.have("a", alive_interval_secs=0.1, alive_timeout_secs=0.3)
    house.start()
    house.serves("a")
    stream = house.stream("a")
    silent = house.send("a", silent=True)
    wait_until(lambda: house.look("a")["leases"] == 2)
    os.kill(house.engine("a"), signal.SIGSTOP)
    stream.is_cut()
    answer = silent.answer()
    assert answer.is_refusal(), answer
    assert "went down while it was working on this request" in answer.message
    (down,) = house.told("model_down")
    assert down["cause"] == "its alive hook failed 3 times in a row"
    wait_until(lambda: sorted(house.hows("a")) == ["backend_down", "backend_down", "complete"])
    house.send("a").is_served("a")
    assert house.calls() == AGAIN
    house.serves("b", "a")


def test_wedged_without_alive(house: House) -> None:
    """Without alive nobody can tell: 504 after first_byte_timeout_secs, until it goes on."""
    house.have("a", alive=None, first_byte_timeout_secs=0.5)
    house.start()
    house.serves("a")
    engine = house.engine("a")
    os.kill(engine, signal.SIGSTOP)
    answer = house.ask("a")
    assert (answer.status, answer.retry_after is None) == (504, False), answer
    assert house.calls() == ["wake a request"]
    house.serves("b")
    house.serves("a")
    assert house.calls()[1:3] == ["sleep a request", "wake b request"]


def test_alive_is_wrong(house: House) -> None:
    """An alive that agrees though nobody listens is believed: 502, until it is put right."""
    house.start()
    house.serves("a")
    house.fault("a", "alive", "exit 0")
    house.crash("a")
    for _ in range(2):
        answer = house.ask("a")
        assert (answer.status, "refused" in answer.message) == (502, True), answer
    assert house.calls() == ["wake a request"]
    house.mend("a", "alive")
    house.send("a").is_served("a")
    assert house.calls() == AGAIN
    house.serves("b", "a")


def test_busy_is_not_wedged(house: House) -> None:
    """While answers flow, an alive that fails does not count."""
    house.have("a", alive_interval_secs=0.3)
    house.start()
    house.serves("a")
    (house.directory / "sick").touch()
    asked = len(house.calls("alive"))
    while len(house.calls("alive")) < asked + 5:  # engines in a long prefill miss health checks
        house.send("a").is_served("a")
    assert not house.told("model_down")
    (house.directory / "sick").unlink()
    assert house.calls() == ["wake a request"]
    house.serves("a", "b")


@pytest.mark.parametrize("noticed", [True, False])
def test_port_taken(noticed: bool, house: House) -> None:
    """
    Another program has the port: the wake fails, 503; when it has gone, the model is served.

    If the wake hook does not notice it, alive does.
    """
    house.have("a", wake_timeout_secs=2, alive_timeout_secs=0.5)
    house.start()
    house.serves("a", "b")
    if not noticed:
        house.fault("a", "wake", "exit 0")
    with socket.create_server(("127.0.0.1", house.config["models"]["a"]["port"])):
        answer = house.ask("a")
        assert answer.is_refusal(), answer
        house.is_("a", "asleep")
        assert house.calls()[-2:] == ["wake a request", "sleep a wake_failed"]
        (failed,) = house.told("hook_failed", model="a")
        assert failed["hook"] == ("wake" if noticed else "alive")
        house.serves("b")
    if not noticed:
        house.mend("a", "wake")
    house.serves("a")
