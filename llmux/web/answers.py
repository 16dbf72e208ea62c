"""Answers of llmux's own, and the one place where an error becomes JSON."""

from __future__ import annotations

import json
from http import HTTPStatus  # twisted.web does not know all of them

from twisted.web.http import datetimeToString
from twisted.web.server import Request

from llmux.errors import RequestError


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
