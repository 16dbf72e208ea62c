"""
Twisted's own tests of reactors and transports, run on the reactor over uvloop.

Twisted writes them once and runs them on each reactor of its own; here they are pointed at another
one.  What is run and what is not stands in ``docs/engine.rst``, too.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import twisted.internet.test
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

from llmux.engine.choice import REACTOR, STOCK

BUILDERS = {
    "core": ["SystemEventTestsBuilder"],
    "fdset": ["ReactorFDSetTestsBuilder"],
    "newtls": ["ProducerTestsMixin"],
    "process": ["ProcessTestsBuilder", "PTYProcessTestsBuilder"],
    "socket": [
        "AdoptDatagramPortErrorsTestsBuilder",
        "AdoptStreamConnectionErrorsTestsBuilder",
        "AdoptStreamPortErrorsTestsBuilder",
        "IReactorSocketVerificationTestsBuilder",
    ],
    "stdio": ["StdioFilesTests"],
    "tcp": [
        "AbortConnectionTests",
        "AdoptStreamConnectionTestsBuilder",
        "TCP4ClientTestsBuilder",
        "TCP4ConnectorTestsBuilder",
        "TCP6ClientTestsBuilder",
        "TCP6ConnectorTestsBuilder",
        "TCPConnectionTestsBuilder",
        "TCPFDPortTestsBuilder",
        "TCPPortTestsBuilder",
        "TCPTransportTestsBuilder",
        "TestBindAddressBuilder",
    ],
    "threads": ["ThreadTestsBuilder"],
    "time": ["TimeTestsBuilder"],
    "tls": [
        "AbortSSLConnectionTests",
        "SSLClientTestsMixin",
        "StartTLSClientTestsMixin",
        "TLSPortTestsBuilder",
    ],
    "udp": ["UDPFDServerTestsBuilder", "UDPServerTestsBuilder"],
    "unix": [
        "UNIXAdoptStreamConnectionTestsBuilder",
        "UNIXDatagramTestsBuilder",
        "UNIXFDPortTestsBuilder",
        "UNIXPortTestsBuilder",
        "UNIXTestsBuilder",
        "UnixClientTestsBuilder",
    ],
}
"""What is run, by Twisted's module: ``twisted.internet.test.test_...``."""

BASES = frozenset({"ProcessTestsBuilderBase", "TCPClientTestsBase", "TCPConnectorTestsBuilder"})
"""What others are made of; alone they cannot run."""

OTHERS = frozenset(
    {"CoreFoundationSpecificTests", "GlibTimeTestsBuilder", "Win32EventsTestsBuilder"}
)
"""What is about something that only other reactors have."""

LEFT_OUT = {
    "test_logPrefix": (
        ("tcp", "tls", "unix"),
        "the log's context is not set for each piece of data: it costs more than the piece",
    ),
    "test_avoidLeakingFileDescriptors": (
        ("unix",),
        "a descriptor that nobody wants is closed by the kernel, so there is nothing to log",
    ),
    "test_changeUID": (
        ("process",),
        "it needs an interpreter that any user may run; what it tests is Twisted's own code",
    ),
}
"""Single tests that are left out: of which modules, and why."""

_SECONDS = 30  # for one test; Twisted's own 120 are for machines that are far slower


def _make(module: str, names: list[str]) -> Iterator[tuple[str, type[SynchronousTestCase]]]:
    """Point builders of one of Twisted's modules at our reactor."""
    source = import_module(f"twisted.internet.test.test_{module}")
    for name in names:
        builder = getattr(source, name, None)
        if builder is None:  # this Twisted does not have it
            continue
        pointed: Any = {
            "_reactors": ["llmux.engine.reactor.UvloopReactor"],
            "__module__": __name__,
            "timeout": _SECONDS,
        }
        pointed_builder: Any = type(name, (builder,), pointed)
        made = pointed_builder.makeTestCaseClasses()
        for case_name, case in made.items():
            case.__module__ = __name__
            for left_out, (modules, why) in LEFT_OUT.items():
                if module in modules and hasattr(case, left_out):
                    setattr(case, left_out, _skipped(left_out, why))
            yield case_name, case


def _skipped(name: str, why: str) -> Any:
    def test(self: SynchronousTestCase) -> None:
        """Is left out."""

    test.__name__ = name
    test.skip = why  # type: ignore[attr-defined]  # trial looks for it
    return test


if REACTOR.made({}) != STOCK:
    for _module, _names in BUILDERS.items():
        globals().update(_make(_module, _names))


class CompletenessTests(SynchronousTestCase):
    if platform.isWindows():
        skip = "uvloop is not there"

    def test_nothing_is_forgotten(self) -> None:
        """Each of Twisted's builders is run, or is one that is left out with a reason."""
        known = {*BASES, *OTHERS, *(name for names in BUILDERS.values() for name in names)}
        self.assertEqual(set(_builders()) - known, set())

    def test_documented(self) -> None:
        """The documentation lists what is run, and what is not."""
        page = (Path(__file__).parents[2] / "docs/engine.rst").read_text()
        names = {name for names in BUILDERS.values() for name in names}
        for name in (*names, *LEFT_OUT, *OTHERS):
            self.assertIn(f"``{name}``", page)


def _builders() -> Iterator[str]:
    """Find all of Twisted's builders."""
    for module in pkgutil.iter_modules(twisted.internet.test.__path__):
        if module.name.startswith("test_"):
            for name, found in vars(import_module(f"twisted.internet.test.{module.name}")).items():
                if (
                    isinstance(found, type)
                    and issubclass(found, ReactorBuilder)
                    and not issubclass(found, SynchronousTestCase)
                    and found.__module__ == f"twisted.internet.test.{module.name}"
                ):
                    yield name
