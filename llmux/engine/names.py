"""Names of headers as Twisted writes them, and headers made without looking at each once more."""

from __future__ import annotations

from twisted.web.http_headers import Headers

LONGEST = 256
"""
Bytes of a name of a stranger's that are worth a look: names are remembered for good, by Twisted as
well as here.
"""

_MOST = 4096  # that are remembered: a peer could make up any number
known: dict[bytes, bytes] = {}
"""Canonical names by what was asked for, for whoever cannot afford to call :func:`canonical`."""

Raw = dict[bytes, list[bytes]]
"""Values by canonical name, each as often as it came."""


def canonical(name: bytes) -> bytes:
    """
    Write a header's name as Twisted does.

    :raises InvalidHeaderName: if it is none.
    """
    return known.get(name) or _find(name)


def headers_of(raw: Raw) -> Headers:
    """
    Give headers as Twisted has them.

    There is no public way that does not take names and values apart and put them together again,
    which is dear where each request has dozens of them.
    """
    headers = Headers()
    headers._rawHeaders = raw
    return headers


def raw_of(headers: Headers) -> Raw:
    """Give what headers hold, to be looked at; to find one takes no more than a dictionary does."""
    return headers._rawHeaders


def put(headers: Headers, name: bytes, value: bytes) -> None:
    """
    Set a header of our own, instead of those of its name.

    :param name: as Twisted writes it.
    :param value: in one line.
    """
    headers._rawHeaders[name] = [value]


def add(headers: Headers, name: bytes, value: bytes) -> None:
    """Add a header of our own to those of its name; see :func:`put`."""
    headers._rawHeaders.setdefault(name, []).append(value)


def _find(name: bytes) -> bytes:
    ((found, _),) = Headers({name: []}).getAllRawHeaders()
    if len(known) < _MOST:
        known[name] = found
    return found
