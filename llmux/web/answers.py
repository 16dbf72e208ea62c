"""Answers of llmux's own, and the one place where an error becomes JSON."""

from __future__ import annotations

import json

from twisted.web.server import Request

from llmux.errors import RequestError


def answer(request: Request, media_type: str, body: bytes) -> bytes:
    """Make an answer of a known length."""
    request.setHeader(b"Content-Type", media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def json_answer(request: Request, document: object) -> bytes:
    """Make a JSON answer; the status is 200 unless it has been set."""
    return answer(request, "application/json", json.dumps(document).encode("ascii"))


def error_answer(request: Request, error: RequestError) -> bytes:
    """Make the answer that tells a client why its request ended, in OpenAI's shape."""
    request.setResponseCode(error.status)
    if error.retry_after is not None:
        request.setHeader(b"Retry-After", b"%d" % error.retry_after)
    return json_answer(request, {"error": {"message": error.message, "type": "llmux_error"}})
