"""How connections and the whole of llmux come to an end, on virtual time."""

from __future__ import annotations

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase
from txaio.tx import make_logger
from zope.interface import implementer

from llmux.config import Shutdown
from llmux.ending import SENDING_SECS, Ending
from llmux.events import Events
from llmux.server.channel import FIRST_SECS
from llmux.server.request import RelayRequest
from llmux.states import State
from llmux.systemd import Notifier
from llmux.test.stacks import on_each_stack
from llmux.test.test_channel import GET, POST, Connection, Line


@on_each_stack
class ConnectionTests(SynchronousTestCase):
    http: str

    def setUp(self) -> None:
        """Connect."""
        self.connection = Connection(self.http)
        self.site = self.connection.site

    def finish(self) -> None:
        """Answer the oldest request."""
        desk = self.connection.desk
        request = desk.requests.pop(0)
        request.write(desk.answer(request))
        request.finish()

    def assert_closed(self, *, said: int) -> None:
        """Check that the connection is closed, in order, after so many answers."""
        self.assertEqual(len(self.connection.heard()), said)
        self.assertFalse(self.connection.line.connected)
        self.assertFalse(self.connection.line.was_reset)
        self.assertEqual(self.site.connections, 0)

    def test_idle(self) -> None:
        """A connection without a request is closed at once."""
        self.connection.say(GET)
        self.site.end()
        self.assert_closed(said=1)

    def test_busy(self) -> None:
        """A request that is being answered is answered, and its connection is closed then."""
        self.connection.desk.slow = True
        self.connection.say(GET)
        self.site.end()
        self.assertTrue(self.connection.line.connected)
        self.finish()
        self.assert_closed(said=1)
        (answer,) = self.connection.heard()
        self.assertEqual(answer.one("connection"), b"close")

    def test_begun_answer(self) -> None:
        """An answer whose head has been sent goes on to its end; the connection is closed then."""
        desk = self.connection.desk
        desk.slow = True
        self.connection.say(GET)
        desk.requests[0].write(b"first ")
        self.site.end()
        desk.requests[0].write(b"last")
        desk.requests[0].finish()
        self.assert_closed(said=1)
        self.assertEqual(self.connection.heard()[0].body, b"first last")

    def test_half_a_request(self) -> None:
        """A request of which a part has come is taken, and answered as the last one."""
        self.connection.say(POST[:30])
        self.site.end()
        self.connection.say(POST[30:])
        self.assert_closed(said=1)

    def test_half_a_body(self) -> None:
        """A request whose body is still coming is answered as the last one."""
        self.connection.say(POST[:-2])
        self.site.end()
        self.connection.say(POST[-2:])
        self.assert_closed(said=1)

    def test_second_request(self) -> None:
        """Of two requests that came at once, the one that has begun is answered."""
        self.connection.desk.slow = True
        self.connection.say(GET + GET)
        self.site.end()
        self.finish()
        self.assertEqual(len(self.connection.heard()), 1)
        self.assertTrue(self.connection.line.half_closed)

    def test_new(self) -> None:
        """A client that has only just connected gets an answer to its request."""
        self.site.end()
        self.assertTrue(self.connection.line.connected)
        self.connection.say(GET)
        self.assert_closed(said=1)

    def test_new_and_silent(self) -> None:
        """A client that has just connected and asks nothing is not waited for."""
        self.site.end()
        self.connection.clock.advance(FIRST_SECS)
        self.assert_closed(said=0)

    def test_late(self) -> None:
        """A client that is let in while llmux ends gets one answer, too, if it asks soon."""
        self.site.end()
        self.connection.clock.advance(FIRST_SECS)
        for said in ([GET], []):
            self.connection.line = Line()
            self.connection.connect()
            self.assertEqual(self.site.connections, 1)
            self.connection.say(*said)
            self.connection.clock.advance(FIRST_SECS)
            self.assert_closed(said=len(said))

    def test_abort(self) -> None:
        """What is in the midst of an answer can be cut, so that nobody takes it for whole."""
        self.connection.desk.slow = True
        self.connection.say(GET)
        self.site.abort()
        self.assertTrue(self.connection.line.was_reset)
        self.assertEqual(self.site.connections, 0)

    def test_emptied(self) -> None:
        """Whoever waits for the last connection's end is told, unless they have given up."""
        waiting, tired = self.site.emptied(), self.site.emptied()
        self.assertNoResult(waiting)
        tired.addErrback(lambda _: None).cancel()
        self.site.abort()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertIsNone(self.successResultOf(self.site.emptied()))


@attrs.define(eq=False)
class FakeSwitcher:
    """
    A switcher that ends when the test says so.

    :ivar calls: what it was told.
    :ivar closed: fires when all is over.
    :ivar shared: where those wait who would take any of several models.
    """

    calls: list[str] = attrs.field(factory=list)
    closed: Deferred[None] = attrs.field(factory=Deferred)
    shared: dict[str, object] = attrs.field(factory=dict)

    def states(self) -> dict[str, State]:
        """See :meth:`Switcher.states`."""
        return {"a": State.AWAKE, "b": State.ASLEEP}

    def in_flight(self, name: str) -> int:
        """See :meth:`Switcher.in_flight`."""
        return 2 if name == "a" else 0

    def waiting(self, name: str) -> int:
        """See :meth:`Switcher.waiting`."""
        return 0 if name == "a" else 3

    def close(self, grace: float, sleep_models: bool) -> Deferred[None]:
        """See :meth:`Switcher.close`."""
        self.calls.append(f"close {grace:g} {sleep_models}")
        return self.closed

    def cut(self) -> None:
        """See :meth:`Switcher.cut`."""
        self.calls.append("cut")


@implementer(IListeningPort)
class Port:
    """
    A port.

    :ivar open: whether it listens.
    """

    open = True

    def startListening(self) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`IListeningPort.startListening`."""

    def stopListening(self) -> Deferred[None]:  # noqa: N802  # Twisted's name
        """See :meth:`IListeningPort.stopListening`."""
        self.open = False
        return succeed(None)

    def getHost(self) -> IPv4Address:  # noqa: N802  # Twisted's name
        """See :meth:`IListeningPort.getHost`."""
        return IPv4Address("TCP", "127.0.0.1", 1)


@on_each_stack
class EndingTests(SynchronousTestCase):
    http: str

    def setUp(self) -> None:
        """Have a client, a port, and something to end."""
        self.connection = Connection(self.http)
        self.connection.desk.slow = True
        self.clock = self.connection.clock
        self.switcher = FakeSwitcher()
        self.seen: list[LogEvent] = []
        events = Events()
        events.log = make_logger(level="debug", observer=self.seen.append)
        self.port = Port()
        self.ending = Ending(
            self.connection.site,
            self.switcher,  # type: ignore[arg-type]  # a fake
            Notifier(self.clock),
            events,
            self.clock,
            lambda: Shutdown(grace_secs=20.0, sleep_models=True),
        )

    def begin(self) -> Deferred[None]:
        """Begin to end."""
        return self.ending.begin("TERM", [self.port])

    def logged(self) -> list[str]:
        """Give the names of the events."""
        return [event["event"] for event in self.seen]

    def ask(self) -> RelayRequest:
        """Send a request."""
        self.connection.say(GET)
        return self.connection.desk.requests[-1]

    def test_order(self) -> None:
        """Nobody new is let in, then what is in flight ends, then what was answered is sent."""
        request = self.ask()
        over = self.begin()
        self.assertFalse(self.port.open)
        self.assertEqual(self.switcher.calls, ["close 20 True"])
        self.clock.advance(15)
        request.write(b"whole")
        self.switcher.closed.callback(None)
        self.assertNoResult(over)
        request.finish()
        self.successResultOf(over)
        self.assertEqual(self.connection.heard()[0].body, b"whole")
        self.assertFalse(self.connection.line.was_reset)

    def test_log(self) -> None:
        """The log says why llmux ends, whom it waits for, and how long that took."""
        over = self.begin()
        self.clock.advance(2)
        self.switcher.closed.callback(None)
        self.connection.line.loseConnection()
        self.successResultOf(over)
        self.assertEqual(self.logged(), ["stopping", "stopped"])
        begun, ended = self.seen
        self.assertEqual(
            [begun[field] for field in ("signal", "grace_secs", "in_flight", "waiting")],
            ["TERM", 20.0, 2, 3],
        )
        self.assertEqual(ended["duration_secs"], 2.0)

    def test_clients_that_take_nothing(self) -> None:
        """Who does not take the last answer is not waited for, for long, and is cut."""
        self.ask()
        over = self.begin()
        self.switcher.closed.callback(None)
        self.clock.advance(SENDING_SECS - 0.1)
        self.assertNoResult(over)
        self.clock.advance(0.1)
        self.successResultOf(over)
        self.assertTrue(self.connection.line.was_reset)

    def test_cut(self) -> None:
        """A second signal ends it at once, visibly for who is being answered."""
        self.ask()
        over = self.begin()
        self.ending.cut()
        self.successResultOf(over)
        self.assertEqual(self.switcher.calls, ["close 20 True", "cut"])
        self.assertTrue(self.connection.line.was_reset)
        self.switcher.closed.callback(None)
        self.ending.cut()
        self.clock.advance(60)
        self.assertEqual(self.logged(), ["stopping", "stopped"])

    def test_cut_before_it_began(self) -> None:
        """Two signals in one moment end llmux at once, too."""
        self.ending.cut()
        self.assertEqual(self.switcher.calls, [])
        self.successResultOf(self.begin())

    def test_a_bug(self) -> None:
        """Whatever goes wrong while llmux ends, it ends; the log has what went wrong."""
        over = self.begin()
        self.switcher.closed.errback(RuntimeError("a bug"))
        self.successResultOf(over)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
