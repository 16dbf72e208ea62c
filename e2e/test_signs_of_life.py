"""Streams that wait for a wake, kept alive by comments, as the official client sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from e2e.program import Backends, Gate, Program, chat, in_thread, wait_until

FIRST, SECOND = Backends.models


@pytest.fixture
def gate(backends: Backends) -> Gate:
    """Have wakes wait until the test lets them go on."""
    return backends.gate()


@pytest.fixture
def program(gate: Gate, serve: Callable[..., Program]) -> Program:
    """Start llmux so that it shows signs of life."""
    return serve(keepalive_secs=0.1)


def begin(program: Program, **settings: Any) -> Any:
    """Ask for a stream while nobody is awake, and give it when its head has come."""
    stream = chat(program.openai(), FIRST, stream=True, **settings)
    assert json.loads(program.get("/health")[1])["awake"] == []
    return stream


@pytest_twisted.ensureDeferred
async def test_comments_then_chunks(program: Program, gate: Gate) -> None:
    """While the model wakes the client gets comments, each with its place; then the stream."""
    lines: list[str] = []

    def read() -> None:
        raw = program.openai().chat.completions.with_streaming_response
        with raw.create(
            model=FIRST, messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=8
        ) as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            assert answer.headers["X-Request-Id"]
            lines.extend(answer.iter_lines())

    reading = deferToThread(read)
    await in_thread(wait_until, lambda: len(lines) >= 6)
    gate.open()
    await reading
    told = [line for line in lines if line]
    comments = [line for line in told if line.startswith(":")]
    assert len(comments) >= 3
    assert set(comments) == {f": waiting for {FIRST}, 0 before you"}
    assert told[: len(comments)] == comments
    assert all(line.startswith("data: ") for line in told[len(comments) :])
    assert told[-1] == "data: [DONE]"


@pytest_twisted.ensureDeferred
async def test_client_ignores_comments(program: Program, gate: Gate) -> None:
    """The official client begins to read before the model is awake, and gives chunks alone."""
    stream = await in_thread(begin, program, max_tokens=16)
    gate.open()
    events = await in_thread(list, stream)
    texts = [e.choices[0].delta.content for e in events if e.choices and e.choices[0].delta.content]
    assert len(texts) >= 10
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "length"
    ok = f'llmux_requests_total{{model="{FIRST}",status="200"}}'
    assert program.metric(ok) == 1


@pytest_twisted.ensureDeferred
async def test_failed_wake(gate: Gate, backends: Backends, serve: Callable[..., Program]) -> None:
    """A wake that fails after the first comment raises an API error that says so."""
    backends.before_wake += "exit 1; "
    program = serve(keepalive_secs=0.1)
    stream = await in_thread(begin, program)
    gate.open()
    with pytest.raises(openai.APIError, match="could not be woken") as error:
        await in_thread(list, stream)
    assert isinstance(error.value.body, dict)
    assert error.value.body["type"] == "llmux_error"
    failed = f'llmux_requests_total{{model="{FIRST}",status="503"}}'
    assert program.metric(failed) == 1


@pytest_twisted.ensureDeferred
async def test_error_of_the_backend(program: Program, gate: Gate) -> None:
    """What the backend does not like after the first comment raises an API error in its words."""
    stream = await in_thread(begin, program, extra_body={"messages": 7})
    gate.open()
    with pytest.raises(openai.APIError, match="messages") as error:
        await in_thread(list, stream)
    assert isinstance(error.value.body, dict)
    assert error.value.body["type"] != "llmux_error"
    failed = f'llmux_requests_total{{model="{FIRST}",status="400"}}'
    assert program.metric(failed) == 1
