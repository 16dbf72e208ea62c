"""One line of the table: what a client sends, and what is to come of it."""

from __future__ import annotations

import json
import re

import attrs

from e2e.wire.backend import OK, RecordingBackend
from e2e.wire.peer import Peer, Script, connect
from llmux.test.messages import Fields, Message, read_message

_TIMING = re.compile(rb"queue;dur=[0-9]+\.[0-9], switch;dur=[0-9]+\.[0-9]")
_PROBE = b"GET /health HTTP/1.1\r\nHost: probe\r\n\r\n"


@attrs.frozen
class Whole:
    """
    An answer, or a request, as it has to arrive.

    It is compared with what came by its first line, the values of each header in order, and its
    body.  Headers that llmux adds to each (``X-Request-Id``, ``Server-Timing``, a backend's
    ``Host``) must be there, and need not be written.  A value ``*`` stands for any.
    """

    message: bytes


@attrs.frozen
class Own(Whole):
    """An answer that llmux gives without asking a model: it has no ``Server-Timing``."""


@attrs.frozen
class Cut(Whole):
    """An answer that has to break off: the head and so much of the body, and no clean end."""


@attrs.frozen
class Told:
    """
    An error of llmux's own.

    :param status: its HTTP status.
    :param says: a part of its message.
    :param code: its code, if it has one.
    :param later: whether it says in ``Retry-After`` when to try again.
    """

    status: int
    says: str = ""
    code: str | None = None
    later: bool = False


@attrs.frozen(kw_only=True)
class Case:
    """
    A line of the table.

    :param name: what it shows.
    :param sends: what the client does.
    :param gets: the answers that it gets, in order; bytes are a :class:`Whole` one.
    :param arrives: the requests that the backend gets, in order.
    :param answers: what the backend answers; the last is repeated.
    :param behind: what the backend gets behind the last of them, on a tunnel.
    :param closed: whether the connection is closed then; else it has to serve another request.
    :param head: whether the request was a HEAD.
    """

    name: str
    sends: Script
    gets: tuple[bytes | Whole | Told, ...] = (OK,)
    arrives: tuple[bytes, ...] = ()
    answers: tuple[Script, ...] = (OK,)
    behind: bytes = b""
    closed: bool = False
    head: bool = False

    def __str__(self) -> str:
        return self.name


def check(case: Case, port: int, backend: RecordingBackend) -> None:
    """
    See what comes of a case.

    :param port: where llmux listens.
    :param backend: of the model that is asked for.
    """
    backend.begin(case.answers)
    client = connect(port)
    try:
        client.play(case.sends)
        if not client.left:
            _check_answers(case, client)
    finally:
        client.end()
    backend.wait_for_requests(len(case.arrives))
    arrived = [request.bytes for request in backend.requests]
    assert len(arrived) == len(case.arrives), arrived
    for expected, actual in zip(case.arrives, arrived, strict=True):
        compare_request(expected, actual)
    backend.wait_for_bytes(case.behind)
    assert backend.received == b"".join(arrived) + case.behind, "bytes that belong to no request"


def _check_answers(case: Case, client: Peer) -> None:
    for expected in case.gets:
        answer = next_answer(client, case.head)
        if isinstance(expected, bytes):
            expected = Whole(expected)
        if isinstance(expected, Told):
            compare_error(expected, answer)
        else:
            compare_answer(expected, answer, case.head)
    if case.closed:
        client.read_to_the_end()
        assert isinstance(case.gets[-1], Cut) or not client.broken, "it was reset"
    else:
        client.play(_PROBE)
        assert next_answer(client).start == b"HTTP/1.1 200 OK", "it serves no further request"
    assert not client.received, client.received


def next_answer(client: Peer, head: bool = False) -> Message:
    """Take the next answer from what a client has received."""
    while (
        found := read_message(
            client.received, ended=client.ended, clean=not client.broken, bodiless=head
        )
    ) is None:
        assert not client.ended, f"no answer, but {client.received!r}"
        client.read()
    answer, client.received = found
    return answer


def compare_answer(expected: Whole, answer: Message, head: bool = False) -> None:
    """Fail if an answer is not what it has to be."""
    wanted = _parsed(expected.message, head)
    headers = dict(answer.headers)
    if not wanted.start.startswith(b"HTTP/1.1 100"):
        _take_ours(headers, wanted.headers, timed=not isinstance(expected, Own))
    assert answer.start == wanted.start, answer
    assert _starred(headers, wanted.headers) == wanted.headers, answer
    assert answer.body == wanted.body, answer
    if isinstance(expected, Cut):
        assert not answer.whole, "it looks complete"
    else:
        assert answer.whole, "it looks cut"


def compare_error(expected: Told, answer: Message) -> None:
    """Fail if an answer is not the error that it has to be."""
    assert answer.status == expected.status, answer
    assert answer.whole, answer
    assert answer.one("content-type") == b"application/json"
    assert answer.one("x-request-id")
    assert ("retry-after" in answer.headers) == expected.later, answer
    if expected.later:
        assert int(answer.one("retry-after")) > 0, answer
    if answer.body:  # HEAD has none
        error = json.loads(answer.body)["error"]
        assert error["type"] == "llmux_error"
        assert error.get("code") == expected.code, error
        assert expected.says in error["message"], error


def compare_request(expected: bytes, actual: bytes) -> None:
    """Fail if a request that has arrived is not what it has to be."""
    wanted, request = _parsed(expected), _parsed(actual)
    headers = dict(request.headers)
    for ours in ("host", "x-request-id"):
        if ours not in wanted.headers:
            assert len(headers.pop(ours)) == 1, request
    assert request.start == wanted.start
    assert _starred(headers, wanted.headers) == wanted.headers, request
    assert request.body == wanted.body


def _parsed(message: bytes, head: bool = False) -> Message:
    found = read_message(message, ended=True, bodiless=head)
    assert found is not None, message
    return found[0]


def _take_ours(headers: Fields, wanted: Fields, *, timed: bool) -> None:
    """Take away what llmux adds to each answer, and fail if it is not there."""
    if "x-request-id" not in wanted:
        assert len(headers.pop("x-request-id")) == 1
    if "server-timing" not in wanted and timed:
        (timing,) = headers.pop("server-timing")
        assert _TIMING.fullmatch(timing), timing


def _starred(headers: Fields, wanted: Fields) -> Fields:
    return {
        name: (b"*",) if wanted.get(name) == (b"*",) and len(values) == 1 else values
        for name, values in headers.items()
    }
