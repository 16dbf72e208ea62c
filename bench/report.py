"""What came out: a table for people, which is reST too, and JSON for machines."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from bench.contenders import LLMUX, STACKS, find_nginx
from bench.figures import Figure
from bench.multiplexer import CHECKOUT
from llmux._version import __version__

_NONE = "-"
_BASES = ("nginx", "straight")  # what the others are compared with
_JUDGED = (LLMUX, *STACKS)


@attrs.define
class Report:
    """
    A run and its figures.

    :param quick: whether too little work was done for the figures to mean much.
    :param contenders: their names, in the order of the columns.
    :ivar samples: for each figure and each contender the values of all rounds.
    """

    quick: bool
    contenders: list[str]
    figures: list[Figure] = attrs.Factory(list)
    samples: dict[str, dict[str, list[float]]] = attrs.Factory(dict)
    notes: list[str] = attrs.Factory(list)
    machine: dict[str, str] = attrs.Factory(lambda: describe_machine())
    date: datetime = attrs.Factory(lambda: datetime.now(UTC))

    def add(self, figure: Figure, contender: str, value: float) -> None:
        """Add the value of one round."""
        self.samples.setdefault(figure.key, {}).setdefault(contender, []).append(value)

    def value(self, figure: Figure, contender: str) -> float | None:
        """Give the median of a figure; ``None`` if the contender has none."""
        values = self.samples.get(figure.key, {}).get(contender)
        return median(values) if values else None

    @property
    def measured(self) -> list[Figure]:
        """The figures that anybody has."""
        return [figure for figure in self.figures if figure.key in self.samples]

    def as_json(self) -> str:
        """Give everything, each round's values too."""
        figures = [
            {
                **attrs.asdict(figure),
                "samples": self.samples[figure.key],
                "median": {name: self.value(figure, name) for name in self.contenders},
            }
            for figure in self.measured
        ]
        document: dict[str, Any] = {
            "date": self.date.isoformat(timespec="seconds"),
            "quick": self.quick,
            "machine": self.machine,
            "figures": figures,
            "notes": self.notes,
        }
        return json.dumps(document, indent=1) + "\n"

    def as_rst(self) -> str:
        """Give the machine, the table, what is wanted and the notes."""
        lines = [f":date: {self.date:%Y-%m-%d}" + (", a quick run" if self.quick else "")]
        lines += [f":{name}: {value}" for name, value in self.machine.items()]
        lines += ["", *self._values(), ""]
        if len(self._compared) > 1 and "nginx" in self.contenders:
            lines += ["The same as multiples of nginx's:", "", *self._multiples(), ""]
        lines += [f"- {line}" for line in (*self._verdicts(), *self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    @property
    def _compared(self) -> list[str]:
        return [name for name in self.contenders if name not in _BASES]

    def _values(self) -> list[str]:
        """Give the table; where one alone is compared, with its multiples and its rounds."""
        alone = self._compared[0] if len(self._compared) == 1 else None
        rows = [["figure", "unit", *self.contenders]]
        if alone:
            rows[0] += [f"{alone} / nginx", f"{alone} / straight", f"{alone}'s rounds"]
        for figure in self.measured:
            row = [figure.title, figure.unit or _NONE]
            row += [_short(self.value(figure, name)) for name in self.contenders]
            if alone:
                row += [self._multiple(figure, alone, base) for base in _BASES]
                row.append(_range(self.samples[figure.key].get(alone, [])))
            rows.append(row)
        return _table(rows, words=2)

    def _multiples(self) -> list[str]:
        rows = [["figure", *self._compared]]
        for figure in self.measured:
            if figure.key in self.samples and self.value(figure, "nginx"):
                row = [self._multiple(figure, name, "nginx") for name in self._compared]
                rows.append([figure.title, *row])
        return _table(rows, words=1)

    def _multiple(self, figure: Figure, contender: str, base: str) -> str:
        return _short(_ratio(self.value(figure, contender), self.value(figure, base)))

    def _verdicts(self) -> list[str]:
        """Say of each figure that llmux has to keep to whether it does."""
        lines = []
        for name in self.contenders:
            if name in _JUDGED:
                who = "" if name == LLMUX else f"{name}: "
                verdicts = (self._verdict(figure, name) for figure in self.measured)
                lines += [f"{who}{verdict}" for verdict in verdicts if verdict]
        return lines

    def _verdict(self, figure: Figure, name: str) -> str:
        wanted = figure.wanted
        value = self.value(figure, name)
        if wanted is None or value is None:
            return ""
        title, unit = figure.title.removeprefix("... "), figure.unit
        values = self.samples[figure.key][name]
        most = f"{wanted.most:g} {unit}".rstrip()
        if wanted.than or wanted.of:
            key, who = wanted.of or figure.key, wanted.than or name
            bases = self.samples.get(key, {}).get(who)
            if not bases or not median(bases):
                return ""
            value /= median(bases)
            values = [one / base for one, base in zip(values, bases, strict=False) if base]
            title += f", as a multiple of {self._title(key) if wanted.of else _whose(who)}"
            most, unit = f"{wanted.most:g}", ""
        word = "held" if value <= wanted.most else "missed"
        said = f"{title}: {_short(value)} {unit}".rstrip()
        rounds = f" (rounds: {_range(values)})" if len(values) > 1 else ""
        return f"{said}{rounds}, at most {most} wanted: {word}"

    def _title(self, key: str) -> str:
        return next(f'"{figure.title}"' for figure in self.figures if figure.key == key)


def _table(rows: list[list[str]], words: int) -> list[str]:
    """
    Write a table.

    :param rows: its head first.
    :param words: how many columns at its left are text.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(
            cell.ljust(width) if column < words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [rule, lines[0], rule, *lines[1:], rule]


def _whose(name: str) -> str:
    return f"{name}'s"


def _ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other


def _range(values: list[float]) -> str:
    """Say between what some values are."""
    return f"{_short(min(values))} to {_short(max(values))}" if len(values) > 1 else _NONE


def _short(value: float | None) -> str:
    """Write a number with three digits that count."""
    if value is None:
        return _NONE
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 3)}f}"


def describe_machine() -> dict[str, str]:
    """Say on what it was measured, and with which programs."""
    cpu = _line_of("/proc/cpuinfo", "model name") or platform.machine()
    memory = int(_line_of("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    nginx, wrk = find_nginx(), shutil.which("wrk")
    return {
        "processor": f"{cpu}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "llmux": " ".join([__version__, *_commit()]),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Twisted": version("twisted"),
        "nginx": _first_line([nginx, "-v"]).rpartition("/")[2] if nginx else "not installed",
        "wrk": _wrk_version(wrk) if wrk else "not installed",
        "cc": _first_line(["cc", "--version"]),
    }


def _wrk_version(wrk: str) -> str:
    return _first_line([wrk, "-v"]).removeprefix("wrk ").partition(" ")[0]


def _commit() -> list[str]:
    git = shutil.which("git")
    if git is None or not (CHECKOUT / ".git").exists():
        return []
    found = _first_line([git, "-C", str(CHECKOUT), "describe", "--always", "--dirty"])
    return [f"({found})"]


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return (done.stdout + done.stderr).partition("\n")[0].strip()


def _line_of(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def say(text: str) -> None:
    """Tell how far it is, beside the table and not in it."""
    print(text, file=sys.stderr, flush=True)
