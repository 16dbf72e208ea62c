"""Real backends that hooks start and stop, driven by the official client."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from e2e.program import Backends, Program, chat, chat_at_length, in_thread, wait_until

FIRST, SECOND = Backends.models


@pytest.fixture
def program(serve: Callable[..., Program]) -> Program:
    """Start llmux in front of both models."""
    return serve()


def switches(program: Program, source: str, target: str) -> float:
    """Say how often it was switched from one to the other."""
    return program.metric(f'llmux_switch_total{{from="{source}",result="success",to="{target}"}}')


@pytest_twisted.ensureDeferred
async def test_chat(program: Program) -> None:
    """The first request wakes its model and is answered by it."""
    answer = await in_thread(chat, program.openai(), FIRST)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    assert json.loads(program.get("/health")[1])["awake"] == [FIRST]


@pytest_twisted.ensureDeferred
async def test_streaming_chat(program: Program) -> None:
    """A streamed answer comes in many pieces, up to its proper end."""

    def stream() -> list[Any]:
        return list(chat(program.openai(), SECOND, stream=True, max_tokens=16))

    events = await in_thread(stream)
    texts = [e.choices[0].delta.content for e in events if e.choices and e.choices[0].delta.content]
    assert len(texts) >= 10
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "length"


@pytest_twisted.ensureDeferred
async def test_switching_there_and_back(program: Program, backends: Backends) -> None:
    """Requests for the other model switch to it, and back; each is answered by its own."""
    client = program.openai()
    for model in (FIRST, SECOND, FIRST):
        answer = await in_thread(chat, client, model)
        assert answer.model == model
        awake = json.loads((await in_thread(program.get, "/health"))[1])["awake"]
        assert awake == [model]
        other = backends.ports[model == FIRST]
        with socket.socket() as probe:  # who sleeps has really gone
            assert probe.connect_ex(("127.0.0.1", other)) != 0
    assert switches(program, "idle", FIRST) == 1
    assert switches(program, FIRST, SECOND) == 1
    assert switches(program, SECOND, FIRST) == 1


@pytest_twisted.ensureDeferred
async def test_two_models_asked_at_once_by_twenty_clients(program: Program) -> None:
    """Twenty clients that ask for two models at once are all answered, with few switches."""

    def ask(model: str) -> str:
        answer = chat(program.openai(), model)
        assert answer.choices[0].message.content
        name: str = answer.model
        return name

    models = [Backends.models[number % 2] for number in range(20)]
    answered = await gatherResults([deferToThread(ask, model) for model in models])
    assert answered == models
    there, back = switches(program, FIRST, SECOND), switches(program, SECOND, FIRST)
    assert there + back <= 3
    assert program.metric(f'llmux_requests_total{{model="{FIRST}",status="200"}}') == 10
    assert program.metric(f'llmux_requests_total{{model="{SECOND}",status="200"}}') == 10


@pytest_twisted.ensureDeferred
async def test_client_that_leaves_mid_stream(program: Program) -> None:
    """A client that hangs up ends its request at the backend, and a switch can go on at once."""

    def leave() -> None:
        stream = chat_at_length(program.openai(), FIRST)
        for number, _ in enumerate(stream):
            if number == 3:
                break
        stream.close()

    await in_thread(leave)
    in_flight = f'llmux_model_in_flight{{model="{FIRST}"}}'
    await in_thread(wait_until, lambda: program.metric(in_flight) == 0, 1.0)
    cut = f'llmux_requests_cut_total{{model="{FIRST}",reason="client"}}'
    assert program.metric(cut) == 1
    assert (await in_thread(chat, program.openai(), SECOND)).model == SECOND


@pytest_twisted.ensureDeferred
async def test_switch_waits_for_a_stream(program: Program) -> None:
    """A switch waits for the answer that is under way; nothing of it is lost."""
    streaming = threading.Event()

    def stream() -> int:
        count = 0
        for event in chat(program.openai(), FIRST, stream=True, max_tokens=100):
            streaming.set()
            count += bool(event.choices and event.choices[0].delta.content)
        return count

    first = deferToThread(stream)
    await in_thread(streaming.wait, 30)
    second = deferToThread(chat, program.openai(), SECOND)
    assert await first >= 90
    assert (await second).model == SECOND


@pytest_twisted.ensureDeferred
async def test_errors_as_the_client_library_tells_them(program: Program) -> None:
    """What llmux refuses arrives as the exception that users of the library expect."""
    with pytest.raises(openai.NotFoundError, match="Model not found: nope"):
        await in_thread(chat, program.openai(), "nope")
    listed = await in_thread(program.openai().models.list)
    assert [model.id for model in listed.data] == sorted(Backends.models)
