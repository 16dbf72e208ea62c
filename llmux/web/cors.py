"""Pages from other origins: what browsers are told so that they may ask llmux (Fetch, 3.2)."""

from __future__ import annotations

from collections.abc import Collection

import attrs
from twisted.web.http_headers import Headers

from llmux.headers import tokens
from llmux.server.head import METHODS

_ALLOW = b"access-control-allow-"
_OURS = (b"access-control-expose-headers", b"access-control-max-age")
_REMEMBERED_SECS = 600  # how long a browser need not ask again
_ANY = "*"


@attrs.frozen
class Cors:
    """
    The origins whose pages may ask.

    :param origins: such as ``https://chat.example``; ``*`` for all; none: nothing is said, and what
        backends say goes through.
    """

    origins: Collection[str]

    def is_preflight(self, method: bytes, received: Headers) -> bool:
        """Tell whether a browser asks what it may do, and it is ours to answer."""
        if not self.origins or method != b"OPTIONS":
            return False
        asked = received.hasHeader(b"access-control-request-method")
        return asked and received.hasHeader(b"origin")

    def allow(self, received: Headers, headers: Headers) -> None:
        """
        Add to an answer what its origin may do with it; what the backend said about this goes.

        :param received: the request's headers.
        :param headers: the answer's.
        """
        if not self.origins:
            return
        for name, _ in list(headers.getAllRawHeaders()):
            if name.lower().startswith(_ALLOW) or name.lower() in _OURS:
                headers.removeHeader(name)
        allowed = self._allowed(received)
        if _ANY not in self.origins and not tokens(headers, b"vary") & {b"*", b"origin"}:
            headers.addRawHeader(b"Vary", b"Origin")
        if allowed is not None:
            headers.setRawHeaders(b"Access-Control-Allow-Origin", [allowed])
            headers.setRawHeaders(b"Access-Control-Expose-Headers", [b"*"])

    def answer_preflight(self, received: Headers, headers: Headers) -> None:
        """Add what a preflight asks for, beside :meth:`allow`."""
        if self._allowed(received) is None:
            return
        headers.setRawHeaders(b"Access-Control-Allow-Methods", [b", ".join(sorted(METHODS))])
        asked = received.getRawHeaders(b"access-control-request-headers")
        if asked is not None:
            headers.setRawHeaders(b"Access-Control-Allow-Headers", asked)
        if received.hasHeader(b"access-control-request-private-network"):
            headers.setRawHeaders(b"Access-Control-Allow-Private-Network", [b"true"])
        headers.setRawHeaders(b"Access-Control-Max-Age", [b"%d" % _REMEMBERED_SECS])

    def _allowed(self, received: Headers) -> bytes | None:
        if _ANY in self.origins:
            return b"*"
        origin: bytes = received.getRawHeaders(b"origin", [b""])[0]
        return origin if origin.decode("latin-1").lower() in self.origins else None
