"""twisted.web's server channel, with heads read by llhttp."""

from __future__ import annotations

from typing import Any

from twisted.web.http import HTTPChannel

from llmux.engine.heads import END, WholeHead, read_whole
from llmux.engine.holding import first_of

_AT_ONCE = 32 * 1024
"""
Bytes that are looked at together where heads are read: more than most heads have, and than
twisted.web takes.  What has come behind one is copied, and behind each line of one that is read
line by line.
"""


class LLHTTPChannel(HTTPChannel):
    """
    A channel for any :class:`twisted.web.server.Site`: set it as the site's ``protocol``.

    A head that comes in one piece, as nearly all do, is read by llhttp, and what it says is handed
    to twisted.web's own methods.  One that comes in several pieces, or that llhttp does not take,
    goes twisted.web's own way, line by line: so what is refused is refused in the same words, and
    there is one set of limits.

    It speaks HTTP/1 alone, and a site on TLS offers HTTP/2 where Twisted has what that needs: such
    a site has to offer less (``acceptableProtocols``).

    Like twisted.web's channel it is a :class:`LineReceiver`, and keeps to its rules: while bytes
    are being looked at it is busy, and what comes behind them is in its buffer.
    """

    transport: Any  # it can do more than Twisted's annotations say
    _in_lines = False  # whether a part of a head has been taken the other way

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        if self.line_mode and len(data) > _AT_ONCE:
            data = first_of(data, _AT_ONCE, self.transport)
        while data and self.expects_head():
            end = data.find(END) + len(END)
            head = read_whole(data[:end]) if end >= len(END) else None
            if head is None:
                break
            self._busyReceiving, self._buffer = True, data[end:]
            try:
                taken = self.head_received(head)
            finally:
                self._busyReceiving = False
            if self.transport.disconnecting:
                return
            if taken:
                data = self._buffer
            self._buffer = b""
            if not taken:
                break
        if data:
            super().dataReceived(data)

    def expects_head(self) -> bool:
        """Tell whether the next byte that comes is the first one of a head."""
        return (
            self.line_mode == 1
            and not self._busyReceiving
            and not self._in_lines
            and not self._buffer
        )

    def head_received(self, head: WholeHead) -> bool:
        """
        Begin a request; what has come behind its head is in the buffer.

        :returns: whether it was taken, or refused; if not, nothing has been done.
        """
        if head.lines > self.maxHeaders or head.size > self.totalHeadersSize:
            return False
        self.resetTimeout()
        before = len(self.requests)
        self.lineReceived(head.line)
        if len(self.requests) == before or self.transport.disconnecting:
            return True
        self.requests[-1].requestHeaders = head.headers
        for name in (b"Content-Length", b"Transfer-Encoding"):
            for value in head.headers.getRawHeaders(name, ()):
                if not self._maybeChooseTransferDecoder(name, value):
                    return True
        self.lineReceived(b"")
        return True

    def lineReceived(self, line: bytes) -> None:
        """See :meth:`LineReceiver.lineReceived`."""
        self._in_lines = True
        super().lineReceived(line)

    def allContentReceived(self) -> None:
        """See :meth:`HTTPChannel.allContentReceived`."""
        self._in_lines = False
        super().allContentReceived()
