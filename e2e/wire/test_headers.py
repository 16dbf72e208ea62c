"""What each side learns: headers that go through, request ids, timings, the log."""

from __future__ import annotations

import re

import pytest

from e2e.wire.case import Case, Told, check, next_answer
from e2e.wire.conftest import House
from e2e.wire.peer import connect
from e2e.wire.requests import BODY, answer, get, post, sent_on
from llmux.test.messages import read_message

OWN_ID = re.compile(rb"[0-9a-f]{32}")


def passed(name: str, head: bytes) -> Case:
    """Make a case of headers that go through as they are."""
    return Case(name=name, sends=post(head=head), arrives=(sent_on(head=head),))


def dropped(name: str, head: bytes, left: bytes = b"") -> Case:
    """Make a case of headers that do not."""
    return Case(name=name, sends=post(head=head), arrives=(sent_on(head=left),))


REQUESTS = [
    passed("Authorization", b"Authorization: Bearer secret\r\nX-Api-Key: k\r\n"),
    passed("Cookie twice", b"Cookie: a=b\r\nCookie: c=d\r\n"),
    passed("one name, three values", b"X-A: 1\r\nX-A: 2, 3\r\nx-a: 1\r\n"),
    passed("an empty value", b"X-A:\r\n"),
    passed("values that are not ASCII", b"X-A: \xe9\xff \x80\r\n"),
    passed("tabs and spaces within", b"X-A: a \t b\r\n"),
    passed("odd names", b"!#$%&'*+-.^_`|~: 1\r\n9: 2\r\nTransfer_Encoding: chunked\r\n"),
    passed("Accept-Encoding", b"Accept-Encoding: br, zstd\r\n"),
    passed("none for Accept-Encoding", b""),
    passed("Range", b"Range: bytes=0-1\r\nIf-None-Match: *\r\n"),
    passed("Via and Forwarded", b"Via: 1.1 x\r\nForwarded: for=1\r\n"),
    passed("tracing", b"Traceparent: 00-1-2-01\r\nTracestate: a=b\r\nBaggage: x\r\n"),
    passed("X-Forwarded", b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"),
    passed("a value of 30 KB", b"X-A: " + b"a" * 30_000 + b"\r\n"),
    passed("200 headers", b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(198))),
    dropped("white space around", b"X-A: \t 1 \t\r\n", b"X-A: 1\r\n"),
    dropped("Connection: keep-alive", b"Connection: keep-alive\r\nKeep-Alive: 5\r\n"),
    dropped("what Connection names", b"Connection: X-A ,x-b,\r\nX-A: 1\r\nX-B: 2\r\n"),
    dropped("TE and Trailer", b"TE: trailers\r\nTrailer: X-A\r\n"),
    dropped("Proxy-", b"Proxy-Authorization: x\r\nProxy-Connection: keep-alive\r\n"),
    Case(
        name="Connection names Content-Length",
        sends=post(head=b"Connection: content-length, host\r\n"),
        arrives=(sent_on(),),
    ),
    Case(
        name="an id that is taken over",
        sends=post(head=b"X-Request-Id: my-id_1.2/3\r\n"),
        gets=(answer(head=b"X-Request-Id: my-id_1.2/3\r\n"),),
        arrives=(sent_on(head=b"X-Request-Id: my-id_1.2/3\r\n"),),
    ),
    Case(
        name="an id on an answer that has another",
        sends=post(head=b"X-Request-Id: mine\r\n"),
        answers=(answer(head=b"X-Request-Id: backends\r\n"),),
        gets=(answer(head=b"X-Request-Id: mine\r\n"),),
        arrives=(sent_on(head=b"X-Request-Id: mine\r\n"),),
    ),
]

TARGETS = [
    Case(name=target.decode(), sends=post(target=target), arrives=(sent_on(target=target),))
    for target in (
        b"/",
        b"//",
        b"/a//b/../c/./d",
        b"/..",
        b"/../../etc/passwd",
        b"/v1/x?",
        b"/v1/x??",
        b"/v1/x?a=1&&b=%zz&c",
        b"/%2e%2e/%2F%3F%0A%00/%ff",
        b'/x?q=a|b"c[d]{e}^`<>',
        b"/;p?;q=%20+%2B",
        b"/back\\slash",
        b"/v1/models",
        b"/health",
        b"/v1%2fchat%2fcompletions",
        b"/" + b"a" * 20_000,
    )
] + [
    Case(name=target.decode(), sends=post(target=target), arrives=(sent_on(target=path),))
    for target, path in (
        (b"http://other.example/v1/x?y", b"/v1/x?y"),
        (b"HTTPS://other.example:8080", b"/"),
        (b"http://other.example?a=/b", b"/?a=/b"),
        (b"http://[::1]/x", b"/x"),
    )
]


@pytest.mark.parametrize("case", [*REQUESTS, *TARGETS], ids=lambda case: str(case)[:60])
def test_requests(case: Case, plain: House) -> None:
    """Headers and targets go through, but for what is about the connection."""
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize(
    "given",
    [b"", b"two words", b"a" * 129, b"\xe9", b"a\r\nX-Request-Id: b"],
    ids=["empty", "words", "long", "latin", "twice"],
)
def test_ids_that_are_not_taken(given: bytes, plain: House) -> None:
    """An id that cannot be used everywhere, or none, is replaced by one of llmux's own."""
    plain.backend.begin([answer()])
    client = connect(plain.port)
    client.play(post(head=b"X-Request-Id: %s\r\n" % given))
    made = next_answer(client).one("x-request-id")
    client.end()
    assert OWN_ID.fullmatch(made)
    found = read_message(plain.backend.requests[0].bytes, ended=True)
    assert found is not None
    assert found[0].one("x-request-id") == made


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(b"/v1/models", b"X-Request-Id: given\r\n"), 200),
        (get(b"/health", b"X-Request-Id: given\r\n"), 200),
        (get(b"/", b"X-Request-Id: given\r\n"), 404),
        (post(b'{"model": 1}', b"X-Request-Id: given\r\n"), 400),
        (post(b'{"model": "nobody-3"}', b"X-Request-Id: given\r\n"), 502),
        (get(b"/upstream/llama/sleep", b"X-Request-Id: given\r\n"), 403),
        (get(b"/x", b"X-Request-Id: given\r\nExpect: x\r\n"), 417),
    ],
)
def test_id_on_every_answer(request_: bytes, status: int, plain: House) -> None:
    """The id is on every answer, errors and llmux's own ones too."""
    client = connect(plain.port)
    client.play(request_)
    answered = next_answer(client)
    client.end()
    assert answered.status == status
    assert answered.one("x-request-id") == b"given"


def test_timing(plain: House) -> None:
    """`Server-Timing` tells how long the request waited, and for a switch; a backend's is kept."""
    plain.backend.begin([answer(head=b"Server-Timing: db;dur=5\r\n")])
    client = connect(plain.port)
    waited = []
    for model in (b"org/other", b"slow", b"slow"):
        client.play(post(b'{"model": "%s"}' % model))
        answered = next_answer(client)
        waited.append(answered.headers["server-timing"])
    client.end()
    first, second = waited[1:]
    assert first[0] == second[0] == b"db;dur=5"
    times = [
        [float(number) for number in re.findall(rb"dur=([0-9.]+)", timing[1])]
        for timing in (first, second)
    ]
    assert times[0][0] >= 500
    assert times[0][1] >= 500
    assert times[1][0] < 500
    assert times[1][1] == 0


def test_log(plain: House) -> None:
    """Each request is one event in the log: model, status, bytes each way, durations, ending."""
    plain.backend.begin([(answer(b"hello"))])
    client = connect(plain.port)
    client.play(post(target=b"/v1/x?key=secret", head=b"X-Request-Id: logged\r\n"))
    assert next_answer(client).body == b"hello"
    client.end()
    event = plain.program.event(request_id="logged")
    expected = {
        "event": "request_ended",
        "model": "llama",
        "method": "POST",
        "path": "/v1/x",
        "status": 200,
        "how": "complete",
        "bytes_in": len(BODY),
        "bytes_out": 5,
    }
    assert {key: event[key] for key in expected} == expected
    assert 0 <= event["queue_secs"] <= event["first_byte_secs"] <= event["duration_secs"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(b"/x", b"X-Request-Id: log-404\r\n"), 404),
        (post(b'{"model": "nobody-4"}', b"X-Request-Id: log-502\r\n"), 502),
        (post(b"", b"X-Request-Id: log-400\r\nContent-Length: 5\r\n"), 400),
        (get(b"/sleep", b"X-Request-Id: log-403\r\n"), 403),
    ],
)
def test_log_of_errors(request_: bytes, status: int, plain: House) -> None:
    """Requests that end with an error are logged, too, those that are refused as well."""
    client = connect(plain.port)
    client.play(request_)
    answered = next_answer(client)
    client.end()
    assert answered.status == status
    event = plain.program.event(request_id=f"log-{status}")
    assert (event["status"], event["how"]) == (status, "complete")


def test_failed_wake(plain: House) -> None:
    """A model that cannot be woken is a 503 that says when to try again."""
    case = Case(
        name="broken",
        sends=post(b'{"model": "broken"}'),
        gets=(Told(503, "could not be woken", later=True),),
    )
    check(case, plain.port, plain.backend)
    check(case, plain.port, plain.backend)
