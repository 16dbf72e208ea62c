"""Plugins that a test installs, as others install theirs beside llmux."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted.plugins


def install(case: SynchronousTestCase, name: str, source: str) -> None:
    """
    Have a module in the package ``twisted.plugins`` until the test has ended.

    :param name: the module's.
    :param source: its code.
    """
    folder = Path(case.mktemp()) / "twisted" / "plugins"
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text(source, "utf-8")
    case.patch(twisted.plugins, "__path__", [*twisted.plugins.__path__, str(folder.absolute())])
    case.addCleanup(sys.modules.pop, f"twisted.plugins.{name}", None)
