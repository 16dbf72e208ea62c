"""Which headers go through, both ways."""

from __future__ import annotations

from twisted.web.http_headers import Headers

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that speak of one connection and end with it (RFC 9110, 7.6.1; RFC 9112)."""

_OURS_ON_REQUESTS = frozenset({b"host", b"content-length", b"expect"})


def for_backend(received: Headers, host: bytes) -> Headers:
    """
    Choose the headers of a request that a backend gets.

    Everything goes through, ``Authorization`` too, except hop-by-hop headers, ``Host``, which
    becomes the backend's, the body's framing, which the HTTP client writes anew, and ``Expect``,
    which has been answered already.

    :param received: what the client sent.
    :param host: the backend's ``host:port``.
    """
    chosen = _without(received, _OURS_ON_REQUESTS)
    chosen.setRawHeaders(b"Host", [host])
    return chosen


def for_client(received: Headers, length: int | None) -> Headers:
    """
    Choose the headers of an answer that a client gets.

    :param received: what the backend sent.
    :param length: the body's length in bytes if the backend announced one and the HTTP client has
        taken that header away, so that the client sees where an answer was cut.
    """
    chosen = _without(received, frozenset())
    if length is not None:
        chosen.setRawHeaders(b"Content-Length", [b"%d" % length])
    return chosen


def _without(headers: Headers, more: frozenset[bytes]) -> Headers:
    named = {
        token.strip().lower()
        for line in headers.getRawHeaders(b"connection", [])
        for token in line.split(b",")
    }
    dropped = HOP_BY_HOP | more | named
    kept = Headers()
    for name, values in headers.getAllRawHeaders():
        if name.lower() not in dropped:
            kept.setRawHeaders(name, values)
    return kept
