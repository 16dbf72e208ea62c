"""
Keeps web pages from the operator's face.

A browser sends what any page on the internet tells it to, also to addresses that only this machine
reaches.  It always says where a page comes from when that page may steer something, and no page can
send JSON elsewhere without asking first, which is never allowed here.
"""

from __future__ import annotations

import enum
import ipaddress
import re

from twisted.web.http_headers import Headers

from llmux.errors import RequestError

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{0,5})?")
_OWN_SITES = (b"none", b"same-origin")  # Fetch Metadata: typed in by the user, or our own page
_STEERING = (b"POST", b"DELETE")  # all methods that change anything here
_IPV6_LOOPBACK = ipaddress.IPv6Address("::1")


class Reach(enum.Enum):
    """Who can connect to the operator's face."""

    SOCKET = "socket"
    """Whoever may open a UNIX socket; no browser can."""
    LOOPBACK = "loopback"
    """Programs on this machine."""
    NETWORK = "network"
    """Other machines, too."""


class NotForPages(RequestError):
    """A web page may be behind the request."""

    status = 403


class NotJSON(RequestError):
    """An order that any page could have sent."""

    status = 415

    def __init__(self) -> None:
        super().__init__(
            "An order is sent as JSON: give it the header Content-Type: application/json,"
            " also if it has no body"
        )


def check(method: bytes, headers: Headers, reach: Reach) -> None:
    """
    Let a request pass that no web page has sent.

    :param method: its method.
    :param headers: its headers, of which one at most is ``Host``.
    :param reach: where it came in.
    :raises RequestError: if a page could have sent it; the message says what to do.
    """
    host = headers.getRawHeaders(b"host", [b""])[0].decode("latin-1").lower()
    if reach is Reach.LOOPBACK and not names_loopback(host):  # DNS rebinding
        raise NotForPages(
            "The operator's face answers on this machine alone: ask for it as localhost or"
            " 127.0.0.1 (Host)"
        )
    for origin in headers.getRawHeaders(b"origin", []):
        if not host or origin.decode("latin-1").lower() != f"http://{host}":
            raise NotForPages("The operator's face takes nothing from web pages (Origin)")
    for site in headers.getRawHeaders(b"sec-fetch-site", []):
        if site not in _OWN_SITES:
            raise NotForPages("The operator's face takes nothing from web pages (Sec-Fetch-Site)")
    if method in _STEERING and not _is_json(headers):
        raise NotJSON


def names_loopback(host: str) -> bool:
    """
    Tell whether a ``Host`` stands for this machine by itself, with no DNS to say so.

    :param host: its value in lower case, with or without a port.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1]
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        if name.startswith("["):
            return ipaddress.IPv6Address(name[1:-1]) == _IPV6_LOOPBACK
        return ipaddress.IPv4Address(name).is_loopback
    except ValueError:
        return False


def _is_json(headers: Headers) -> bool:
    types = headers.getRawHeaders(b"content-type", [])
    return [one.partition(b";")[0].strip().lower() for one in types] == [b"application/json"]
