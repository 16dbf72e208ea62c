"""Tests of the settings of the data path: what each means, where it may stand, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.config import (
    DEFAULT_BLOCKED_PATHS,
    Config,
    Limits,
    ModelConfig,
    ModelSettings,
    Shutdown,
)
from llmux.test.test_config import MINIMAL, load, with_model
from llmux.test.test_schema import complaints
from llmux.urgency import Urgency

# Where each key stands for all models, its default, and another value of it.
FOR_ALL_AND_FOR_ONE: dict[str, tuple[str, object, object]] = {
    "connect_timeout_secs": ("backend", 5, 0.5),
    "first_byte_timeout_secs": ("backend", None, 30),
    "idle_timeout_secs": ("backend", None, 7.5),
    "reuse_secs": ("backend", 2, 0),
    "client_stall_secs": ("limits", 120, 11),
    "tunnel_idle_secs": ("limits", 300, 12),
    "max_waiting": ("limits", 1000, 1),
    "keepalive_secs": ("", None, 15),
}
FOR_ALL: dict[str, tuple[object, object]] = {
    "max_body_bytes": (268_435_456, 1),
    "body_timeout_secs": (60, 0.25),
    "max_connections": (10_000, 2),
}
NO_DEADLINE = "a deadline is a number of seconds, more than 0 (it is '0')"
NO_COUNT = "this must be a whole number, 1 or more"
NO_NUMBER = "this must be a number"
NO_SIZE = "a size is a whole number of bytes, 1 or more, without a unit: 268435456 is 256 MiB"


def said(section: str, key: str, value: object) -> str:
    """Write a key and its value, in a section or at the top of the file."""
    line = f"{key}: {json.dumps(value)}\n"
    return f"{section}:\n  {line}" if section else line


class SettingTests(SynchronousTestCase):
    """What can be said for all models, and again for one."""

    def test_table(self) -> None:
        """No setting is left out below, but those of llmux 2.4.0 and of hooks."""
        older = {
            field.name
            for field in attrs.fields(ModelSettings)
            if field.metadata["section"] in ("policy", "hooks")
        }
        names = {field.name for field in attrs.fields(ModelSettings)}
        self.assertEqual(set(FOR_ALL_AND_FOR_ONE), names - older)

    def test_default(self) -> None:
        """A file that says nothing gets what the documentation says."""
        model = load(MINIMAL).models["a"]
        for key, (_, default, _) in FOR_ALL_AND_FOR_ONE.items():
            self.assertEqual(getattr(model, key), default, key)

    def test_for_all(self) -> None:
        """What stands in its section holds for every model, and changes nothing else."""
        second = MINIMAL.removeprefix("models:\n").replace("a:", "b:")
        for key, (section, _, value) in FOR_ALL_AND_FOR_ONE.items():
            changed: dict[str, Any] = {key: value}
            models = load(MINIMAL + second + said(section, key, value)).models
            for name, model in load(MINIMAL + second).models.items():
                self.assertEqual(models[name], attrs.evolve(model, **changed), key)

    def test_for_one(self) -> None:
        """What stands in a model wins, for this model alone; the default can be had back, too."""
        second = MINIMAL.removeprefix("models:\n").replace("a:", "b:")
        for key, (section, default, value) in FOR_ALL_AND_FOR_ONE.items():
            for general, own in ((value, default), (default, value)):
                text = f"{MINIMAL}    {said('', key, own)}{second}{said(section, key, general)}"
                models = load(text).models
                got = (getattr(models["a"], key), getattr(models["b"], key))
                self.assertEqual(got, (own, general), key)

    def test_wrong_everywhere(self) -> None:
        """A value that cannot be taken is complained about in the section and in the model."""
        wrong = {
            "connect_timeout_secs": ("0", NO_DEADLINE),
            "first_byte_timeout_secs": ("0", NO_DEADLINE),
            "idle_timeout_secs": ("0", NO_DEADLINE),
            "reuse_secs": ("-1", "a duration is a number of seconds, 0 or more (it is '-1')"),
            "client_stall_secs": ("0", NO_DEADLINE),
            "tunnel_idle_secs": ("0", NO_DEADLINE),
            "max_waiting": ("0", f"{NO_COUNT} (it is '0')"),
            "keepalive_secs": ("0", NO_DEADLINE),
        }
        self.assertEqual(set(wrong), set(FOR_ALL_AND_FOR_ONE))
        for key, (value, message) in wrong.items():
            section = FOR_ALL_AND_FOR_ONE[key][0]
            line, path = (7, f"{section}.{key}") if section else (6, key)
            text = MINIMAL + (f"{section}:\n  " if section else "") + f"{key}: {value}\n"
            self.assertEqual(complaints(text), [f"c.yaml:{line}: {path}: {message}"])
            self.assertEqual(
                complaints(f"{MINIMAL}    {key}: {value}\n"),
                [f"c.yaml:6: models.a.{key}: {message}"],
            )

    def test_nothing(self) -> None:
        """Null takes away what may be missing, and nothing else."""
        for key, (_, default, _) in FOR_ALL_AND_FOR_ONE.items():
            said_of_it = complaints(f"{MINIMAL}    {key}: null\n")
            if default is None:
                self.assertEqual(said_of_it, [])
            else:
                self.assertEqual(
                    said_of_it, [f"c.yaml:6: models.a.{key}: {NO_NUMBER} (it is 'null')"]
                )

    def test_whole_numbers(self) -> None:
        """What is counted is whole, however it is written."""
        self.assertEqual(with_model("max_waiting: 1e3").max_waiting, 1000)
        self.assertIsInstance(with_model("max_waiting: 1e3").max_waiting, int)
        for word in ("1.5", "-1", "1e400", "0.5"):
            self.assertEqual(
                complaints(f"{MINIMAL}    max_waiting: {word}\n"),
                [f"c.yaml:6: models.a.max_waiting: {NO_COUNT} (it is {word!r})"],
            )

    def test_max_concurrency(self) -> None:
        """How many requests a backend gets at once is said of each model alone."""
        self.assertIs(with_model("").max_concurrency, None)
        self.assertEqual(with_model("max_concurrency: 1").max_concurrency, 1)
        self.assertIs(with_model("max_concurrency: null").max_concurrency, None)
        for word in ("0", "2.5", "-3"):
            self.assertEqual(
                complaints(f"{MINIMAL}    max_concurrency: {word}\n"),
                [f"c.yaml:6: models.a.max_concurrency: {NO_COUNT} (it is {word!r})"],
            )

    def test_class(self) -> None:
        """How much of a hurry a model's requests are in is said of each model alone."""
        self.assertEqual(with_model("").urgency, Urgency("interactive", 0))
        batch = with_model("class: batch\npriority: -3")
        self.assertEqual(batch.urgency, Urgency("batch", -3))
        self.assertEqual(
            complaints(f"{MINIMAL}    class: bulk\n"),
            ["c.yaml:6: models.a.class: this must be one of: interactive, batch (it is 'bulk')"],
        )
        for word in ("10", "-9.5", "high"):
            (complaint,) = complaints(f"{MINIMAL}    priority: {word}\n")
            self.assertIn("models.a.priority: ", complaint)

    def test_templates(self) -> None:
        """A template holds any of them, and a model that merges it has them all."""
        keys = {**{key: v for key, (_, _, v) in FOR_ALL_AND_FOR_ONE.items()}, "max_concurrency": 4}
        lines = "".join(f"    {said('', key, value)}" for key, value in keys.items())
        text = "models:\n  x-all: &all\n" + lines + "  a: {<<: *all, port: 1, wake: w, sleep: s}\n"
        model = load(text).models["a"]
        self.assertEqual({key: getattr(model, key) for key in keys}, keys)

    @given(st.floats(min_value=0, exclude_min=True, max_value=1e9).map(repr))
    def test_any_deadline(self, word: str) -> None:
        """Every duration above nothing is taken as it is written."""
        self.assertEqual(with_model(f"idle_timeout_secs: {word}").idle_timeout_secs, float(word))


class LimitTests(SynchronousTestCase):
    """What clients may ask of llmux itself."""

    def test_default(self) -> None:
        """A file that says nothing gets what the documentation says."""
        limits = load(MINIMAL).limits
        self.assertEqual(limits, Limits())
        for key, (default, _) in FOR_ALL.items():
            self.assertEqual(getattr(limits, key), default, key)
        self.assertIs(limits.spool_dir, None)

    def test_said(self) -> None:
        """Each can be said, and changes nothing else."""
        for key, (_, value) in FOR_ALL.items():
            changed: dict[str, Any] = {key: value}
            limits = load(MINIMAL + said("limits", key, value)).limits
            self.assertEqual(limits, attrs.evolve(Limits(), **changed))

    def test_wrong(self) -> None:
        """Limits of nothing, of halves and with units are refused."""
        wrong = {
            "max_body_bytes: 0": f"{NO_SIZE} (it is '0')",
            "max_body_bytes: 1.5": f"{NO_SIZE} (it is '1.5')",
            "max_body_bytes: 256 MiB": f"{NO_SIZE} (it is '256 MiB')",
            "max_body_bytes: null": f"{NO_SIZE} (it is 'null')",
            "max_body_bytes: [1]": NO_SIZE,
            "body_timeout_secs: 0": NO_DEADLINE,
            "body_timeout_secs: null": f"{NO_NUMBER} (it is 'null')",
            "max_connections: 0": f"{NO_COUNT} (it is '0')",
            "max_connections: 1e400": f"{NO_COUNT} (it is '1e400')",
            "max_connections: null": f"{NO_NUMBER} (it is 'null')",
            "spool_dir: ''": "this is empty (it is '')",
            "spool_dir: null": "this is empty (it is 'null')",
        }
        for line, message in wrong.items():
            key = line.partition(":")[0]
            self.assertEqual(
                complaints(f"{MINIMAL}limits:\n  {line}\n"),
                [f"c.yaml:7: limits.{key}: {message}"],
            )

    def test_spool_dir(self) -> None:
        """Large bodies go into a directory that is there; to check it leaves nothing in it."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        limits = load(MINIMAL + said("limits", "spool_dir", str(directory))).limits
        self.assertEqual(limits.spool_dir, directory)
        self.assertEqual(list(directory.iterdir()), [])

    def test_no_spool_dir(self) -> None:
        """A directory that files cannot be made in is refused before the first body comes."""
        missing = self.mktemp()
        file = Path(self.mktemp())
        file.write_text("")
        wrong = {missing: "No such file or directory", str(file): "Not a directory"}
        if Path("/proc/self").exists():  # not even root can make a file there
            wrong["/proc"] = "No such file or directory"
        for path, reason in wrong.items():
            self.assertEqual(
                complaints(MINIMAL + said("limits", "spool_dir", path)),
                [
                    "c.yaml:7: limits.spool_dir: no file can be made in this directory:"
                    f" {reason} (it is {path!r})"
                ],
            )


class ForwardedTests(SynchronousTestCase):
    def test_forwarded(self) -> None:
        """Backends are told who asks if the file says so, and not by default."""
        self.assertIs(load(MINIMAL).forwarded, False)
        self.assertIs(load(MINIMAL + "forwarded: true\n").forwarded, True)
        self.assertEqual(
            complaints(MINIMAL + "forwarded: on\n"),
            ["c.yaml:6: forwarded: this must be true or false (it is 'on')"],
        )


class BlockedPathTests(SynchronousTestCase):
    """Paths that are kept from clients."""

    def test_default(self) -> None:
        """The paths that control an inference server are kept from clients by default."""
        self.assertEqual(load(MINIMAL).blocked_paths, DEFAULT_BLOCKED_PATHS)
        self.assertEqual(Config(models={}).blocked_paths, DEFAULT_BLOCKED_PATHS)
        for path in ("/sleep", "/wake_up", "/collective_rpc", "/flush_cache", "/models", "/slots"):
            self.assertIn(path, DEFAULT_BLOCKED_PATHS)

    def test_default_is_of_use(self) -> None:
        """By default no path is named twice, and what clients ask models for is open."""
        self.assertEqual(len(set(DEFAULT_BLOCKED_PATHS)), len(DEFAULT_BLOCKED_PATHS))
        text = f"{MINIMAL}blocked_paths: {json.dumps(DEFAULT_BLOCKED_PATHS)}\n"
        self.assertEqual(load(text).blocked_paths, DEFAULT_BLOCKED_PATHS)
        for path in (
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/embeddings",
            "/v1/models",
            "/v1/audio/transcriptions",
            "/completion",
            "/generate",
            "/tokenize",
            "/health",
            "/props",
            "/api/chat",
        ):
            above = {str(parent) for parent in (Path(path), *Path(path).parents)}
            self.assertEqual(above & set(DEFAULT_BLOCKED_PATHS), set(), path)

    def test_list(self) -> None:
        """A list takes the default's place; an empty one blocks nothing."""
        config = load(MINIMAL + "blocked_paths:\n  - /sleep\n  - /v1/%66iles/\n")
        self.assertEqual(config.blocked_paths, ("/sleep", "/v1/%66iles/"))
        self.assertEqual(load(MINIMAL + "blocked_paths: []\n").blocked_paths, ())

    def test_wrong(self) -> None:
        """Each entry that names no path is complained about, in its own line."""
        text = f"""{MINIMAL}blocked_paths:
  - sleep
  - /wake_up
  - /slots?action=save
  - /v1/*
  - //..
  - ''
  - [/a]
"""
        inside = "a path has no query and no wildcard: it blocks all that is below it, too"
        self.assertEqual(
            complaints(text),
            [
                "c.yaml:7: blocked_paths: a path begins with / (it is 'sleep')",
                f"c.yaml:9: blocked_paths: {inside} (it is '/slots?action=save')",
                f"c.yaml:10: blocked_paths: {inside} (it is '/v1/*')",
                "c.yaml:11: blocked_paths: this would block every path (it is '//..')",
                "c.yaml:12: blocked_paths: this is empty (it is '')",
                "c.yaml:13: blocked_paths: this must be a single value, not a list or a mapping",
            ],
        )

    def test_no_list(self) -> None:
        """Anything but a list is refused, null too: it could mean all or nothing."""
        for value, shown in (("/sleep", " (it is '/sleep')"), ("null", " (it is 'null')")):
            self.assertEqual(
                complaints(f"{MINIMAL}blocked_paths: {value}\n"),
                [f"c.yaml:6: blocked_paths: this must be a list, such as [a, b]{shown}"],
            )
        self.assertEqual(
            complaints(MINIMAL + "blocked_paths: {a: b}\n"),
            ["c.yaml:6: blocked_paths: this must be a list, such as [a, b]"],
        )


class OriginTests(SynchronousTestCase):
    """Web pages that may ask."""

    def origins(self, *written: str) -> tuple[str, ...]:
        """Read a list of origins."""
        return load(f"{MINIMAL}cors:\n  origins: {json.dumps(written)}\n").cors_origins

    def test_default(self) -> None:
        """No page of another origin may ask, unless the file says which."""
        self.assertEqual(load(MINIMAL).cors_origins, ())
        self.assertEqual(load(MINIMAL + "cors:\n").cors_origins, ())
        self.assertEqual(self.origins(), ())

    def test_taken(self) -> None:
        """An origin is kept as browsers write it: in small letters, without the usual port."""
        written = {
            "*": "*",
            "https://chat.example": "https://chat.example",
            "HTTPS://Chat.Example": "https://chat.example",
            "https://chat.example:443": "https://chat.example",
            "http://chat.example:80": "http://chat.example",
            "http://chat.example:443": "http://chat.example:443",
            "http://127.0.0.1:08080": "http://127.0.0.1:8080",
            "http://[::1]:3000": "http://[::1]:3000",
            "chrome-extension://abcdef": "chrome-extension://abcdef",
            "app://obsidian.md": "app://obsidian.md",
        }
        self.assertEqual(self.origins(*written), tuple(written.values()))

    def test_refused(self) -> None:
        """What no browser would send is refused, with what to write."""
        looks = (
            "an origin looks like https://chat.example or http://127.0.0.1:8080; * is every origin"
        )
        alone = "an origin is a scheme, a host and a port alone: write "
        wrong = {
            "https://chat.example/": alone + "https://chat.example",
            "https://Chat.example:8443/ui?a=b": alone + "https://chat.example:8443",
            "https://chat.example#top": alone + "https://chat.example",
            "https://chat.example?top": alone + "https://chat.example",
            "chat.example": looks,
            "//chat.example": looks,
            "https://": looks,
            "https:///ui": looks,
            "https://*.example": looks,
            "https://me@chat.example": looks,
            "https://bücher.example": looks,
            "https://a.example, https://b.example": looks,
            "http://[::1": looks,
            "http://a:x": looks,
            "http://a:": looks,
            "null": looks,
            "http://a:0": "a port is a whole number from 1 to 65535",
            "http://a:65536": "a port is a whole number from 1 to 65535",
            "http://a:123456": looks,
        }
        for word, message in wrong.items():
            self.assertEqual(
                complaints(f"{MINIMAL}cors:\n  origins:\n  - '*'\n  - {json.dumps(word)}\n"),
                [f"c.yaml:9: cors.origins: {message} (it is {word!r})"],
            )

    def test_no_list(self) -> None:
        """One origin is a list of one."""
        self.assertEqual(
            complaints(MINIMAL + "cors:\n  origins: '*'\n"),
            ["c.yaml:7: cors.origins: this must be a list, such as [a, b] (it is '*')"],
        )

    @given(
        st.sampled_from(["http", "https", "tauri"]),
        st.from_regex(r"[a-zA-Z0-9-]{1,20}(\.[a-zA-Z0-9-]{1,20}){0,3}", fullmatch=True),
        st.none() | st.integers(1, 65535),
    )
    def test_reading_twice(self, scheme: str, host: str, port: int | None) -> None:
        """What an origin was read as is read as itself."""
        (once,) = self.origins(f"{scheme}://{host}" + (f":{port}" if port else ""))
        self.assertEqual(self.origins(once), (once,))
        self.assertTrue(once.startswith(f"{scheme}://{host.lower()}"), once)


class PlaceTests(SynchronousTestCase):
    """Keys that stand where they do not belong."""

    def assert_belongs(self, text: str, place: str) -> None:
        """Check that the only complaint about a file names the place of a key."""
        (complaint,) = complaints(text)
        self.assertIn(f": unknown key; it belongs {place} (it is ", complaint)

    def test_every_setting(self) -> None:
        """A setting at the top or in another section is told its section."""
        for key, (section, _, _) in FOR_ALL_AND_FOR_ONE.items():
            place = f"under {section}:" if section else "at the top of the file"
            for wrong in {"", "policy", "hooks", "backend", "limits", "cors"} - {section}:
                self.assert_belongs(MINIMAL + said(wrong, key, 1), place)

    def test_every_limit(self) -> None:
        """A limit at the top, in another section or in a model is told that it is a limit."""
        for key in ("spool_dir", *FOR_ALL):
            for wrong in ("", "policy", "hooks", "backend", "cors"):
                self.assert_belongs(MINIMAL + said(wrong, key, 1), "under limits:")
            self.assert_belongs(f"{MINIMAL}    {key}: 1\n", "under limits:")
            template = MINIMAL + "  x-all:\n    " + said("", key, 1)
            self.assert_belongs(template, "under limits:")

    def test_of_a_model(self) -> None:
        """What can be said of one model alone is told so."""
        for key in ("max_concurrency", "wake", "sleep", "alive", "url"):
            for wrong in ("", "limits", "backend"):
                self.assert_belongs(MINIMAL + said(wrong, key, 1), "under models.<name>:")

    def test_of_the_file(self) -> None:
        """What stands at the top is told so where it stands in a section."""
        for key in ("host", "port", "state_dir", "forwarded", "blocked_paths"):
            self.assert_belongs(MINIMAL + said("limits", key, 1), "at the top of the file")
        self.assert_belongs(MINIMAL + "origins: 1\n", "under cors:")

    def test_not_of_a_model(self) -> None:
        """What holds for the whole file and stands in a model is told where it belongs."""
        for key in ("forwarded", "blocked_paths"):
            self.assert_belongs(f"{MINIMAL}    {key}: 1\n", "at the top of the file")
        self.assert_belongs(f"{MINIMAL}    origins: 1\n", "under cors:")

    def test_near_misses(self) -> None:
        """A mistyped key is told the one that was meant."""
        for section, wrong, right in (
            ("backend", "conect_timeout_secs", "connect_timeout_secs"),
            ("limits", "max_body_byte", "max_body_bytes"),
            ("cors", "origin", "origins"),
            ("", "blocked_path", "blocked_paths"),
            ("", "backends", "backend"),
            ("", "keepalive", "keepalive_secs"),
        ):
            (complaint,) = complaints(MINIMAL + said(section, wrong, 1))
            self.assertIn(f"unknown key; did you mean {right}?", complaint)
        (complaint,) = complaints(f"{MINIMAL}    max_concurency: 1\n")
        self.assertIn("unknown key; did you mean max_concurrency?", complaint)

    def test_no_mapping(self) -> None:
        """A section is a mapping."""
        for section in ("backend", "limits", "cors"):
            self.assertEqual(
                complaints(f"{MINIMAL}{section}: [a]\n"),
                [f"c.yaml:6: {section}: this must be a mapping, with key: value lines"],
            )
            self.assertEqual(complaints(f"{MINIMAL}{section}:\n"), [])

    def test_every_key_has_a_home(self) -> None:
        """No key of a model, a limit or the file is unknown to the hints."""
        hidden = {"name", "backend", "models", "policy", "limits", "cors_origins", "path"}
        hidden |= {"shutdown", "admin", "kind"}
        keys = {
            f.name for kind in (ModelConfig, Limits, Shutdown, Config) for f in attrs.fields(kind)
        }
        for key in (keys | {"class"}) - hidden:
            (complaint,) = complaints(f"{MINIMAL}cors: {{{key}: 1}}\n")
            self.assertIn("it belongs ", complaint)
