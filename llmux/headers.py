"""Which headers go through, both ways."""

from __future__ import annotations

from twisted.web.http_headers import Headers

from llmux.engine.names import Raw, canonical, headers_of, raw_of

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
_CONNECTION = b"Connection"
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
    raw = _passed_on(received, _NOT_FOR_BACKENDS)
    raw[b"Host"] = [host]
    return headers_of(raw)


def for_client(received: Headers, length: int | None) -> Headers:
    """
    Choose the headers of an answer that a client gets.

    :param received: what the backend sent.
    :param length: the body's length in bytes, if the backend announced one and there is a body, so
        that the client sees where an answer was cut.
    """
    raw = _passed_on(received, _HOP_BY_HOP)
    if length is not None:
        raw[_LENGTH] = [b"%d" % length]
    elif b"Transfer-Encoding" in raw_of(received):
        raw.pop(_LENGTH, None)  # which it overrules: RFC 9112, 6.3
    return headers_of(raw)


def tokens(headers: Headers, name: bytes) -> frozenset[bytes]:
    """Give the words of a header that is a list (RFC 9110, 5.6.1), in lower case."""
    lines = raw_of(headers).get(canonical(name))
    if lines is None:
        return _NONE
    return frozenset(token for line in lines for token in _words(line))


def _passed_on(received: Headers, dropped: frozenset[bytes]) -> Raw:
    """Copy headers but for some, and for those that speak of one connection by its own word."""
    raw = raw_of(received)
    if _CONNECTION not in raw:
        return {name: [*values] for name, values in raw.items() if name not in dropped}
    named = tokens(received, _CONNECTION)
    return {
        name: [*values]
        for name, values in raw.items()
        if name not in dropped and name.lower() not in named
    }


def _words(line: bytes) -> list[bytes]:
    return [word.strip(b" \t").lower() for word in line.split(b",")]
