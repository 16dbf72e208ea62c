"""Requests whose heads llhttp reads, where our strict reader would take them."""

from __future__ import annotations

from llmux.engine.channel import LLHTTPChannel
from llmux.engine.heads import WholeHead
from llmux.server.channel import SLICE
from llmux.server.head import MAX_HEADERS, end_head, read_request_line
from llmux.server.head_reader import MAX_HEAD
from llmux.server.refusals import Refused
from llmux.server.strict import StrictChannel


class FastChannel(LLHTTPChannel, StrictChannel):
    """
    A connection whose heads are read by llhttp when they come whole.

    Only what the strict reader would take is taken; with all else it is asked, and says why not.
    A short body that has come along with its head is taken with it, at once.
    """

    def expects_head(self) -> bool:
        """See :meth:`LLHTTPChannel.expects_head`."""
        return (
            self.line_mode == 1
            and not self._in_head
            and not self._busyReceiving
            and not self._refused
            and self._tunnel is None
        )

    def head_received(self, head: WholeHead) -> bool:
        """See :meth:`LLHTTPChannel.head_received`."""
        if head.lines > MAX_HEADERS or head.size > MAX_HEAD:
            return False
        try:
            line = read_request_line(head.line)
            read = end_head(line, head.headers)
        except Refused:
            return False  # the strict reader knows why
        self._head_began = self.terms.clock.seconds()
        length, rest = read.length, self._buffer
        try:
            most = min(len(rest), SLICE, self.terms.limits.max_body_bytes)
            if length is None or length > most or read.awaits_continue:
                self._begin(line, read)
                return True
            request = self._open(line, read)
            request.gotLength(length)
            if length:
                self._buffer = rest[length:]
                request.handleContentChunk(rest[:length])
            self.allContentReceived()
        except Refused as refused:
            self._refuse(refused)
        return True
