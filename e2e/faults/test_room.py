"""Room that is short: not given back by those that keep it, or by those that have reserved it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

import pytest

from e2e.faults.house import HOOK, House, is_running
from e2e.program import BIN, WAIT, wait_until

HANGS = "while :; do sleep 0.05; done"
ALL = {"gpu": 1}


def order(house: House, method: str, path: str, body: object) -> http.client.HTTPConnection:
    """Send what concerns a reservation."""
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=WAIT)
    headers = {"Content-Type": "application/json"}
    connection.request(method, f"/llmux/reservations{path}", json.dumps(body), headers)
    return connection


class Wish:
    """
    A client that asks for room, and does not wait for the answer.

    :param house: has the llmux that is asked.
    :param ttl: seconds for which the room is held without a renewal.
    """

    def __init__(self, house: House, ttl: float = 60) -> None:
        self._connection = order(house, "POST", "", {"needs": ALL, "ttl_secs": ttl})

    def answer(self) -> tuple[int, Any]:
        """Give the status and the document of the answer."""
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def leave(self) -> None:
        """Leave before there is an answer."""
        self._connection.close()


def one_fits(house: House) -> None:
    """Have all that there is needed by ``a``, and by ``b``."""
    house.config["resources"] = ALL
    for model in ("a", "b"):
        house.have(model, needs=ALL)


def one_keeps(house: House, **settings: Any) -> None:
    """Have ``a`` and ``b`` keep host memory while they sleep, of which there is enough for one."""
    house.config["resources"] = {**ALL, "ram": 10}
    for model in ("a", "b"):
        house.have(model, needs=ALL, asleep_needs={"ram": 6}, stop=HOOK)
    house.have("a", **settings)


@pytest.mark.parametrize("script", [HANGS, "exit 1"], ids=["hangs", "fails"])
def test_stop_fails(script: str, house: House) -> None:
    """What sleeps and cannot be stopped keeps its memory: it is promised to nobody else."""
    one_keeps(house, sleep_timeout_secs=0.7)
    house.start()
    house.serves("a")
    house.fault("a", "stop", script)
    answer = house.ask("b")
    assert answer.is_refusal(), answer
    assert house.calls() == ["wake a request", "sleep a request", "stop a request"]
    assert house.look("a")["state"] == "asleep"
    assert house.told("sleep_hook_failed", model="a")
    assert not house.has_engine("b")
    house.serves("a")
    house.mend("a", "stop")
    house.serves("b", "a")


def test_kill_helps_where_stop_fails(house: House) -> None:
    """The kill hook stops what the stop hook does not."""
    one_keeps(house, kill=HOOK)
    house.start()
    house.serves("a")
    house.fault("a", "stop", "exit 1")
    house.send("b").is_served("b")
    assert house.calls()[1:4] == ["sleep a request", "stop a request", "kill a sleep_failed"]
    assert house.look("a")["state"] == "stopped"
    house.serves("a", "b")


def test_killed_while_one_is_stopped(house: House) -> None:
    """The next start waits for the stop hook, and wakes nobody into what it may not have freed."""
    one_keeps(house)
    house.start()
    house.serves("a")
    gate = house.gate("a", "stop")
    client = house.send("b")
    house.runs("stop a request")
    hook = house.hook()
    house.kill()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        client.answer()
    house.start()
    client = house.send("b")
    house.waits("b")
    assert is_running(hook)
    assert not house.has_engine("b")
    gate.open()
    client.is_served("b")
    house.serves("a", "b")


def test_will_not_sleep_for_a_reservation(house: House) -> None:
    """Room that is not given back is not granted; the model goes on serving."""
    one_fits(house)
    house.start()
    house.serves("a")
    house.fault("a", "sleep", "exit 1")
    status, document = Wish(house).answer()
    assert status == 503, document
    assert house.status()["reservations"] == []
    house.serves("a")
    house.mend("a", "sleep")
    house.serves("b", "a")


def test_who_asks_for_room_leaves(house: House) -> None:
    """The drain is called off; the model that was to leave is open again."""
    one_fits(house)
    house.start()
    stream = house.stream("a")
    wish = Wish(house)
    house.is_("a", "draining")
    wish.leave()
    house.is_("a", "awake")
    assert house.status()["reservations"] == []
    house.send("a").is_served("a")
    house.go_on.open()
    stream.comes_to_its_end()
    assert house.calls() == ["wake a request"]
    house.serves("b", "a")


def test_room_that_is_not_renewed(house: House) -> None:
    """Whoever has died without giving it back has it until its time is over."""
    one_fits(house)
    house.start()
    house.serves("a")
    status, document = Wish(house, ttl=1).answer()
    assert status == 201, document
    client = house.send("b")
    client.is_served("b")
    assert house.told("reservation_ended", id=document["id"])
    house.serves("a")


def test_killed_while_room_is_held(house: House) -> None:
    """The next start holds the room, too: nobody is woken into it until it is given back."""
    one_fits(house)
    house.start()
    house.serves("a")
    status, document = Wish(house).answer()
    assert status == 201, document
    house.kill()
    house.start()
    assert [each["id"] for each in house.status()["reservations"]] == [document["id"]]
    client = house.send("b")
    house.waits("b")
    assert not house.has_engine("b")
    assert order(house, "DELETE", f"/{document['id']}", {}).getresponse().status == 200
    client.is_served("b")
    house.serves("a", "b")


def run_beside(house: House, ttl: float) -> tuple[subprocess.Popen[bytes], int]:
    """Have a command run while room is held; give ``llmux run`` and the process of the command."""
    mark = house.directory / "beside"
    words = [str(BIN / "llmux"), "run", "--admin", f"127.0.0.1:{house.port}", "--ttl", str(ttl)]
    script = f"echo $$ >{mark}.new; mv {mark}.new {mark}; exec sleep 600"
    beside = subprocess.Popen(
        [*words, "--", "sh", "-c", script],
        env=house.environment,
        stderr=subprocess.DEVNULL,
    )
    wait_until(mark.exists)
    return beside, int(mark.read_text())


def test_run_is_killed(house: House) -> None:
    """Nobody renews any more: the room goes back to the models when its time is over."""
    one_fits(house)
    house.start()
    house.serves("a")
    beside, command = run_beside(house, ttl=1)
    try:
        client = house.send("b")
        house.waits("b")
        beside.kill()
        beside.wait(WAIT)
        client.is_served("b")
    finally:
        with suppress(ProcessLookupError):
            os.kill(command, signal.SIGKILL)
    house.serves("a")


def test_llmux_is_away_while_a_command_runs(house: House) -> None:
    """The command is left in peace, and the next start knows that its room is held."""
    one_fits(house)
    house.start()
    house.serves("a")
    beside, command = run_beside(house, ttl=60)
    try:
        house.kill()
        assert beside.poll() is None
        assert is_running(command)
        house.start()
        client = house.send("b")
        house.waits("b")
        assert not house.has_engine("b")
        os.kill(command, signal.SIGTERM)
        client.is_served("b")
        assert beside.wait(WAIT) == 128 + signal.SIGTERM
    finally:
        beside.kill()
        with suppress(ProcessLookupError):
            os.kill(command, signal.SIGKILL)
    house.serves("a")
