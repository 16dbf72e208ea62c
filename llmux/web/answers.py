"""Answers of llmux's own, and the one place where an error becomes JSON."""

from __future__ import annotations

import json
import re
from http import HTTPStatus  # twisted.web does not know all of them
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.server import Request

from llmux.engine.names import put, raw_of
from llmux.errors import BackendError, RequestError
from llmux.events import Events
from llmux.server.request import CLIENT_LEFT, RelayRequest

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_chance = Random()  # noqa: S311  # names are told apart, and no secret; nobody else can seed it
_SHOWN_OF_AN_ERROR = 500  # characters of a backend's error, if it is no JSON


def answer(request: Request, media_type: str, body: bytes) -> bytes:
    """Make an answer of a known length."""
    request.setHeader(b"Date", datetimeToString())  # RFC 9110, 6.6.1
    request.setHeader(b"Content-Type", media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def json_answer(request: Request, document: object) -> bytes:
    """Make a JSON answer; the status is 200 unless it has been set."""
    return answer(request, "application/json", json.dumps(document).encode("ascii"))


def error_answer(request: Request, error: RequestError) -> bytes:
    """Make the answer that tells a client why its request ended, in OpenAI's shape."""
    request.setResponseCode(error.status, HTTPStatus(error.status).phrase.encode("ascii"))
    if error.retry_after is not None:
        request.setHeader(b"Retry-After", b"%d" % error.retry_after)
    return json_answer(request, error_object(error))


def error_object(error: RequestError) -> dict[str, object]:
    """Make an error object, as clients of OpenAI's API know it."""
    told: dict[str, object] = {"message": error.message, "type": "llmux_error"}
    if error.code is not None:
        told["code"] = error.code
    return {"error": told}


def error_of(status: int, body: bytes) -> object:
    """Make an error object of a backend's answer; its own, if it has one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and "error" in document:
        return document
    shown = body.decode("utf-8", "replace")[:_SHOWN_OF_AN_ERROR]
    return error_object(BackendError(f"it answered {status}, and no stream of events: {shown}"))


def send(request: RelayRequest, body: bytes | None) -> None:
    """
    End an answer outside of Klein, if the client is still there.

    :param body: what is to be sent; ``None`` if all of it has been.
    """
    if request.channel is not None:
        if body is not None:
            request.write(body)
        request.finish()  # type: ignore[no-untyped-call]  # Twisted's


def identify(request: RelayRequest) -> None:
    """Give a request the name that its client calls it by, if that can be shown, or a new one."""
    given = raw_of(request.requestHeaders).get(b"X-Request-Id")
    if given is not None and len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        request.request_id = given[0]
    else:
        request.request_id = b"%032x" % _chance.getrandbits(128)
    put(request.responseHeaders, b"X-Request-Id", request.request_id)


def log_own_answer(request: RelayRequest, events: Events, clock: IReactorTime) -> None:
    """See to it that the answer to a request is logged as one of llmux's own, when it has ended."""

    def log(ending: Failure | None) -> None:
        own_answer_ended(request, events, clock, CLIENT_LEFT if ending else request.code)

    request.notifyFinish().addBoth(log)


def own_answer_ended(
    request: RelayRequest, events: Events, clock: IReactorTime, status: int
) -> None:
    """Log how a request ended that llmux has answered itself."""
    events.own_path_asked(
        request_id=request.request_id.decode("ascii"),
        method=request.method.decode("ascii", "replace"),
        path=request.path.decode("ascii", "replace"),
        status=status,
        seconds=clock.seconds() - request.arrived,
    )
