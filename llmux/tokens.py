"""
How many tokens a request and its answer have, told from as little of them as possible.

An answer is not parsed and not kept: its pieces are counted as they pass, and its last bytes are
looked into for what it says itself (``usage``).
"""

from __future__ import annotations

import re

from twisted.web.http_headers import Headers

TEXT_BYTES = 4
"""Bytes of text that are taken for a token, where nobody says how many there are."""

MEDIA_BYTES = 512
"""Bytes of anything else, such as sound and pictures, and of forms that hold them."""

TAIL = 4096
"""Bytes of an answer's end that are kept, for what it says of its tokens."""

_TEXT = (b"", b"application/json", b"application/x-ndjson", b"application/x-www-form-urlencoded")
_MARKS = {b"text/event-stream": b"\ndata:", b"application/x-ndjson": b"\n"}
_DONE = b"data: [DONE]"
_PROMPT, _OUTPUT = (
    re.compile(rb'"(?:' + names + rb')"\s*:\s*(\d{1,12})\b(?![.\d])')
    for names in (
        b"prompt_tokens|input_tokens|prompt_eval_count",  # OpenAI, Anthropic, Ollama
        b"completion_tokens|output_tokens|eval_count",
    )
)  # a quotation mark inside of a text has a backslash before it: a text cannot look like these


class Tally:
    """
    Counts the tokens of one answer.

    :param headers: the answer's.
    """

    def __init__(self, headers: Headers) -> None:
        self._type = media_type(headers)
        encoded = headers.hasHeader(b"content-encoding")  # nothing can be seen in it then
        self._mark = None if encoded else _MARKS.get(self._type)
        self._size = 0
        self._pieces = 0
        self._tail = b"\n"  # a line begins where the answer begins

    def feed(self, data: bytes) -> None:
        """Take in a piece of its body."""
        self._size += len(data)
        mark = self._mark
        if mark is not None:
            across = len(mark) - 1
            before = self._tail[max(0, len(self._tail) - across) :]
            self._pieces += data.count(mark) + (before + data[:across]).count(mark)
        self._tail = data[-TAIL:] if len(data) >= TAIL else (self._tail + data)[-TAIL:]

    def prompt(self) -> int | None:
        """Give how long it says that the prompt was, if it says so."""
        return _last(_PROMPT, self._tail)

    def output(self) -> int:
        """
        Give how long the answer is.

        It is what it says itself; none if it only says how long the prompt was, as embeddings do;
        else as many as it has events or lines, or by its size.
        """
        said = _last(_OUTPUT, self._tail)
        if said is not None:
            return said
        if self.prompt() is not None:
            return 0
        if self._mark is None:
            return estimate(self._size, self._type)
        return max(0, self._pieces - (_DONE in self._tail))


def estimate(size: int, media_type: bytes) -> int:
    """
    Say about how many tokens something has.

    :param size: in bytes.
    :param media_type: its type, in lower case and without parameters; empty: not known.
    """
    text = media_type in _TEXT or media_type.startswith(b"text/")
    return -(-size // (TEXT_BYTES if text else MEDIA_BYTES))


def media_type(headers: Headers) -> bytes:
    """Give what headers say of the type of what they are about; empty: nothing."""
    said = headers.getRawHeaders(b"content-type", [b""])[0]
    return said.partition(b";")[0].strip().lower()


def _last(pattern: re.Pattern[bytes], tail: bytes) -> int | None:
    found = pattern.findall(tail)
    return int(found[-1]) if found else None
