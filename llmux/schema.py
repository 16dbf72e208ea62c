"""
How the values of a configuration are read from its nodes, and what is said when they cannot be.

A reader takes a node and gives a value, or raises :class:`Complaint`.  A :class:`Section` is one
mapping of the file: it hands out its keys to readers and complains about those that nobody asked
for.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from llmux.document import Mapping, Node, Scalar
from llmux.errors import Problem

_Value = TypeVar("_Value")
_Default = TypeVar("_Default")

# Numbers as YAML 1.2 has them (core schema): 010 is ten, 1_000 and 30:00 are text.
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 30  # characters
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+(%[a-zA-Z0-9._-]+)?")
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_MEANT_FOR = {
    "name": "policy",
    "request_timeout_secs": "policy",
    "drain_before_switch": "policy",
    "min_active_secs": "policy",
    "wake_timeout_secs": "hooks",
    "sleep_timeout_secs": "hooks",
    "alive_timeout_secs": "hooks",
}  # for keys at the top of the file, or in the wrong section
_SECTIONS = ("", "policy", "hooks")


class Complaint(Exception):
    """A value that cannot be taken; the message says why and what would be."""


Reader = Callable[[Node], _Value]


def text(node: Node) -> str:
    """Take any scalar's text: ``no`` and ``3.1`` too."""
    if not isinstance(node, Scalar):
        raise Complaint("this must be a single value, not a list or a mapping")
    if node.is_null() or not node.text.strip():
        raise Complaint("this is empty")
    if "\0" in node.text:
        raise Complaint("this holds a NUL character")
    return node.text


def hook_script(node: Node) -> str:
    """Take a script: the path of an executable file, or the text of a shell script."""
    try:
        return text(node)
    except Complaint as complaint:
        raise Complaint(f"{complaint}; a hook is a shell script or the path of one") from None


def directory(node: Node) -> Path:
    """Take a directory's path: absolute, or from where llmux was started, or from ``~``."""
    try:
        return Path(text(node)).expanduser().absolute()
    except RuntimeError:
        raise Complaint("nobody knows this home directory; write the whole path") from None


def number(node: Node) -> float:
    """Take a number as YAML 1.2 writes it."""
    word = _plain(node, "a number")
    if len(word) > _LONGEST_NUMBER:
        raise Complaint("this number has too many digits")
    if _INTEGER.fullmatch(word):
        return int(word, 0) if word[:2] in ("0o", "0x") else int(word)
    if _FLOAT.fullmatch(word):
        return float(word)
    raise Complaint("this must be a number")


def local_port(node: Node) -> int:
    """Take a TCP port."""
    value = number(node)
    if not 1 <= value <= 65535 or value != int(value):
        raise Complaint("a port is a whole number from 1 to 65535")
    return int(value)


def seconds(node: Node) -> float:
    """Take a duration in seconds; fractions are allowed."""
    value = number(node)
    if value < 0 or not math.isfinite(value):
        raise Complaint("a duration is a number of seconds, 0 or more")
    return float(value)


def deadline(node: Node) -> float:
    """Take a duration in seconds that something may last; none at all makes no sense."""
    value = seconds(node)
    if value == 0:
        raise Complaint("a deadline is a number of seconds, more than 0")
    return value


def optional_seconds(node: Node) -> float | None:
    """Take a duration in seconds, or ``null``: none."""
    if isinstance(node, Scalar) and node.is_null():
        return None
    return seconds(node)


def boolean(node: Node) -> bool:
    """Take ``true`` or ``false``, the two that YAML 1.2 knows."""
    value = _BOOLEANS.get(_plain(node, "true or false"))
    if value is None:
        raise Complaint("this must be true or false")
    return value


def one_of(names: Collection[str]) -> Reader[str]:
    """Make a reader that takes one of some names."""

    def name(node: Node) -> str:
        word = text(node)
        if word not in names:
            raise Complaint(f"this must be one of: {', '.join(names)}{_near_miss(word, names)}")
        return word

    return name


def url(node: Node) -> tuple[str, int, bool]:
    """Take ``http://host[:port]`` or ``https://host[:port]`` as (host, port, whether it is TLS)."""
    try:
        parts = urlsplit(text(node))
        port = parts.port
    except ValueError as error:
        raise Complaint(f"this is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Complaint("a url looks like http://127.0.0.1:8001")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise Complaint("a url names a server alone (http://host:port): no user, path or query")
    if not _HOST.fullmatch(parts.hostname):
        raise Complaint("a url's host is an ASCII name or an address")
    if port == 0:
        raise Complaint("a port is a whole number from 1 to 65535")
    tls = parts.scheme == "https"
    return parts.hostname, port or (443 if tls else 80), tls


def _plain(node: Node, what: str) -> str:
    if not isinstance(node, Scalar):
        raise Complaint(f"this must be {what}, not a list or a mapping")
    if not node.plain:
        raise Complaint(f"this is text; write {what} without quotes")
    return node.text


class Section:
    """
    One mapping of the file while it is being read.

    :param node: the mapping; anything else is complained about and taken as empty.
    :param path: its key path; empty for the whole file.
    :param problems: takes the complaints.
    :param name: its own key, as it is written.
    :param line: the line of that key; the mapping's own by default.
    """

    def __init__(
        self,
        node: Node,
        path: str,
        problems: list[Problem],
        name: str = "",
        line: int | None = None,
    ) -> None:
        self.name = name
        self._path = path
        self._problems = problems
        self._asked: list[str] = []
        self._line = node.line if line is None else line
        self._broken = False
        if isinstance(node, Mapping):
            self._node = node
        else:
            self._node = Mapping({}, {}, node.line)
            if not (isinstance(node, Scalar) and node.is_null()):
                self.complain(None, "this must be a mapping, with key: value lines")
                self._broken = True  # what it lacks goes without saying

    def has(self, key: str) -> bool:
        """Tell whether the file has this key here, and count it as asked for."""
        self.ignore(key)
        return key in self._node.entries

    def ignore(self, *keys: str) -> None:
        """Count keys as asked for."""
        self._asked.extend(keys)

    def get(self, key: str, reader: Reader[_Value], default: _Default) -> _Value | _Default:
        """Read a key, or take the default where it is missing or cannot be taken."""
        self.ignore(key)
        node = self._node.entries.get(key)
        if node is None:
            return default
        try:
            return reader(node)
        except Complaint as complaint:
            self.complain(key, str(complaint))
            return default

    def required(self, key: str, reader: Reader[_Value], default: _Value) -> _Value:
        """Read a key that must be there."""
        if not self.has(key):
            self.complain(None, f"{key} is missing")
        return self.get(key, reader, default)

    def section(self, key: str) -> Section:
        """Give the mapping below a key; a missing one is empty."""
        self.ignore(key)
        node = self._node.entries.get(key, Mapping({}, {}, self._node.line))
        line = self._node.key_lines.get(key)
        return Section(node, self._below(key), self._problems, key, line)

    def sections(self, key: str, what: str, template: Callable[[Section], bool]) -> list[Section]:
        """
        Give the mappings below the mapping below a key; there must be one at least.

        :param template: tells whether one whose name begins with ``x-`` is not meant to count.
        """
        below = self.section(key)
        counted = []
        for name, node in below._node.entries.items():
            if name.startswith("x-") and not isinstance(node, Mapping):
                continue
            section = below.section(name)
            if not (name.startswith("x-") and template(section)):
                counted.append(section)
        if not counted and not below._broken:
            self.complain(key if self.has(key) else None, f"no {what}: at least one is needed")
        return counted

    def complain(self, key: str | None, message: str) -> None:
        """Complain about a key's value, or about the section."""
        if self._broken:
            return
        value = None
        line = self._line
        path = self._path
        if key is not None and key in self._node.entries:
            node = self._node.entries[key]
            value = node.text if isinstance(node, Scalar) else None
            line = self._node.key_lines[key]
            path = self._below(key)
        self._problems.append(Problem(line, path, value, message))

    def no_more(self) -> None:
        """Complain about every key that nobody asked for, ``x-*`` apart."""
        known = list(dict.fromkeys(self._asked))
        for key in self._node.entries:
            if key in known or key.startswith("x-"):
                continue
            if self._path in _SECTIONS and key in _MEANT_FOR:
                hint = f"; it belongs under {_MEANT_FOR[key]}:"
            else:
                hint = _near_miss(key, known) or f"; remove it, or use one of: {', '.join(known)}"
            self.complain(key, f"unknown key{hint}")

    def _below(self, key: str) -> str:
        shown = key if key.isprintable() else repr(key)
        return f"{self._path}.{shown}" if self._path else shown


def _near_miss(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
