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

from bench.contenders import CHECKOUT, find_nginx
from bench.figures import Figure
from llmux._version import __version__

_NONE = "-"
_RATIOS = (("llmux / nginx", "nginx"), ("llmux / straight", "straight"))


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

    def as_json(self) -> str:
        """Give everything, each round's values too."""
        figures = [
            {
                **attrs.asdict(figure),
                "samples": self.samples.get(figure.key, {}),
                "median": {name: self.value(figure, name) for name in self.contenders},
            }
            for figure in self.figures
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
        """Give the machine, the table, the targets and the notes."""
        lines = [f":date: {self.date:%Y-%m-%d}" + (", a quick run" if self.quick else "")]
        lines += [f":{name}: {value}" for name, value in self.machine.items()]
        lines += ["", *self._table(), ""]
        lines += [f"- {line}" for line in (*self._targets(), *self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def _table(self) -> list[str]:
        rows = [["figure", "unit", *self.contenders, *(title for title, _ in _RATIOS)]]
        rows += [self._row(figure) for figure in self.figures]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        rule = "  ".join("=" * width for width in widths)
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return [rule, lines[0], rule, *lines[1:], rule]

    def _row(self, figure: Figure) -> list[str]:
        values = {name: self.value(figure, name) for name in self.contenders}
        ratios = [_ratio(values.get("llmux"), values.get(other)) for _, other in _RATIOS]
        cells = [_short(values[name]) for name in self.contenders]
        return [figure.title, figure.unit or _NONE, *cells, *ratios]

    def _targets(self) -> list[str]:
        lines = []
        for figure in self.figures:
            value = self.value(figure, "llmux")
            if figure.target is not None and value is not None:
                word = "held" if value < figure.target else "missed"
                target = f"less than {figure.target:g} {figure.unit}"
                title = figure.title.removeprefix("... ")
                lines.append(f"{title}: {_short(value)} {figure.unit}, {target} wanted: {word}")
        return lines


def _ratio(value: float | None, other: float | None) -> str:
    if value is None or not other:
        return _NONE
    return _short(value / other)


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
