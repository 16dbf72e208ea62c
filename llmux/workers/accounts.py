"""What a worker counts and records: its parent keeps the books, and is told in batches."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llmux.workers.links import Count

GATHERING = 0.25
"""Seconds for which counts are gathered before the parent is told."""

METRICS = frozenset({"request_answered", "request_cut", "backend_failed", "connection_refused"})
"""What a worker counts."""

NOTE = "note"
"""What a worker has recorded."""


class Accounts:
    """
    Takes the place of a worker's metrics and of its recorder.

    :param clock: tells the time.
    :param tell: takes the counts to the parent.
    :ivar on: whether requests are recorded.
    """

    def __init__(self, clock: IReactorTime, tell: Callable[[list[Count]], None]) -> None:
        self.on = False
        self._clock = clock
        self._tell = tell
        self._counts: list[Count] = []
        self._timer: IDelayedCall | None = None

    def request_answered(self, model: str, status: int, seconds: float) -> None:
        """See :meth:`llmux.metrics.Metrics.request_answered`."""
        self._count("request_answered", model, status, seconds)

    def request_cut(self, model: str, reason: str) -> None:
        """See :meth:`llmux.metrics.Metrics.request_cut`."""
        self._count("request_cut", model, reason)

    def backend_failed(self, model: str, reason: str) -> None:
        """See :meth:`llmux.metrics.Metrics.backend_failed`."""
        self._count("backend_failed", model, reason)

    def connection_refused(self) -> None:
        """See :meth:`llmux.metrics.Metrics.connection_refused`."""
        self._count("connection_refused")

    def note(self, arrived: float, model: str, prompt: int, output: int, kind: str) -> None:
        """See :meth:`llmux.recorder.Recorder.note`."""
        self._count(NOTE, arrived, model, prompt, output, kind)

    def render(self) -> bytes:
        """Give nothing: the parent has the metrics, and is asked for them."""
        return b""

    def flush(self) -> None:
        """Tell the parent now."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        counts, self._counts = self._counts, []
        if counts:
            self._tell(counts)

    def _count(self, method: str, *values: object) -> None:
        self._counts.append((method, values))
        if self._timer is None:
            self._timer = self._clock.callLater(GATHERING, self.flush)
