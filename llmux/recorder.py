"""Records what is asked as a trace: when, for which model and how much, never what."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from llmux.events import Events
from llmux.tracefile import TraceFile, TraceUnwritable


class Recorder:
    """
    Writes a row for each request that has ended, while it is on.

    A row that cannot be written is lost, and nothing else is: the first of several is told.

    :param clock: tells the time that requests have.
    :param events: told what becomes of the recording.
    :param now: tells the time of day, in seconds since 1970.
    :param switched: called when it is on, and when it is not any more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        events: Events,
        now: Callable[[], float] = time.time,
        switched: Callable[[bool], object] = bool,
    ) -> None:
        self._clock = clock
        self._events = events
        self._now = now
        self._switched = switched
        self._file: TraceFile | None = None
        self._began = 0.0
        self._epoch = 0.0
        self._rows = self._lost = 0
        self._failing = False

    @property
    def on(self) -> bool:
        """Whether it records."""
        return self._file is not None

    def follow(self, path: Path | None) -> None:
        """
        Do as the configuration says.

        :param path: where to; it is tried with each row if it cannot be written now.  ``None``:
            nowhere.
        """
        self.stop()
        if path is None:
            return
        file = TraceFile(path)
        self._use(file)
        try:
            file.begin()
        except TraceUnwritable as error:
            self._complain(file, error)

    def start(self, path: Path) -> None:
        """
        Record from now on, to a file; what is in it already stays there.

        :raises TraceUnwritable: if that cannot be written; all is as it was then.
        """
        file = TraceFile(path)
        file.begin()
        self.stop()
        self._use(file)

    def stop(self) -> None:
        """Record no more."""
        if self._file is not None:
            self._events.recording_ended(str(self._file.path), self._rows, self._lost)
            self._file = None
            self._switched(False)

    def note(self, arrived: float, model: str, prompt: int, output: int, kind: str) -> None:
        """
        Write a row, if it is on.

        :param arrived: when the request came, in the clock's seconds.
        :param model: the name of its model, or of several of which any would have done.
        :param prompt: how many tokens were asked.
        :param output: how many were answered.
        :param kind: its class, as it says it; empty: it says nothing of it.
        """
        file = self._file
        if file is None:
            return
        arrived_at = f"{self._epoch + arrived:.3f}"
        try:
            file.append(arrived_at, model, prompt, output, "", "", kind)
        except TraceUnwritable as error:
            self._lost += 1
            self._complain(file, error)
            return
        self._rows += 1
        if self._failing:
            self._failing = False
            self._events.recording_resumed(str(file.path), self._lost)

    def as_json(self) -> dict[str, object]:
        """Tell what is recorded now, or was last."""
        began = datetime.fromtimestamp(self._began, UTC).isoformat(timespec="seconds")
        return {
            "path": None if self._file is None else str(self._file.path),
            "since": began if self._began else None,
            "rows": self._rows,
            "lost": self._lost,
        }

    def _use(self, file: TraceFile) -> None:
        self._file = file
        self._began = self._now()
        self._epoch = self._began - self._clock.seconds()  # once: a corrected time moves no row
        self._rows = self._lost = 0
        self._failing = False
        self._events.recording_began(str(file.path))
        self._switched(True)

    def _complain(self, file: TraceFile, error: TraceUnwritable) -> None:
        if not self._failing:
            self._failing = True
            self._events.recording_failed(str(file.path), error.why)
