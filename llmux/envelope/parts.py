"""The model of a ``multipart/form-data`` body (RFC 7578), before or behind the files in it."""

from __future__ import annotations

import re

from llmux.envelope.scanner import LONGEST_NAME, Malformed, Scanner
from llmux.errors import BadEnvelope

LONGEST_HEADERS = 8192  # bytes of one part's headers
LONGEST_BOUNDARY = 256  # bytes; RFC 2046, 5.1.1 allows 70

_NAME = rb';[ \t]*+([^\s=;"]++)[ \t]*+=[ \t]*+'
_QUOTED = rb'"((?>(?:[^"\\]++|\\.)*))"'
_PARAMETER = re.compile(rb'%s(?:%s|([^;"]*+))[ \t]*+' % (_NAME, _QUOTED), re.DOTALL)

# What may stand behind a boundary: the end of all parts, or blanks (which nobody sends) and the end
# of the line.  That is left to the headers, so that a blank line is always their end.
_BEHIND = re.compile(rb"(--)|[ \t]{0,64}+(?=\r\n)")
_BEHIND_BEGIN = re.compile(rb"-|[ \t]{0,64}+\r?")
_HEADERS_END = b"\r\n\r\n"
_OF_FILES = frozenset({b"filename", b"filename*"})
_FOLD = re.compile(rb"\r\n[ \t]++")


def parameters(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """
    Take a header's value with parameters apart: ``form-data; name="model"``.

    :returns: the value itself in small letters, and the parameters without their quotes.
    :raises ValueError: if it is not of this form, or has a parameter twice.
    """
    kind = value.partition(b";")[0]
    found: dict[bytes, bytes] = {}
    pos = len(kind)
    while match := _PARAMETER.match(value, pos):
        name, quoted, plain = match.groups()
        if name.lower() in found:
            raise ValueError("a parameter that is there twice")
        found[name.lower()] = plain.rstrip() if quoted is None else quoted
        pos = match.end()
    if value[pos:].strip(b"; \t"):
        raise ValueError("something that is no parameter")
    return kind.strip().lower(), found


class PartsScanner(Scanner):
    """
    Scans a form in parts for its field ``model``; a file of this name is not the field.

    :param content_type: the body's type, which says what stands between the parts.
    :param lenient: see :class:`Scanner`.
    """

    kind = "multipart body"

    def __init__(self, content_type: bytes, *, lenient: bool = False) -> None:
        super().__init__(lenient=lenient)
        self._held = b"\r\n"  # as if it stood before the body: it belongs to a boundary
        self._in_headers = False
        self._parts = 0
        self._value: bytearray | None = None  # the model's name so far
        self._value_at = 0
        try:
            boundary = parameters(content_type)[1].get(b"boundary", b"")
        except ValueError:
            boundary = b""
        self._mark = b"\r\n--" + boundary
        if not 0 < len(boundary) <= LONGEST_BOUNDARY:
            self._refuse(
                BadEnvelope(
                    "The Content-Type multipart/form-data must name a boundary of at most"
                    f" {LONGEST_BOUNDARY} bytes"
                )
            )

    def _scan(self, data: bytes) -> bytes:
        pos = 0
        while not self._over:
            step = self._take_headers if self._in_headers else self._take_content
            after = step(data, pos)
            if after == pos:  # more is needed
                break
            pos = after
        return data[pos:]

    def _end(self) -> None:
        if not self._parts:
            raise Malformed("before its first boundary")
        what = "a part's headers" if self._in_headers else "a part"
        raise Malformed(f"in the middle of {what}")

    def _take_content(self, data: bytes, pos: int) -> int:
        """Go through a part's content, or what stands before all, and the boundary behind it."""
        found = data.find(self._mark, pos)
        if found < 0:  # the last bytes may be the begin of one
            end = max(pos, len(data) - len(self._mark) + 1)
            self._keep(data[pos:end])
            return end
        self._keep(data[pos:found])
        behind = found + len(self._mark)
        if boundary := _BEHIND.match(data, behind):
            self._end_part(self._begin + found, last=boundary[1] is not None)
            return boundary.end()
        if _BEHIND_BEGIN.fullmatch(data, behind):
            return found
        self._keep(data[found:behind])  # it only looked like one
        return behind

    def _end_part(self, end: int, *, last: bool) -> None:
        if self._value is not None:
            self.model_span = self._value_at, end
            self.model, self._value = self._text(bytes(self._value)), None
        self._over = last  # what follows is the backend's business
        self._in_headers = True
        self._parts += 1

    def _keep(self, content: bytes) -> None:
        if self._value is None:
            return
        self._value += content
        if len(self._value) > LONGEST_NAME:
            raise self._too_long()

    def _take_headers(self, data: bytes, pos: int) -> int:
        """Read a part's headers, from the line's end behind the boundary to the blank line."""
        end = data.find(_HEADERS_END, pos, pos + LONGEST_HEADERS + len(_HEADERS_END))
        offset = self._begin + pos + 2
        if end < 0:
            if len(data) - pos >= LONGEST_HEADERS + len(_HEADERS_END):
                raise Malformed(f"a part has more than {LONGEST_HEADERS} bytes of headers", offset)
            return pos
        try:
            disposition = _disposition(data[pos + 2 : end])
        except ValueError as error:
            raise Malformed(f"a part's headers hold {error}", offset) from error
        if disposition.get(b"name") == b"model" and not disposition.keys() & _OF_FILES:
            self._name_at(offset)
            self._value = bytearray()
            self._value_at = self._begin + end + len(_HEADERS_END)
        self._in_headers = False
        return end + len(_HEADERS_END)


def _disposition(headers: bytes) -> dict[bytes, bytes]:
    """
    Read what a part's headers say of the field.

    :raises ValueError: if they say nothing, or nothing that can be understood.
    """
    fields: dict[bytes, bytes] = {}
    for line in _FOLD.sub(b" ", headers).split(b"\r\n") if headers else ():
        name, colon, value = line.partition(b":")
        if not colon or b"\n" in line or b"\r" in line:
            raise ValueError("a line that is no header")
        if name.lower() in fields:
            raise ValueError("a header that is there twice")
        fields[name.lower()] = value.strip()
    kind, found = parameters(fields.get(b"content-disposition", b""))
    if kind != b"form-data":
        raise ValueError("no Content-Disposition of the kind form-data")
    return found
