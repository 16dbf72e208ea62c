"""Tests of all of ``examples/``: their configs, and what their scripts have in common."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase

from llmux.config import Config
from llmux.test.examples import (
    CHECKOUT,
    EXAMPLES,
    NO_EXAMPLES,
    TOOL,
    ExampleTests,
    Server,
)
from llmux.test.processes import ProcessTests

SHELLCHECK = shutil.which(
    "shellcheck", path=f"{os.environ.get('PATH', '')}:{Path(sys.executable).parent}"
)


class ConfigTests(SynchronousTestCase):
    """The configs themselves."""

    skip = NO_EXAMPLES

    def test_configs(self) -> None:
        """Every example's config is valid, and its hooks are scripts that can be run."""
        configs = sorted(EXAMPLES.glob("*/config.yaml"))
        self.assertGreater(len(configs), 6)
        for path in configs:
            for model in Config.from_file(path).models.values():
                for hook in (model.wake, model.sleep, model.alive or ""):
                    script = CHECKOUT / hook.split()[-1]
                    self.assertEqual(script.parent, path.parent)
                    self.assertTrue(os.access(script, os.X_OK), script)

    def test_residency(self) -> None:
        """Those for several models at a time are valid, too, and use scripts that are there."""
        configs = sorted(EXAMPLES.glob("residency/*.yaml"))
        self.assertEqual(len(configs), 4)
        for path in configs:
            config = Config.from_file(path)
            self.assertTrue(config.resources, path)
            for model in config.models.values():
                for hook in filter(None, (model.wake, model.sleep, model.alive, model.stop)):
                    script = CHECKOUT / hook.split()[-1]
                    self.assertTrue(os.access(script, os.X_OK), script)


class ShellTests(ProcessTests):
    """What the scripts look like."""

    skip = NO_EXAMPLES

    def setUp(self) -> Any:
        """Find the scripts."""
        started = super().setUp()
        self.scripts = [str(path) for path in sorted(EXAMPLES.glob("*/*.sh"))]
        return started

    async def test_syntax(self) -> None:
        """The shell of this machine can read every script."""
        each = 'for script; do sh -n "$script"; done'
        output = await getProcessOutputAndValue(
            "/bin/sh", ["-c", each, "sh", *self.scripts], os.environ
        )
        self.assertEqual(output, (b"", b"", 0))

    async def test_shellcheck(self) -> None:
        """Shellcheck has nothing to say about any script."""
        assert SHELLCHECK is not None
        output = await getProcessOutputAndValue(SHELLCHECK, self.scripts, os.environ)
        self.assertEqual(output, (b"", b"", 0))

    if SHELLCHECK is None:
        test_shellcheck.skip = "shellcheck is missing"  # type: ignore[attr-defined]  # trial's own


class DeadlineTests(ExampleTests):
    """What hooks are told about the time that they have."""

    #: Those of every example.
    settings: ClassVar[dict[str, str]] = {
        "CONTAINER": "box",
        "MODEL_FILE": "model.gguf",
        "UNIT": "llm@a.service",
    }

    def setUp(self) -> Any:
        """Serve whatever any example asks for."""
        started = super().setUp()
        for tool in ("docker", "podman", "systemctl"):
            self.install(tool, TOOL)
        self.serve(
            Server(
                {
                    "/health": self.healthy,
                    "/is_sleeping": lambda: (200, {"is_sleeping": False}),
                    "/api/generate": lambda: (200, {}),
                    "/api/ps": lambda: (200, {"models": []}),
                }
            )
        )
        return started

    async def test_forms(self) -> None:
        """Every wake and every sleep copes with a deadline in whole seconds or in parts of one."""
        running = {"docker": "running", "podman-criu": "running", "systemd-user": "active"}
        for folder in sorted(path.parent for path in EXAMPLES.glob("*/config.yaml")):
            self.example = folder.name
            for deadline in ("600", "2.5", "0.5"):
                self.set_status(running.get(self.example, "up"))
                await self.assert_hook("wake", LLMUX_DEADLINE=deadline)
                if self.example not in running:
                    self.set_status("down")
                await self.assert_hook("sleep", LLMUX_DEADLINE=deadline)
