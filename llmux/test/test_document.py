"""Tests of :mod:`llmux.document`."""

from __future__ import annotations

import json
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.document import Listing, Mapping, Node, Scalar, read_document
from llmux.errors import ConfigError, Problem

plain: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
)
documents: st.SearchStrategy[object] = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
indents = st.sampled_from([None, 0, 2, "\t", " \t"])
separators = st.sampled_from(
    [None, (",", ":"), ("\t,", "\t:\t"), (" ,\r\n", "\n\n:"), (",", "\r:")]
)


def read(content: str | bytes, name: str = "config.yaml") -> tuple[Node, list[str]]:
    """Read a document, and give it with the complaints that leave the rest readable."""
    problems: list[Problem] = []
    data = content.encode() if isinstance(content, str) else content
    node = read_document(name, data, is_json=not name.endswith(".yaml"), problems=problems)
    return node, [problem.render(name) for problem in problems]


def as_values(node: Node) -> Any:
    """Turn nodes into what JSON says of them, numbers and words as their text."""
    if isinstance(node, Mapping):
        return {key: as_values(value) for key, value in node.entries.items()}
    if isinstance(node, Listing):
        return [as_values(item) for item in node.items]
    return ("plain", node.text) if node.plain else node.text


def words(document: Any) -> Any:
    """Turn JSON's three words into their text, as :func:`as_values` gives them."""
    if isinstance(document, dict):
        return {key: words(value) for key, value in document.items()}
    if isinstance(document, list):
        return [words(item) for item in document]
    if document is None or isinstance(document, bool):
        return ("plain", json.dumps(document))
    return document


def as_word(text: str) -> tuple[str, str]:
    """Leave a number as it is written."""
    return ("plain", text)


class JSONTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(documents, st.booleans(), indents, separators)
    def test_reads_as_json_does(
        self,
        document: object,
        ascii_only: bool,
        indent: int | str | None,
        separators: tuple[str, str] | None,
    ) -> None:
        """A JSON file says what a JSON parser reads in it, however it is laid out."""
        text = json.dumps(document, ensure_ascii=ascii_only, indent=indent, separators=separators)
        numbers = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), as_word)
        expected: Any = words(json.loads(text, **numbers))  # type: ignore[arg-type]  # for all
        node, complaints = read(text, "config.json")
        self.assertEqual((as_values(node), complaints), (expected, []))

    def test_escapes(self) -> None:
        """Every escape that JSON has is understood, those of two halves too."""
        text = r'["\"\\\/\b\f\n\r\t", "\u00e9\ud83d\ude00", "\u0000\u007f\u2028"]'
        self.assertEqual(as_values(read(text, "c.json")[0]), json.loads(text))

    def test_long_keys(self) -> None:
        """A key is as long as it likes, and its colon may stand on another line."""
        for key in ("x" * 10_000, "\u540d" * 2_000):
            for text in (f'{{"{key}": 1}}', f'[{{"a": [],\n"{key}"\r\n\t\n:\n1}}]'):
                node, complaints = read(text, "c.json")
                self.assertEqual(complaints, [])
                self.assertIn(f"'{key}': ('plain', '1')", str(as_values(node)))

    def test_half_a_character(self) -> None:
        """Half of a character, which no file name or header could hold, is replaced."""
        self.assertEqual(as_values(read(r'["a\ud83d"]', "c.json")[0]), ["a\ufffd"])

    def test_lines(self) -> None:
        """Each key knows its line."""
        root, _ = read('{\n\t"a": 1,\n\t"b":\n\t{"c": [\n2]}\n}', "c.json")
        assert isinstance(root, Mapping)
        below = root.entries["b"]
        assert isinstance(below, Mapping)
        self.assertEqual((root.line, root.key_lines), (1, {"a": 2, "b": 3}))
        self.assertEqual((below.line, below.key_lines, below.entries["c"].line), (4, {"c": 4}, 4))

    def test_duplicate_keys(self) -> None:
        """A key that stands twice is complained about, and the first one is taken."""
        root, complaints = read('{"a": {"b": 1,\n"c": 2,\n"b": 3}}', "c.json")
        self.assertEqual(complaints, ["c.json:3: a.b: duplicate key; line 1 has it too"])
        self.assertEqual(as_values(root), {"a": {"b": ("plain", "1"), "c": ("plain", "2")}})

    def test_merge_keys_are_yaml(self) -> None:
        """In JSON, << is a key like any other."""
        root, complaints = read('{"<<": {"a": 1}}', "c.json")
        self.assertEqual((as_values(root), complaints), ({"<<": {"a": ("plain", "1")}}, []))

    def test_not_json(self) -> None:
        """What is YAML but not JSON is refused in a JSON file, with the line."""
        for text in ("{a: 1}", '{"a": 1,}', "{'a': 1}", '{"a": 1} # x', '{"a": "\t"}', "a: 1"):
            error = self.assertRaises(ConfigError, read, "\n" + text, "c.json")
            self.assertTrue(str(error).startswith("c.json:2: this is not JSON: "), error)
            self.assertNotIn(".yaml", str(error))

    def test_wrong_name(self) -> None:
        """Whoever forgot that a YAML file needs a certain name is told so."""
        error = self.assertRaises(ConfigError, read, "models:\n", "llmux.conf")
        self.assertIn("a YAML file needs a name in .yaml or .yml", str(error))


class YAMLTests(SynchronousTestCase):
    def test_scalars_keep_their_text(self) -> None:
        """What PyYAML would take for something else stays what was written."""
        for text in ("no", "3.1", "010", "0x1F", "1_000", "30:00", "2024-01-01", "~", "=", "1e3"):
            self.assertEqual(read(text)[0], Scalar(text, plain=True, line=1))

    def test_quotes(self) -> None:
        """It is known whether a text stood in quotes or in a block."""
        for text in ("'no'", '"no"', "|-\n  no", ">-\n  no"):
            node, _ = read(text)
            assert isinstance(node, Scalar)
            self.assertEqual((node.text, node.plain), ("no", False), text)

    def test_nothing(self) -> None:
        """Nothing is what YAML 1.2 writes for it, and nothing in quotes is not nothing."""
        root, _ = read("[ ~, null, Null, NULL, '', 'null', nULL, none, 0 ]\n")
        assert isinstance(root, Listing)
        nulls = [isinstance(item, Scalar) and item.is_null() for item in root.items]
        self.assertEqual(nulls, [True] * 4 + [False] * 5)
        root, _ = read("a:\n")
        assert isinstance(root, Mapping)
        self.assertTrue(root.entries["a"] == Scalar("", plain=True, line=1))
        self.assertTrue(Scalar("", plain=True, line=1).is_null())

    def test_byte_order_mark(self) -> None:
        """A byte order mark, as some editors leave it, is no part of the text."""
        self.assertEqual(read(b"\xef\xbb\xbfa: 1")[0], read("a: 1")[0])
        self.assertEqual(read(b'\xef\xbb\xbf{"a": 1}', "c.json")[0], read('{"a": 1}')[0])

    def test_aliases(self) -> None:
        """An alias is what its anchor is, with the lines of the anchor."""
        root, complaints = read("a: &x\n  b: 1\nc: *x\n")
        assert isinstance(root, Mapping)
        self.assertEqual((root.entries["c"], complaints), (root.entries["a"], []))
        self.assertEqual(root.key_lines, {"a": 1, "c": 3})

    def test_many_aliases(self) -> None:
        """A document that would be huge without its aliases is read at once."""
        levels = ["l0: &l0 [x]"]
        levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40)]
        root, complaints = read("\n".join(levels))
        assert isinstance(root, Mapping)
        self.assertEqual((len(root.entries), complaints), (40, []))

    def test_merge(self) -> None:
        """What is merged is worked in: what stands here wins, then the first of the merged."""
        text = (
            "x: &x\n  a: x\n  b: x\n  c: x\n"
            "y: &y\n  <<: *x\n  b: y\n  d: y\n"
            "z:\n  c: z\n  <<: [*y, *x]\n"
        )
        root, complaints = read(text)
        assert isinstance(root, Mapping)
        z = root.entries["z"]
        assert isinstance(z, Mapping)
        got = {key: value.text for key, value in z.entries.items() if isinstance(value, Scalar)}
        self.assertEqual((got, complaints), ({"a": "x", "b": "y", "c": "z", "d": "y"}, []))
        self.assertEqual(z.key_lines, {"a": 2, "b": 7, "c": 10, "d": 8})

    def test_quoted_merge_key(self) -> None:
        """A key << in quotes is a key like any other."""
        self.assertEqual(as_values(read('"<<": {a: 1}')[0]), {"<<": {"a": ("plain", "1")}})

    def test_merge_of_something_else(self) -> None:
        """Only mappings can be merged."""
        for value in ("3", "[{a: 1}, 3]", "[[{a: 1}]]"):
            _, complaints = read(f"m:\n  <<: {value}")
            self.assertEqual(complaints, ["config.yaml:2: m.<<: only mappings can be merged"])

    def test_duplicate_keys(self) -> None:
        """Every repeated key is complained about, but not one that overrides a merged one."""
        text = "x: &x {a: 1}\na: 1\nm:\n  a: 2\n  <<: *x\n  'a': 3\na: 4\n"
        self.assertEqual(
            read(text)[1],
            [
                "config.yaml:6: m.a: duplicate key; line 4 has it too",
                "config.yaml:7: a: duplicate key; line 2 has it too",
            ],
        )

    def test_refers_to_itself(self) -> None:
        """An anchor inside of which its own alias stands is complained about, once."""
        for text in ("a: &x\n  b: *x\n", "a: &x\n  - *x\n", "a: &x\n  b: {c: [*x]}\n"):
            (complaint,) = read(text)[1]
            self.assertTrue(complaint.endswith(": this refers to itself"), complaint)
        self.assertIn("this refers to itself", read("a: &x\n  <<: *x\n")[1][0])

    def test_keys_that_are_no_names(self) -> None:
        """A list or a mapping is no key."""
        for key in ("[a]", "{a: 1}"):
            _, complaints = read(f"m:\n  ? {key}\n  : b\n")
            self.assertEqual(
                complaints, ["config.yaml:2: m: a key must be a name, not a list or a mapping"]
            )

    def test_tags(self) -> None:
        """Tags that would make something else of a value are complained about."""
        self.assertEqual(read("a: !!str 3")[1], [])
        for tag in ("!!int", "!!binary", "!mine"):
            (complaint,) = read(f"a: {tag} '3'")[1]
            self.assertTrue(complaint.startswith("config.yaml:1: a: the tag "), complaint)
            self.assertTrue(complaint.endswith(" is not supported; leave it out"), complaint)


class UnreadableTests(SynchronousTestCase):
    def assert_unreadable(self, content: str | bytes, message: str, name: str = "c.yaml") -> None:
        """Check what is said of a file that cannot be read at all."""
        error = self.assertRaises(ConfigError, read, content, name)
        self.assertEqual(str(error), f"{name}{message}")

    def test_empty(self) -> None:
        """A file in which nothing stands is called empty."""
        for name in ("c.yaml", "c.json"):
            for content in ("", "\n \n", "\ufeff"):
                self.assert_unreadable(content, ": the file is empty", name)
        self.assert_unreadable("# models:\n", ": the file is empty")

    def test_not_utf_8(self) -> None:
        """A file in another encoding is told apart from one with a mistake in it."""
        message = "this is not UTF-8 text; save it as UTF-8"
        for name in ("c.yaml", "c.json"):
            self.assert_unreadable(b'{\n"\xe4": 1}', f":2: {message}", name)
            self.assert_unreadable('{"a": 1}'.encode("utf-16"), f":1: {message}", name)

    def test_control_characters(self) -> None:
        """A character that YAML forbids is named, with its line."""
        message = "this is not YAML: the character U+0001 cannot be in it"
        self.assert_unreadable("a: 1\nb: \1", f":2: {message}")

    def test_not_yaml(self) -> None:
        """A mistake in the YAML is shown with its line and in one line."""
        texts = ("a: 1\n\tb: 2", "a: 1\nb: c: d", "a: 1\nb: [1", "a: 1\nb: 'x", "a: 1\n  b: 2")
        for text in texts:
            error = str(self.assertRaises(ConfigError, read, text))
            self.assertTrue(error.startswith("config.yaml:"), error)
            self.assertIn(": this is not YAML: ", error)
            self.assertTrue(error.endswith("; look at the indentation and the quotes"), error)
            self.assertNotIn("\n", error)
        self.assert_unreadable("a: *b", ":1: this is not YAML: found undefined alias 'b'")

    def test_two_documents(self) -> None:
        """A file holds one document."""
        error = self.assertRaises(ConfigError, read, "a: 1\n---\nb: 2\n")
        self.assertIn("expected a single document", str(error))

    def test_nested_without_end(self) -> None:
        """A file that is nested beyond measure is refused like any other mistake."""
        deep = sys.getrecursionlimit()
        for name in ("c.yaml", "c.json"):
            text = "[" * deep + "]" * deep
            self.assert_unreadable(text, ": this is nested too deeply", name)
