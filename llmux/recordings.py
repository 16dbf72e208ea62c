"""What operators may have recorded, and where to."""

from __future__ import annotations

import re
from pathlib import Path

from llmux.operator import OrderRefused
from llmux.recorder import Recorder
from llmux.tracefile import TraceUnwritable

DIRECTORY = "traces"
"""The folder of the state directory that operators may have traces written to."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Recordings:
    """
    Carries out orders to record.

    Whoever reaches the operator's face can order them, a container or another user of the machine
    among them.  They choose a name and not a place: a path would have llmux make files wherever its
    user may.

    :param recorder: records.
    :param state_dir: holds the files, in a folder of their own.
    """

    def __init__(self, recorder: Recorder, state_dir: Path) -> None:
        self._recorder = recorder
        self._directory = state_dir / DIRECTORY

    def told(self) -> dict[str, object]:
        """Tell what is recorded, see :meth:`llmux.operator.IOperator.recording`."""
        return self._recorder.as_json()

    def begin(self, name: str, configured: Path | None) -> dict[str, object]:
        """
        Record from now on.

        :param name: of a file; or the path that the configuration says.
        :param configured: that path, if it says one.
        :raises OrderRefused: if nothing may (400) or can (409) be written there.
        """
        try:
            self._recorder.start(self._find(name, configured))
        except TraceUnwritable as error:
            raise OrderRefused(409, str(error)) from error
        return self.told()

    def end(self) -> dict[str, object]:
        """Record no more."""
        self._recorder.stop()
        return self.told()

    def _find(self, name: str, configured: Path | None) -> Path:
        if configured is not None and name == str(configured):
            return configured
        if not _NAME.fullmatch(name) or name.endswith(".gz"):
            also = "" if configured is None else f", or {configured}, as the configuration has it"
            raise OrderRefused(
                400,
                f"{name[:100]!r} cannot be recorded to: give the name of a file such as monday.csv,"
                f" of letters, digits and ._-, not compressed; it is made in"
                f" {self._directory}{also}",
            )
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise TraceUnwritable(self._directory, error.strerror or str(error)) from error
        return self._directory / name
