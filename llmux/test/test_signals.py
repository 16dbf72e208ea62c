"""Tests of :mod:`llmux.signals`, with the signals of this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import attrs
from twisted.trial.unittest import SynchronousTestCase

from llmux.signals import ENDING, SignalService


@attrs.define(eq=False)
class Reactor:
    """
    What a handler needs of a reactor, which the test runs by hand.

    :ivar waiting: what other threads and handlers want to be done.
    :ivar at_start: what is done when it has started.
    """

    waiting: list[Callable[[], object]] = attrs.field(factory=list)
    at_start: list[Callable[[], object]] = attrs.field(factory=list)

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:  # noqa: N802
        """See :meth:`IReactorFromThreads.callFromThread`."""
        self.waiting.append(lambda: call(*arguments))

    def callWhenRunning(self, call: Callable[[], object]) -> None:  # noqa: N802
        """See :meth:`IReactorCore.callWhenRunning`."""
        self.at_start.append(call)

    def sigInt(self, number: int, frame: object = None) -> None:  # noqa: N802
        """Stand in for Twisted's own handler."""

    def run_once(self) -> None:
        """Do what waits."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


class SignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Keep this process's handlers for afterwards."""
        for number in (*ENDING, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.reactor = Reactor()
        self.done: list[str] = []
        self.service = SignalService(
            self.reactor,
            lambda name: self.done.append(f"end {name}"),
            lambda name: self.done.append(f"cut {name}"),
            lambda: self.done.append("reload"),
        )

    def send(self, *numbers: signal.Signals) -> list[str]:
        """Send this process some signals; give what has been done by then."""
        for number in numbers:
            os.kill(os.getpid(), number)
        self.reactor.run_once()
        return self.done

    def test_first_and_second(self) -> None:
        """The first TERM or INT ends llmux, each further one cuts."""
        self.service.startService()
        self.assertEqual(self.send(signal.SIGTERM), ["end TERM"])
        self.assertEqual(self.send(signal.SIGINT), ["end TERM", "cut INT"])

    def test_reload(self) -> None:
        """HUP has the configuration read again, as often as it comes."""
        self.service.startService()
        self.assertEqual(self.send(signal.SIGHUP, signal.SIGHUP), ["reload", "reload"])
        self.assertEqual(self.send(signal.SIGINT)[2:], ["end INT"])

    def test_in_the_reactor(self) -> None:
        """A handler does nothing by itself: the reactor does, in a turn of its own."""
        self.service.startService()
        os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual(self.done, [])
        self.assertEqual(self.send(), ["end TERM"])

    def test_wins_over_the_reactor(self) -> None:
        """The reactor installs handlers while it starts; llmux's are back when it has started."""
        self.service.startService()
        signal.signal(signal.SIGTERM, lambda *_: self.done.append("Twisted's"))
        signal.signal(signal.SIGINT, self.reactor.sigInt)
        for call in self.reactor.at_start:
            call()
        self.assertEqual(self.send(signal.SIGTERM, signal.SIGINT), ["end TERM", "cut INT"])

    def test_debugger(self) -> None:
        """A debugger's INT, or one that the shell has ignored, is left so."""
        for handler in (lambda *_: self.done.append("debugger"), signal.SIG_IGN):
            signal.signal(signal.SIGINT, handler)
            self.service.startService()
            self.assertIs(signal.getsignal(signal.SIGINT), handler)

    def test_only_when_started(self) -> None:
        """Making the service, as embedding programs might, leaves all signals alone."""
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)
