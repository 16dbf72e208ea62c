"""Tests of :mod:`llmux.config`: what a file means.  Its mistakes are in ``test_schema``."""

from __future__ import annotations

import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.config import Backend, Config, ModelConfig, PolicyConfig
from llmux.errors import ConfigError

# A file of llmux 2.4.0, with every key that it has, and the same as JSON.
OLD_YAML = """\
models:
  facebook/opt-125m:
    port: 8001
    wake: ./scripts/wake.sh
    sleep: |
      docker pause "$LLMUX_MODEL"
    alive: curl -sf localhost:8001/health
  3.1:
    port: 8002
    wake: true
    sleep: no
    alive: 0x10
policy:
  request_timeout_secs: 60
  drain_before_switch: false
  min_active_secs: 5
port: 4000
"""
OLD_JSON = {
    "models": {
        "facebook/opt-125m": {
            "port": 8001,
            "wake": "./scripts/wake.sh",
            "sleep": 'docker pause "$LLMUX_MODEL"\n',
            "alive": "curl -sf localhost:8001/health",
        },
        "3.1": {"port": 8002, "wake": "true", "sleep": "no", "alive": "0x10"},
    },
    "policy": {"request_timeout_secs": 60, "drain_before_switch": False, "min_active_secs": 5},
    "port": 4000,
}
MINIMAL = """\
models:
  a:
    port: 8001
    wake: w
    sleep: s
"""


def load(
    text: str, name: str = "config.yaml", host: str | None = None, port: int | None = None
) -> Config:
    """Check the text of a file."""
    return Config.from_bytes(text.encode(), path=Path(name), host=host, port=port)


def with_model(lines: str) -> ModelConfig:
    """Add lines to the only model of a file, and read it."""
    (model,) = load(
        MINIMAL + "".join(f"    {line}\n" for line in lines.splitlines())
    ).models.values()
    return model


class OldConfigTests(SynchronousTestCase):
    """Files of llmux 2.4.0 are taken as they are."""

    def assert_old(self, config: Config) -> None:
        """Check that every key of the old file has its meaning."""
        same = {
            "request_timeout_secs": 60.0,
            "drain_before_switch": False,
            "min_active_secs": 5.0,
        }
        opt = ModelConfig(
            name="facebook/opt-125m",
            backend=Backend("127.0.0.1", 8001),
            wake="./scripts/wake.sh",
            sleep='docker pause "$LLMUX_MODEL"\n',
            alive="curl -sf localhost:8001/health",
            **same,  # type: ignore[arg-type]  # each of its own type
        )
        other = ModelConfig(
            name="3.1",
            backend=Backend("127.0.0.1", 8002),
            wake="true",
            sleep="no",
            alive="0x10",
            **same,  # type: ignore[arg-type]  # each of its own type
        )
        self.assertEqual(list(config.models.items()), [(opt.name, opt), (other.name, other)])
        self.assertEqual((config.port, config.policy), (4000, PolicyConfig(name="balanced")))

    def test_yaml(self) -> None:
        """A YAML file means what it meant; words such as true, no and 3.1 are text in it."""
        for name in ("config.yaml", "config.yml"):
            self.assert_old(load(OLD_YAML, name))

    def test_json(self) -> None:
        """A file of any other name is JSON, and means the same."""
        for name in ("config.json", "config", "config.YAML", "config.yaml.txt"):
            for indent in (None, 4, "\t"):
                self.assert_old(load(json.dumps(OLD_JSON, indent=indent), name))

    def test_defaults(self) -> None:
        """What is not said is as it was: port 3000, no time-out, drain, no cool-down."""
        config = load(MINIMAL)
        model = config.models["a"]
        self.assertEqual(config.port, 3000)
        self.assertIs(model.request_timeout_secs, None)
        self.assertIs(model.drain_before_switch, True)
        self.assertEqual(model.min_active_secs, 0)

    def test_null(self) -> None:
        """A time-out of null is none."""
        for null in ("null", "~", ""):
            config = load(MINIMAL + f"policy:\n  request_timeout_secs: {null}\n")
            self.assertIs(config.models["a"].request_timeout_secs, None)
        document = {**OLD_JSON, "policy": {"request_timeout_secs": None}}
        config = load(json.dumps(document), "c.json")
        self.assertIs(config.models["3.1"].request_timeout_secs, None)

    def test_numbers(self) -> None:
        """Numbers are those of YAML 1.2: 010 is ten."""
        written = {
            "10": 10, "010": 10, "+10": 10, "0x1F": 31, "0o17": 15, "1e3": 1000, "1.5E1": 15,
            ".5e1": 5, "20.": 20, "080": 80,
        }  # fmt: skip
        for word, value in written.items():
            config = load(MINIMAL.replace("8001", word) + f"policy: {{min_active_secs: {word}}}\n")
            self.assertEqual(config.models["a"].backend.port, value, word)
            self.assertEqual(config.models["a"].min_active_secs, value, word)


class ConfigTests(SynchronousTestCase):
    """Keys that llmux 2.4.0 did not have."""

    def test_defaults(self) -> None:
        """It listens on loopback, and every hook has a deadline."""
        config = load(MINIMAL)
        model = config.models["a"]
        self.assertEqual((config.host, config.state_dir), ("127.0.0.1", None))
        deadlines = (model.wake_timeout_secs, model.sleep_timeout_secs, model.alive_timeout_secs)
        self.assertEqual((model.alive, deadlines), (None, (600, 120, 10)))
        made = ModelConfig(name="a", backend=Backend("127.0.0.1", 8001), wake="w", sleep="s")
        self.assertEqual(made, model)

    def test_policy_for_all(self) -> None:
        """What stands under policy holds for every model."""
        policy = "policy: {request_timeout_secs: 0.5, drain_before_switch: False, name: fifo}\n"
        model = load(MINIMAL + policy).models["a"]
        self.assertEqual((model.request_timeout_secs, model.drain_before_switch), (0.5, False))

    def test_policy_for_one(self) -> None:
        """The same keys under a model win, for this model alone."""
        text = (
            MINIMAL
            + "    request_timeout_secs: 7\n    drain_before_switch: TRUE\n    min_active_secs: 0\n"
            + MINIMAL.removeprefix("models:\n").replace("a:", "b:")
            + "policy: {request_timeout_secs: 60, drain_before_switch: false, min_active_secs: 5}\n"
        )
        models = load(text).models
        got = [
            (model.request_timeout_secs, model.drain_before_switch, model.min_active_secs)
            for model in models.values()
        ]
        self.assertEqual(got, [(7, True, 0), (60, False, 5)])

    def test_no_time_out_for_one(self) -> None:
        """A model can wait for ever though the others may not."""
        text = MINIMAL + "    request_timeout_secs: null\npolicy: {request_timeout_secs: 60}\n"
        self.assertIs(load(text).models["a"].request_timeout_secs, None)

    def test_deadlines(self) -> None:
        """Deadlines of hooks stand under hooks for all models, and under a model for itself."""
        text = (
            MINIMAL
            + "    sleep_timeout_secs: 0.5\n"
            + MINIMAL.removeprefix("models:\n").replace("a:", "b:")
            + "hooks:\n  wake_timeout_secs: 1\n  sleep_timeout_secs: 2\n  alive_timeout_secs: 3\n"
        )
        models = load(text).models
        got = [
            (model.wake_timeout_secs, model.sleep_timeout_secs, model.alive_timeout_secs)
            for model in models.values()
        ]
        self.assertEqual(got, [(1, 0.5, 3), (1, 2, 3)])

    def test_url(self) -> None:
        """A backend can be anywhere, and speak HTTPS."""
        urls = {
            "http://10.0.0.7:8001": Backend("10.0.0.7", 8001),
            "http://gpu_box.lan": Backend("gpu_box.lan", 80),
            "https://GPU.example/": Backend("gpu.example", 443, tls=True),
            "https://gpu.example:8443": Backend("gpu.example", 8443, tls=True),
            "http://[::1]:8001": Backend("::1", 8001),
            "http://[fe80::1%eth0]:80": Backend("fe80::1%eth0", 80),
        }
        for url, backend in urls.items():
            text = MINIMAL.replace("port: 8001", f"url: {json.dumps(url)}")
            self.assertEqual(load(text).models["a"].backend, backend, url)

    def test_backend(self) -> None:
        """A backend knows how it is written in a URL and in a Host header."""
        plain, secure = Backend("gpu", 80), Backend("::1", 443, tls=True)
        self.assertEqual((plain.authority, plain.url), ("gpu:80", "http://gpu:80"))
        self.assertEqual((secure.authority, secure.url), ("[::1]:443", "https://[::1]:443"))

    def test_hooks_are_text(self) -> None:
        """Whatever a hook looks like, it is the shell that reads it."""
        for word in ("true", "no", "3.1", "010", "0x1F", "2024-01-01", "'null'", "'~'", "[ -e x ]"):
            if word.startswith("["):
                word = f"'{word}'"
            self.assertEqual(with_model(f"alive: {word}").alive, word.strip("'"))

    def test_names(self) -> None:
        """Any printable name is a model's name, whatever YAML might take it for."""
        for name in (
            "3.1",
            "true",
            "null",
            "~",
            "010",
            "a/b:c",
            "gpt 4",
            "名前",
            "x-large",
            "=",
            ".",
        ):
            config = load(MINIMAL.replace("a:", f"{name}:"))
            self.assertEqual([model.name for model in config.models.values()], [name])
            self.assertEqual(list(config.models), [name])

    def test_order(self) -> None:
        """Models stand in the order of the file."""
        model = "{port: 8001, wake: w, sleep: s}"
        text = "models:\n" + "".join(f"  {name}: {model}\n" for name in ("z", "a", "m"))
        self.assertEqual(list(load(text).models), ["z", "a", "m"])

    def test_anchors_and_merge_keys(self) -> None:
        """What models share is written once."""
        text = """\
x-secs: &secs 30
models:
  x-vllm: &vllm
    wake: w
    sleep: &stop s
    x-note: the same for all
  a:
    <<: *vllm
    port: 8001
    request_timeout_secs: *secs
  b: {<<: *vllm, port: 8002, sleep: t, alive: *stop}
policy: &policy
  min_active_secs: *secs
x-policy: *policy
"""
        models = load(text).models
        self.assertEqual(list(models), ["a", "b"])
        got = [(m.wake, m.sleep, m.alive, m.min_active_secs) for m in models.values()]
        self.assertEqual(got, [("w", "s", None, 30), ("w", "t", "s", 30)])
        self.assertEqual(models["a"].request_timeout_secs, 30)

    def test_extensions(self) -> None:
        """Keys that begin with x- are anybody's, anywhere, and hold anything."""
        extra = "x-any: [1, {a: *b}]"
        text = (
            "x-b: &b {}\n"
            + MINIMAL.replace("models:\n", f"models:\n  {extra}\n  x-text: some\n  x-nothing:\n")
            + f"    {extra}\npolicy: {{{extra}}}\nhooks: {{{extra}}}\n{extra}\n"
        )
        self.assertEqual(list(load(text).models), ["a"])
        document = {**OLD_JSON, "x-comment": "JSON has no other"}
        self.assertEqual(len(load(json.dumps(document), "c.json").models), 2)

    def test_a_model_named_x(self) -> None:
        """A model whose name begins with x- is a model if it has an address."""
        self.assertEqual(list(load(MINIMAL.replace("a:", "x-large:")).models), ["x-large"])
        url = MINIMAL.replace("a:", "x-large:").replace("port: 8001", "url: http://gpu")
        self.assertEqual(list(load(url).models), ["x-large"])

    def test_empty_sections(self) -> None:
        """A section of which all keys were commented out is as if it were not there."""
        self.assertEqual(load(MINIMAL + "policy:\nhooks:\n").models, load(MINIMAL).models)

    def test_command_line_wins(self) -> None:
        """A host and a port that are given otherwise win over those of the file."""
        text = MINIMAL + "host: 10.0.0.7\nport: 4000\n"
        config = load(text)
        self.assertEqual((config.host, config.port), ("10.0.0.7", 4000))
        config = load(text, host="::1", port=5000)
        self.assertEqual((config.host, config.port), ("::1", 5000))
        config = load(MINIMAL, port=5000)
        self.assertEqual((config.host, config.port), ("127.0.0.1", 5000))

    def test_state_dir(self) -> None:
        """The state directory may be given from home, or from where llmux was started."""
        config = load(MINIMAL + "state_dir: ~/llmux\n")
        self.assertEqual(config.state_dir, Path.home() / "llmux")
        config = load(MINIMAL + "state_dir: state\n")
        self.assertEqual(config.state_dir, Path(os.getcwd(), "state"))

    def test_workers(self) -> None:
        """One process relays unless more are asked for; none would be no llmux."""
        self.assertEqual(load(MINIMAL).workers, 1)
        self.assertEqual(load(MINIMAL + "workers: 4\n").workers, 4)
        for wrong in ("0", "1.5", "many"):
            self.assertRaises(ConfigError, load, MINIMAL + f"workers: {wrong}\n")

    def test_record(self) -> None:
        """So may the file that a trace is written to; what is written there is not compressed."""
        self.assertIsNone(load(MINIMAL).record)
        self.assertEqual(load(MINIMAL + "record: ~/t.csv\n").record, Path.home() / "t.csv")
        self.assertEqual(load(MINIMAL + "record: t.csv\n").record, Path(os.getcwd(), "t.csv"))
        error = self.assertRaises(ConfigError, load, MINIMAL + "record: t.csv.gz\n")
        self.assertIn("record: a trace is not compressed while it grows", str(error))


class FileTests(SynchronousTestCase):
    def test_read(self) -> None:
        """A file is read from where it is, and its place is remembered."""
        path = Path(self.mktemp()).with_suffix(".yaml")
        path.write_text(MINIMAL)
        for given in (path, str(path)):
            config = Config.from_file(given, host="::", port=5000)
            self.assertEqual((config.path, config.host, config.port), (path, "::", 5000))
            self.assertEqual(list(config.models), ["a"])

    def test_missing(self) -> None:
        """A file that is not there is named, with the reason."""
        path = self.mktemp()
        error = self.assertRaises(ConfigError, Config.from_file, path)
        self.assertEqual(str(error), f"{path}: cannot be read: No such file or directory")

    def test_a_directory(self) -> None:
        """A directory is no configuration."""
        path = Path(self.mktemp())
        path.mkdir()
        error = self.assertRaises(ConfigError, Config.from_file, path)
        self.assertEqual(str(error), f"{path}: cannot be read: Is a directory")

    def test_named_as_the_user_did(self) -> None:
        """Complaints name the file as the user named it, so that editors find the place."""
        path = Path(self.mktemp()).with_suffix(".json")
        path.write_text(json.dumps({"models": {}}, indent=1))
        error = self.assertRaises(ConfigError, Config.from_file, str(path))
        self.assertEqual(str(error), f"{path}:2: models: no models: at least one is needed")
