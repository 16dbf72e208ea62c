"""Where log events go: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsJSON,
    eventAsText,
    eventFromJSON,
    formatEvent,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.python.reflect import safe_str
from txaio.tx import set_global_log_level

FORMATS = ("text", "json")
"""What ``--log-format`` takes."""

LEVELS = ("debug", "info", "warn", "error")
"""What ``--log-level`` takes, from the most to the least."""


def format_text(event: LogEvent) -> str:
    """Write an event for people: when, how grave, and what happened."""
    second, fraction = divmod(event["log_time"], 1)
    level = event.get("log_level")
    said = _said(event).rstrip()
    if not said.isprintable():
        said = said.translate(_CONTROLS)
    when = f"{_day_and_time(second)}.{int(fraction * 1000):03}"
    line = f"{when} {level.name if level else 'info':5} {said}\n"
    if line.isascii():
        return line
    return line.encode("utf-8", "backslashreplace").decode("utf-8")  # halves of characters, too


def _said(event: LogEvent) -> str:
    """
    Say what happened, and what failed, as Twisted does.

    A format that asks for nothing more than fields is filled in by C; Twisted's own formatter,
    which also calls functions and remembers what they gave, takes some thirty times as long.
    """
    form = event.get("log_format")
    if form.__class__ is str and "()" not in form and event.keys().isdisjoint(_FOR_TWISTED):
        try:
            return str(form.format_map(event))
        except Exception:  # noqa: S110  # Twisted's formatter tells in the log what is wrong with it
            pass
    return eventAsText(event, includeTimestamp=False, includeSystem=False)


@lru_cache(maxsize=2)
def _day_and_time(second: float) -> str:
    """Write a time of day here; many events share their second."""
    return datetime.fromtimestamp(second).astimezone().isoformat(" ")[:19]


def format_json(event: LogEvent) -> str:
    """
    Write an event as one line: ``event``, ``time``, ``level`` and its own fields.

    Events of other programs' making, such as Twisted's, are called ``log``.
    """
    fields = {
        name: value
        for name, value in event.items()
        if not name.startswith("log_") and name not in _NO_FIELDS
    }
    level = event.get("log_level")
    line: dict[str, Any] = {
        "event": fields.pop("event", "log"),
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level.name if level is not None else "info",
        "logger": event.get("log_namespace", ""),
        "message": formatEvent(event),
        **fields,
    }
    failure = event.get("log_failure", event.get("failure"))
    if isinstance(failure, Failure):
        line["traceback"] = failure.getTraceback()
    try:
        return _dump(line) + "\n"
    except (TypeError, ValueError, RecursionError):
        return _dump({name: _as_json(value) for name, value in line.items()}) + "\n"


def _dump(value: object) -> str:
    return json.dumps(value, default=safe_str, allow_nan=False)


def _as_json(value: object) -> object:
    """Give a value as it is if JSON can hold it; else, as with NaN or a circle, its text."""
    try:
        _dump(value)
    except (TypeError, ValueError, RecursionError):
        return safe_str(value)
    return value


_NO_FIELDS = frozenset(
    ("time", "isError", "message", "system", "format", "why", "failure", "msg", "level", "logger")
)
"""Keys that Twisted's older logging adds to its events, and those that each line has anyway."""

_FOR_TWISTED = frozenset(("log_failure", "log_flattened"))
"""Keys of events that need more than a format."""

_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
"""What would move a terminal's cursor, or hide what was said: anybody's output can hold it."""


def make_observer(out: TextIO, format: str, level: str) -> ILogObserver:
    """
    Make what writes log events.

    :param out: where to.
    :param format: one of :data:`FORMATS`.
    :param level: one of :data:`LEVELS`; what is below it is left out.
    """
    return _observer(out, format_json if format == "json" else format_text, level)


def make_passing_observer(out: TextIO, level: str) -> ILogObserver:
    """
    Make what passes log events on to another process, whole.

    :param out: where to; :func:`take_passed` reads each line there.
    :param level: one of :data:`LEVELS`; what is below it is left out.
    """
    return _observer(out, lambda event: f"{eventAsJSON(event)}\n", level)


def _observer(out: TextIO, formatter: Callable[[LogEvent], str], level: str) -> ILogObserver:
    """
    Make an observer that leaves out what is below a level.

    Twisted's filter, which knows of levels by namespace, would take as long as all the rest.
    """
    least = LogLevel.lookupByName(level)
    kept = frozenset(each for each in LogLevel.iterconstants() if each >= least)

    def format(event: LogEvent) -> str | None:
        return formatter(event) if event.get("log_level") in kept else None  # None: no line

    return FileLogObserver(out, format)


def take_passed(line: str) -> LogEvent | None:
    """
    Read an event that another process has passed on.

    :returns: ``None`` if the line is none.
    """
    try:
        event = eventFromJSON(line)
    except (ValueError, KeyError, TypeError):
        return None
    return event if isinstance(event, dict) and "log_time" in event else None


def make_server_observer(
    server_options: Mapping[str, Any],
    format: str,
    level: str,
    call_soon: Callable[[Callable[[], None]], object],
) -> ILogObserver | None:
    """
    Make what writes log events to where twistd was told to log.

    :param server_options: the options of the program that runs the service.
    :param format: one of :data:`FORMATS`.
    :param level: one of :data:`LEVELS`.
    :param call_soon: runs something in the reactor's next turn, from inside a signal handler.
    :returns: ``None`` where twistd's options say that something else takes the log.
    """
    if "nodaemon" not in server_options:  # twist, or nobody: they have logs of their own
        return None
    if server_options.get("logger") or server_options.get("syslog"):
        return None
    set_global_log_level(level)
    return make_observer(_destination(server_options, call_soon), format, level)


def writes_to_stdout(server_options: Mapping[str, Any]) -> bool:
    """Tell whether :func:`make_server_observer` writes to the standard output, and nobody else."""
    if not server_options.get("nodaemon"):
        return False
    others = ("logger", "syslog")
    named = server_options.get("logfile") not in (None, "", "-")
    return not named and not any(server_options.get(each) for each in others)


def _destination(
    server_options: Mapping[str, Any], call_soon: Callable[[Callable[[], None]], object]
) -> TextIO:
    name = server_options.get("logfile")
    if writes_to_stdout(server_options):
        return sys.stdout
    if name == "-":
        raise SystemExit("llmux: a daemon cannot log to its terminal; give --logfile a file")
    file = LogFile.fromFullPath(name or "twistd.log")
    if signal.getsignal(signal.SIGUSR1) in (None, signal.SIG_DFL):  # as twistd itself does it
        signal.signal(signal.SIGUSR1, lambda number, frame: call_soon(file.rotate))
    destination: TextIO = file
    return destination
