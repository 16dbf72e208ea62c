"""Where log events go: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
)
from twisted.python.logfile import LogFile
from txaio.tx import set_global_log_level

FORMATS = ("text", "json")
"""What ``--log-format`` takes."""

LEVELS = ("debug", "info", "warn", "error")
"""What ``--log-level`` takes, from the most to the least."""


def format_text(event: LogEvent) -> str:
    """Write an event for people: when, how grave, and what happened."""
    when = datetime.fromtimestamp(event["log_time"]).astimezone().isoformat(" ", "milliseconds")
    level = event.get("log_level")
    said = eventAsText(event, includeTimestamp=False, includeSystem=False)
    return f"{when[:23]} {level.name if level else 'info':5} {said}\n"


def format_json(event: LogEvent) -> str:
    """
    Write an event as one line: ``event``, ``time``, ``level`` and its own fields.

    Events of other programs' making, such as Twisted's, are called ``log``.
    """
    fields = {
        name: value
        for name, value in event.items()
        if not name.startswith("log_") and name not in _LEGACY
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
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line, default=str) + "\n"


_LEGACY = frozenset({"time", "isError", "message", "system", "format", "why", "failure", "msg"})
"""Keys that Twisted's older logging adds to its events."""


def make_observer(out: TextIO, format: str, level: str) -> ILogObserver:
    """
    Make what writes log events.

    :param out: where to.
    :param format: one of :data:`FORMATS`.
    :param level: one of :data:`LEVELS`; what is below it is left out.
    """
    formatter = format_json if format == "json" else format_text
    predicate = LogLevelFilterPredicate(LogLevel.lookupByName(level))
    return FilteringLogObserver(FileLogObserver(out, formatter), [predicate])


def make_server_observer(
    server_options: Mapping[str, Any], format: str, level: str
) -> ILogObserver | None:
    """
    Make what writes log events to where twistd was told to log.

    :param server_options: twistd's own options.
    :param format: one of :data:`FORMATS`.
    :param level: one of :data:`LEVELS`.
    :returns: ``None`` where twistd's options say that something else takes the log.
    """
    if server_options.get("logger") or server_options.get("syslog"):
        return None
    set_global_log_level(level)
    return make_observer(_destination(server_options), format, level)


def _destination(server_options: Mapping[str, Any]) -> TextIO:
    name = server_options.get("logfile")
    if server_options.get("nodaemon") and name in (None, "", "-"):
        return sys.stdout
    if name == "-":
        raise SystemExit("llmux: a daemon cannot log to its terminal; give --logfile a file")
    file: TextIO = LogFile.fromFullPath(name or "twistd.log")
    return file
