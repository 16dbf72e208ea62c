"""Requests read line by line, over twisted.web's own channel."""

from __future__ import annotations

from twisted.protocols.basic import LineReceiver

from llmux.engine.holding import first_of
from llmux.server.channel import SLICE, RelayChannel
from llmux.server.head_reader import MAX_HEAD
from llmux.server.refusals import Refused


class StrictChannel(RelayChannel):
    """
    A connection whose heads are read by our strict reader alone.

    It is the one source of the rules: where another way of reading is not sure of a head, or comes
    to its end, this one says what becomes of it.
    """

    MAX_LENGTH = MAX_HEAD  # Twisted's name: of a line

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []  # of a line that is not whole, behind what is in the buffer
        self._held_size = 0

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        if self._tunnel is not None:
            self._tunnel(data)
            return
        if self.line_mode:  # behind each line what is left is copied
            data = first_of(data, SLICE, self.transport)
        if self._request is not None:
            self.resetTimeout()  # a body makes progress
        elif self._in_head and not self._busyReceiving:
            if b"\n" not in data:
                self._hold(data)
                return
            data = b"".join((*self._held, data))
            self._held, self._held_size = [], 0
        elif not self._handlingRequest and not self._in_head:
            self._begin_head()
        outermost = not self._busyReceiving
        LineReceiver.dataReceived(self, data)
        if not outermost or not self.line_mode or not self._buffer:
            return
        if not self._in_head:
            self._begin_head()  # it came along with the end of the request before
        self.lineLengthExceeded(self._buffer)  # it may be what can never become a line

    def _hold(self, data: bytes) -> None:
        """Keep a piece of a line: to look for its end in all of it again would be dear."""
        self._held.append(data)
        self._held_size += len(data)
        try:
            self._reader.look_at(b"", len(self._buffer) + self._held_size)
        except Refused as refused:
            self._refuse(refused)

    def lineReceived(self, line: bytes) -> None:
        """Take in a line of a head."""
        if self._refused:
            return
        if not self._in_head:  # several requests came at once
            self._begin_head()
        try:
            head = self._reader.take(line)
            if head is not None:
                assert self._reader.line is not None  # it came before the end
                self._begin(self._reader.line, head)
        except Refused as refused:
            self._refuse(refused)

    def lineLengthExceeded(self, line: bytes) -> None:
        """See :meth:`LineReceiver.lineLengthExceeded`."""
        try:
            self._reader.look_at(line)
        except Refused as refused:
            self._refuse(refused)
