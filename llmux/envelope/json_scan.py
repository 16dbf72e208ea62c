"""The model of a JSON body, found while the body passes by."""

from __future__ import annotations

import codecs
import json
import re

from llmux.envelope import json_tokens as tokens
from llmux.envelope.scanner import LONGEST_NAME, Malformed, Scanner
from llmux.errors import BadEnvelope

DEEPEST = 1000  # containers inside each other; parsers of backends give up at about as many
_LONGEST_KEY = len(r"\u0073\u0074\u0072\u0065\u0061\u006d")  # "stream", every letter escaped

_QUOTE, _BACKSLASH, _COMMA, _COLON = b'"\\,:'
_ARRAY, _OBJECT = b"[{"
_CLOSES = {ord("["): ord("]"), ord("{"): ord("}")}
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_NUMBERS = frozenset(b"-0123456789")
_KINDS = {
    ord("{"): "an object", ord("["): "an array", ord("t"): "a boolean", ord("f"): "a boolean",
    ord("n"): "null", **dict.fromkeys(_NUMBERS, "a number"),
}  # fmt: skip
# Changes what a string may not hold, and nothing else: bytes.translate is the fastest look at them.
_CONTROLS_CHANGED = bytes(255 if byte < 0x20 else byte for byte in range(256))


class JsonScanner(Scanner):
    """
    Scans a JSON object for its own ``model`` and ``stream``.

    It is a machine with a stack: one byte for each container that is open, and the step that comes
    next.  Of the text it keeps a key or a name while it reads one, and at a piece's end what is
    left of a token.  Elements and members that can be skipped in one match are no steps at all
    (:mod:`llmux.envelope.json_tokens`).

    :param offset: where the body's first brace stands, which is the first byte that it is fed.
    :param lenient: whether any model will do, for a request that names its model elsewhere: then
        two models (the last one counts), one that is no string or too long a string are the
        backend's business, too.
    """

    kind = "JSON body"

    def __init__(self, offset: int = 0, *, lenient: bool = False) -> None:
        super().__init__(offset, lenient=lenient)
        self._open = bytearray()
        # Not bound: it would be one of the scanner's own parts that holds the scanner, so that both
        # were left to the garbage collector.
        self._step = JsonScanner._take_value
        self._in_string = False
        self._is_key = False  # whether the string is a key
        self._key = ""  # the last key of the document itself, if it is one that matters
        self._string_at = 0
        self._kept: bytearray | None = None  # the string's text so far, if it matters
        self._longest = 0  # how much of it is kept
        self._short = False  # whether a token needs more bytes than there are

    def _scan(self, data: bytes) -> bytes:
        end, invalid = len(data), False
        if not data.isascii():
            try:
                _, end = codecs.utf_8_decode(data, "strict", False)
            except UnicodeDecodeError as error:
                end, invalid = error.start, True
        if not self._open and data.endswith(b"}") and self._take_whole(data, end):
            return b""
        rest = data[self._walk(data, end) :]
        if invalid and not self._over:
            raise Malformed("it is not UTF-8", self._begin + end)
        if rest[:1] and rest[0] in _NUMBERS and not self._in_string:
            return tokens.DIGITS.sub(rb"\1", rest)  # one digit says as much as a million
        return rest

    def _take_whole(self, data: bytes, end: int) -> bool:
        """
        Take a document that is all there, in a few matches.

        :returns: whether that could be done; if not, nothing is known yet.
        """
        model, stream = None, False
        begin = tokens.BEGIN.match(data, 0, end)
        assert begin is not None  # whoever chose this scanner has seen the brace
        pos = _skip(tokens.TOP_MEMBERS, data, begin.end(), end)
        while field := tokens.FIELD.match(data, pos, end):
            if field[1] is None:
                stream = field[2] == b"true"
            elif model is not None or len(field[1]) > LONGEST_NAME:
                return False
            else:
                model = field
            if field[3] is not None:
                break
            pos = _skip(tokens.TOP_MEMBERS, data, field.end(), end)
        else:
            if not tokens.LAST_MEMBER.match(data, pos, end):
                return False
        if model is not None:
            self.model = _text(model[1])
            self.model_span = self._begin + model.start(1) - 1, self._begin + model.end(1) + 1
        self.stream = stream
        self._over = True
        return True

    def _walk(self, data: bytes, end: int) -> int:
        """Take one step after the other; give where they end."""
        pos = 0
        self._short = False
        while not (self._over or self._short):
            if self._in_string:
                if pos == end:
                    break
                pos = self._take_text(data, pos, end)
                continue
            if pos < end and data[pos] in b" \t\n\r":
                match = tokens.SPACE.match(data, pos, end)
                assert match is not None
                pos = match.end()
            if pos == end:
                break
            pos = self._step(self, data, pos, end)
        return pos

    def _end(self) -> None:
        if self._in_string:
            raise Malformed("in the middle of a string")
        raise Malformed(f"in the middle of an {'array' if self._open[-1] == _ARRAY else 'object'}")

    # The steps: each is given the offset of a byte that is no space, and gives where it ends.

    def _take_value(self, data: bytes, pos: int, end: int) -> int:
        byte = data[pos]
        if self._key and len(self._open) == 1:
            self._check_field(byte, pos)
        if byte == _QUOTE:
            wanted = LONGEST_NAME if self._key == "model" and len(self._open) == 1 else 0
            return self._begin_string(pos, is_key=False, longest=wanted)
        if byte in _CLOSES:
            if len(self._open) == DEEPEST:
                raise self._wrong(pos, f"it is nested deeper than {DEEPEST} levels")
            self._open.append(byte)
            self._step = JsonScanner._take_first
            return pos + 1
        if byte in _NUMBERS:
            return self._take_number(data, pos, end)
        if byte in _LITERALS:
            return self._take_literal(data, pos, end, _LITERALS[byte])
        raise self._wrong(pos, "expected a value")

    def _take_first(self, data: bytes, pos: int, end: int) -> int:
        if data[pos] == _CLOSES[self._open[-1]]:
            return self._close(pos)
        self._step = (
            JsonScanner._take_element if self._open[-1] == _ARRAY else JsonScanner._take_key
        )
        return pos

    def _take_element(self, data: bytes, pos: int, end: int) -> int:
        skipped = tokens.ELEMENTS[self._has_room()].match(data, pos, end)
        if skipped and skipped.end() > pos:
            return skipped.end()
        return self._take_value(data, pos, end)

    def _take_key(self, data: bytes, pos: int, end: int) -> int:
        top = len(self._open) == 1
        run = tokens.TOP_MEMBERS if top else tokens.MEMBERS[self._has_room()]
        skipped = run.match(data, pos, end)
        if skipped and skipped.end() > pos:
            return skipped.end()
        if data[pos] != _QUOTE:
            raise self._wrong(pos, "expected a key in double quotes")
        return self._begin_string(pos, is_key=True, longest=_LONGEST_KEY if top else 0)

    def _take_colon(self, data: bytes, pos: int, end: int) -> int:
        if data[pos] != _COLON:
            raise self._wrong(pos, "expected ':' after a key")
        self._step = JsonScanner._take_value
        return pos + 1

    def _take_comma(self, data: bytes, pos: int, end: int) -> int:
        container = self._open[-1]
        if data[pos] == _COMMA:
            self._step = JsonScanner._take_element if container == _ARRAY else JsonScanner._take_key
            return pos + 1
        if data[pos] != _CLOSES[container]:
            raise self._wrong(pos, f"expected ',' or '{chr(_CLOSES[container])}' after a value")
        return self._close(pos)

    def _take_number(self, data: bytes, pos: int, end: int) -> int:
        begin = tokens.NUMBER_BEGIN.match(data, pos, end)
        if begin and begin.end() == end:  # it may go on
            self._short = True
            return pos
        number = tokens.NUMBER.match(data, pos, end)
        if number is None:
            raise self._wrong(pos, "expected a digit after '-'")
        self._step = JsonScanner._take_comma
        return number.end()

    def _take_literal(self, data: bytes, pos: int, end: int, literal: bytes) -> int:
        word = data[pos : min(pos + len(literal), end)]
        if word == literal:
            if self._key == "stream" and len(self._open) == 1:
                self.stream = literal == b"true"
            self._step = JsonScanner._take_comma
            return pos + len(literal)
        if literal.startswith(word) and pos + len(word) == end:
            self._short = True
            return pos
        raise self._wrong(pos, "expected a value")

    def _take_text(self, data: bytes, pos: int, end: int) -> int:
        """Go through the text of a string: a long one, such as an image, at the speed of memchr."""
        stop = data.find(_QUOTE, pos, end)
        text = data[pos : end if stop < 0 else stop]
        if b"\\" in text or text.translate(_CONTROLS_CHANGED) != text:
            match = tokens.TEXT.match(data, pos, end)
            assert match is not None
            text = match.group()
        stop = pos + len(text)
        self._keep(text)
        if stop == end:
            return end
        if data[stop] == _QUOTE:
            self._end_string(self._begin + stop + 1)
            return stop + 1
        if data[stop] != _BACKSLASH:
            raise self._wrong(stop, "a control character in a string")
        if not tokens.ESCAPE_BEGIN.fullmatch(data, stop, end):
            raise self._wrong(stop, "an escape that JSON does not know")
        self._short = True
        return stop

    # What the steps do

    def _wrong(self, pos: int, what: str) -> Malformed:
        return Malformed(what, self._begin + pos)

    def _has_room(self) -> bool:
        return len(self._open) + tokens.NESTED <= DEEPEST

    def _check_field(self, byte: int, pos: int) -> None:
        """Look at the first byte of a value that matters."""
        if self._key == "stream":
            self.stream = False  # until it is found to be true
        elif byte in _KINDS and not self._lenient:
            raise BadEnvelope(
                f"The model in the {self.kind} must be a string, but at byte {self._begin + pos}"
                f" it is {_KINDS[byte]}"
            )

    def _begin_string(self, pos: int, *, is_key: bool, longest: int) -> int:
        self._in_string, self._is_key = True, is_key
        self._string_at = self._begin + pos
        self._kept, self._longest = (bytearray() if longest else None), longest
        return pos + 1

    def _keep(self, text: bytes) -> None:
        if self._kept is None:
            return
        if len(self._kept) + len(text) <= self._longest:
            self._kept += text
            return
        self._kept = None
        if not (self._is_key or self._lenient):
            raise self._too_long()

    def _end_string(self, end: int) -> None:
        """Make up the mind about a string, of which the closing quote has been read."""
        self._in_string = False
        kept = None if self._kept is None else _text(bytes(self._kept))
        self._step = JsonScanner._take_colon if self._is_key else JsonScanner._take_comma
        if self._is_key and len(self._open) == 1:
            self._key = kept if kept in ("model", "stream") else ""
            if self._key == "model":
                self._name_at(self._string_at)
        elif not self._is_key and kept is not None:
            self.model, self.model_span = kept, (self._string_at, end)

    def _close(self, pos: int) -> int:
        self._open.pop()
        self._step = JsonScanner._take_comma
        self._over = not self._open  # what follows is the backend's business
        return pos + 1


def _skip(run: re.Pattern[bytes], data: bytes, pos: int, end: int) -> int:
    match = run.match(data, pos, end)
    assert match is not None  # it may be empty
    return match.end()


def _text(raw: bytes) -> str:
    """
    Decode a string whose text is known to be valid.

    Half of a surrogate pair, which JSON can spell and nothing can encode, is replaced.
    """
    text: str = raw.decode("utf-8")
    if "\\" not in text:
        return text
    text = json.loads(f'"{text}"')
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
