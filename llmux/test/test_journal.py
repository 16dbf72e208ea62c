"""Tests of :mod:`llmux.journal`."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase
from txaio.tx import make_logger

from llmux.events import Events
from llmux.hooks.contract import Hook, Leftover, ProcessId
from llmux.journal import Journal, Memory, ModelRecord
from llmux.journalfile import LONGEST
from llmux.test.processes import python

# also bytes that are no UTF-8, as they stand in Python's texts
texts = st.text(st.one_of(st.characters(), st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF,
                                                         categories=["Cs"])))  # fmt: skip
seconds = st.floats(0, 1e12)
records = st.builds(
    ModelRecord,
    state=texts,
    asked=st.integers(0, 2**62),
    agreed=st.one_of(st.none(), texts),
    config=st.dictionaries(texts, st.one_of(st.none(), st.booleans(), st.integers(), texts)),
)
leftovers = st.builds(
    Leftover,
    model=texts,
    hook=st.sampled_from(Hook),
    process=st.builds(
        ProcessId, pid=st.integers(2, 2**31), started=st.integers(0, 2**62), boot=texts
    ),
    deadline=seconds,
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(-1e9, 1e9), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
learnt = st.dictionaries(texts, values, max_size=4)
memories = st.builds(
    Memory,
    models=st.dictionaries(texts, records, max_size=4),
    hooks=st.lists(leftovers, max_size=4, unique_by=lambda each: (each.model, each.hook)).map(
        tuple
    ),
    costs=learnt,
    policy=learnt,
)

HOOK = Leftover("a", Hook.WAKE, ProcessId(4711, 815, "b00t"), 600.0)
MODELS = {"a": ModelRecord("awake", 15, "curl -f x", {"port": 1}), "b": ModelRecord("asleep")}


class Kept:
    """
    A journal and what it logs.

    :param directory: holds it.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal.json"
        self.seen: list[LogEvent] = []
        events = Events()
        events.log = make_logger(level="debug", observer=self.seen.append)
        self.journal = Journal(directory, events)

    def logged(self) -> list[str]:
        """Give the names of the events so far."""
        return [event["event"] for event in self.seen]


class JournalTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a state directory."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "journal.json"

    def again(self) -> Memory:
        """Read what is there, as the next llmux does."""
        kept = Kept(self.directory)
        memory = kept.journal.read()
        self.assertEqual(kept.logged(), [])
        return memory


class RememberingTests(JournalTestCase):
    def test_first_start(self) -> None:
        """Before anything was written nothing is known, and that is in order."""
        self.assertEqual(self.again(), Memory())
        self.assertFalse(self.path.exists())

    def test_what_is_kept(self) -> None:
        """The next llmux knows the models, the hooks that run, and what was learnt."""
        kept = Kept(self.directory)
        kept.journal.save(MODELS, {"wake": {"a": 40.5}}, {"x": [1, None]})
        kept.journal.hook_began(HOOK)
        expected = Memory(MODELS, (HOOK,), {"wake": {"a": 40.5}}, {"x": [1, None]})
        self.assertEqual(self.again(), expected)
        self.assertEqual(kept.logged(), [])

    def test_hooks(self) -> None:
        """A hook is known from its beginning to its end, and what else happens changes nothing."""
        journal = Kept(self.directory).journal
        other = attrs.evolve(HOOK, model="b", hook=Hook.SLEEP)
        journal.hook_began(HOOK)
        journal.hook_began(other)
        journal.save(MODELS, {}, {})
        self.assertEqual(self.again().hooks, (HOOK, other))
        journal.hook_ended("a", Hook.WAKE)
        journal.hook_ended("a", Hook.KILL)
        self.assertEqual(self.again(), Memory(MODELS, (other,)))

    def test_leftover(self) -> None:
        """A hook that another llmux has left stays known until it is said to have ended."""
        Kept(self.directory).journal.hook_began(HOOK)
        journal = Kept(self.directory).journal
        journal.read()
        journal.save(MODELS, {}, {})
        self.assertEqual(self.again(), Memory(MODELS, (HOOK,)))
        journal.hook_ended("a", Hook.WAKE)
        self.assertEqual(self.again(), Memory(MODELS))

    def test_nothing_is_lost_by_reading(self) -> None:
        """What was read is written again with the first hook, though nobody has saved it."""
        Kept(self.directory).journal.save(MODELS, {"c": 1}, {"p": 2})
        journal = Kept(self.directory).journal
        journal.read()
        journal.hook_began(HOOK)
        self.assertEqual(self.again(), Memory(MODELS, (HOOK,), {"c": 1}, {"p": 2}))

    @settings(max_examples=100)
    @given(memories)
    def test_everything_comes_back(self, memory: Memory) -> None:
        """Whatever there is to remember, the next llmux reads the same."""
        with tempfile.TemporaryDirectory() as name:
            kept = Kept(Path(name))
            kept.journal.save(memory.models, memory.costs, memory.policy)
            for hook in memory.hooks:
                kept.journal.hook_began(hook)
            again = Kept(Path(name))
            self.assertEqual(again.journal.read(), memory if memory != Memory() else Memory())
            self.assertEqual(kept.logged() + again.logged(), [])


class FileTests(JournalTestCase):
    def test_private(self) -> None:
        """The file is its owner's alone, whatever the umask is, and nothing else is left."""
        self.addCleanup(os.umask, os.umask(0))
        Kept(self.directory).journal.hook_began(HOOK)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.directory), ["journal.json"])

    def test_replaced(self) -> None:
        """Whoever reads it while a long one is replaced gets all of the old or all of the new."""
        journal = Kept(self.directory).journal
        journal.save(MODELS, {"x": "x" * LONGEST}, {})
        with self.path.open("rb") as old:
            journal.save({}, {}, {})
            self.assertEqual(set(json.loads(old.read())["models"]), {"a", "b"})
        self.assertEqual(self.again(), Memory())

    def test_unchanged(self) -> None:
        """What is there already is not written again, neither by the same nor by the next."""
        journal = Kept(self.directory).journal
        journal.save(MODELS, {}, {})
        before = self.path.stat()
        journal.save(dict(MODELS), {}, {})
        journal.hook_ended("a", Hook.WAKE)
        second = Kept(self.directory).journal
        second.read()
        second.save(MODELS, {}, {})
        now = self.path.stat()
        self.assertEqual((now.st_ino, now.st_size), (before.st_ino, before.st_size))
        second.hook_began(HOOK)
        self.assertNotEqual(self.path.read_bytes(), b"")
        self.assertEqual(self.again().hooks, (HOOK,))

    def test_half_written_before(self) -> None:
        """What a write left that was killed halfway is neither read nor in the way."""
        (self.directory / "journal.new").write_text('{"version": 1, "mod')
        self.assertEqual(self.again(), Memory())
        Kept(self.directory).journal.save(MODELS, {}, {})
        self.assertEqual(self.again(), Memory(MODELS))
        self.assertEqual(os.listdir(self.directory), ["journal.json"])


class BrokenTests(JournalTestCase):
    def assert_unusable(self, content: bytes, why: str) -> None:
        """Check that a journal is moved aside, with a word, and counts as empty."""
        self.path.write_bytes(content)
        kept = Kept(self.directory)
        self.assertEqual(kept.journal.read(), Memory())
        self.assertEqual(kept.logged(), ["journal_unreadable"], content)
        self.assertIn(why, kept.seen[0]["error"])
        self.assertEqual(kept.seen[0]["kept"], "it is journal.json.broken now")
        self.assertEqual((self.directory / "journal.json.broken").read_bytes(), content)
        self.assertFalse(self.path.exists())
        kept.journal.save(MODELS, {}, {})
        self.assertEqual(self.again(), Memory(MODELS))

    def test_broken(self) -> None:
        """A journal that is none is moved aside, with a word, and llmux starts without it."""
        cases: list[tuple[Any, str]] = [
            (b"", "Expecting value"),
            (b"\xff\xfe\xff", "decode"),
            (b"[" * 100_000, "nested too deeply"),
            ([], "no object"),
            ({}, "it lacks 'version'"),
            ({"version": 2}, "its format 2 is that of a later llmux"),
            ({"version": True}, "no whole number"),
            ({"version": "1"}, "no whole number"),
            ({"version": 1, "models": []}, "no object"),
            ({"version": 1, "models": {"a": {}}}, "it lacks 'state'"),
            ({"version": 1, "models": {"a": {"state": 1}}}, "no text"),
            ({"version": 1, "models": {"a": {"state": "x", "asked": "y"}}}, "whole number"),
            ({"version": 1, "models": {"a": {"state": "x", "asked": -1}}}, "whole number"),
            ({"version": 1, "models": {"a": {"state": "x", "asked": True}}}, "whole number"),
            ({"version": 1, "models": {"a": {"state": "x", "asked": 10**400}}}, "whole number"),
            ({"version": 1, "models": {"a": {"state": "x", "agreed": 1}}}, "no text"),
            ({"version": 1, "hooks": {}}, "no list"),
            ({"version": 1, "costs": 1}, "no object"),
            ({"version": 1, "models": {"a": {"state": "x", "config": 1}}}, "no object"),
            (b'{"version": 1, "policy": ' + b"9" * 10_000 + b"}", ""),
        ]
        good = json.loads(self.written())["hooks"][0]
        for key in good:
            without = {name: value for name, value in good.items() if name != key}
            cases.append(({"version": 1, "hooks": [without]}, f"it lacks '{key}'"))
        for key, value in (
            ("hook", "dance"), ("hook", []), ("pid", 1), ("pid", 0), ("pid", -1), ("pid", 2.5),
            ("pid", "7"), ("started", None), ("boot", 1), ("model", None), ("deadline", -0.5),
        ):  # fmt: skip
            cases.append(({"version": 1, "hooks": [{**good, key: value}]}, ""))
        for content, why in cases:
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.assert_unusable(raw, why)
            self.path.unlink()

    def written(self) -> bytes:
        """Give a journal with something in each of its parts."""
        journal = Kept(self.directory).journal
        journal.save(MODELS, {"wake": {"a": 1.0}}, {"x": 1})
        journal.hook_began(HOOK)
        return self.path.read_bytes().splitlines(keepends=True)[-1]

    def test_truncated(self) -> None:
        """A journal that ends too early is no journal, wherever it ends."""
        whole = self.written()
        for length in range(len(whole) - 2):
            self.path.write_bytes(whole[:length])
            kept = Kept(self.directory)
            self.assertEqual((kept.journal.read(), len(kept.seen)), (Memory(), 1), length)

    def test_unknown_keys(self) -> None:
        """What a journal holds beyond what is known is left out."""
        document = json.loads(self.written())
        document["more"] = 1
        document["models"]["a"]["more"] = 2
        document["hooks"][0]["more"] = 3
        expected = self.again()
        self.path.write_text(json.dumps(document))
        self.assertEqual(self.again(), expected)

    @settings(max_examples=200)
    @given(st.one_of(st.binary(), values.map(lambda value: json.dumps(value).encode()),
                     st.dictionaries(st.sampled_from(["models", "hooks", "costs"]), values)
                     .map(lambda found: json.dumps({"version": 1, **found}).encode())))  # fmt: skip
    def test_garbage(self, content: bytes) -> None:
        """Whatever stands in the file, llmux starts and can keep a journal."""
        with tempfile.TemporaryDirectory() as name:
            kept = Kept(Path(name))
            kept.path.write_bytes(content)
            memory = kept.journal.read()
            self.assertEqual(len(kept.seen) == 1, not kept.path.exists())
            if kept.seen:
                self.assertEqual(memory, Memory())
            kept.journal.hook_began(HOOK)
            self.assertIn(HOOK, Kept(Path(name)).journal.read().hooks)

    def test_directory_in_its_place(self) -> None:
        """Something else that stands in its place is moved aside as well."""
        self.path.mkdir()
        kept = Kept(self.directory)
        self.assertEqual(kept.journal.read(), Memory())
        self.assertEqual(kept.logged(), ["journal_unreadable"])
        kept.journal.save(MODELS, {}, {})
        self.assertEqual(self.again(), Memory(MODELS))

    def test_that_cannot_be_moved(self) -> None:
        """One that cannot be moved aside is overwritten, and it is said that it stays."""
        self.path.write_text("{")
        (self.directory / "journal.json.broken").mkdir()
        kept = Kept(self.directory)
        self.assertEqual(kept.journal.read(), Memory())
        self.assertIn("could not be moved", kept.seen[0]["kept"])
        kept.journal.save(MODELS, {}, {})
        self.assertEqual(self.again(), Memory(MODELS))


class FailureTests(JournalTestCase):
    def test_told_once(self) -> None:
        """A journal that cannot be written stops nobody; it is told once, and when it can again."""
        kept = Kept(self.directory)
        kept.journal.save(MODELS, {}, {})
        self.path.unlink()
        self.directory.rmdir()
        for _ in range(2):
            kept.journal.hook_began(HOOK)
            kept.journal.hook_ended("a", Hook.WAKE)
        self.assertEqual(kept.logged(), ["journal_failed"])
        self.assertIn("No such file or directory", kept.seen[0]["error"])
        self.directory.mkdir()
        kept.journal.save(MODELS, {}, {})  # what it held before it failed
        self.assertEqual(self.again(), Memory(MODELS))
        kept.journal.hook_began(HOOK)
        self.assertEqual(kept.logged(), ["journal_failed", "journal_written"])
        self.assertEqual(self.again(), Memory(MODELS, (HOOK,)))
        self.path.unlink()
        self.directory.rmdir()
        kept.journal.hook_ended("a", Hook.WAKE)
        self.assertEqual(kept.logged(), ["journal_failed", "journal_written", "journal_failed"])

    def test_nothing_left_behind(self) -> None:
        """A write that fails at its last step leaves no second file."""
        (self.path / "in the way").mkdir(parents=True)
        kept = Kept(self.directory)
        kept.journal.save(MODELS, {}, {})
        self.assertEqual(kept.logged(), ["journal_failed"])
        self.assertEqual(os.listdir(self.directory), ["journal.json"])

    def test_full_disk(self) -> None:
        """When there is room for a part of it alone, the old one stays whole."""
        program = """
import resource, sys
from pathlib import Path
from llmux.events import Events
from llmux.journal import Journal, ModelRecord
journal = Journal(Path(sys.argv[1]), Events())
journal.save({"a": ModelRecord("awake")}, {}, {})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
journal.save({"b": ModelRecord("x" * 1_000_000)}, {}, {})
print(*sorted(path.name for path in Path(sys.argv[1]).iterdir()))
"""
        child = python(program, str(self.directory))
        said, _ = child.communicate()
        self.assertEqual((child.returncode, said), (0, "journal.json\n"))
        self.assertEqual(self.again(), Memory({"a": ModelRecord("awake")}))

    def test_no_descriptors(self) -> None:
        """Without a file descriptor left nothing is written, nothing raised, and nothing lost."""
        program = """
import os, resource, sys
from pathlib import Path
from llmux.events import Events
from llmux.journal import Journal, ModelRecord
from txaio.tx import make_logger
events = Events()
events.log = make_logger(level="debug", observer=lambda event: print(event["event"]))
journal = Journal(Path(sys.argv[1]), events)
journal.save({"a": ModelRecord("awake")}, {}, {})
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))
taken = []
try:
    while True:
        taken.append(os.dup(1))
except OSError:
    pass
journal.save({"b": ModelRecord("awake")}, {}, {})
for descriptor in taken:
    os.close(descriptor)
journal.save({"c": ModelRecord("awake")}, {}, {})
"""
        child = python(program, str(self.directory))
        said, _ = child.communicate()
        self.assertEqual((child.returncode, said), (0, "journal_failed\njournal_written\n"))
        self.assertEqual(self.again(), Memory({"c": ModelRecord("awake")}))
