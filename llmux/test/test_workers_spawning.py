"""Tests of how a worker's process is made."""

from __future__ import annotations

import os
import sys

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from llmux import logs
from llmux.clock import VirtualClock
from llmux.test.test_logs import Recorder, logged
from llmux.workers.spawning import Logs, Start, WorkerProcess, worker_environment


class StartTests(SynchronousTestCase):
    def test_words(self) -> None:
        """What a worker is told on its command line is what it reads there."""
        for start in (
            Start(Logs("json", "warn"), 1, 2, [5, 6]),
            Start(Logs(None, "debug"), 3, 3, [5]),
        ):
            self.assertEqual(Start.from_words(start.words()), start)

    def test_environment(self) -> None:
        """It imports what we import, whatever its directory, and has Twisted's reactor if we do."""
        told = worker_environment({"HOME": "/h", "LLMUX_REACTOR": "uvloop"}, VirtualClock())
        self.assertEqual((told["HOME"], told["LLMUX_REACTOR"]), ("/h", "default"))
        paths = told["PYTHONPATH"].split(os.pathsep)
        self.assertEqual(paths, [os.path.abspath(path) for path in sys.path])


class PassingTests(SynchronousTestCase):
    """Where a worker does not write its log itself."""

    def setUp(self) -> None:
        """Hear what is logged."""
        self.recorder = Recorder()
        globalLogPublisher.addObserver(self.recorder)
        self.addCleanup(globalLogPublisher.removeObserver, self.recorder)
        self.process = WorkerProcess(lambda how: None)

    def test_event(self) -> None:
        """An event that a worker has logged is logged by its parent as if it were its own."""
        event = logged("{model} is {what}", model="a", what="awake", event="model_is", secs=0.25)
        out = _Line()
        logs.make_passing_observer(out, "info")(event)  # type: ignore[arg-type]  # all that it needs
        self.process.childDataReceived(1, out.said.encode())
        (arrived,) = self.recorder.events
        self.assertEqual(logs.format_text(arrived), logs.format_text(event))
        self.assertEqual(logs.format_json(arrived), logs.format_json(event))

    def test_output_without_lines(self) -> None:
        """What has no line's end is not kept for ever."""
        self.process.longest = 4
        for piece in (b"ab", b"cd", b"ef", b"gh\n"):
            self.process.childDataReceived(2, piece)
        self.assertEqual([event["said"] for event in self.recorder.events], ["abcdef", "gh"])

    def test_other_output(self) -> None:
        """All else that it says is logged, too, in whole lines."""
        self.process.childDataReceived(2, b"Segmenta")
        self.process.childDataReceived(2, b"tion fault\nand ")
        self.assertEqual([event["said"] for event in self.recorder.events], ["Segmentation fault"])
        for line in (b"[]\n", b"{}\n", b"1\n", b'{"log_level": {}}\n'):
            self.process.childDataReceived(1, line)
        self.assertEqual(len(self.recorder.events), 5)


class _Line:
    """A file that keeps what was written."""

    said = ""

    def write(self, text: str) -> None:
        """See :meth:`TextIO.write`."""
        self.said += text

    def flush(self) -> None:
        """See :meth:`TextIO.flush`."""
