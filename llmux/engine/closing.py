"""The end of a connection, which is waited for whatever happens meanwhile."""

from __future__ import annotations

from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred


class Closing:
    """
    Tells those who hold something for a connection when it has ended.

    :ivar over: whether it has.
    """

    def __init__(self) -> None:
        self.over = False
        self._waiting: list[Deferred[None]] = []

    def end(self) -> None:
        """Tell that the connection has ended."""
        self.over = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def wait(self) -> None:
        """Wait for it; being cancelled changes nothing: the connection is there all the same."""
        while not self.over:
            ended: Deferred[None] = Deferred()
            self._waiting.append(ended)
            with suppress(CancelledError):
                await ended
