"""Tests of :mod:`llmux.engine.holding` that need no connection."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

from twisted.trial.unittest import SynchronousTestCase

from llmux.engine.holding import HeldReader


class HeldReaderTests(SynchronousTestCase):
    def test_take_the_rest(self) -> None:
        """What is taken, as where a connection is lost, is what has not been handed on."""
        transport = Mock(bufferSize=3, is_reading=True)
        held = HeldReader(transport, Mock())
        held.data_received(b"abcdefgh")
        held.data_received(b"ij")
        held._hand_on()
        transport.data_received.assert_called_once_with(b"abc")
        held.put_back(b"abc", 1)
        self.assertEqual((held.take(), held.take()), (b"bcdefghij", b""))

    def test_ask_meanwhile(self) -> None:
        """Who asks for more while a piece is handed on is not released twice."""
        soon: list[Callable[[], None]] = []
        transport = Mock(bufferSize=3, is_reading=True, is_slow=False)
        transport.reactor.loop.call_soon = soon.append
        held = HeldReader(transport, Mock())
        transport.data_received = lambda data: held.go_on()
        held.data_received(b"abc")
        while soon:
            soon.pop(0)()
        transport.release.assert_called_once_with()

    def test_back_pressure(self) -> None:
        """Nothing more is read until all that has come has been handed on."""
        soon: list[Callable[[], None]] = []
        native = Mock()
        transport = Mock(bufferSize=3, is_reading=True, is_slow=True)
        transport.reactor.loop.call_soon = soon.append
        held = HeldReader(transport, native)
        for bring in (held.data_received, lambda data: held.put_back(data, 0)):
            native.reset_mock()
            bring(b"abcdefg")
            native.pause_reading.assert_called_once_with()
            for _ in range(3):
                native.resume_reading.assert_not_called()
                soon.pop(0)()
            native.resume_reading.assert_called_once_with()
