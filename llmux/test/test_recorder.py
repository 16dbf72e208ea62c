"""Recording: when it is on, what it tells, and what operators may order."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase
from txaio.tx import make_logger

from llmux.clock import VirtualClock
from llmux.events import Events
from llmux.operator import OrderRefused
from llmux.recorder import Recorder
from llmux.recordings import Recordings
from llmux.tracefile import TraceUnwritable


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a recorder that is off, 2,000 seconds after 1970."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "trace.csv"
        self.clock = VirtualClock()
        self.clock.advance(100)
        self.today = 2000.0
        self.seen: list[LogEvent] = []
        events = Events()
        events.log = make_logger(observer=self.seen.append)
        self.recorder = Recorder(self.clock, events, lambda: self.today)

    def note(self, arrived: float = 100.0, model: str = "a") -> None:
        """Have a request recorded."""
        self.recorder.note(arrived, model, 5, 7, "")

    def rows(self) -> list[str]:
        """Give the rows that there are."""
        return self.path.read_text().splitlines()[1:]

    def logged(self) -> list[object]:
        """Give the names of the events since the last look."""
        names: list[object] = [event["event"] for event in self.seen]
        self.seen.clear()
        return names

    def test_off(self) -> None:
        """While it is off nothing is recorded."""
        self.note()
        self.assertFalse(self.recorder.on)
        self.assertEqual(
            self.recorder.as_json(), {"path": None, "since": None, "rows": 0, "lost": 0}
        )
        self.assertEqual((self.logged(), list(self.directory.iterdir())), ([], []))

    def test_rows(self) -> None:
        """Each request is a row, with the time of day when it came."""
        self.recorder.start(self.path)
        self.assertTrue(self.recorder.on)
        self.clock.advance(9)
        self.note(103.25, "b")
        self.note(99.5)
        self.assertEqual(self.rows(), ["2003.250,b,5,7,,,", "1999.500,a,5,7,,,"])
        told = {"path": str(self.path), "since": "1970-01-01T00:33:20+00:00", "rows": 2, "lost": 0}
        self.assertEqual(self.recorder.as_json(), told)

    def test_corrected_time(self) -> None:
        """A time of day that is put right meanwhile moves no row against the others."""
        self.recorder.start(self.path)
        self.today = 0.0
        self.note(101)
        self.assertEqual(self.rows(), ["2001.000,a,5,7,,,"])

    def test_stop(self) -> None:
        """When it has ended it still tells how much there was."""
        self.recorder.start(self.path)
        self.note()
        self.recorder.stop()
        self.recorder.stop()
        self.note()
        self.assertEqual(self.logged(), ["recording_began", "recording_ended"])
        told = self.recorder.as_json()
        self.assertEqual((told["path"], told["rows"]), (None, 1))

    def test_goes_on(self) -> None:
        """What was in the file stays there."""
        for _ in range(2):
            self.recorder.start(self.path)
            self.note()
        self.assertEqual(len(self.rows()), 2)
        self.assertEqual(self.recorder.as_json()["rows"], 1)

    def test_order_that_cannot_be(self) -> None:
        """An order that cannot be done changes nothing."""
        self.recorder.start(self.path)
        self.assertRaises(TraceUnwritable, self.recorder.start, self.directory)
        self.note()
        self.assertEqual(len(self.rows()), 1)
        self.assertEqual(self.logged(), ["recording_began"])

    def test_unwritable(self) -> None:
        """What the configuration says is tried again with each request, and complained of once."""
        self.path = self.directory / "missing" / "trace.csv"
        self.recorder.follow(self.path)
        self.note()
        self.note()
        self.assertEqual(self.logged(), ["recording_began", "recording_failed"])
        self.assertEqual(self.recorder.as_json()["lost"], 2)
        self.path.parent.mkdir()
        self.note()
        self.note()
        self.assertEqual((self.logged(), len(self.rows())), (["recording_resumed"], 2))
        self.path.unlink()
        self.path.parent.rmdir()
        self.note()
        self.assertEqual(self.logged(), ["recording_failed"])

    def test_follow(self) -> None:
        """The configuration may name another file, or none."""
        self.recorder.follow(self.path)
        other = self.directory / "other.csv"
        self.recorder.follow(other)
        self.recorder.follow(None)
        self.assertFalse(self.recorder.on)
        self.assertEqual(self.path.read_text(), other.read_text())
        self.assertEqual(self.logged(), ["recording_began", "recording_ended"] * 2)


class RecordingsTests(SynchronousTestCase):
    """What operators order."""

    def setUp(self) -> None:
        """Let operators order."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "trace.csv"
        self.recorder = Recorder(VirtualClock(), Events())
        self.recordings = Recordings(self.recorder, self.directory / "state")

    def refusal(self, name: str, configured: Path | None = None) -> OrderRefused:
        """Give why a name is refused."""
        error = self.assertRaises(OrderRefused, self.recordings.begin, name, configured)
        self.assertFalse(self.recorder.on)
        assert isinstance(error, OrderRefused)
        return error

    def test_name(self) -> None:
        """A name is that of a file in a folder of the state directory that its owner alone sees."""
        told = self.recordings.begin("monday.csv", None)
        traces = self.directory / "state" / "traces"
        self.assertEqual(told["path"], str(traces / "monday.csv"))
        self.assertEqual(told, self.recordings.told())
        self.assertEqual(traces.stat().st_mode & 0o777, 0o700)
        self.assertIsNone(self.recordings.end()["path"])

    def test_configured(self) -> None:
        """The path that the configuration says may be ordered, too."""
        self.assertEqual(self.recordings.begin(str(self.path), self.path)["path"], str(self.path))

    def test_places(self) -> None:
        """Operators choose no places: a path is refused, and so is what looks like one."""
        for name in (
            "", ".", "..", "../x.csv", "/tmp/x.csv", "a/b", ".hidden", "a\0", "a\n", "x" * 101,
            "x.csv.gz", "a b", "\xe4.csv", "-x", str(self.path),
        ):  # fmt: skip
            self.assertEqual(self.refusal(name).status, 400, name)
        self.assertIn(str(self.path), self.refusal("/x", self.path).message)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_unwritable_folder(self) -> None:
        """Where nothing can be written, that is said."""
        (self.directory / "state").write_text("")
        error = self.refusal("monday.csv")
        self.assertEqual(error.status, 409)
        self.assertIn("cannot be written: Not a directory", error.message)

    def test_unwritable_file(self) -> None:
        """The same with the file."""
        (self.directory / "state" / "traces" / "monday.csv").mkdir(parents=True)
        self.assertEqual(self.refusal("monday.csv").status, 409)
