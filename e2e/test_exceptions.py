"""What goes wrong, as the exceptions that users of the official client expect."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from typing import Any

import openai
import pytest

from e2e.program import Backends, Program, chat, chat_at_length, wait_until

FIRST = Backends.models[0]

in_front_of_the_demo = pytest.mark.parametrize("backends", ["demo"], indirect=True)


def send(program: Program, body: bytes) -> object:
    """Have the official client send a body that it would not make by itself."""
    return program.openai().post(
        "/chat/completions",
        content=body,
        options={"headers": {"Content-Type": "application/json"}},
        cast_to=object,
    )


def refused(port: int) -> bool:
    """Say whether nobody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def break_off(program: Program, harm: Callable[[], object]) -> int:
    """Do some harm in the middle of a stream, and give the number of texts that came."""
    texts: list[str] = []

    def read() -> None:
        for event in chat_at_length(program.openai(), FIRST):
            if event.choices and event.choices[0].delta.content:
                texts.append(event.choices[0].delta.content)
                if len(texts) == 4:
                    harm()

    with pytest.raises(openai.APIConnectionError) as error:
        read()
    assert not isinstance(error.value, openai.APITimeoutError)
    return len(texts)


def assert_of_llmux(error: openai.APIStatusError, status: int) -> dict[str, Any]:
    """Check that an error is one of llmux's own, with this status; give its object."""
    assert error.status_code == status
    assert isinstance(error.body, dict)
    assert error.body["type"] == "llmux_error"
    assert error.body["message"]
    return error.body


@in_front_of_the_demo
def test_unknown_model(serve: Callable[..., Program]) -> None:
    """A model that is not there is not found; the request's id leads to it in the log."""
    program = serve()
    with pytest.raises(openai.NotFoundError, match="Model not found: nope") as error:
        chat(program.openai(), "nope")
    assert_of_llmux(error.value, 404)
    logged = program.event(model="nope")
    assert logged["request_id"] == error.value.request_id


@in_front_of_the_demo
def test_bad_requests(serve: Callable[..., Program]) -> None:
    """Where it cannot be said which model is meant, the request is a bad one; it says why."""
    program = serve()
    for body, reason in (
        (b'{"messages": nope, "model": "first"}', "JSON"),
        (b'{"model": "first', "JSON"),
        (b'{"model": "first", "messages": [], "model": "second/model"}', "model"),
        (b'{"model": ["first"], "messages": []}', "model"),
    ):
        with pytest.raises(openai.BadRequestError, match=reason) as error:
            send(program, body)
        assert_of_llmux(error.value, 400)
    with pytest.raises(openai.BadRequestError, match="model"):
        chat(program.openai(), None)  # type: ignore[arg-type]  # the mistake
    assert json.loads(program.get("/health")[1])["awake"] == []


def test_bad_request_of_the_backend(serve: Callable[..., Program]) -> None:
    """A backend's own errors are its own."""
    with pytest.raises(openai.BadRequestError) as error:
        send(serve(), b'{"model": "first", "messages": 7}')
    assert isinstance(error.value.body, dict)
    assert error.value.body["type"] != "llmux_error"


@in_front_of_the_demo
@pytest.mark.parametrize("size", [2000, 30_000_000])
def test_body_too_large(size: int, serve: Callable[..., Program]) -> None:
    """A body over the limit is a status error with 413, even if it is still being sent."""
    program = serve(limits={"max_body_bytes": 1500})
    with pytest.raises(openai.APIStatusError) as error:
        chat(program.openai(), FIRST, user="x" * size)
    assert_of_llmux(error.value, 413)
    assert chat(program.openai(), FIRST).model == FIRST


def test_backend_that_has_died(serve: Callable[..., Program], backends: Backends) -> None:
    """A backend that is not there any more is started again: the client sees only a delay."""
    program = serve()
    chat(program.openai(), FIRST)
    backends.send_signal(FIRST, signal.SIGKILL)
    wait_until(lambda: refused(backends.ports[0]))
    chat(program.openai(), FIRST)


@in_front_of_the_demo
def test_backend_that_is_never_there(serve: Callable[..., Program], backends: Backends) -> None:
    """One that is not even there then is an internal server error: 502, and which kind."""
    backends.before_wake = "exit 0; "
    program = serve()
    with pytest.raises(openai.InternalServerError, match="refused") as error:
        chat(program.openai(), FIRST)
    assert assert_of_llmux(error.value, 502)["code"] == error.value.code == "backend_refused"


@in_front_of_the_demo
def test_failed_wake(serve: Callable[..., Program], backends: Backends) -> None:
    """A model that cannot be woken is an internal server error: 503, and when to try again."""
    backends.before_wake = "echo secret; exit 1; "
    with pytest.raises(openai.InternalServerError, match="could not be woken") as error:
        chat(serve().openai(), FIRST)
    assert_of_llmux(error.value, 503)
    assert int(error.value.response.headers["Retry-After"]) >= 1
    assert "secret" not in error.value.message


@in_front_of_the_demo
def test_waited_too_long(serve: Callable[..., Program], backends: Backends) -> None:
    """A request that waits longer than it may is an internal server error: 504."""
    gate = backends.gate()
    program = serve(policy={"request_timeout_secs": 0.3})
    with pytest.raises(openai.InternalServerError, match="timed out waiting") as error:
        chat(program.openai(), FIRST)
    gate.open()
    woken = 'llmux_switch_total{from="idle",result="success",to="first"}'
    wait_until(lambda: program.metric(woken) == 1)  # or its backend would outlive the test
    assert_of_llmux(error.value, 504)
    assert int(error.value.response.headers["Retry-After"]) >= 1


def test_backend_that_hangs(serve: Callable[..., Program], backends: Backends) -> None:
    """A backend that does not begin to answer is an internal server error: 504."""
    program = serve(backend={"first_byte_timeout_secs": 3})
    chat(program.openai(), FIRST)
    backends.send_signal(FIRST, signal.SIGSTOP)
    try:
        with pytest.raises(openai.InternalServerError) as error:
            chat(program.openai(), FIRST)
    finally:
        backends.send_signal(FIRST, signal.SIGCONT)
    assert assert_of_llmux(error.value, 504)["code"] == "backend_timeout"
    assert chat(program.openai(), FIRST).model == FIRST


def test_stream_that_breaks(serve: Callable[..., Program], backends: Backends) -> None:
    """A stream whose backend dies raises a connection error; it does not just end."""
    program = serve()
    count = break_off(program, lambda: backends.send_signal(FIRST, signal.SIGKILL))
    assert count >= 4
    cut = f'llmux_requests_cut_total{{model="{FIRST}",reason="backend"}}'
    wait_until(lambda: program.metric(cut) == 1)


def test_stream_that_stops(serve: Callable[..., Program], backends: Backends) -> None:
    """A stream that says nothing for too long is cut, which raises a connection error, too."""
    program = serve(backend={"idle_timeout_secs": 1})
    try:
        break_off(program, lambda: backends.send_signal(FIRST, signal.SIGSTOP))
    finally:
        backends.send_signal(FIRST, signal.SIGCONT)
    cut = f'llmux_requests_cut_total{{model="{FIRST}",reason="timeout"}}'
    wait_until(lambda: program.metric(cut) == 1)
