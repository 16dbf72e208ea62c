"""Tests of ``examples/systemd``, the units that run llmux."""

from __future__ import annotations

import shlex
import textwrap
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.tap import Options
from llmux.test.examples import CHECKOUT, EXAMPLES, NO_EXAMPLES

UNITS = EXAMPLES / "systemd"
PAGE = CHECKOUT / "docs" / "running.rst"


def read(path: Path) -> dict[str, str]:
    """Read the settings of a unit in which no key comes twice but in ``[Unit]``."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they are written
    parser.read_string(path.read_text("utf-8"))
    return {key: value for section in parser.sections() for key, value in parser[section].items()}


class UnitTests(SynchronousTestCase):
    skip = NO_EXAMPLES

    def test_page(self) -> None:
        """The units are what the documentation shows."""
        page = PAGE.read_text("utf-8")
        for name in ("llmux.service", "llmux.socket"):
            _, _, unit = (UNITS / name).read_text("utf-8").partition("\n")
            shown = textwrap.indent(unit.rstrip(), "    ")
            self.assertIn(f".. code-block:: ini\n\n{shown}\n", page, name)

    def test_every_line_is_explained(self) -> None:
        """The README says of each setting what it is for."""
        readme = (UNITS / "README.rst").read_text("utf-8")
        obvious = {"Description", "WantedBy", "After"}
        for name in ("llmux.service", "llmux.socket"):
            for key in set(read(UNITS / name)) - obvious:
                self.assertIn(f"``{key}=", readme)

    def test_command(self) -> None:
        """What the unit starts is twistd in the foreground, with options that llmux knows."""
        words = shlex.split(read(UNITS / "llmux.service")["ExecStart"])
        before, after = words[: words.index("llmux")], words[words.index("llmux") + 1 :]
        self.assertEqual(before[1:], ["-n", "--pidfile="])
        options = {f"--{name.rstrip('=')}" for name in Options().longOpt}
        self.assertLessEqual({word for word in after if word.startswith("-")}, options)

    def test_backends_outlive_a_restart(self) -> None:
        """A restart ends llmux alone, and waits longer than the grace that requests have."""
        service = read(UNITS / "llmux.service")
        self.assertEqual(service["KillMode"], "process")
        self.assertGreater(int(service["TimeoutStopSec"]), 30 + 5)
