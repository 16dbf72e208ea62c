"""What the owner keeps to themselves, and what pages from elsewhere and backends are told."""

from __future__ import annotations

import pytest

from e2e.wire.case import Case, Own, Told, check, next_answer
from e2e.wire.conftest import House
from e2e.wire.peer import connect
from e2e.wire.requests import answer, chunked_answer, get, post, sent_on

BLOCKED = [
    b"/sleep",
    b"/sleep?level=2",
    b"/sleep/",
    b"//sleep",
    b"/./sleep",
    b"/x/../sleep",
    b"/%73leep",
    b"/%2573leep",
    b"/sleep;a=b",
    b"/SLEEP",
    b"/x%2f..%2fsleep",
    b"/\\sleep",
    b"/sleep/deep",
    b"/wake_up",
    b"/collective_rpc",
    b"/models/unload",
    b"/models%2Funload",
    b"/models//load",
    b"/release_memory_occupation",
    b"/slots/0?action=erase",
    b"http://elsewhere.example/sleep",
    b"/upstream/llama/sleep",
    b"/upstream/llama//sleep",
    b"/upstream/llama/%73leep",
    b"/upstream/llama/x/../sleep?level=1",
    b"/upstream/ll%61ma/models/unload",
    b"/upstream/llama/%2e%2e/sleep",
    b"/upstream/llama/..%2fsleep",
]
OPEN = [b"/sleepy", b"/v1/sleep", b"/x?/sleep", b"/asleep/x", b"/wake"]
ORIGIN = b"Origin: https://chat.example\r\n"
ASKING = b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: a, b\r\n"
ALLOWED = (
    b"Vary: Origin\r\nAccess-Control-Allow-Origin: https://chat.example\r\n"
    b"Access-Control-Expose-Headers: *\r\n"
)
FORWARDED = (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: client.example\r\n"
)


def seen(head: bytes) -> tuple[bytes]:
    """Give what the backend gets from a page."""
    return (sent_on(head=head + FORWARDED),)


CORS = [
    Case(
        name="an answer",
        sends=post(head=ORIGIN),
        arrives=seen(ORIGIN),
        gets=(answer(head=ALLOWED),),
    ),
    Case(
        name="a stream",
        sends=post(head=ORIGIN),
        arrives=seen(ORIGIN),
        answers=(chunked_answer(b"data: 1\n\n"),),
        gets=(chunked_answer(b"data: 1\n\n", ALLOWED),),
    ),
    Case(
        name="a backend that says it too",
        sends=post(head=ORIGIN),
        arrives=seen(ORIGIN),
        answers=(
            answer(
                head=b"Access-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\n"
                b"Vary: Accept\r\nVary: origin\r\nAccess-Control-Expose-Headers: X\r\n"
            ),
        ),
        gets=(answer(head=ALLOWED.replace(b"Origin\r", b"Accept\r\nVary: origin\r", 1)),),
    ),
    Case(
        name="another origin",
        sends=post(head=b"Origin: https://evil.example\r\n"),
        arrives=seen(b"Origin: https://evil.example\r\n"),
        gets=(answer(head=b"Vary: Origin\r\n"),),
    ),
    Case(
        name="no origin", sends=post(), arrives=seen(b""), gets=(answer(head=b"Vary: Origin\r\n"),)
    ),
    Case(
        name="a preflight",
        sends=get(b"/v1/chat/completions", ORIGIN + ASKING, b"OPTIONS"),
        gets=(
            Own(
                b"HTTP/1.1 204 No Content\r\n"
                b"Access-Control-Allow-Methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n"
                b"Access-Control-Allow-Headers: a, b\r\nAccess-Control-Max-Age: 600\r\n"
                + ALLOWED
                + b"\r\n"
            ),
        ),
    ),
    Case(
        name="a preflight of another origin",
        sends=get(b"/v1/x", b"Origin: https://chat.example.evil\r\n" + ASKING, b"OPTIONS"),
        gets=(Own(b"HTTP/1.1 204 No Content\r\nVary: Origin\r\n\r\n"),),
    ),
    Case(
        name="OPTIONS that is no preflight",
        sends=post(head=ORIGIN, method=b"OPTIONS"),
        arrives=(sent_on(head=ORIGIN + FORWARDED, method=b"OPTIONS"),),
        gets=(answer(head=ALLOWED),),
    ),
]

ERRORS = [
    (get(b"/v1/x", ORIGIN), 404),
    (get(b"/sleep", ORIGIN), 403),
    (post(b'{"model": "nobody-2"}', ORIGIN), 502),
    (post(b'{"model": "broken"}', ORIGIN), 503),
    (get(b"/v1/x", ORIGIN + b"Expect: x\r\n"), 417),
    (post(b"", ORIGIN + b"Transfer-Encoding: chunked\r\n"), 400),
    (get(b"/v1/models", ORIGIN), 200),
]

HIDDEN = [
    Case(
        name="appended to what there is",
        sends=post(head=b"X-Forwarded-For: 1.2.3.4\r\n"),
        arrives=(sent_on(head=FORWARDED.replace(b"For: ", b"For: 1.2.3.4, ")),),
        gets=(answer(head=b"Vary: Origin\r\n"),),
    ),
    Case(
        name="what a proxy in front says stays",
        sends=post(head=b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: x.example\r\n"),
        arrives=(
            sent_on(
                head=b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"
                b"X-Forwarded-Host: x.example\r\n"
            ),
        ),
        gets=(answer(head=b"Vary: Origin\r\n"),),
    ),
]

PLAIN = [
    Case(
        name="a preflight is the backend's",
        sends=post(head=ORIGIN + ASKING, method=b"OPTIONS"),
        arrives=(sent_on(head=ORIGIN + ASKING, method=b"OPTIONS"),),
        answers=(answer(head=b"Access-Control-Allow-Origin: *\r\n"),),
        gets=(answer(head=b"Access-Control-Allow-Origin: *\r\n"),),
    ),
    Case(
        name="a preflight without a model",
        sends=get(b"/v1/x", ORIGIN + ASKING, b"OPTIONS"),
        gets=(Told(404, "No model specified"),),
    ),
    Case(
        name="X-Forwarded as it is",
        sends=post(head=b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5\r\n"),
        arrives=(sent_on(head=b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5\r\n"),),
    ),
]


@pytest.mark.parametrize("target", BLOCKED, ids=lambda target: target.decode())
def test_blocked(target: bytes, plain: House) -> None:
    """Control paths are kept from clients in whatever spelling, under /upstream/ too."""
    case = Case(name="", sends=post(target=target), gets=(Told(403, "blocked"),))
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("target", OPEN, ids=lambda target: target.decode())
def test_not_blocked(target: bytes, plain: House) -> None:
    """Paths that merely look like them are relayed."""
    case = Case(name="", sends=post(target=target), arrives=(sent_on(target=target),))
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("case", CORS, ids=str)
def test_cors(case: Case, public: House) -> None:
    """Pages of the configured origins, and no others, may read answers."""
    check(case, public.port, public.backend)


@pytest.mark.parametrize(("request_", "status"), ERRORS)
def test_cors_of_errors(request_: bytes, status: int, public: House) -> None:
    """A page may read why its request failed, whoever answers it."""
    client = connect(public.port)
    client.play(request_)
    answered = next_answer(client)
    client.end()
    assert answered.status == status
    assert answered.one("access-control-allow-origin") == b"https://chat.example"
    assert answered.one("vary") == b"Origin"


@pytest.mark.parametrize("case", HIDDEN, ids=str)
def test_forwarded(case: Case, public: House) -> None:
    """With `forwarded: true` a backend learns who asks, behind what proxies have said."""
    check(case, public.port, public.backend)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_off(case: Case, plain: House) -> None:
    """By default neither is touched: what clients and backends say goes through."""
    check(case, plain.port, plain.backend)


def test_blocked_is_not_asked_twice(plain: House) -> None:
    """A blocked path does not wake its model."""
    before = plain.program.get("/health")[1]
    assert plain.program.post("/upstream/slow/sleep", {"model": "slow"})[0] == 403
    assert plain.program.get("/health")[1] == before
