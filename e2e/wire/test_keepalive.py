"""A sign of life while waiting: a stream that begins before its model is awake."""

from __future__ import annotations

import json

import attrs
import pytest

from e2e.wire.backend import OK
from e2e.wire.case import next_answer
from e2e.wire.conftest import House
from e2e.wire.peer import Await, End, Script, connect
from e2e.wire.requests import answer, chunked_answer, post
from llmux.test.messages import Message, read_message

SLOW = b'{"model": "slow", "stream": true}'
EVENTS = b"data: 1\n\ndata: [DONE]\n\n"
TYPE = b"Content-Type: text/event-stream; charset=utf-8\r\n"
COMMENT = b": waiting for slow, 0 before you\n\n"


def ask(house: House, request: bytes, *answers: Script, close: bool = False) -> Message:
    """Send a request while another model is awake; give its answer."""
    with_other = connect(house.port)
    with_other.play(post(b'{"model": "org/other"}'))
    assert next_answer(with_other).status == 200
    with_other.end()
    house.backend.begin(answers)
    client = connect(house.port)
    client.play(request)
    answered = next_answer(client)
    if not close:
        client.play(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        assert next_answer(client).status == 200
    client.end()
    return answered


def request_seen(house: House) -> Message:
    """Give the request that the backend got."""
    found = read_message(house.backend.requests[0].bytes, ended=True)
    assert found is not None
    return found[0]


@attrs.frozen
class Told:
    """A backend's answer, and what becomes of it in a stream that has begun."""

    name: str
    answers: Script
    event: object

    def __str__(self) -> str:
        return self.name


ERROR = {"error": {"message": "too long", "code": 1}}


def said(message: str, code: str | None = None) -> object:
    """Make an error object of llmux's own."""
    told = {"message": message, "type": "llmux_error"}
    return {"error": told if code is None else {**told, "code": code}}


TOLD = [
    Told("its error", answer(json.dumps(ERROR).encode(), status=b"400 No"), ERROR),
    Told(
        "an error in chunks",
        chunked_answer(json.dumps(ERROR, indent=2).encode(), status=b"500 Oops"),
        ERROR,
    ),
    Told(
        "an error that is no JSON",
        answer(b"<html>\nbusy", status=b"503 Busy"),
        said("Backend error: it answered 503, and no stream of events: <html>\nbusy"),
    ),
    Told(
        "no stream of events",
        answer(b'{"ok": 1}', b"Content-Type: application/json\r\n"),
        said('Backend error: it answered 200, and no stream of events: {"ok": 1}'),
    ),
    Told(
        "a redirect",
        answer(b"", b"Location: /x\r\n", b"307 Go"),
        said("Backend error: it answered 307, and no stream of events: "),
    ),
    Told(
        "closed before answering",
        (End.CLOSE,),
        said(
            "Backend error: it closed the connection before answering"
            " (Connection was closed cleanly.)",
            "backend_closed",
        ),
    ),
]


@pytest.mark.parametrize(
    "events",
    [
        answer(EVENTS, TYPE + b"Set-Cookie: gone=1\r\n"),
        chunked_answer(EVENTS, TYPE),
        (b"HTTP/1.1 200 OK\r\n" + TYPE + b"\r\n" + EVENTS, End.CLOSE),
    ],
    ids=["length", "chunks", "to the end"],
)
def test_stream(events: Script, public: House) -> None:
    """Head and comments come while the model wakes, then the backend's events."""
    answered = ask(public, post(SLOW, b"Accept-Encoding: gzip\r\n"), events)
    assert answered.start == b"HTTP/1.1 200 OK"
    assert answered.one("content-type") == b"text/event-stream"
    assert "set-cookie" not in answered.headers
    assert "content-length" not in answered.headers
    assert answered.body.startswith(COMMENT * 2)
    assert answered.body.replace(COMMENT, b"") == EVENTS
    assert request_seen(public).one("accept-encoding") == b"identity"


@pytest.mark.parametrize("told", TOLD, ids=str)
def test_errors(told: Told, public: House) -> None:
    """What is no stream of events becomes one event with an error, and the stream ends."""
    answered = ask(public, post(SLOW), told.answers)
    assert answered.status == 200
    data = answered.body.replace(COMMENT, b"")
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert json.loads(data.removeprefix(b"data: ")) == told.event


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("no stream is asked for", post(b'{"model": "slow"}')),
        ("stream is false", post(b'{"model": "slow", "stream": false}')),
        ("a path without streams", post(SLOW, target=b"/v1/embeddings")),
        (
            "HTTP/1.0",
            b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s"
            % (len(SLOW), SLOW),
        ),
    ],
)
def test_none(name: str, request_: bytes, public: House) -> None:
    """Who cannot or does not want to read a stream waits in silence, and gets the answer as is."""
    answered = ask(public, request_, answer(b"ok", b"X-Mine: 1\r\n"), close=name == "HTTP/1.0")
    assert answered.body == b"ok"
    assert answered.one("x-mine") == b"1"


def test_off(plain: House) -> None:
    """Without `keepalive_secs` nothing comes before the backend's own answer."""
    answered = ask(plain, post(SLOW), answer(b"ok", b"X-Mine: 1\r\n"))
    assert answered.one("x-mine") == b"1"
    assert answered.body == b"ok"


def test_awake(public: House) -> None:
    """Who need not wait gets the backend's answer as it is, its encoding too."""
    public.backend.begin([OK])
    client = connect(public.port)
    for _ in range(2):
        client.play(post(b'{"model": "llama", "stream": true}', b"Accept-Encoding: br\r\n"))
        answered = next_answer(client)
    client.end()
    assert answered.one("content-length") == b"2"
    assert request_seen(public).one("accept-encoding") == b"br"


def test_failed_wake(public: House) -> None:
    """A model that does not wake after a sign of life is told as an event."""
    answered = ask(public, post(b'{"model": "fails", "stream": true}'), OK)
    assert answered.status == 200
    comment, _, data = answered.body.rpartition(b"data: ")
    assert comment.startswith(b": waiting for fails, 0 before you\n\n")
    assert "could not be woken" in json.loads(data)["error"]["message"]


def test_outcome_in_the_log_and_metrics(public: House) -> None:
    """The log and the metrics carry the true outcome, not the 200 that was sent early."""
    series = 'llmux_requests_total{model="slow",status="418"}'
    before = public.program.metric(series)
    ask(public, post(SLOW, b"X-Request-Id: true-outcome\r\n"), answer(b"", status=b"418 Tea"))
    assert public.program.metric(series) == before + 1
    event = public.program.event(event="request_ended", request_id="true-outcome")
    assert event["status"] == 418


def test_events_at_once(public: House) -> None:
    """The head comes after `keepalive_secs`, long before the model is awake."""
    ask(public, post(b'{"model": "org/other"}'), OK)
    client = connect(public.port)
    public.backend.begin([answer(EVENTS, TYPE)])
    client.play((post(SLOW), Await(b"\r\n\r\n"), Await(COMMENT)))
    assert public.backend.received == b""
    client.wait_for(b"[DONE]")
    client.end()
