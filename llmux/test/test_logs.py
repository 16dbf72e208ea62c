"""Tests of :mod:`llmux.logs`."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, capturedLogs
from twisted.python import log as legacy
from twisted.trial.unittest import SynchronousTestCase
from txaio.tx import make_logger, set_global_log_level
from zope.interface import implementer

from llmux.events import Events
from llmux.logs import (
    FORMATS,
    LEVELS,
    format_json,
    format_text,
    make_observer,
    make_server_observer,
)

values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.tuples(st.integers()), inner),
    max_leaves=6,
)


def no_constant(name: str) -> None:
    """Refuse NaN and its like, which Python's parser takes and no other one."""
    raise ValueError(name)


def parse(line: str) -> dict[str, Any]:
    """Read one line of JSON."""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    parsed: dict[str, Any] = json.loads(line, parse_constant=no_constant)
    return parsed


@implementer(ILogObserver)
class Recorder:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)


def logged(
    format: str | None = "x", level: LogLevel = LogLevel.info, /, **fields: object
) -> LogEvent:
    """Log something, and give the event."""
    recorder = Recorder()
    Logger("llmux.test", observer=recorder).emit(level, format, **fields)
    (event,) = recorder.events
    return event


class Unspeakable:
    """An object that cannot even say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class JSONTests(SynchronousTestCase):
    def test_event(self) -> None:
        """A line holds the event's name, its time, its level, its message and its fields."""
        with capturedLogs() as events:
            Events().model_activated("facebook/opt-125m", "idle", 41.2, {"gpu0": 20.0})
        events[0]["log_time"] = 1700000000.25
        self.assertEqual(
            parse(format_json(events[0])),
            {
                "event": "model_activated",
                "time": "2023-11-14T22:13:20.250+00:00",
                "level": "info",
                "logger": "llmux.events.Events",
                "message": "facebook/opt-125m is awake, 41.2 s after the switch from idle began",
                "model": "facebook/opt-125m",
                "from": "idle",
                "duration_secs": 41.2,
                "placement": {"gpu0": 20.0},
            },
        )

    def test_other_programs(self) -> None:
        """An event that has no name is called log."""
        line = parse(format_json(logged("{count} files", LogLevel.warn, count=3)))
        self.assertEqual((line["event"], line["level"], line["count"]), ("log", "warn", 3))
        self.assertEqual((line["logger"], line["message"]), ("llmux.test", "3 files"))

    def test_failure(self) -> None:
        """A failure's traceback is a field of its line."""
        recorder = Recorder()
        try:
            raise ValueError("tr\u00fcb\n")
        except ValueError:
            Logger(observer=recorder).failure("it broke: {what}", what="all")
        line = parse(format_json(recorder.events[0]))
        self.assertEqual((line["level"], line["message"]), ("critical", "it broke: all"))
        self.assertIn("in test_failure", line["traceback"])
        self.assertIn("ValueError: tr\u00fcb", line["traceback"])

    def test_twisteds_older_events(self) -> None:
        """Events of Twisted's older logging are lines like any other."""
        with capturedLogs() as events:
            legacy.msg("Site starting", "on", 3000, port=3000, level=10, logger="x")
            legacy.msg(format="%(count)d files", count=3)
        lines = [parse(format_json(event)) for event in events]
        messages = [line["message"] for line in lines]
        self.assertEqual(messages, ["Site starting on 3000", "3 files"])
        self.assertEqual((lines[0]["port"], lines[1]["count"]), (3000, 3))
        for line in lines:
            self.assertEqual((line["event"], line["level"]), ("log", "info"))
            self.assertEqual(line["logger"], "log_legacy")
            self.assertTrue({"isError", "system", "format"}.isdisjoint(line))

    def test_twisteds_older_errors(self) -> None:
        """Errors of Twisted's older logging have their traceback, too."""
        with capturedLogs() as events:
            legacy.err(ValueError("old"), "it broke")
        self.flushLoggedErrors(ValueError)
        line = parse(format_json(events[0]))
        self.assertEqual(line["level"], "critical")
        self.assertIn("it broke", line["message"])
        self.assertIn("ValueError: old", line["traceback"])

    def test_not_ascii(self) -> None:
        """Whatever a field holds, the line is ASCII, and a parser gets back what was logged."""
        said = "m\u00f6del \u540d\u524d \U0001f600 \u2028 \x1b[1m\n\ud800"
        line = format_json(logged("{model}", model=said))
        self.assertTrue(line.isascii())
        self.assertEqual((parse(line)["model"], parse(line)["message"]), (said, said))

    def test_objects(self) -> None:
        """What JSON does not know is told as text, and the rest of its line as it is."""
        circle: list[object] = []
        circle.append(circle)
        fields: dict[str, object] = {
            "path": Path("/a"), "when": datetime(2024, 1, 2, tzinfo=UTC), "raw": b"abc",
            "keys": {(1, 2): 3}, "circle": circle, "nan": float("nan"), "worse": [float("inf")],
        }  # fmt: skip
        expected = {
            "path": "/a", "when": "2024-01-02 00:00:00+00:00", "raw": "abc",
            "keys": "{(1, 2): 3}", "circle": "[[...]]", "nan": "nan", "worse": "[inf]",
        }  # fmt: skip
        for name, value in fields.items():
            line = parse(format_json(logged(count=3, nested={"a": [1]}, **{name: value})))
            self.assertEqual(line[name], expected[name])
            self.assertEqual((line["count"], line["nested"]), (3, {"a": [1]}))

    def test_unspeakable(self) -> None:
        """An object whose text cannot be had does not cost the line."""
        line = parse(format_json(logged("{it}", it=Unspeakable(), count=3)))
        self.assertIn("Unspeakable", line["it"])
        self.assertEqual(line["count"], 3)

    @given(st.dictionaries(st.from_regex("[a-z]{2,8}", fullmatch=True), values))
    def test_anything(self, fields: dict[str, object]) -> None:
        """Whatever is logged becomes one line that can be parsed."""
        event = logged("x")
        event.update({name: value for name, value in fields.items() if name != "failure"})
        line = parse(format_json(event))
        self.assertEqual((line["message"], line["level"]), ("x", "info"))
        self.assertIn("time", line)


class TextTests(SynchronousTestCase):
    def test_event(self) -> None:
        """A line says when, how grave, and what happened."""
        event = logged("switching from {from} to {to}", **{"from": "idle", "to": "\u540d\u524d"})
        when = datetime.fromtimestamp(event["log_time"]).isoformat(" ", "milliseconds")
        self.assertEqual(format_text(event), f"{when} info  switching from idle to \u540d\u524d\n")

    def test_columns(self) -> None:
        """What happened begins in the same column, whatever its level."""
        for level in LEVELS:
            line = format_text(logged("said", LogLevel.lookupByName(level)))
            self.assertEqual((line[24:30].strip(), line[30:]), (level, "said\n"))

    def test_failure(self) -> None:
        """A failure's traceback stands below what happened, without an empty line at its end."""
        recorder = Recorder()
        try:
            raise ValueError("wrong")
        except ValueError:
            Logger(observer=recorder).failure("it broke")
        lines = format_text(recorder.events[0]).split("\n")
        self.assertTrue(lines[0].endswith("critical it broke"))
        self.assertEqual(lines[1], "Traceback (most recent call last):")
        self.assertEqual(lines[-2:], ["builtins.ValueError: wrong", ""])

    def test_twisteds_older_events(self) -> None:
        """Events of Twisted's older logging are lines like any other."""
        with capturedLogs() as events:
            legacy.msg("Site starting on 3000")
        self.assertTrue(format_text(events[0]).endswith(" info  Site starting on 3000\n"))

    def test_control_characters(self) -> None:
        """What hooks and clients say cannot move the cursor of whoever reads the log."""
        line = format_text(logged("{said}", said="50%\r100%\x1b[2J\x9b1m\0\x7f\n\tnext"))
        self.assertTrue(
            line.endswith("50%\\x0d100%\\x1b[2J\\x9b1m\\x00\\x7f\n\tnext\n"), repr(line)
        )

    def test_half_a_character(self) -> None:
        """Half of a character, as JSON can hold it, does not cost the line."""
        self.assertTrue(format_text(logged("{said}", said="a\ud800")).endswith(" a\\ud800\n"))

    def test_no_format(self) -> None:
        """An event without a format is a line all the same."""
        self.assertTrue(format_text(logged(None)).endswith(" info  \n"))


class ObserverTests(SynchronousTestCase):
    def written(self, format: str, level: str) -> list[str]:
        """Log something at each level, and give what was written."""
        out = io.StringIO()
        observer = make_observer(out, format, level)
        for name in (*LEVELS, "critical"):
            observer(logged(name, LogLevel.lookupByName(name)))
        return out.getvalue().splitlines()

    def test_levels(self) -> None:
        """What is below the level is left out; what is at it or above is written."""
        self.assertEqual(LEVELS, ("debug", "info", "warn", "error"))
        for number, level in enumerate(LEVELS):
            said = [json.loads(line)["message"] for line in self.written("json", level)]
            self.assertEqual(said, [*LEVELS[number:], "critical"])

    def test_formats(self) -> None:
        """It writes text or JSON, as it is told."""
        self.assertEqual(FORMATS, ("text", "json"))
        self.assertEqual(json.loads(self.written("json", "error")[0])["level"], "error")
        self.assertTrue(self.written("text", "error")[0].endswith(" error error"))


class ServerObserverTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Give back what belongs to the process: its level, its signal, its standard output."""
        self.later: list[Callable[[], None]] = []
        self.addCleanup(set_global_log_level, "info")
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        self.addCleanup(setattr, sys, "stdout", sys.stdout)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)

    def make(self, format: str = "text", level: str = "info", **options: object) -> ILogObserver:
        """Make an observer from twistd's options."""
        told = {"nodaemon": 0, **options}
        observer = make_server_observer(told, format, level, self.later.append)
        assert observer is not None
        return observer

    def test_log_file(self) -> None:
        """The log goes into twistd's log file, in UTF-8."""
        path = Path(self.mktemp())
        observer = self.make(logfile=str(path))
        for said in ("\u540d\u524d", "a\ud800"):
            observer(logged("{said}", said=said))
        lines = path.read_text("utf-8").splitlines()
        self.assertEqual([line[30:] for line in lines], ["\u540d\u524d", "a\\ud800"])

    def test_terminal(self) -> None:
        """In the foreground the log goes to standard output, unless there is a log file."""
        sys.stdout = out = io.StringIO()
        path = Path(self.mktemp())
        for name in (None, "-", str(path)):
            self.make("json", nodaemon=1, logfile=name)(logged(f"to {name}"))
        messages = [json.loads(line)["message"] for line in out.getvalue().splitlines()]
        self.assertEqual(messages, ["to None", "to -"])
        self.assertEqual(json.loads(path.read_text())["message"], f"to {path}")

    def test_daemon_without_a_file(self) -> None:
        """A daemon has no terminal to log to."""
        error = self.assertRaises(SystemExit, self.make, logfile="-")
        self.assertIn("give --logfile a file", str(error))

    def test_someone_else_logs(self) -> None:
        """Where something else takes the log (twistd's --logger, twist), that is left as it is."""
        for options in (
            {"nodaemon": 1, "logger": "mine.observer"},
            {"nodaemon": 1, "syslog": 1},
            {},
        ):
            made = make_server_observer(options, "json", "debug", self.later.append)
            self.assertIs(made, None)

    def test_debug(self) -> None:
        """What llmux logs for debugging is made only where somebody asked for it."""
        log = make_logger()
        for level, expected in (("debug", 1), ("info", 0), ("error", 0), ("debug", 1)):
            self.make(level=level, logfile=self.mktemp())
            with capturedLogs() as events:
                log.debug("detail")
            self.assertEqual(len(events), expected, level)

    def test_rotation(self) -> None:
        """On USR1 the log file is rotated in the reactor's next turn, as with twistd."""
        path = Path(self.mktemp())
        observer = self.make(logfile=str(path))
        observer(logged("before"))
        signal.raise_signal(signal.SIGUSR1)
        observer(logged("between"))
        (rotate,) = self.later
        rotate()
        observer(logged("after"))
        old = path.with_name(f"{path.name}.1").read_text()
        self.assertEqual([line[30:] for line in old.splitlines()], ["before", "between"])
        self.assertTrue(path.read_text().endswith("after\n"))

    def test_someone_elses_signal(self) -> None:
        """Who has a use for USR1 keeps it."""
        got: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
        self.make(logfile=self.mktemp())
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual((got, self.later), ([signal.SIGUSR1], []))
