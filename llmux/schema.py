"""One mapping of a configuration file, while it is being read."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable
from typing import TypeVar

from llmux.document import Listing, Mapping, Node, Scalar
from llmux.errors import Problem
from llmux.readers import Complaint, Reader, near_miss

_Value = TypeVar("_Value")
_Default = TypeVar("_Default")


class Section:
    """
    Hands out the keys of a mapping to readers, and complains about those that nobody asked for.

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

    def items(
        self,
        key: str,
        reader: Reader[_Value],
        default: tuple[_Value, ...],
        *,
        some: bool = False,
    ) -> tuple[_Value, ...]:
        """
        Read each item of a list, or take the default where there is no list.

        :param some: whether there must be an item at least.
        """
        self.ignore(key)
        node = self._node.entries.get(key)
        if node is None:
            return default
        if not isinstance(node, Listing):
            self.complain(key, "this must be a list, such as [a, b]")
            return default
        if some and not node.items:
            self.complain(key, "this list is empty; name one at least, or leave it out")
        values = []
        for item in node.items:
            try:
                values.append(reader(item))
            except Complaint as complaint:
                self._say(item, item.line, self._below(key), str(complaint))
        return tuple(values)

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

    def names(self) -> list[str]:
        """Give all keys, but for those that are only there to be referred to: ``x-*``, no list."""
        return [
            key
            for key, node in self._node.entries.items()
            if isinstance(node, Listing) or not key.startswith("x-")
        ]

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
        if key is not None and key in self._node.entries:
            self._say(self._node.entries[key], self._node.key_lines[key], self._below(key), message)
        else:
            self._say(None, self._line, self._path, message)

    def no_more(self, homes: collections.abc.Mapping[str, str]) -> None:
        """
        Complain about every key that nobody asked for, ``x-*`` apart.

        :param homes: for keys that could be meant for another section, the path of that section;
            empty: the top of the file.
        """
        known = list(dict.fromkeys(self._asked))
        for key in self._node.entries:
            if key in known or key.startswith("x-"):
                continue
            home = homes.get(key)
            if home is not None:
                place = f"under {home}:" if home else "at the top of the file"
                hint = f"; it belongs {place}"
            else:
                hint = near_miss(key, known) or f"; remove it, or use one of: {', '.join(known)}"
            self.complain(key, f"unknown key{hint}")

    def _say(self, node: Node | None, line: int, path: str, message: str) -> None:
        if not self._broken:
            value = node.text if isinstance(node, Scalar) else None
            self._problems.append(Problem(line, path, value, message))

    def _below(self, key: str) -> str:
        shown = key if key.isprintable() else repr(key)
        return f"{self._path}.{shown}" if self._path else shown
