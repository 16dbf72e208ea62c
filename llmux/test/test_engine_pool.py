"""Tests of :mod:`llmux.engine.pool`, with connections that are only pretended."""

from __future__ import annotations

from socket import socket, socketpair
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from llmux.engine.outgoing import ClientRequest
from llmux.engine.pool import ConnectionPool

REQUEST = ClientRequest(b"GET", b"/", Headers({b"Host": [b"x"]}))


@attrs.define(eq=False)
class Pretended:
    """
    A connection, and its socket.

    :ivar own: our socket, and
    :ivar server: the other end of it.
    :ivar aborted: whether it has been closed.
    """

    free: Any
    closed_idle: Any
    own: socket
    server: socket
    idle: bool = True
    aborted: bool = False

    @property
    def transport(self) -> Any:
        """Itself."""
        return self

    def getHandle(self) -> socket:
        """Give its socket."""
        return self.own

    def send(self, request: object, handing_over: object) -> Deferred[Pretended]:
        """Answer with itself, whatever is asked."""
        self.idle = False
        return succeed(self)

    def abort(self) -> None:
        """Close it."""
        self.aborted = True
        self.idle = False

    def end(self) -> None:
        """Come to the end of an answer."""
        self.idle = True
        self.free(self)


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a pool that keeps connections for two seconds."""
        self.clock = Clock()
        self.made: list[Pretended] = []
        self.pool = ConnectionPool(self, self.clock, 2.0, self.make)  # type: ignore[arg-type]  # the test is the endpoint

    def make(self, free: Any, closed_idle: Any) -> Pretended:
        """Make a connection."""
        ours, theirs = socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.made.append(Pretended(free, closed_idle, ours, theirs))
        return self.made[-1]

    def connect(self, factory: Any) -> Deferred[Any]:
        """See :meth:`IStreamClientEndpoint.connect`."""
        return succeed(factory.buildProtocol(None))

    def ask(self) -> Any:
        """Send a request; give the connection over which it went."""
        return self.successResultOf(self.pool.send(REQUEST))

    def test_last_used_first(self) -> None:
        """Of those that are idle the one that was used last is used next."""
        one, two = self.ask(), self.ask()
        self.assertIsNot(one, two)
        two.end()
        one.end()
        self.assertIs(self.ask(), one)
        self.assertIs(self.ask(), two)
        self.assertEqual(len(self.made), 2)

    def test_one_timer(self) -> None:
        """However many are idle, each is closed when its time is over, and one timer does it."""
        one, two, three = self.ask(), self.ask(), self.ask()
        for connection in (one, two, three):
            connection.end()
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.advance(0.5)
        self.assertIs(self.ask(), three)
        self.clock.advance(0.5)
        self.assertEqual([c.aborted for c in self.made], [True, False, False])
        three.end()
        self.clock.advance(0.5)
        self.assertEqual([c.aborted for c in self.made], [True, True, False])
        self.clock.advance(1.5)
        self.assertTrue(three.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        """Closed are those that are idle, and those under way when they come back."""
        one, two = self.ask(), self.ask()
        one.end()
        self.pool.close()
        self.assertEqual((one.aborted, two.aborted), (True, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        two.end()
        self.assertTrue(two.aborted)

    def test_looks_at_the_socket(self) -> None:
        """One on whose socket anything has come is not used, and one of no use any more neither."""
        for happens, silently in (
            (lambda spent: spent.server.send(b"x"), False),
            (lambda spent: spent.own.close(), False),
            (lambda spent: spent.server.close(), True),
        ):
            self.setUp()
            spent = self.ask()
            spent.end()
            happens(spent)
            self.assertIsNot(self.ask(), spent)
            self.assertTrue(spent.aborted)
            self.assertEqual(self.pool.closes_silently, silently)
        self.setUp()
        spent = self.ask()
        spent.end()
        spent.idle = False
        self.assertIsNot(self.ask(), spent)

    def test_closed_silently(self) -> None:
        """Where the server was seen closing one, none is kept, until another may be there."""
        one, two, three = self.ask(), self.ask(), self.ask()
        one.end()
        two.end()
        one.closed_idle(one)
        self.assertTrue(two.aborted)
        three.end()
        self.assertTrue(three.aborted)
        self.pool.close()
        fresh = self.ask()
        fresh.end()
        self.assertIs(self.ask(), fresh)

    def test_none_kept(self) -> None:
        """No time at all keeps none."""
        self.pool = ConnectionPool(self, self.clock, 0.0, self.make)  # type: ignore[arg-type]  # the test is the endpoint
        one = self.ask()
        one.end()
        self.assertTrue(one.aborted)
