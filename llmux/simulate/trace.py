"""
Traces of requests: who came when for which model, and how much was asked and answered.

A trace is CSV, compressed if its name ends with ``.gz``, with a line of column names.  It holds
times and sizes, never contents.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import NoReturn, TextIO

import attrs

from llmux.errors import LLMuxError
from llmux.tracefile import COLUMNS
from llmux.urgency import Urgency

REQUIRED = COLUMNS[:4]
"""The columns that every trace has: when it came, for which model, and two sizes."""

OPTIONAL = COLUMNS[4:]
"""The columns that a trace may have besides."""


class TraceError(LLMuxError):
    """
    A trace that cannot be used.

    :param where: the file, and the line where that is known.
    :param what: what is wrong there, and what would be right.
    """

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")


@attrs.frozen
class Row:
    """
    One request.

    :param model: the name that it gives.
    :param prompt_tokens: how long its prompt is.
    :param output_tokens: how long its answer is.
    :param arrived_at: when it comes, in seconds; ``None`` for one that waits for the answer before
        it in its session.
    :param session: what is common to the requests of a client that waits for its own answers; empty
        for a request that has nothing to do with any other.
    :param think_secs: how long after the end of that answer it comes, in seconds.
    :param urgency: its class and priority; ``None``: what the configuration says of its model.
    """

    model: str
    prompt_tokens: int
    output_tokens: int
    arrived_at: float | None = None
    session: str = ""
    think_secs: float = 0.0
    urgency: Urgency | None = None


_MOST_SECS = 1e12  # thousands of years; of more, a float cannot tell one second from the next
_MOST_TOKENS = 10**12
_MOST_DIGITS = 30  # with zeros before them; Python reads no more than some thousand

Trace = tuple[Row, ...]
"""Requests; those of one session are in their order."""


def read_trace(path: str | Path) -> Trace:
    """
    Read a trace.

    :raises TraceError: at the first line that is wrong, with its number.
    """
    path = Path(path)
    try:
        with _open(path, "r") as file:
            return tuple(_rows(str(path), file))
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TraceError(str(path), f"cannot be read: {why}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(str(path), f"is no CSV: {error}") from error


def write_trace(path: str | Path, trace: Iterable[Row]) -> None:
    """
    Write a trace, so that :func:`read_trace` gives the same back, to the millisecond.

    :raises OSError: if the file cannot be written.
    """
    with _open(Path(path), "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*REQUIRED, *OPTIONAL))
        for row in trace:
            arrived_at = "" if row.arrived_at is None else f"{row.arrived_at:.3f}"
            think_secs = f"{row.think_secs:.3f}" if row.arrived_at is None else ""
            sizes = (row.prompt_tokens, row.output_tokens)
            kind = "" if row.urgency is None else str(row.urgency)
            writer.writerow((arrived_at, row.model, *sizes, row.session, think_secs, kind))


def thin(trace: Trace, probability: float, seed: int) -> Trace:
    """
    Keep each request with a certain probability; of a session, all or none.

    :param probability: from 0 to 1.
    :param seed: the same seed keeps the same requests.
    """
    random = Random(seed)  # noqa: S311  # chance is all that is asked of it
    sessions: dict[str, bool] = {}
    kept = []
    for row in trace:
        if not row.session:
            keep = random.random() < probability
        elif row.session in sessions:
            keep = sessions[row.session]
        else:
            keep = sessions[row.session] = random.random() < probability
        if keep:
            kept.append(row)
    return tuple(kept)


def from_beginning(trace: Trace) -> Trace:
    """Have the first request of all come at 0: recorded traces have the time of day."""
    begin = min((row.arrived_at for row in trace if row.arrived_at is not None), default=0.0)
    return tuple(
        row if row.arrived_at is None else attrs.evolve(row, arrived_at=row.arrived_at - begin)
        for row in trace
    )


def _open(path: Path, mode: str) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    encoding = "utf-8-sig" if mode == "r" else "utf-8"  # spreadsheets begin with a mark
    return opener(path, f"{mode}t", encoding=encoding, newline="")  # type: ignore[return-value]  # it is text


def _rows(path: str, file: TextIO) -> Iterator[Row]:
    lines = csv.reader(file)
    names = next(lines, [])
    header = [name.strip() for name in names]
    if missing := [name for name in REQUIRED if name not in header]:
        raise TraceError(f"{path}, line 1", f"there is no column {', '.join(missing)}")
    for name in header:
        if name not in (*REQUIRED, *OPTIONAL):
            known = ", ".join((*REQUIRED, *OPTIONAL))
            raise TraceError(f"{path}, line 1", f"{name!r} is none of the columns {known}")
        if header.count(name) > 1:
            raise TraceError(f"{path}, line 1", f"there are two columns {name}")
    begun: dict[str, int] = {}
    for cells in lines:
        if not cells or cells == names:  # again, where files were put one behind the other
            continue
        line = _Line(f"{path}, line {lines.line_num}", {})
        if len(cells) != len(header):
            line.complain(f"there are {len(cells)} values for {len(header)} columns")
        line = attrs.evolve(line, values=dict(zip(header, map(str.strip, cells), strict=True)))
        row = line.row(begun)
        if row.session:
            begun.setdefault(row.session, lines.line_num)
        yield row


@attrs.frozen
class _Line:
    """
    A line of a trace.

    :param where: its file and number.
    :param values: its cells by column.
    """

    where: str
    values: Mapping[str, str]

    def complain(self, what: str) -> NoReturn:
        """Say what is wrong."""
        raise TraceError(self.where, what)

    def row(self, begun: Mapping[str, int]) -> Row:
        """
        Read it.

        :param begun: by session, the line of its first request.
        """
        values = self.values
        session = values.get("session", "")
        if not values["model"]:
            self.complain("model is empty")
        arrived_at = self._seconds("arrived_at")
        think_secs = self._seconds("think_secs")
        if session in begun and arrived_at is not None:
            self.complain(
                f"session {session} began at line {begun[session]}: a later request of it has"
                " think_secs, and no arrived_at"
            )
        if session not in begun and arrived_at is None:
            whose = f"the first request of session {session}" if session else "the request"
            self.complain(f"arrived_at is empty, but {whose} has to come at some time")
        return Row(
            model=values["model"],
            prompt_tokens=self._tokens("prompt_tokens"),
            output_tokens=self._tokens("output_tokens"),
            arrived_at=arrived_at,
            session=session,
            think_secs=0.0 if arrived_at is not None else think_secs or 0.0,
            urgency=self._urgency(),
        )

    def _seconds(self, column: str) -> float | None:
        """Read a time; ``None`` where there is none."""
        word = self.values.get(column, "")
        if not word:
            return None
        try:
            seconds = float(word)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= _MOST_SECS:
            self.complain(f"{column}: {word!r} is no number of seconds")
        return seconds

    def _urgency(self) -> Urgency | None:
        word = self.values.get("class", "")
        try:
            return Urgency.from_header(word.encode()) if word else None
        except ValueError as error:
            self.complain(f"class: {word!r} is not {error}")

    def _tokens(self, column: str) -> int:
        word = self.values[column]
        if not (word.isascii() and word.isdigit()):
            self.complain(f"{column}: {word!r} is no number of tokens")
        if len(word) > _MOST_DIGITS or int(word) > _MOST_TOKENS:
            self.complain(f"{column}: {word[:20]}... is more tokens than anybody asks for")
        return int(word)
