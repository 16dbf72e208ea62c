"""Tests of the documentation: its examples are read, and it knows every key and refusal."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs
import yaml
from twisted.trial.unittest import SynchronousTestCase

from llmux.config import (
    DEFAULT_BLOCKED_PATHS,
    Config,
    Limits,
    ModelConfig,
    ModelSettings,
    PolicyConfig,
    Shutdown,
)
from llmux.events import Events
from llmux.overview import render
from llmux.server.refusals import Refusal
from llmux.simulate.hooks import HookCosts
from llmux.simulate.replay import Setup, config_of, simulate
from llmux.simulate.trace import Row
from llmux.test.dropins import install
from llmux.test.statuses import STATUS, faults
from llmux.test.test_config import MINIMAL, load
from llmux.test.test_schema import complaints

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "configuration.rst"
FAULTS = DOCS.parent / "e2e" / "faults"
SECTIONS = {field.name: field.metadata["section"] for field in attrs.fields(ModelSettings)}


def below(page: str, line: str) -> str:
    """Give the indented block below the first line of a page that ends with some words."""
    _, found, rest = page.partition(f"{line}\n\n")
    assert found, line
    block = []
    for each in rest.splitlines():
        if each and not each.startswith("    "):
            break
        block.append(each)
    return textwrap.dedent("\n".join(block))


class ConfigurationPageTests(SynchronousTestCase):
    """Whoever does what the page says gets what it says."""

    if not PAGE.is_file():
        skip = "there is no documentation: this is not a checkout"

    def setUp(self) -> None:
        """Read the page."""
        self.page = PAGE.read_text("utf-8")
        self.example = below(self.page, ".. code-block:: yaml")

    def test_example(self) -> None:
        """The complete example is taken as it is, and says what it seems to say."""
        config = load(self.example)
        self.assertEqual(
            list(config.models), ["qwen3-8b", "bge-m3", "gemma-3-12b", "big/llama-70b"]
        )
        gemma, big = config.models["gemma-3-12b"], config.models["big/llama-70b"]
        self.assertEqual((gemma.max_concurrency, gemma.max_waiting), (8, 200))
        self.assertEqual((big.first_byte_timeout_secs, gemma.first_byte_timeout_secs), (600, 120))
        self.assertEqual((big.max_waiting, big.keepalive_secs), (50, 15))
        self.assertEqual(
            (config.limits.max_body_bytes, config.limits.body_timeout_secs), (2**26, 30)
        )
        self.assertEqual(config.cors_origins, ("https://chat.example", "http://127.0.0.1:8080"))
        self.assertEqual(config.blocked_paths, ("/sleep", "/wake_up", "/collective_rpc"))
        self.assertTrue(config.forwarded)

    def test_json_example(self) -> None:
        """The example in JSON is taken as it is."""
        example = below(self.page, ".. code-block:: json")
        self.assertEqual(list(load(example, "config.json").models), ["qwen3-8b"])

    def test_example_is_complete(self) -> None:
        """The complete example has every key in its place."""
        document = yaml.safe_load(self.example)
        for key, section in SECTIONS.items():
            self.assertIn(key, document[section] if section else document, key)
        for field in attrs.fields(Limits):
            self.assertIn(field.name, document["limits"])
        for field in attrs.fields(Shutdown):
            self.assertIn(field.name, document["shutdown"])
        self.assertIn("origins", document["cors"])
        self.assertIn("listen", document["admin"])
        said = {key for model in document["models"].values() for key in model}
        hooks = {"alive", "freed", "kill", "stop", "prepare", "adopt"}
        residency = {"needs", "asleep_needs", "pinned", "wake_at_start"}
        self.assertLessEqual({"max_concurrency", "url", "port", *hooks, *residency}, said)
        self.assertLessEqual({"aliases", "rewrite_model"}, said)
        top = {"resources", "idle_model", "default_model", "first_awake"}
        self.assertLessEqual(top, document.keys())

    def test_every_key(self) -> None:
        """Every key has an entry, under its full name."""
        keys = {f"{section}.{key}".lstrip(".") for key, section in SECTIONS.items()}
        keys |= {f"limits.{field.name}" for field in attrs.fields(Limits)}
        inherited = {*SECTIONS, "name", "backend", "kind"}
        keys |= {
            f"models.<name>.{field.name}"
            for field in attrs.fields(ModelConfig)
            if field.name not in inherited
        }
        keys |= {f"shutdown.{field.name}" for field in attrs.fields(Shutdown)}
        made_of_several = {
            "models",
            "policy",
            "limits",
            "shutdown",
            "admin",
            "cors_origins",
            "path",
        }
        keys |= {f.name for f in attrs.fields(Config) if f.name not in {*made_of_several, "path"}}
        keys |= {
            "models.<name>.port",
            "models.<name>.url",
            "models.<name>.class",
            "policy.name",
            "cors.origins",
        }
        keys |= {"admin.listen"}
        missing = [key for key in sorted(keys) if f"\n``{key}``\n    " not in self.page]
        self.assertEqual(missing, [])

    def test_every_default(self) -> None:
        """The defaults of numbers are those that hold."""
        shown = {f"{section}.{key}".lstrip("."): key for key, section in SECTIONS.items()}
        values = {name: getattr(ModelSettings(), key) for name, key in shown.items()}
        values |= {f"limits.{key}": value for key, value in attrs.asdict(Limits()).items()}
        values |= {f"shutdown.{key}": value for key, value in attrs.asdict(Shutdown()).items()}
        del values["limits.spool_dir"]
        for name, value in values.items():
            entry = " ".join(below(self.page.replace(f"``{name}``\n", f"{name}\n\n"), name).split())
            number = json.dumps(int(value) if isinstance(value, float) else value)
            word = f"``{number}``" if number in ("null", "true", "false") else number
            self.assertIn(f"efault {word}.", entry.replace(" (256 MiB)", ""), name)

    def test_default_blocked_paths(self) -> None:
        """The list that can be copied is the default."""
        copied = below(self.page, "copy it and go on:\n\n    .. code-block:: yaml")
        document = yaml.safe_load(copied.partition("\nThese are the paths")[0])
        self.assertEqual(tuple(document["blocked_paths"]), DEFAULT_BLOCKED_PATHS)

    def test_mistakes(self) -> None:
        """The file of mistakes is complained about in the very words of the page."""
        rest = self.page.partition("What is wrong with mine?")[2]
        said = below(rest, "it says::").splitlines()
        self.assertEqual(
            complaints(below(rest, ".. code-block:: yaml"), "config.yaml"),
            [line for line in said if line],
        )


class MetricsPageTests(SynchronousTestCase):
    """The page about metrics and logs has every event."""

    if not DOCS.is_dir():
        skip = "there is no documentation: this is not a checkout"

    def test_events(self) -> None:
        """Every event that there is has an entry."""
        page = (DOCS / "metrics.rst").read_text("utf-8")
        names = {name for name, _ in inspect.getmembers(Events, inspect.isfunction)}
        missing = [name for name in sorted(names) if f"\n``{name}``\n    " not in page]
        self.assertEqual(missing, [])


class ProxyingPageTests(SynchronousTestCase):
    """The page about proxying has the table of refusals as it is."""

    if not DOCS.is_dir():
        skip = "there is no documentation: this is not a checkout"

    def test_refusals(self) -> None:
        """Every refusal is there with its status, and there are no others."""
        page = (DOCS / "proxying.rst").read_text("utf-8")
        rows = below_heading(page, "What is refused")
        for refusal in Refusal:
            start = f"{refusal.status}     {refusal.message}"
            self.assertEqual(len([row for row in rows if row.startswith(start)]), 1, refusal)
        self.assertEqual(len(rows), len(Refusal))


class OperatingPageTests(SynchronousTestCase):
    """The page about operating knows every field of the status document."""

    if not DOCS.is_dir():
        skip = "there is no documentation: this is not a checkout"

    def setUp(self) -> None:
        """Read the page."""
        self.page = (DOCS / "operating.rst").read_text("utf-8")

    def test_example(self) -> None:
        """The example has all fields, and they hold what they should; it is shown in 80 columns."""
        document = json.loads(below(self.page, ".. code-block:: json"))
        self.assertEqual(faults(document), [])
        self.assertTrue(document["switch"] and document["orders"] and document["costs"]["pairs"])
        self.assertLessEqual(max(map(len, render(document, 80).splitlines())), 80)

    def test_every_field(self) -> None:
        """Every field is explained."""
        text = self.page.partition("All fields are always there.")[2]
        missing = [name for name in field_names(STATUS) if f"``{name}``" not in text]
        self.assertEqual(missing, [])


class FaultsPageTests(SynchronousTestCase):
    """The page about faults and the tests that show them belong together."""

    if not DOCS.is_dir() or not FAULTS.is_dir():
        skip = "there is no documentation, or there are no tests of faults: this is not a checkout"

    def test_every_test(self) -> None:
        """Every test that a row names is there, and every test that is there shows some row."""
        page = (DOCS / "faults.rst").read_text("utf-8")
        named = set(re.findall(r"``(test_\w+\.test_\w+)``", page))
        found = {
            f"{path.stem}.{node.name}"
            for path in FAULTS.glob("test_*.py")
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
        self.assertGreater(len(found), 50)
        self.assertEqual((named - found, found - named), (set(), set()))

    def test_every_row(self) -> None:
        """Every row names a test."""
        page = (DOCS / "faults.rst").read_text("utf-8")
        rows = [row for row in page.split("\n   * - ") if "\n     - " in row]
        headings = [row for row in rows if "     - Shown by" in row]
        bare = [row for row in rows if "``test_" not in row and row not in headings]
        self.assertEqual(bare, [])


def field_names(shape: object) -> Iterator[str]:
    """Give the names of all fields of a shape."""
    if isinstance(shape, dict):
        for name, inner in shape.items():
            if name != "?":
                yield name
            yield from field_names(inner)
    elif isinstance(shape, list):
        yield from field_names(shape[0])


def below_heading(page: str, heading: str) -> list[str]:
    """Give the rows of the first table below a heading that begin with a number."""
    _, found, rest = page.partition(f"{heading}\n---")
    assert found, heading
    table = rest.partition("\n\n======")[2].partition("\n\n")[0]
    return [row for row in table.splitlines() if row[:3].isdigit()]


class SchedulingPageTests(SynchronousTestCase):
    """The policy on the page works as it stands there."""

    if not PAGE.is_file():
        skip = "there is no documentation: this is not a checkout"

    def setUp(self) -> None:
        """Install it."""
        page = (DOCS / "scheduling.rst").read_text("utf-8")
        install(self, "llmux_most_wanted", below(page, ".. code-block:: python"))
        self.config = below(page, ".. code-block:: yaml")

    def test_configuration(self) -> None:
        """The configuration on the page has it, and its options are checked."""
        policy = load(MINIMAL + self.config).policy
        self.assertEqual(policy, PolicyConfig(name="most-wanted", options={"patience_secs": 20}))
        (complaint,) = complaints(MINIMAL + self.config.replace("20", "-1"))
        self.assertIn("patience_secs is -1; it has to be 0 or more", complaint)

    def test_simulated(self) -> None:
        """It wakes the model for which most wait, when its patience is over."""
        trace = (
            Row("a", 1, 5000, 0.0), Row("b", 1, 1, 1.0), Row("c", 1, 1, 2.0), Row("c", 1, 1, 3.0),
        )  # fmt: skip
        config = attrs.evolve(config_of(trace), policy=load(MINIMAL + self.config).policy)
        run = simulate(Setup(config, HookCosts(1.0)), trace, "most-wanted")
        in_order = sorted(run.served, key=lambda served: served.leased)
        self.assertEqual([served.model for served in in_order], ["a", "c", "c", "b"])
        self.assertEqual(run.failed, 0)
