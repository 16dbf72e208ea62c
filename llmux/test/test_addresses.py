"""Tests of :mod:`llmux.addresses`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.addresses import is_loopback, operators_address
from llmux.settings import Address, Admin


class LoopbackTests(SynchronousTestCase):
    def test_loopback(self) -> None:
        """Addresses that only this machine reaches are known in every spelling."""
        for host in (
            "127.0.0.1", "127.9.9.9", "127.1", "::1", "localhost", "LOCALHOST", "localhost.",
            "ip6-localhost", "::ffff:127.0.0.1",
        ):  # fmt: skip
            self.assertTrue(is_loopback(host), host)

    def test_not_loopback(self) -> None:
        """What others may reach is not loopback: nor all addresses at once, nor a name."""
        for host in ("0.0.0.0", "", "::", "192.168.1.2", "gpu.example", "::ffff:10.0.0.1"):
            self.assertFalse(is_loopback(host), host)


class OperatorsAddressTests(SynchronousTestCase):
    def test_default(self) -> None:
        """The face is where clients are served, if only this machine reaches that."""
        self.assertEqual(operators_address(Admin(), "127.0.0.1", 3000), Address("127.0.0.1", 3000))
        self.assertIsNone(operators_address(Admin(), "0.0.0.0", 3000))

    def test_said(self) -> None:
        """The configuration can put it anywhere, and nowhere."""
        socket = Address("", 0, Path("/run/llmux.sock"))
        self.assertEqual(operators_address(Admin(listen=socket), "0.0.0.0", 3000), socket)
        self.assertIsNone(operators_address(Admin(off=True), "127.0.0.1", 3000))
