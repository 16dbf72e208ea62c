"""Deadlines that are put off by whatever happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.proxy.watchdog import Watchdog


class WatchdogTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Watch for three seconds."""
        self.clock = VirtualClock()
        self.expired: list[float] = []
        self.watchdog = Watchdog(self.clock, 3.0, self.expire)

    def expire(self) -> None:
        """Remember when."""
        self.expired.append(self.clock.seconds())

    def test_silence(self) -> None:
        """It tells, once, when nothing has happened for so long."""
        self.clock.advance(2.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(10)
        self.assertEqual(self.expired, [3.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pause(self) -> None:
        """Time that passes while it is paused does not count, nor what came before."""
        self.clock.advance(2)
        self.watchdog.pause()
        self.clock.advance(100)
        self.watchdog.resume()
        self.clock.advance(2.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [105.0])

    def test_stopped(self) -> None:
        """Stopped, it leaves no timer behind."""
        self.watchdog.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_limit(self) -> None:
        """Without a limit there is no timer at all."""
        self.watchdog.stop()
        Watchdog(self.clock, None, self.expire)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(st.lists(st.floats(0.01, 6)))
    def test_fed(self, gaps: list[float]) -> None:
        """It tells exactly when the first gap between two pieces is over."""
        clock = VirtualClock()
        expired: list[float] = []
        watchdog = Watchdog(clock, 3.0, lambda: expired.append(clock.seconds()))
        now = fed = 0.0
        for gap in gaps:
            clock.advance(gap)
            now += gap
            if gap >= 3.0:
                break
            fed = now
            watchdog.feed()
        else:
            clock.advance(3.1)
        self.assertAlmostEqual(expired[0], fed + 3.0, places=6)

    def test_put_off(self) -> None:
        """It can be put off without being fed; what it was fed last, and when, is kept."""
        self.clock.advance(1)
        self.watchdog.feed()
        self.clock.advance(2)
        self.watchdog.put_off()
        self.clock.advance(2.9)
        self.assertEqual((self.expired, self.watchdog.fed_at), ([], 1.0))
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [6.0])

    def test_paused_is_not_fed(self) -> None:
        """A pause that ends is nothing that has happened."""
        self.watchdog.pause()
        self.clock.advance(5)
        self.watchdog.resume()
        self.assertEqual(self.watchdog.fed_at, 0.0)
