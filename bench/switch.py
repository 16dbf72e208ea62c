"""A switch whose hooks do nothing: what it takes beside their starts."""

from __future__ import annotations

import http.client
import json
import subprocess
from statistics import median

from bench.figures import Bench, Case, Figure, Samples, Scale, Wanted
from bench.helpers import BUILD
from bench.processes import BenchError
from bench.proxy import Proxy

_MODELS = ("bench", "other")
_ANSWER_MS = 30  # how long an answer takes: the next request waits by then
_STARTS = 100  # of a hook, by a small program


def _figures(scale: Scale) -> list[Figure]:
    return [
        Figure("switch", "switch whose hooks are true", "ms"),
        Figure("switch_starts", "two starts of sh -c true by a small program", "ms"),
        Figure("switch_beside", "... what the switch takes more", "ms", Wanted(5)),
    ]


def _measure(bench: Bench, contender: str, proxy: Proxy) -> Samples:
    if proxy.gate is None:
        return {}  # nobody else switches
    starts = 2 * _start_ms()
    switch = median(_switches_ms(proxy, bench.scale.switches))
    return {"switch": switch, "switch_starts": starts, "switch_beside": switch - starts}


def _start_ms() -> float:
    command = [str(BUILD / "start"), str(_STARTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr}")
    return float(json.loads(done.stdout)["start"]["p50"]) * 1000


def _switches_ms(proxy: Proxy, count: int) -> list[float]:
    """
    Have two models take turns.

    A request always waits for the one while an answer of the other is under way. Both times are the
    backend's: when it had written an answer, and when it got the next model's request.
    """
    clients = [http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30) for _ in _MODELS]
    took = []
    went = 0
    try:
        _ask(clients[0], _MODELS[0])
        for turn in range(1, count + 2):
            _ask(clients[turn % 2], _MODELS[turn % 2])
            stamps = _answer(clients[(turn - 1) % 2])
            if went:
                took.append((stamps["came_ns"] - went) / 1e6)
            went = stamps["went_ns"]
        _answer(clients[(count + 1) % 2])
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"a switch came to no good end: {error!r}") from error
    finally:
        for client in clients:
            client.close()
    return took


def _ask(client: http.client.HTTPConnection, model: str) -> None:
    body = json.dumps({"model": model})
    headers = {"Content-Type": "application/json"}
    client.request("POST", f"/stamped?after_ms={_ANSWER_MS}", body, headers)


def _answer(client: http.client.HTTPConnection) -> dict[str, int]:
    answer = client.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise BenchError(f"a switch came to no good end: {answer.status} {text[:200]!r}")
    stamps: dict[str, int] = json.loads(text)
    return stamps


SWITCH = Case("switch", _figures, _measure)
