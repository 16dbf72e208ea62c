"""The head of an answer, as llhttp reads it, and what it says of the body (RFC 9112, 6.3)."""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.web.http import NO_BODY_CODES

from llmux.engine.names import Raw, canonical, headers_of, known

_VERSIONS = {version: (b"HTTP", int(version[0]), int(version[2])) for version in ("1.1", "1.0")}


class BadResponse(Exception):
    """What a server has said is no HTTP."""


class ResponseHead:
    """
    The head of an answer.

    :param raw: all of its bytes.
    :param method: of the request.
    :raises BadResponse: if it is none.
    :ivar version: as :attr:`IResponse.version` is.
    :ivar code: its status.
    :ivar phrase: its reason phrase.
    :ivar headers: all of them, in order.
    :ivar chunked: whether its body is.
    :ivar length: bytes of its body; ``None``: what comes of it says where it ends.
    :ivar persistent: whether the connection is surely of use behind it (RFC 9112, 9.3).
    """

    phrase = b""

    def __init__(self, raw: bytes, method: bytes) -> None:
        self._raw: Raw = {}
        self._complete = False
        parser = HttpResponseParser(self)
        # Twisted's client takes both: lines that end in LF alone, and a length beside chunks, which
        # overrule it.
        parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_chunked_length=True
        )
        wrong = ""
        try:
            parser.feed_data(raw)
        except (HttpParserError, HttpParserUpgrade) as error:  # the latter when all has been read
            wrong = str(error)
        if not self._complete:
            raise BadResponse(wrong or "its head ends too early")
        version = parser.get_http_version()
        self.version = _VERSIONS.get(version) or (b"HTTP", int(version[0]), int(version[2]))
        self.code = parser.get_status_code()
        self.headers = headers_of(self._raw)
        self.chunked = False
        self.length: int | None = None
        self._read_framing(method)

    def on_status(self, phrase: bytes) -> None:
        """Take its reason phrase."""
        self.phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = known.get(name) or canonical(name)
        value = value.strip()
        values = self._raw.get(name)
        if values is None:  # as for nearly all
            self._raw[name] = [value]
        else:
            values.append(value)

    def on_headers_complete(self) -> None:
        """Take its end."""
        self._complete = True

    def _read_framing(self, method: bytes) -> None:
        raw, closes = self._raw, self.version[1:] < (1, 1)
        codings = [coding.lower() for coding in raw.get(b"Transfer-Encoding", ())]
        if b"Content-Length" in raw:
            self.length = int(raw[b"Content-Length"][-1])  # which the parser has checked
        for words in raw.get(b"Connection", ()):
            closes = closes or b"close" in map(bytes.strip, words.lower().split(b","))
        promised = bool(codings) or self.length is not None
        bodiless = method == b"HEAD" or self.code < 200 or self.code in NO_BODY_CODES
        if bodiless:
            self.length = 0
        elif codings:
            self.length = None
            self.chunked = codings == [b"chunked"]
            if not self.chunked:
                raise BadResponse(f"its transfer encoding is {b', '.join(codings)!r:.50}")
        # Where no body is to come a server may send one all the same, a moment later; the next
        # request would get it for an answer.
        self.persistent = not closes and not (promised and bodiless)
