"""
Heads of requests, read by llhttp: those that come whole, and about which nothing is unusual.

Nearly all do.  For the others there has to be another reader, which knows what to answer to what
is no head: this one never says more than "not by me".  llhttp tolerates some of what two programs
could read in two ways, and versions of it differ in that.  So what is read here has been looked at
beside llhttp as well, at the speed of C: every line has its end, no byte is a control character,
and each line behind the first is one header.
"""

from __future__ import annotations

from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.web.http_headers import Headers

from llmux.engine.names import LONGEST, Raw, canonical, headers_of, known

END = b"\r\n\r\n"
"""What every head ends with."""

_LINE_END = b"\r\n"
_USUAL = bytes({*range(0x20, 0x100), ord("\t")} - {0x7F})
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")


class WholeHead(NamedTuple):
    """
    A head that could be read.

    :param line: its first line, of three words with one space between each.
    :param headers: all of them, their values without the white space around.
    :param lines: how many they are.
    :param size: of all of it, in bytes.
    """

    line: bytes
    headers: Headers
    lines: int
    size: int


def read_whole(head: bytes) -> WholeHead | None:
    """
    Read a head.

    :param head: from its first byte to the empty line.
    :returns: ``None`` if another reader has to look at it.
    """
    lines = head.count(_LINE_END)
    if head.translate(None, _USUAL) != _LINE_END * lines:
        return None
    line = head[: head.find(_LINE_END)]
    if line.count(b" ") != 2 or not line.endswith(_VERSIONS):
        return None
    found = _Found()
    try:
        HttpRequestParser(found).feed_data(head)
    except HttpParserUpgrade:  # the head is whole; what becomes of it is not llhttp's business
        pass
    except HttpParserError:
        return None
    if found.count != lines - 2:  # the first line, and the empty one
        return None
    return WholeHead(line, headers_of(found.raw), found.count, len(head))


class _Found:
    """What llhttp finds."""

    __slots__ = ("count", "raw")

    def __init__(self) -> None:
        self.raw: Raw = {}
        self.count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self.count += 1
        name = known.get(name) or _find(name)
        value = value.strip(b" \t")
        values = self.raw.get(name)
        if values is None:  # as for nearly all
            self.raw[name] = [value]
        else:
            values.append(value)


def _find(name: bytes) -> bytes:
    """
    Write a name as Twisted does that is not known yet.

    :raises ValueError: if it is too long, which llhttp passes on.
    """
    if len(name) > LONGEST:
        raise ValueError("the name of a header is too long")
    return canonical(name)
