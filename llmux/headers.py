"""Which headers go through, both ways."""

from __future__ import annotations

from twisted.web.http_headers import Headers

from llmux.engine.names import canonical, headers_of, raw_of

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
_LENGTH = b"Content-Length"
_HOP_BY_HOP = frozenset(map(canonical, HOP_BY_HOP))
_NOT_FOR_BACKENDS = _HOP_BY_HOP | {b"Host", _LENGTH, b"Expect"}


def for_backend(received: Headers, host: bytes) -> Headers:
    """
    Choose the headers of a request that a backend gets.

    Everything goes through, ``Authorization`` too, except hop-by-hop headers, ``Host``, which
    becomes the backend's, the body's framing, which the HTTP client writes anew, and ``Expect``,
    which has been answered already.

    :param received: what the client sent.
    :param host: the backend's ``host:port``.
    """
    sent = raw_of(received)
    named = tokens(received, b"Connection") if b"Connection" in sent else _NONE
    raw = {
        name: list(values)
        for name, values in sent.items()
        if name not in _NOT_FOR_BACKENDS and (not named or name.lower() not in named)
    }
    raw[b"Host"] = [host]
    return headers_of(raw)


def for_client(received: Headers, length: int | None) -> Headers:
    """
    Choose the headers of an answer that a client gets.

    :param received: what the backend sent.
    :param length: the body's length in bytes, if the backend announced one and there is a body, so
        that the client sees where an answer was cut.
    """
    sent = raw_of(received)
    named = tokens(received, b"Connection") if b"Connection" in sent else _NONE
    raw = {
        name: list(values)
        for name, values in sent.items()
        if name not in _HOP_BY_HOP and (not named or name.lower() not in named)
    }
    if length is not None:
        raw[_LENGTH] = [b"%d" % length]
    elif b"Transfer-Encoding" in sent:
        raw.pop(_LENGTH, None)  # which it overrules: RFC 9112, 6.3
    return headers_of(raw)


def tokens(headers: Headers, name: bytes) -> frozenset[bytes]:
    """Give the words of a header that is a list (RFC 9110, 5.6.1), in lower case."""
    lines = headers.getRawHeaders(name)
    if lines is None:
        return _NONE
    return frozenset(token for line in lines for token in _words(line))


def _words(line: bytes) -> list[bytes]:
    return [word.strip(b" \t").lower() for word in line.split(b",")]
