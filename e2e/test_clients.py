"""What users of the official client do beside chatting: uploads, long lists, little patience."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import openai
import pytest
import pytest_twisted
from openai.types.audio import Transcription
from twisted.internet.threads import deferToThread

from e2e.program import Backends, Program, chat, in_thread, wait_until

FIRST, SECOND = Backends.models

LEFT = f'llmux_requests_total{{model="{FIRST}",status="499"}}'
REFUSED = f'llmux_requests_total{{model="{FIRST}",status="429"}}'
WAITING = f'llmux_request_queue_depth{{model="{FIRST}"}}'
IN_FLIGHT = f'llmux_model_in_flight{{model="{FIRST}"}}'


@pytest.fixture
def hears(backends: Backends) -> None:
    """Skip the test where the backend's model has no ears."""
    if backends.kind != "demo":
        pytest.skip("the GGUF model of the tests takes no sound")


@pytest.mark.usefixtures("hears")
@pytest.mark.parametrize("size", [1000, 3 * 1024 * 1024])
def test_transcription(size: int, serve: Callable[..., Program]) -> None:
    """A recording is uploaded whole, be it small or too large to be kept in memory."""
    client = serve().openai()
    recording = bytes(number % 256 for number in range(size))
    for model in (FIRST, SECOND):
        heard = client.audio.transcriptions.create(model=model, file=("speech.wav", recording))
        assert heard.text == f"This recording has {size} bytes."


@pytest.mark.usefixtures("hears")
def test_transcription_with_the_model_last(serve: Callable[..., Program]) -> None:
    """A form whose model comes after the file is for that model."""
    program = serve()
    heard = program.openai().post(
        "/audio/transcriptions",
        files=[("file", ("speech.wav", bytes(2000))), ("model", (None, SECOND.encode()))],
        options={"headers": {"Content-Type": "multipart/form-data"}},
        cast_to=Transcription,
    )
    assert heard.text == "This recording has 2000 bytes."
    assert json.loads(program.get("/health")[1])["awake"] == [SECOND]


def test_embeddings_of_2000_texts(serve: Callable[..., Program], backends: Backends) -> None:
    """2,000 texts in one request get the vectors that the backend itself gives, in order."""
    word = "sea" if backends.kind == "llama-server" else "sea" * 100  # its context is small
    texts = [f"{number}{f' {word}' * 8}" for number in range(2000)]
    client = serve().openai(timeout=120)
    found = client.embeddings.create(model=FIRST, input=texts)
    direct = openai.OpenAI(base_url=f"http://127.0.0.1:{backends.ports[0]}/v1", api_key="none")
    expected = direct.embeddings.create(model=FIRST, input=texts)
    assert [one.index for one in found.data] == list(range(2000))
    for one, other in zip(found.data, expected.data, strict=True):
        pairs = zip(one.embedding, other.embedding, strict=True)
        assert max(abs(a - b) for a, b in pairs) < 0.01  # an engine's batches make a difference
    assert found.data[0].embedding != found.data[1].embedding
    assert found.usage == expected.usage


@pytest_twisted.ensureDeferred
async def test_client_too_impatient_to_wait(
    serve: Callable[..., Program], backends: Backends
) -> None:
    """A client's own timeout while it waits is its timeout error; it leaves the queue at once."""
    gate = backends.gate()
    program = serve()
    impatient = program.openai(timeout=0.5)
    with pytest.raises(openai.APITimeoutError):
        await in_thread(chat, impatient, FIRST)
    await in_thread(wait_until, lambda: program.metric(LEFT) == 1)
    assert program.metric(WAITING) == 0
    assert program.metric(IN_FLIGHT) == 0
    gate.open()
    assert (await in_thread(chat, program.openai(), FIRST)).model == FIRST


@pytest_twisted.ensureDeferred
async def test_client_too_impatient_for_the_backend(
    serve: Callable[..., Program], backends: Backends
) -> None:
    """A client's own timeout while the backend works ends the request there, too."""
    program = serve()
    await in_thread(chat, program.openai(), FIRST)
    backends.send_signal(FIRST, signal.SIGSTOP)
    try:
        with pytest.raises(openai.APITimeoutError):
            await in_thread(chat, program.openai(timeout=0.5), FIRST)
        await in_thread(wait_until, lambda: program.metric(LEFT) == 1)
        assert program.metric(IN_FLIGHT) == 0
    finally:
        backends.send_signal(FIRST, signal.SIGCONT)
    assert (await in_thread(chat, program.openai(), FIRST)).model == FIRST


@pytest_twisted.ensureDeferred
async def test_one_too_many(serve: Callable[..., Program], backends: Backends) -> None:
    """
    Who is one too many in the queue gets the rate limit error and a time that is worth waiting.

    A client that tries again after that time is served; so is the one that waits.
    """
    gate = backends.gate()
    gate.open()
    program = serve(limits={"max_waiting": 1})
    for model in (SECOND, FIRST, SECOND):  # from now on it is known how long each hook takes
        await in_thread(chat, program.openai(), model)
    gate.close()
    waiting = deferToThread(chat, program.openai(), FIRST)
    await in_thread(wait_until, lambda: program.metric(WAITING) == 1)

    with pytest.raises(openai.RateLimitError, match="Too many requests are waiting") as refused:
        await in_thread(chat, program.openai(), FIRST)
    assert 1 <= int(refused.value.response.headers["Retry-After"]) <= 5

    again = deferToThread(chat, program.openai(max_retries=5), FIRST)
    await in_thread(wait_until, lambda: program.metric(REFUSED) >= 2)
    gate.open()
    assert (await waiting).model == FIRST
    assert (await again).model == FIRST
    assert program.metric(WAITING) == 0
