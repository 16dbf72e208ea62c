"""Which headers go through, both ways."""

from __future__ import annotations

from collections.abc import Iterable

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

_NONE: frozenset[bytes] = frozenset()
_LENGTH = b"content-length"
_NOT_FOR_BACKENDS = HOP_BY_HOP | {b"host", _LENGTH, b"expect"}


def for_backend(received: Headers, host: bytes) -> Headers:
    """
    Choose the headers of a request that a backend gets.

    Everything goes through, ``Authorization`` too, except hop-by-hop headers, ``Host``, which
    becomes the backend's, the body's framing, which the HTTP client writes anew, and ``Expect``,
    which has been answered already.

    :param received: what the client sent.
    :param host: the backend's ``host:port``.
    """
    named = tokens(received, b"connection")
    raw = {
        name: list(values)
        for name, values in received.getAllRawHeaders()
        if (lower := name.lower()) not in _NOT_FOR_BACKENDS and lower not in named
    }
    raw[b"Host"] = [host]
    chosen = Headers()
    chosen._rawHeaders = raw  # names and values that have been checked, and need not be once more
    return chosen


def for_client(received: Iterable[tuple[bytes, bytes]], length: int | None) -> Headers:
    """
    Choose the headers of an answer that a client gets.

    :param received: what the backend sent, each as often as it came.
    :param length: the body's length in bytes, if the backend announced one and there is a body, so
        that the client sees where an answer was cut.
    """
    fields = [(name.lower(), value) for name, value in received]
    dropped = set() if length is None else {_LENGTH}
    for name, value in fields:
        if name == b"connection":
            dropped.update(_words(value))
        elif name == b"transfer-encoding":
            dropped.add(_LENGTH)  # it overrules the length: RFC 9112, 6.3
    chosen = Headers()
    for name, value in fields:
        if name not in HOP_BY_HOP and name not in dropped:
            chosen.addRawHeader(name, value)
    if length is not None:
        chosen.addRawHeader(_LENGTH, b"%d" % length)
    return chosen


def tokens(headers: Headers, name: bytes) -> frozenset[bytes]:
    """Give the words of a header that is a list (RFC 9110, 5.6.1), in lower case."""
    lines = headers.getRawHeaders(name)
    if lines is None:
        return _NONE
    return frozenset(token for line in lines for token in _words(line))


def _words(line: bytes) -> list[bytes]:
    return [word.strip(b" \t").lower() for word in line.split(b",")]
