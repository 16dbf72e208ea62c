"""A head that comes line by line, refused at the first byte that is not to be taken."""

from __future__ import annotations

from twisted.web.http_headers import Headers

from llmux.server.head import MAX_HEADERS, Head, RequestLine, end_head, read_header
from llmux.server.head import read_request_line as read_first
from llmux.server.refusals import Refusal, Refused

MAX_HEAD = 64 * 1024
"""Bytes that the head of a request may have."""

_END = b"\r\n"


class HeadReader:
    """
    Reads one head.

    Each line is judged when it is whole, and each byte that no line may hold when it comes: so it
    makes no difference where the bytes of a head are cut.

    :ivar line: the first line, when that has been taken.
    :ivar headers: those that have been taken so far.
    """

    def __init__(self) -> None:
        self.line: RequestLine | None = None
        self.headers = Headers()
        self._blank_seen = False
        self._size = 0
        self._count = 0

    def take(self, line: bytes) -> Head | None:
        """
        Take the next line.

        :param line: without its end.
        :returns: what the head says, if this was its end.
        :raises Refused: if the head cannot be taken.
        """
        if not line and self.line is None and not self._blank_seen:
            self._blank_seen = True  # RFC 9112, 2.2: one is ignored
            return None
        length = len(line) + len(_END)
        self._look_at(line, length)
        self._size += length
        if self.line is None:
            self.line = read_first(line)
        elif line:
            self._count += 1
            if self._count > MAX_HEADERS:
                raise Refused(Refusal.HEADER_COUNT, f"more than {MAX_HEADERS}")
            self.headers.addRawHeader(*read_header(line))
        else:
            return end_head(self.line, self.headers)
        return None

    def look_at(self, begun: bytes, more: int = 0) -> None:
        """
        Look at what has come of a line that is not whole.

        :param begun: its begin.
        :param more: how many bytes there are behind that, no LF among them.
        :raises Refused: if nothing that could come would make it one that can be taken.
        """
        self._look_at(begun, len(begun) + more)

    def _look_at(self, line: bytes, length: int) -> None:
        room = MAX_HEAD - self._size
        if line.find(b"\n", 0, room) >= 0:
            raise Refused(Refusal.LINE_END)
        if length > room:
            raise Refused(Refusal.HEAD_SIZE, f"more than {MAX_HEAD} bytes")
