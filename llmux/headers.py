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
    chosen = _without(received, _OURS_ON_REQUESTS | tokens(received, b"connection"))
    chosen.setRawHeaders(b"Host", [host])
    return chosen


def for_client(received: Headers, framing: Headers, length: int | None) -> Headers:
    """
    Choose the headers of an answer that a client gets.

    :param received: what the backend sent.
    :param framing: what it sent about its connection and the body's framing, if the HTTP client has
        set that aside.
    :param length: the body's length in bytes, if the backend announced one and there is a body, so
        that the client sees where an answer was cut.
    """
    chosen = _without(received, tokens(framing, b"connection"))
    if length is not None:
        chosen.setRawHeaders(b"Content-Length", [b"%d" % length])
    elif not framing.hasHeader(b"Transfer-Encoding"):  # which would overrule it: RFC 9112, 6.3
        announced = framing.getRawHeaders(b"Content-Length")
        if announced is not None:  # the length of a body that a 304 leaves out
            chosen.setRawHeaders(b"Content-Length", announced)
    return chosen


def tokens(headers: Headers, name: bytes) -> frozenset[bytes]:
    """Give the words of a header that is a list (RFC 9110, 5.6.1), in lower case."""
    return frozenset(
        token.strip(b" \t").lower()
        for line in headers.getRawHeaders(name, [])
        for token in line.split(b",")
    )


def _without(headers: Headers, more: frozenset[bytes]) -> Headers:
    dropped = HOP_BY_HOP | more
    kept = Headers()
    for name, values in headers.getAllRawHeaders():
        if name.lower() not in dropped:
            kept.setRawHeaders(name, values)
    return kept
