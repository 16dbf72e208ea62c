"""Tests of the line between a worker and its parent, over transports in memory."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

from twisted.protocols import amp
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface

from llmux.config import Config
from llmux.errors import TooManyWaiting
from llmux.holder import Began, Ended, Heard
from llmux.lease import Outcome, Revocation
from llmux.test.fakes import model_config
from llmux.urgency import Urgency
from llmux.workers.links import OF_WORKERS, Refusal
from llmux.workers.wire import Line, Refused, Say


class IEar(Interface):
    """What can be said in these tests."""

    def told(what: object) -> None:
        """Be told something."""

    def fails() -> None:
        """Fail."""


class Ear:
    """
    Hears, and remembers.

    :ivar heard: what.
    """

    def __init__(self) -> None:
        self.heard: list[object] = []

    def told(self, what: object) -> None:
        """See :meth:`IEar.told`."""
        self.heard.append(what)

    def fails(self) -> None:
        """See :meth:`IEar.fails`."""
        raise ValueError("not that")

    def secret(self) -> None:
        """Be called by nobody from outside."""
        self.heard.append("secret")


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect two ends; one of them hears."""
        self.ear = Ear()
        self.lost: list[str] = []
        self.here = Line(lambda: self.lost.append("here"))
        self.there = Line(lambda: self.lost.append("there"))
        self.there.hear(IEar, self.ear)
        make: Callable[[object], object] = lambda protocol: iosim.FakeTransport(protocol, False)  # noqa: E731
        self.pump = iosim.connect(self.here, make(self.here), self.there, make(self.there))

    def test_values(self) -> None:
        """What is said arrives as it was, in order: plain values, and those of llmux's own."""
        config = Config(models={"a": model_config("a")}, path=Path("/c.yaml"))
        for value in (1.5, "text", (None, {"a": [b"x"]}), Outcome.REFUSED, config):
            self.here.say("told", value)
        self.pump.flush()
        self.assertEqual(
            self.ear.heard, [1.5, "text", (None, {"a": [b"x"]}), Outcome.REFUSED, config]
        )

    def test_long(self) -> None:
        """A value may be much longer than AMP's own."""
        value = os.urandom(300_000)
        self.here.say("told", value)
        self.pump.flush()
        self.assertEqual(self.ear.heard, [value])

    def test_ask(self) -> None:
        """Who asks is told when it has been done, or that it was not."""
        done = self.here.ask("told", 1)
        self.assertNoResult(done)
        self.pump.flush()
        self.successResultOf(done)
        failures: list[object] = []
        self.here.ask("fails").addErrback(failures.append)
        self.pump.flush()
        self.assertEqual(len(failures), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_not_allowed(self) -> None:
        """Only what an interface has can be called; whoever tries more is not heard any more."""
        self.here.say("secret")
        self.pump.flush()
        self.assertEqual((self.ear.heard, sorted(self.lost)), ([], ["here", "there"]))
        self.assertEqual(len(self.flushLoggedErrors(Refused)), 1)

    def test_no_code(self) -> None:
        """A value that would run something when it is read is not read."""
        for evil in (b"cos\nsystem\n(S'true'\ntR.", b"cllmux.logs\nmake_observer\n."):
            self.assertRaises(Refused, self.read, evil)
        self.assertRaises(Refused, self.read, pickle.dumps(os.getpid))

    def test_imported(self) -> None:
        """What llmux's modules have imported is not llmux's, and some of it leads to any code."""
        for borrowed in (b"cllmux.waiting\nattrgetter\n.", b"cllmux.front\npartial\n."):
            self.assertRaises(Refused, self.read, borrowed)

    def test_workers(self) -> None:
        """Of a worker's words nothing is taken but what it has a reason to say."""
        self.there.believed = OF_WORKERS
        urgency = Urgency("batch", 3)
        began, ended = Began(1, "a", None, urgency, 0.5), Ended(1, Outcome.FAILED, 0.25, 0.75)
        happened = [began, ended, Heard("a", 1.5)]
        words = [happened, urgency, None, [("request_answered", ("a", 200, 0.1))]]
        for said in words:
            self.here.say("told", said)
        self.pump.flush()
        self.assertEqual(self.ear.heard, words)
        for other in (Path("/etc"), Refusal(500, None, "", None), Revocation.KILLED, RefusalTests):
            self.assertRaises(Refused, self.read, pickle.dumps(other))

    def test_members(self) -> None:
        """A member of an enumeration arrives from a Python that would look it up by its name."""

        def looked_up(member: Outcome, protocol: object) -> object:
            return getattr, (Outcome, member.name)  # as in CPython 3.11.2, that of Debian 12

        self.patch(Outcome, "__reduce_ex__", looked_up)
        self.there.believed = OF_WORKERS
        self.here.say("told", Outcome.FAILED)
        self.pump.flush()
        self.assertEqual(self.ear.heard, [Outcome.FAILED])

    def read(self, data: bytes) -> dict[str, object]:
        """Read some bytes as values."""
        box = amp.AmpBox({b"method": b"told", b"values": b"1", b"values.0": data})
        read: dict[str, object] = Say.parseArguments(box, self.there)
        return read

    def test_lost(self) -> None:
        """Both ends hear when the line is cut, and what is said then is lost."""
        assert self.here.transport is not None
        self.here.transport.loseConnection()
        self.pump.flush()
        self.assertEqual(sorted(self.lost), ["here", "there"])
        self.here.say("told", 1)
        self.failureResultOf(self.here.ask("told", 1))


class RefusalTests(SynchronousTestCase):
    def test_same(self) -> None:
        """An error that comes from the parent says what it said there."""
        error = TooManyWaiting("a", 7, 12)
        arrived = Refusal.of(error).unpacked()
        for name in ("status", "code", "message", "retry_after"):
            self.assertEqual(getattr(arrived, name), getattr(error, name))
