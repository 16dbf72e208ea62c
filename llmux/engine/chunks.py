"""A chunked body, followed through the reads in which it comes (RFC 9112, 7.1)."""

from __future__ import annotations

import re
from collections.abc import Callable

from zope.interface import Interface

_CRLF = b"\r\n"
_LONGEST_LINE = 1024  # bytes of a line with a size
_LONGEST_TRAILERS = 64 * 1024  # bytes
_MOST = 1 << 63  # bytes that no chunk has

_PLAIN = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")
_ODD = re.compile(rb"([0-9a-fA-F]+)(?:;[\t\x20-\x5b\x5d-\x7e\x80-\xff]*)?\r\n")


class IChunksConsumer(Interface):
    """A body's protocol that takes a chunked body as it is."""

    def chunksReceived(data: bytes, size: int) -> None:  # as Twisted's are
        """
        Take what has come of a body, with its framing.

        The last chunk and the trailers are not part of it.  What has been handed on up to now is
        the beginning of a chunked body, but may end in the midst of a chunk.  A body that is not
        chunked comes by ``dataReceived``, as everybody's does.

        :param data: chunks, without extensions.
        :param size: how many bytes of the body are in it.
        """


class ChunkScanner:
    """
    Follows a chunked body without keeping any of it.

    Each read is given to either :meth:`framed` or :meth:`decoded`.  Framing of which the end has
    not come, and so nobody knows what it says, is held back until the next read.

    :ivar size: bytes of the body that were in the last read.
    :ivar ended: whether the body has come to its end, trailers and all.
    :ivar rest: what has come behind it.
    :ivar wrong: why what has come is no chunked body, if it is none; what came before is handed on
        all the same.
    """

    def __init__(self) -> None:
        self.size = 0
        self.ended = False
        self.rest = b""
        self.wrong = ""
        self._left = 0  # bytes that the chunk that is under way still has
        self._inside = False  # whether one is, its line end included
        self._in_trailers = False
        self._trailers = 0  # bytes of them
        self._held = b""

    def framed(self, data: bytes) -> bytes:
        """
        Take a read, and give its framing, too.

        :returns: the read itself where that can be handed on as it is; chunk extensions are not, as
            they speak of one connection alone.
        """
        begin = size = 0
        if not (self._inside or self._held or self._in_trailers):
            begin, size = _skip_whole(data)
            if begin == len(data):  # as nearly every read of a stream of events is
                self.size = size
                return data
        lines: list[tuple[int, int, bytes]] = []
        data, end = self._scan(data, [], lines, begin, size)
        if not lines:
            return data if end == len(data) else data[:end]
        pieces: list[bytes] = []
        at = 0
        for begin, behind, line in lines:
            pieces += (data[at:begin], line)
            at = behind
        return b"".join((*pieces, data[at:end]))

    def decoded(self, data: bytes) -> bytes:
        """Take a read, and give what it has of the body."""
        spans: list[tuple[int, int]] = []
        data, _ = self._scan(data, spans, [])
        return b"".join([data[begin:end] for begin, end in spans])

    def _scan(
        self,
        data: bytes,
        spans: list[tuple[int, int]],
        lines: list[tuple[int, int, bytes]],
        at: int = 0,
        size: int = 0,
    ) -> tuple[bytes, int]:
        """
        Go through a read.

        :param spans: to which is added where the body's bytes are, and
        :param lines: to which is added where a line with a size is that has to be written anew, and
            how it is written.
        :param at: where to begin, behind whole chunks, and
        :param size: how many bytes of the body are in those.
        :returns: the read with what was held back before it, and up to where that can be handed on.
        """
        if self._held:
            data, self._held = self._held + data, b""
        if self._in_trailers:
            self.size = 0
            self._read_trailers(data, 0)
            return data, 0
        behind = len(data)
        left, inside = self._left, self._inside
        while True:
            if inside:
                end = at + left
                if end + 2 > behind:
                    stop = end if end < behind else behind
                    size += stop - at
                    spans.append((at, stop))
                    left -= stop - at
                    self._hold(data[stop:], _CRLF.startswith)
                    at = stop
                    break
                size += left
                spans.append((at, end))
                if data[end : end + 2] != _CRLF:
                    self.wrong = "a chunk does not end where it should"
                    at = end
                    break
                at = end + 2
                inside = False
            if at == behind:
                break
            line = _PLAIN.match(data, at)
            if line is None:
                line = _ODD.match(data, at)
                if line is None or line.end() - at > _LONGEST_LINE:
                    self._hold(data[at:], _may_be_line)
                    break
            left = int(line[1], 16)
            if not left:
                self._in_trailers = True
                self._read_trailers(data, line.end())
                break
            if left > _MOST:
                self.wrong = "no chunk is that large"
                break
            if line.re is not _PLAIN:
                lines.append((at, line.end(), b"%x\r\n" % left))
            inside = True
            at = line.end()
        self._left, self._inside, self.size = left, inside, size
        return data, at

    def _hold(self, data: bytes, possible: Callable[[bytes], bool]) -> None:
        """Keep the beginning of a bit of framing until its end has come."""
        if not possible(data):
            self.wrong = f"no chunk begins or ends with {data[:20]!r}"
        self._held = data

    def _read_trailers(self, data: bytes, at: int) -> None:
        """Skip trailers: lines up to an empty one."""
        while (end := data.find(_CRLF, at)) > at:
            self._trailers += end + 2 - at
            at = end + 2
        if end == at:
            self.ended = True
            self.rest = data[end + 2 :]
        else:
            self._held = data[at:]
        if self._trailers + len(self._held) > _LONGEST_TRAILERS:
            self.wrong = "its trailers are too long"


def _skip_whole(data: bytes) -> tuple[int, int]:
    """
    Go through the chunks at the beginning of a read that are whole, and written as usual.

    :returns: where they end, and how many bytes of the body are in them.
    """
    at = size = 0
    behind = len(data)
    while at < behind and (line := _PLAIN.match(data, at)) is not None:
        chunk = int(line[1], 16)
        end = line.end() + chunk
        if not chunk or data[end : end + 2] != _CRLF:
            break
        size += chunk
        at = end + 2
    return at, size


def _may_be_line(data: bytes) -> bool:
    """Tell whether a line with a size may begin so; its end has not come."""
    return len(data) <= _LONGEST_LINE and _CRLF not in data
