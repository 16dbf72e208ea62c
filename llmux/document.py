"""
YAML and JSON files as nodes that know their line, with nothing guessed.

PyYAML turns ``no`` into a boolean and ``3.1`` into a number before anybody can say what was meant;
here a scalar keeps its text, and whoever reads the key decides what it is.
"""

from __future__ import annotations

import json
import re

import attrs
import yaml

from llmux.errors import ConfigError, Problem

_YAML_TYPES = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


@attrs.frozen
class Scalar:
    """
    A single value.

    :param text: its text, without quotes.
    :param plain: whether it was written without quotes (or a block's ``|``).
    :param line: where it stands, counted from 1.
    """

    text: str
    plain: bool
    line: int

    def is_null(self) -> bool:
        """Whether it says "nothing" in YAML 1.2."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@attrs.frozen
class Listing:
    """A list of nodes, and its line."""

    items: tuple[Node, ...]
    line: int


@attrs.frozen
class Mapping:
    """
    Keys with their nodes.

    :param entries: by key, in the order of the file; merge keys (``<<``) are worked in.
    :param key_lines: by key, the line it stands in.
    :param line: the line where the mapping begins.
    """

    entries: dict[str, Node]
    key_lines: dict[str, int]
    line: int


Node = Scalar | Listing | Mapping


def read_document(filename: str, content: bytes, *, is_json: bool, problems: list[Problem]) -> Node:
    """
    Read a file's content as one tree.

    :param filename: what to call it in complaints.
    :param content: its bytes, in UTF-8.
    :param is_json: whether it is JSON; YAML otherwise.
    :param problems: takes complaints that leave the rest readable, such as duplicate keys.
    :raises ConfigError: if it cannot be read at all.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(filename, line, "this is not UTF-8 text; save it as UTF-8") from error
    if is_json:
        text = _json_as_yaml(filename, text)
    try:
        loader = _JSONLoader(text) if is_json else yaml.BaseLoader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
        if root is None:
            raise _unreadable(filename, None, "the file is empty")
        return _Reader(problems, is_json).node(root, "")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        if not isinstance(error, yaml.composer.ComposerError):
            said += "; look at the indentation and the quotes"
        raise _unreadable(
            filename, mark.line + 1 if mark else None, f"this is not YAML: {said}"
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"this is not YAML: the character U+{error.character:04X} cannot be in it"
        raise _unreadable(filename, line, message) from error
    except RecursionError as error:
        raise _unreadable(filename, None, "this is nested too deeply") from error


def _unreadable(filename: str, line: int | None, message: str) -> ConfigError:
    return ConfigError(filename, [Problem(line, "", None, message)])


def _json_as_yaml(filename: str, text: str) -> str:
    """
    Check JSON strictly, then write it so that a YAML parser, which knows lines, reads the same.

    All of JSON is YAML but for tabs between tokens and some characters inside strings.  In valid
    JSON a tab stands between tokens alone, and what is not ASCII in strings alone.
    """
    if not text.strip():
        raise _unreadable(filename, None, "the file is empty")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        hint = "" if filename.endswith(".json") else "; a YAML file needs a name in .yaml or .yml"
        message = f"this is not JSON: {error.msg}{hint}"
        raise _unreadable(filename, error.lineno, message) from error
    except RecursionError as error:
        raise _unreadable(filename, None, "this is nested too deeply") from error
    text = text.replace("\t", " ")
    return re.sub(r"[^\x20-\x7e\r\n]", lambda found: f"\\U{ord(found.group()):08x}", text)


class _JSONLoader(yaml.BaseLoader):
    """Takes JSON's keys: of any length, their colon on whatever line."""

    def stale_possible_simple_keys(self) -> None:
        """Give up no key: YAML would after 1024 characters, or at the end of its line."""


class _Reader:
    """Turns PyYAML's nodes into ours; each only once, so that aliases cost nothing."""

    def __init__(self, problems: list[Problem], is_json: bool) -> None:
        self._problems = problems
        self._is_json = is_json
        self._made: dict[int, Node] = {}
        self._open: set[int] = set()

    def node(self, node: yaml.Node, path: str) -> Node:
        made = self._made.get(id(node))
        if made is not None:
            return made
        line = node.start_mark.line + 1
        if id(node) in self._open:
            self._complain(line, path, "this refers to itself")
            return Scalar("", True, line)
        self._open.add(id(node))
        if node.tag not in _YAML_TYPES:
            self._complain(line, path, f"the tag {node.tag} is not supported; leave it out")
        if isinstance(node, yaml.MappingNode):
            made = self._mapping(node, path, line)
        elif isinstance(node, yaml.SequenceNode):
            made = Listing(tuple(self.node(item, path) for item in node.value), line)
        else:
            assert isinstance(node, yaml.ScalarNode)
            made = self._scalar(node, line)
        self._open.discard(id(node))
        self._made[id(node)] = made
        return made

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Scalar:
        text = str(node.value)
        if self._is_json:  # "\ud83d\ude00" is one character in JSON and two halves in YAML
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return Scalar(text, node.style is None, line)

    def _mapping(self, node: yaml.MappingNode, path: str, line: int) -> Mapping:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        merged: list[Mapping] = []
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            key = self.node(key_node, path)
            if not isinstance(key, Scalar):
                self._complain(key_line, path, "a key must be a name, not a list or a mapping")
                continue
            here = f"{path}.{key.text}" if path else key.text
            value = self.node(value_node, here)
            if key.plain and key.text == "<<":
                merged.extend(self._merge_sources(value, here))
            elif key.text in entries:
                self._complain(key_line, here, f"duplicate key; line {lines[key.text]} has it too")
            else:
                entries[key.text], lines[key.text] = value, key_line
        for source in merged:  # what stands here wins, then the first of the merged
            for name, value in source.entries.items():
                if name not in entries:
                    entries[name], lines[name] = value, source.key_lines[name]
        return Mapping(entries, lines, line)

    def _merge_sources(self, value: Node, path: str) -> list[Mapping]:
        sources = value.items if isinstance(value, Listing) else (value,)
        mappings = [source for source in sources if isinstance(source, Mapping)]
        if len(mappings) != len(sources):
            self._complain(value.line, path, "only mappings can be merged")
        return mappings

    def _complain(self, line: int, path: str, message: str) -> None:
        self._problems.append(Problem(line, path, None, message))
