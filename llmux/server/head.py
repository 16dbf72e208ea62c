"""
The head of a request, read strictly.

Whatever two programs could read in two ways is refused: it is how requests are smuggled.  It is
pure; what it is fed with is up to the HTTP stack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twisted.web.http_headers import Headers

from llmux.engine.names import LONGEST, raw_of
from llmux.headers import tokens
from llmux.server.refusals import Refusal, Refused

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""Methods that are relayed; CONNECT and TRACE are about the connection, not about a model."""

MAX_HEADERS = 200
"""Headers that a request may have."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # in a value; a tab is white space
_VISIBLE = re.compile(rb"[\x21\x22\x24-\x7e]+")  # of a target: no space, no "#"
_LONGEST_LENGTH = 18  # digits: no body is that long, and no number is too long to be read
_WHITESPACE = b" \t"
_Found = Mapping[bytes, Sequence[bytes]]


class RequestLine(NamedTuple):
    """
    The first line of a request.

    :param method: one of :data:`METHODS`, if it is taken.
    :param target: path and query as they came (RFC 9112, 3.2.1), or ``*``.
    :param version: ``HTTP/1.1`` or ``HTTP/1.0``.
    :param refused: why it is not taken, although it is a request line; what follows can be read,
        and tells who asks.
    """

    method: bytes
    target: bytes
    version: bytes
    refused: Refused | None = None


class Head(NamedTuple):
    """
    The rest of a request's head.

    :param headers: all of them.
    :param length: of the body in bytes, 0 if there is none, ``None`` if it is chunked.
    :param persistent: whether another request may follow on the connection.
    :param awaits_continue: whether the client waits for ``100 Continue`` before it sends the body.
    """

    headers: Headers
    length: int | None
    persistent: bool
    awaits_continue: bool


def read_request_line(line: bytes) -> RequestLine:
    """
    Read the first line.

    :param line: without its end.
    :raises Refused: if it is no request line.
    """
    if b"\n" in line or b"\r" in line:
        raise Refused(Refusal.LINE_END)
    words = line.split(b" ")
    if len(words) != 3 or not (words[0] in METHODS or _TOKEN.fullmatch(words[0])):
        raise Refused(Refusal.REQUEST_LINE)
    method, target, version = words
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Refused(Refusal.VERSION)
    if method not in METHODS:
        return RequestLine(method, target, version, Refused(Refusal.METHOD))
    try:
        return RequestLine(method, _origin_form(method, target), version)
    except Refused as refused:
        return RequestLine(method, target, version, refused)


def read_header(line: bytes) -> tuple[bytes, bytes]:
    """
    Read a header.

    :param line: without its end.
    :returns: its name and its value.
    :raises Refused: if it cannot be taken.
    """
    if b"\n" in line or b"\r" in line:
        raise Refused(Refusal.LINE_END)
    if line[:1] in (b" ", b"\t"):
        raise Refused(Refusal.FOLDED)
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name):
        raise Refused(Refusal.HEADER_NAME)
    if len(name) > LONGEST:
        raise Refused(Refusal.HEADER_NAME, f"of at most {LONGEST} bytes")
    if _CONTROL.search(value):
        raise Refused(Refusal.HEADER_VALUE, name.decode("ascii"))
    return name, value.strip(_WHITESPACE)


def end_head(line: RequestLine, headers: Headers) -> Head:
    """
    Say what a whole head says.

    :param line: its first line.
    :param headers: all of them.
    :raises Refused: if it cannot be taken.
    """
    found = raw_of(headers)
    hosts = found.get(b"Host", ())
    if len(hosts) > 1 or (not hosts and line.version == b"HTTP/1.1"):
        raise Refused(Refusal.HOST)
    length = _read_framing(line.version, found)
    closes = b"Connection" in found and b"close" in tokens(headers, b"connection")
    head = Head(
        headers=headers,
        length=length,
        persistent=line.version == b"HTTP/1.1" and not closes,
        awaits_continue=_read_expectation(line.version, found) and length != 0,
    )
    if line.refused is not None:
        raise line.refused
    return head


def _origin_form(method: bytes, target: bytes) -> bytes:
    """Take path and query out of a target (RFC 9112, 3.2)."""
    if not _VISIBLE.fullmatch(target):
        raise Refused(Refusal.TARGET)
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise Refused(Refusal.TARGET)
    authority, slash, path = rest.partition(b"/")
    authority, question, query = authority.partition(b"?")
    if not authority or b"@" in authority:
        raise Refused(Refusal.TARGET)
    return b"/" + question + query + slash + path if question else b"/" + path


def _read_framing(version: bytes, found: _Found) -> int | None:
    """Say how long the body is (RFC 9112, 6.3), if there is but one way to read it."""
    lengths = found.get(b"Content-Length", ())
    codings = found.get(b"Transfer-Encoding", ())
    if codings:
        if lengths or len(codings) > 1 or version == b"HTTP/1.0":
            raise Refused(Refusal.LENGTHS if lengths else Refusal.CODING)
        if codings[0].lower() != b"chunked":
            raise Refused(Refusal.CODING)
        return None
    if len(lengths) > 1:
        raise Refused(Refusal.LENGTHS)
    if not lengths:
        return 0
    if not lengths[0].isdigit():
        raise Refused(Refusal.LENGTH)
    if len(lengths[0]) > _LONGEST_LENGTH:
        raise Refused(Refusal.BODY_SIZE)
    return int(lengths[0])


def _read_expectation(version: bytes, found: _Found) -> bool:
    """Say whether the client wants ``100 Continue`` (RFC 9110, 10.1.1)."""
    expectations = found.get(b"Expect", ())
    if not expectations or version == b"HTTP/1.0":
        return False
    if [one.lower() for one in expectations] != [b"100-continue"]:
        raise Refused(Refusal.EXPECTATION)
    return True
