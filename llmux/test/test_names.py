"""Tests of :mod:`llmux.names` and :mod:`llmux.naming`: what clients may call models."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.config import Config
from llmux.errors import ConfigError, UnknownModel
from llmux.names import Names

MODELS = """\
models:
  llama: {port: 1, wake: w, sleep: s, aliases: [gpt-4o, default]}
  qwen: {port: 2, wake: w, sleep: s, rewrite_model: Qwen/Qwen3-8B}
"""


def load(text: str) -> Config:
    """Read a configuration."""
    return Config.from_bytes(text.encode(), path=Path("c.yaml"))


def complaints(text: str) -> list[str]:
    """Give all that is said about one."""
    try:
        load(text)
    except ConfigError as error:
        return str(error).splitlines()
    return []


class NamingTests(SynchronousTestCase):
    """What a configuration says of names."""

    def test_read(self) -> None:
        """Aliases, shared names and the default are what the file says."""
        more = "default_model: gpt-4o\nfirst_awake: {fast: [qwen, gpt-4o]}\n"
        config = load(MODELS + more)
        self.assertEqual(config.models["llama"].aliases, ("gpt-4o", "default"))
        self.assertEqual(config.models["qwen"].rewrite_model, "Qwen/Qwen3-8B")
        self.assertEqual(config.default_model, "gpt-4o")
        self.assertEqual(config.first_awake, {"fast": ("qwen", "llama")})

    def test_two_things(self) -> None:
        """A name that would mean two things is refused, wherever it stands."""
        text = """\
models:
  a: {port: 1, wake: w, sleep: s, aliases: [b, a, c]}
  b: {port: 2, wake: w, sleep: s, aliases: [c]}
first_awake: {a: [b], c: [a]}
"""
        self.assertEqual(
            complaints(text),
            [
                "c.yaml:2: models.a.aliases: b is a name of b already; choose another one",
                "c.yaml:2: models.a.aliases: a is this model's own; choose another one",
                "c.yaml:3: models.b.aliases: c is a name of a already; choose another one",
                "c.yaml:4: first_awake.a: this is a name of a already; choose another one",
                "c.yaml:4: first_awake.c: this is a name of a already; choose another one",
            ],
        )

    def test_nobody(self) -> None:
        """A name that stands for nobody is refused, with the one that was probably meant."""
        more = """\
default_model: lama
first_awake:
  fast: [qwen, gpt4o]
  slow:
  - qwen
  - nothing like it
  - [a]
  x: qwen
  of-others: [fast]
"""
        names = "default, gpt-4o, llama, qwen"
        self.assertEqual(
            complaints(MODELS + more),
            [
                "c.yaml:4: default_model: there is no such model; did you mean llama?"
                " (it is 'lama')",
                "c.yaml:6: first_awake.fast: there is no such model; did you mean gpt-4o?"
                " (it is 'gpt4o')",
                f"c.yaml:9: first_awake.slow: there is no such model; there are: {names}"
                " (it is 'nothing like it')",
                "c.yaml:10: first_awake.slow: this must be a single value, not a list or a mapping",
                "c.yaml:11: first_awake.x: this must be a list, such as [a, b] (it is 'qwen')",
                f"c.yaml:12: first_awake.of-others: there is no such model; there are: {names}"
                " (it is 'fast')",
            ],
        )

    def test_nothing_or_twice(self) -> None:
        """An empty list, and a list that has a model twice, are refused."""
        text = """\
models:
  a: {port: 1, wake: w, sleep: s, aliases: [x, y, x]}
  b: {port: 2, wake: w, sleep: s, aliases: []}
first_awake:
  none: []
  twice:
  - a
  - b
  - x
"""
        empty = "this list is empty; name one at least, or leave it out"
        self.assertEqual(
            complaints(text),
            [
                "c.yaml:2: models.a.aliases: x is a name of a already; choose another one",
                f"c.yaml:3: models.b.aliases: {empty}",
                f"c.yaml:5: first_awake.none: {empty}",
                "c.yaml:9: first_awake.twice: the model a is in this list already (it is 'x')",
            ],
        )

    def test_templates(self) -> None:
        """What is only there to be referred to is no name, and may hold a model's other keys."""
        text = """\
models:
  x-base: &base {wake: w, sleep: s, rewrite_model: real}
  a: {<<: *base, port: 1, aliases: [x]}
first_awake: {x-note: of two GPUs, x-fast: [x]}
"""
        config = load(text)
        self.assertEqual(config.models["a"].rewrite_model, "real")
        self.assertEqual(config.first_awake, {"x-fast": ("a",)})

    def test_reserved(self) -> None:
        """Names that metrics need for something else, and unprintable ones, are nobody's."""
        for lines in (
            "first_awake: {idle: [llama]}\n",
            'first_awake: {"a\\rb": [llama]}\n',
            "default_model: several\n",
            "models:\n  a: {port: 1, wake: w, sleep: s, aliases: [several]}\n",
            'models:\n  a: {port: 1, wake: w, sleep: s, rewrite_model: "a\\rb"}\n',
        ):
            text = lines if lines.startswith("models") else MODELS + lines
            self.assertEqual(len(complaints(text)), 1, text)
        text = "models:\n  a: {port: 1, wake: w, sleep: s, rewrite_model: idle}\n"
        self.assertEqual(load(text).models["a"].rewrite_model, "idle", "which is no label")

    def test_wrong_place(self) -> None:
        """Whoever writes a key into the wrong section is told where it belongs."""
        (said,) = complaints(MODELS + "policy: {default_model: llama}\n")
        self.assertIn("it belongs at the top of the file", said)

    def test_in_the_journal(self) -> None:
        """A model's names survive being written down."""
        for model in load(MODELS).models.values():
            written = json.dumps(model.as_json())
            self.assertEqual(type(model).from_json(json.loads(written)), model)


class NamesTests(SynchronousTestCase):
    """What a client's name stands for."""

    def setUp(self) -> None:
        """Name some models."""
        more = "default_model: fast\nfirst_awake: {fast: [qwen, llama]}\n"
        self.config = load(MODELS + more)
        self.names = Names(self.config)

    def test_listed(self) -> None:
        """All names are there, in alphabetical order."""
        self.assertEqual(self.names.listed, ("default", "fast", "gpt-4o", "llama", "qwen"))

    def test_resolve(self) -> None:
        """A model's name is its own, an alias is its model's, and no name is the default's."""
        got = {name: self.names.resolve(name) for name in (*self.names.listed, "")}
        self.assertEqual(
            got,
            {
                "default": "llama", "gpt-4o": "llama", "llama": "llama", "qwen": "qwen",
                "fast": "fast", "": "fast",
            },
        )  # fmt: skip
        self.assertTrue(self.names.has_default)
        self.assertFalse(Names(load(MODELS)).has_default)

    def test_near_miss(self) -> None:
        """A name that is nobody's is refused, with the one that was probably meant."""
        for name, said in (
            ("gpt4o", "Model not found: gpt4o; did you mean gpt-4o?"),
            ("nothing like it", "Model not found: nothing like it"),
        ):
            error = self.assertRaises(UnknownModel, self.names.resolve, name)
            self.assertEqual((error.message, error.status), (said, 404))

    @given(st.text())
    def test_any_name(self, name: str) -> None:
        """Whatever a client makes up, the answer is one short line."""
        for made_up in (name, name * 1000):
            try:
                self.assertIn(self.names.resolve(made_up), ("llama", "qwen", "fast"))
            except UnknownModel as error:
                self.assertLess(len(error.message), 500)

    def test_at_backend(self) -> None:
        """A backend gets the name that it knows: what the file says, or the model's own."""
        llama, qwen = self.config.models["llama"], self.config.models["qwen"]
        for said, model, expected in (
            ("llama", llama, None),
            ("gpt-4o", llama, "llama"),
            ("fast", llama, "llama"),
            ("somebody else's", llama, None),
            ("qwen", llama, None),
            ("qwen", qwen, "Qwen/Qwen3-8B"),
            ("fast", qwen, "Qwen/Qwen3-8B"),
            ("somebody else's", qwen, "Qwen/Qwen3-8B"),
            ("Qwen/Qwen3-8B", qwen, None),
        ):
            self.assertEqual(self.names.at_backend(said, model), expected, (said, model.name))
