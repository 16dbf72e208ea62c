"""
The grammar of JSON (RFC 8259) as regular expressions that do not look back.

A scanner that took JSON apart token by token would be slow in Python.  Here as many tokens as can
be are skipped in one match.  Everything that repeats is possessive or in an atomic group, and what
can come next is always told apart by its first byte, so that the time of a match is proportional to
what it looks at.  What it looked at in vain, because of a container that goes on in the next piece
or is nested too deeply, is looked at again, but no more than once for each level of ``NESTED``.

Groups are atomic rather than possessive because of https://github.com/python/cpython/issues/106052.
"""

from __future__ import annotations

import re

NESTED = 4  # how many containers inside each other one match can skip

_SPACE = rb"[ \t\n\r]*+"
_ESCAPE = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_PLAIN = rb'[^"\\\x00-\x1f]*+'
_TEXT = rb"%s(?>(?:%s%s)*)" % (_PLAIN, _ESCAPE, _PLAIN)
_STRING = rb'"%s"' % _TEXT
_EXPONENT = rb"[eE][+-]?+[0-9]++"
_NUMBER = rb"-?+(?:0|[1-9][0-9]*+)(?>(?:\.[0-9]++)?)(?>(?:%s)?)" % _EXPONENT
_SCALAR = rb"(?>%s|%s|true|false|null)" % (_STRING, _NUMBER)
# The keys of the document itself that need no closer look
_OTHER_KEY = rb'"(?!(?:model|stream)")%s"' % _PLAIN


def _value(nested: int) -> bytes:
    """Write the pattern of a value with at most so many containers inside each other."""
    if nested == 0:
        return _SCALAR
    # Behind an element comes a comma and no end, or the end: so an element is written only once.
    behind = rb"(?>,%s(?!%s)|(?=%s))"
    array_end, object_end = rb"\]", rb"\}"
    inner = _value(nested - 1)
    element = inner + _SPACE + behind % (_SPACE, array_end, array_end)
    member = (
        _STRING + _SPACE + rb":" + _SPACE + inner + _SPACE
        + behind % (_SPACE, object_end, object_end)
    )  # fmt: skip
    array = rb"\[%s(?>(?:%s)*)%s" % (_SPACE, element, array_end)
    mapping = rb"\{%s(?>(?:%s)*)%s" % (_SPACE, member, object_end)
    return rb"(?>%s|%s|%s)" % (_SCALAR, array, mapping)


def _run(nested: int, key: bytes | None) -> re.Pattern[bytes]:
    """Compile the pattern of any number of elements or members, each with its comma behind it."""
    before = b"" if key is None else key + _SPACE + rb":" + _SPACE
    element = before + _value(nested) + _SPACE + rb"," + _SPACE
    return re.compile(rb"(?>(?:%s)*)" % element)


SPACE = re.compile(_SPACE)
TEXT = re.compile(_TEXT)
NUMBER = re.compile(_NUMBER)
# What could become one of these, if more came
ESCAPE_BEGIN = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_EXPONENT_BEGIN = rb"[eE](?:[+-]?+[0-9]*+)"
NUMBER_BEGIN = re.compile(
    rb"-?+(?:(?:0|[1-9][0-9]*+)(?:\.(?:[0-9]++(?:%s)?)?|%s)?)?" % (_EXPONENT_BEGIN, _EXPONENT_BEGIN)
)
DIGITS = re.compile(rb"([0-9])[0-9]*+")

# What can be skipped, by whether there is room for the containers in it
ELEMENTS = {True: _run(NESTED, None), False: _run(0, None)}
MEMBERS = {True: _run(NESTED, _STRING), False: _run(0, _STRING)}
TOP_MEMBERS = _run(NESTED, _OTHER_KEY)

# The document itself, where little in it is unusual and all of it is there
BEGIN = re.compile(rb"\{" + _SPACE)
_IS = _SPACE + rb":" + _SPACE
FIELD = re.compile(
    rb'(?:"model"%s"(%s)"|"stream"%s(true|false))%s(?:,%s|(\}))'
    % (_IS, _PLAIN, _IS, _SPACE, _SPACE)
)
LAST_MEMBER = re.compile(_OTHER_KEY + _IS + _value(NESTED) + _SPACE + rb"\}")
