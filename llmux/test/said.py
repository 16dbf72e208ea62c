"""Random requests that name a model, taken apart: what is before the name, the name, the rest."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, quote, quote_plus

import attrs
from hypothesis import strategies as st

from llmux.envelope import Kind

BOUNDARY = b"=_b=o=u=n=d"
MULTIPART = b"multipart/form-data; boundary=" + BOUNDARY
FORM = b"application/x-www-form-urlencoded"

names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)

_spaces = st.text(" \t\r\n", max_size=3)
_numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_scalars = st.none() | st.booleans() | _numbers | st.text(max_size=8)
_keys = st.sampled_from(("model", "stream", "messages", "mod\\el", "")) | st.text(max_size=5)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3)
)


@attrs.frozen
class Said:
    """
    A body, or a query, that names a model.

    :param name: the name.
    :param before: the bytes in front of it.
    :param written: it, as it is written there.
    :param behind: the bytes behind it.
    :param kind: how it is written.
    :param content_type: that of such a body.
    """

    name: str
    before: bytes
    written: bytes
    behind: bytes
    kind: Kind
    content_type: bytes

    @property
    def whole(self) -> bytes:
        """All of it."""
        return self.before + self.written + self.behind

    def named_in(self, other: bytes) -> str:
        """
        Read the name where another text has it.

        :raises AssertionError: if that differs in anything but the name.
        """
        assert other.startswith(self.before), other
        assert other.endswith(self.behind), other
        middle = other[len(self.before) : len(other) - len(self.behind)]
        if self.kind is Kind.JSON:
            found = json.loads(middle)
            assert isinstance(found, str), middle
            return found
        if self.kind is Kind.PART:
            return middle.decode()
        ((_, value),) = parse_qsl("x=" + middle.decode("ascii"), strict_parsing=True)
        return value


@st.composite
def documents(draw: st.DrawFn, said: st.SearchStrategy[str] = names) -> Said:
    """Write a JSON object, in any of the ways in which it can be written."""
    name = draw(said)
    written = json.dumps(name, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        written = '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 2**16 else c for c in name) + '"'

    def members() -> str:
        found = draw(st.lists(st.tuples(_keys, _values), max_size=3))
        return "".join(
            f"{draw(_spaces)}{json.dumps(key)}{draw(_spaces)}:{draw(_spaces)}{json.dumps(value)},"
            for key, value in found
            if key != "model"
        )

    key = draw(st.sampled_from(('"model"', '"mod\\u0065l"')))
    before = f"{draw(_spaces)}{{{members()}{draw(_spaces)}{key}{draw(_spaces)}:{draw(_spaces)}"
    others = members()
    behind = f"{draw(_spaces)},{others.removesuffix(',')}}}" if others else f"{draw(_spaces)}}}"
    return Said(
        name,
        before.encode(),
        written.encode(),
        (behind + draw(_spaces)).encode(),
        Kind.JSON,
        b"application/json",
    )


@st.composite
def forms(draw: st.DrawFn, said: st.SearchStrategy[str] = names) -> Said:
    """Write a form, or a query, with the field's name and its value encoded in any way."""
    name = draw(said)

    def fields(*known: str) -> list[str]:
        found = draw(st.lists(st.tuples(st.sampled_from(known), names), max_size=3))
        return [f"{quote_plus(key)}={quote_plus(value)}" for key, value in found]

    key = draw(st.sampled_from(("model", "m%6fdel", "%6D%6F%64%65%6C")))
    written = draw(
        st.sampled_from(
            (quote_plus(name), quote(name, safe=""), "".join(f"%{b:02x}" for b in name.encode()))
        )
    )
    before = "&".join([*fields("a", "models", "model2", "", "q=model"), f"{key}="])
    behind = "".join(f"&{field}" for field in fields("b", "file", "é", "mode"))
    return Said(name, before.encode(), written.encode(), behind.encode(), Kind.FORM, FORM)


@st.composite
def parts(draw: st.DrawFn, said: st.SearchStrategy[str] = names) -> Said:
    """Write a form in parts, with files before and behind the field."""
    name = draw(said)
    contents = st.lists(st.binary(max_size=30), max_size=3)
    start = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; name="
    before = b"".join(
        start + b'"file"; filename="x"\r\n\r\n%s\r\n' % each for each in draw(contents)
    )
    before += start + b'"model"\r\n\r\n'
    behind = b"".join(b"\r\n" + start + b'"other"\r\n\r\n%s' % each for each in draw(contents))
    behind += b"\r\n--" + BOUNDARY + b"--\r\n"
    return Said(name, before, name.encode(), behind, Kind.PART, MULTIPART)
