"""Requests as the tables write them."""

from __future__ import annotations

BODY = b'{"model": "llama"}'
STREAM = b'{"model": "llama", "stream": true}'


def post(
    body: bytes = BODY,
    head: bytes = b"",
    target: bytes = b"/v1/chat/completions",
    method: bytes = b"POST",
) -> bytes:
    """
    Make a request with a body.

    :param head: more headers, each with its line's end.
    """
    return b"%s %s HTTP/1.1\r\nHost: client.example\r\n%sContent-Length: %d\r\n\r\n%s" % (
        method,
        target,
        head,
        len(body),
        body,
    )


def sent_on(
    body: bytes = BODY,
    head: bytes = b"",
    target: bytes = b"/v1/chat/completions",
    method: bytes = b"POST",
) -> bytes:
    """Make the same as it has to arrive; its Host is the backend's, whatever that is."""
    return b"%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (
        method,
        target,
        head,
        len(body),
        body,
    )


def get(target: bytes, head: bytes = b"", method: bytes = b"GET") -> bytes:
    """Make a request without a body."""
    return b"%s %s HTTP/1.1\r\nHost: client.example\r\n%s\r\n" % (method, target, head)


def chunks(body: bytes, size: int, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """Make a chunked body of chunks of one size."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"%s0\r\n%s\r\n" % (
        b"".join(b"%x%s\r\n%s\r\n" % (len(one), extension, one) for one in pieces),
        trailers,
    )


def answer(
    body: bytes = b"ok", head: bytes = b"", status: bytes = b"200 OK", version: bytes = b"1.1"
) -> bytes:
    """Make an answer with a length."""
    return b"HTTP/%s %s\r\nContent-Length: %d\r\n%s\r\n%s" % (
        version,
        status,
        len(body),
        head,
        body,
    )


def chunked_answer(body: bytes, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Make an answer of one chunk."""
    return b"HTTP/1.1 %s\r\n%sTransfer-Encoding: chunked\r\n\r\n%s" % (
        status,
        head,
        chunks(body, len(body) or 1),
    )
