"""The model of an ``application/x-www-form-urlencoded`` body, and of a query: they look alike."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from llmux.envelope.scanner import LONGEST_NAME, Scanner

# "model", each letter as it is or percent-encoded
_MODEL = rb"(?:m|%6[dD])(?:o|%6[fF])(?:d|%64)(?:e|%65)(?:l|%6[cC])"
_LONGEST_KEY = len(b"%6d%6f%64%65%6c=")

_MODEL_FIELD = re.compile(_MODEL + rb"(?:=|(?=&))")
_MODEL_ALONE = re.compile(_MODEL)
_OTHER_FIELDS = re.compile(rb"(?>(?:(?!%s[=&])[^&]*+&)*)" % _MODEL)
_QUERY_MODELS = re.compile(rb"(?<![^&])%s(?:=([^&]*+)|(?![^&]))" % _MODEL)


class FormScanner(Scanner):
    """
    Scans a form for its field ``model``.

    Fields stand behind each other with ``&`` between them; of others nothing is kept.

    :param lenient: see :class:`Scanner`.
    """

    kind = "form"

    def __init__(self, *, lenient: bool = False) -> None:
        super().__init__(lenient=lenient)
        self._in_other = False  # inside a field that is not looked at
        self._value: bytearray | None = None  # the model's name so far
        self._value_at: int | None = None  # where it begins, if there is an "="

    def _scan(self, data: bytes) -> bytes:
        pos = 0
        while pos < len(data):
            if self._value is not None:
                pos = self._take_value(data, pos)
            elif self._in_other:
                pos = self._skip_field(data, pos)
            else:
                others = _OTHER_FIELDS.match(data, pos)
                assert others is not None
                pos = others.end()
                if field := _MODEL_FIELD.match(data, pos):
                    self._name_at(self._begin + pos)
                    self._value = bytearray()
                    pos = field.end()
                    self._value_at = self._begin + pos if field[0].endswith(b"=") else None
                elif len(data) - pos < _LONGEST_KEY:  # it may become one
                    return data[pos:]
                else:
                    self._in_other = True
        return b""

    def _end(self) -> None:
        if _MODEL_ALONE.fullmatch(self._held):
            self._name_at(self._fed - len(self._held))
            self._value, self._value_at = bytearray(), None
        self._end_value(self._fed)

    def _skip_field(self, data: bytes, pos: int) -> int:
        stop = data.find(b"&", pos)
        self._in_other = stop < 0
        return len(data) if stop < 0 else stop + 1

    def _take_value(self, data: bytes, pos: int) -> int:
        assert self._value is not None
        stop = data.find(b"&", pos)
        end = len(data) if stop < 0 else stop
        if len(self._value) + end - pos > LONGEST_NAME:
            raise self._too_long()
        self._value += data[pos:end]
        if stop < 0:
            return end
        self._end_value(self._begin + stop)
        return stop + 1

    def _end_value(self, end: int) -> None:
        if self._value is not None:
            self.model_span = None if self._value_at is None else (self._value_at, end)
            raw, self._value = bytes(self._value), None
            self.model = self._text(decoded(raw))


def query_models(query: bytes) -> list[tuple[bytes, tuple[int, int] | None]]:
    """
    Find the models that a query names.

    :returns: each, decoded, with the offsets where it begins and ends as it is written, or ``None``
        if there is no ``=`` behind which it could stand; most often none or one.
    """
    return [
        (decoded(match[1] or b""), None if match[1] is None else match.span(1))
        for match in _QUERY_MODELS.finditer(query)
    ]


def decoded(raw: bytes) -> bytes:
    """Undo the encoding of forms: a plus is a space, behind a percent sign are two digits."""
    return unquote_to_bytes(raw.replace(b"+", b" "))
