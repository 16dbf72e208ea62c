"""Plays a trace to a real llmux, over HTTP and in real time, and measures as ``simulate`` does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from statistics import fmean, median

import attrs

from bench.processes import BenchError
from llmux.simulate.engine import EngineFigures
from llmux.simulate.trace import Row, Trace

PATIENCE = 300.0  # seconds that an answer may take
_QUEUE = re.compile(r"^server-timing:.*\bqueue;dur=([\d.]+)", re.MULTILINE | re.IGNORECASE)

_ALONE, _LONG_PROMPT, _LONG_ANSWER = (1, 1), (6001, 1), (1, 401)  # tokens asked and answered
_TIMES, _AT_ONCE = 7, 9


@attrs.frozen
class Played:
    """
    A request that was answered.

    :param row: what was asked.
    :param late: how much later than planned it was sent, in seconds.
    :param waited: how long it waited for its model, in seconds, as llmux tells its client.
    :param seconds: from when it was sent until its answer was complete.
    """

    row: Row
    late: float
    waited: float
    seconds: float


@attrs.frozen
class Measured:
    """
    How fast answers come from a model that is awake, seen by a client of llmux.

    :param figures: what depends on how long they are, and on how many there are.
    :param overhead: what a request takes besides, in seconds.
    """

    figures: EngineFigures
    overhead: float

    def burden(self, row: Row) -> Row:
        """Have a request take what it takes besides, too: as if its prompt were longer."""
        more = round(self.overhead * self.figures.prompt_rate)
        return attrs.evolve(row, prompt_tokens=row.prompt_tokens + more)

    def as_json(self) -> dict[str, float]:
        """Give it as plain JSON values."""
        figures = {
            name: float(f"{value:.4g}") for name, value in attrs.asdict(self.figures).items()
        }
        return {**figures, "overhead_secs": round(self.overhead, 5)}


async def play(port: int, trace: Trace) -> list[Played]:
    """
    Send each request at its time; give them as they were answered, in the trace's order.

    :param port: where llmux listens.
    :raises BenchError: if one is not answered.
    """
    begin = asyncio.get_running_loop().time() + 0.2
    return await asyncio.gather(*(_play(port, row, begin) for row in trace))


async def measure(port: int, model: str, most: int) -> Measured:
    """
    Find out how fast a model answers.

    :param most: how many of its answers come at once, which is not found out.
    """
    await _ask(port, _row(model, _ALONE))  # wakes it
    alone = {}
    for size in (_ALONE, _LONG_PROMPT, _LONG_ANSWER):
        alone[size] = median([await _serving(port, model, size) for _ in range(_TIMES)])
    prompt_secs = (alone[_LONG_PROMPT] - alone[_ALONE]) / (_LONG_PROMPT[0] - 1)
    token_secs = (alone[_LONG_ANSWER] - alone[_ALONE]) / (_LONG_ANSWER[1] - 1)
    crowd = await asyncio.gather(*(_serving(port, model, _LONG_ANSWER) for _ in range(_AT_ONCE)))
    overhead = max(0.0, alone[_ALONE] - prompt_secs - token_secs)
    slower = (fmean(crowd) - overhead) / (alone[_LONG_ANSWER] - overhead)
    slowdown = max(0.0, (slower - 1) / (_AT_ONCE - 1))
    return Measured(EngineFigures(1 / prompt_secs, token_secs, slowdown, most), overhead)


async def _play(port: int, row: Row, begin: float) -> Played:
    loop = asyncio.get_running_loop()
    assert row.arrived_at is not None
    due = begin + row.arrived_at
    await asyncio.sleep(due - loop.time())
    late = loop.time() - due
    waited, seconds = await _ask(port, row)
    return Played(row, late, waited, seconds)


async def _serving(port: int, model: str, size: tuple[int, int]) -> float:
    """Say how long an answer takes that does not have to wait."""
    waited, seconds = await _ask(port, _row(model, size))
    return seconds - waited


async def _ask(port: int, row: Row) -> tuple[float, float]:
    """
    Ask, and read the whole answer.

    :returns: how long it waited for its model, and how long all of it took, in seconds.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_request(row))
                answer = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise BenchError(f"{row.model} did not answer: {error!r}") from error
    seconds = loop.time() - began
    head, _, body = answer.decode().partition("\r\n\r\n")
    queue = _QUEUE.search(head)
    if not head.startswith("HTTP/1.1 200 ") or queue is None or not _is_whole(body):
        raise BenchError(f"{row.model} gave no answer: {answer[:2000]!r}")
    return float(queue[1]) / 1000, seconds


def _request(row: Row) -> bytes:
    prompt = " ".join(["word"] * row.prompt_tokens)
    document = {"model": row.model, "prompt": prompt, "max_tokens": row.output_tokens}
    body = json.dumps(document).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _row(model: str, size: Sequence[int]) -> Row:
    return Row(model, prompt_tokens=size[0], output_tokens=size[1])


def _is_whole(body: str) -> bool:
    try:
        return "choices" in json.loads(body)
    except ValueError:
        return False
