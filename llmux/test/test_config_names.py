"""Names and addresses that a configuration must not have, in every disguise."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.config import Config
from llmux.errors import ConfigError


def complaints(text: str) -> list[str]:
    """Give all that is said about a configuration."""
    try:
        Config.from_bytes(text.encode(), path=Path("c.yaml"))
    except ConfigError as error:
        return str(error).splitlines()
    return []


def model(name: str, address: str) -> str:
    """Write a configuration of one model."""
    return f"models:\n  {name}:\n    {address}\n    wake: w\n    sleep: s\n"


class NameTests(SynchronousTestCase):
    def test_names_that_metrics_need(self) -> None:
        """A model cannot have a name that stands for no model, or for many."""
        for name in ("idle", "several"):
            (complaint,) = complaints(model(name, "port: 8001"))
            self.assertIn(f"c.yaml:2: models.{name}: this name stands for something", complaint)

    def test_mistyped_port_of_an_x_model(self) -> None:
        """A model whose name begins with x- is not lost without a word for a mistyped key."""
        text = model("x-ai/grok", "prot: 8001") + "  other: {port: 1, wake: w, sleep: s}\n"
        (complaint,) = complaints(text)
        self.assertIn("c.yaml:3: models.x-ai/grok.prot: unknown key", complaint)

    def test_template(self) -> None:
        """A mapping of hooks and timings, to be merged into models, is no model."""
        text = (
            "models:\n  x-base: &base {wake: w, sleep: s, alive: a, min_active_secs: 3}\n"
            "  other: {<<: *base, port: 1}\n"
        )
        config = Config.from_bytes(text.encode(), path=Path("c.yaml"))
        self.assertEqual(list(config.models), ["other"])
        self.assertEqual(config.models["other"].min_active_secs, 3)


class AddressTests(SynchronousTestCase):
    def test_own_address_in_other_spellings(self) -> None:
        """However an address of this machine is written, a backend cannot be llmux itself."""
        for host in (
            "127.1",
            "2130706433",
            "0x7f000001",
            "127.0.0.2",
            "localhost.",
            "[::ffff:127.0.0.1]",
            "ip6-localhost",
            socket.gethostname(),
        ):
            (complaint,) = complaints(model("a", f"url: 'http://{host}:3000'"))
            self.assertIn("this is llmux's own address", complaint, host)
