"""Tests of what the reactor over uvloop does in its own way; the rest is in Twisted's own tests."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer

from llmux.engine.choice import REACTOR, STOCK
from llmux.engine.holding import first_of
from llmux.engine.together import write_soon
from llmux.engine.transport import LARGE

_MANY = 1_000_000  # bytes: more than is read at once


@implementer(IPushProducer)
class Idle:
    """Produces nothing."""

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`."""


@implementer(IPullProducer)
class Pulled:
    """
    Produces a byte whenever it is asked.

    :param transport: takes them.
    :param data: the bytes.
    """

    def __init__(self, transport: Any, data: bytes) -> None:
        self._transport, self._left = transport, data

    def resumeProducing(self) -> None:
        """See :meth:`IPullProducer.resumeProducing`."""
        self._transport.write(self._left[:1])
        self._left = self._left[1:]
        if not self._left:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`."""


class Collector(Protocol):
    """
    Keeps what comes.

    :ivar pieces: as it came.
    :ivar ended: fires at the connection's end.
    """

    transport: Any

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """See :meth:`IProtocol.connectionMade`."""
        self.begin()

    def begin(self) -> None:
        """Do what a test wants at first."""

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        self.pieces.append(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        self.ended.callback(None)


class Together(Collector):
    """
    Writes for the end of a turn, and otherwise.

    :param then: what it does behind that.
    """

    def __init__(self, then: str) -> None:
        super().__init__()
        self._then = then

    def begin(self) -> None:
        """See :meth:`Collector.begin`; uvloop's transport is there in the next turn."""
        write_soon(self.transport, b"0")
        self.transport.reactor.callLater(0.01, self.go_on)

    def go_on(self) -> None:
        """Do the rest."""
        transport, then = self.transport, self._then
        write_soon(transport, b"1")
        transport.write(b"2")
        write_soon(transport, b"3")
        if then == "register":
            transport.registerProducer(Idle(), True)
        if then in ("nothing", "register"):
            transport.write(b"4")
            write_soon(transport, b"5")
        elif then == "pull":
            transport.registerProducer(Pulled(transport, b"45"), False)
        elif then == "sequence":
            transport.writeSequence([b"4", b"5"])
        elif then == "half-close":
            transport.loseWriteConnection()
        else:
            transport.loseConnection()
        if "close" not in then:
            transport.reactor.callLater(0.05, transport.abortConnection)


@implementer(IHalfCloseableProtocol)
class HalfClosing(Collector):
    """Asks, and says at once that it says nothing more."""

    def begin(self) -> None:
        """See :meth:`Collector.begin`."""
        self.transport.write(b"?")
        self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`IHalfCloseableProtocol.readConnectionLost`."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`IHalfCloseableProtocol.writeConnectionLost`."""


class Again(ClientFactory):
    """
    Connects anew when its connection has ended, once.

    :param reactor: is stopped when the second one has ended.
    :ivar connected: called soon after each has come about.
    :ivar lost: how many have ended.
    """

    noisy = False
    connected: Callable[[], object]

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.lost = 0

    def buildProtocol(self, addr: object) -> Protocol:
        """See :meth:`IProtocolFactory.buildProtocol`."""
        self._reactor.callLater(0, self.connected)
        return Protocol()

    def clientConnectionLost(  # noqa: N802  # Twisted's name
        self, connector: Any, reason: Failure
    ) -> None:
        """See :class:`ClientFactory`."""
        self.lost += 1
        if self.lost == 1:
            connector.connect()
        else:
            self._reactor.callLater(0, self._reactor.stop)


class TransportTests(ReactorBuilder, SynchronousTestCase):
    """Connections of the reactor's own, both ends of them."""

    timeout = 30
    if REACTOR.made({}) == STOCK:
        skip = "uvloop is not installed"

    def reactorFactory(self) -> Any:  # noqa: N802  # Twisted's name
        """Make the reactor that Twisted's builder runs."""
        from llmux.engine.reactor import UvloopReactor

        return UvloopReactor()

    def run_with(self, server: Collector, client: Protocol, until: Collector | None = None) -> Any:
        """
        Connect two protocols, and run until the server's connection has ended.

        :param until: until that one's has, instead.
        :returns: the reactor; it has stopped.
        """
        reactor = self.buildReactor()
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

        def connect(port: Any) -> Deferred[Any]:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            connected: Deferred[Any] = connectProtocol(endpoint, client)
            return connected

        listening.listen(Factory.forProtocol(lambda: server)).addCallback(connect)
        (until or server).ended.addBoth(lambda reason: reactor.stop())
        self.runReactor(reactor)
        return reactor

    def test_pieces(self) -> None:
        """A small bufferSize bounds the pieces; the rest of the program has its turn in between."""

        class Slow(Collector):
            turns = 0
            seen: list[int]

            def begin(self) -> None:
                self.seen = []
                self.transport.bufferSize = 1000
                self.count()

            def count(self) -> None:
                if not self.ended.called:
                    self.turns += 1
                    self.transport.reactor.callLater(0, self.count)

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.seen.append(self.turns)

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(bytes(_MANY // 10))
                self.transport.loseConnection()

        server = Slow()
        self.run_with(server, Sender())
        self.assertEqual(sum(map(len, server.pieces)), _MANY // 10)
        self.assertLessEqual(max(map(len, server.pieces)), 1000)
        self.assertGreater(len(set(server.seen)), 50)

    def test_pieces_again_whole(self) -> None:
        """With the old bufferSize back, what comes is handed on as it comes."""

        class Fickle(Collector):
            def begin(self) -> None:
                self.transport.bufferSize = 10

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.bufferSize = type(self.transport).SEND_LIMIT

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(bytes(_MANY))
                self.transport.loseConnection()

        server = Fickle()
        self.run_with(server, Sender())
        self.assertEqual(sum(map(len, server.pieces)), _MANY)
        self.assertEqual(len(server.pieces[0]), 10)
        self.assertGreater(max(map(len, server.pieces)), 10_000)

    def test_put_back(self) -> None:
        """What is not wanted yet comes again in later turns, before what comes meanwhile."""
        sent = bytes(range(256)) * 200

        class Picky(Collector):
            def dataReceived(self, data: bytes) -> None:
                if not self.pieces:
                    self.transport.bufferSize = 1000
                super().dataReceived(first_of(data, 10, self.transport))
                if len(self.pieces) == 300:
                    self.transport.pauseProducing()
                    self.transport.reactor.callLater(0.01, self.transport.resumeProducing)
                if len(self.pieces) == 600:
                    self.transport.bufferSize = type(self.transport).SEND_LIMIT

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(sent)
                self.transport.loseConnection()

        server = Picky()
        self.run_with(server, Sender())
        self.assertEqual(b"".join(server.pieces), sent)
        self.assertLessEqual(max(map(len, server.pieces)), 10)

    def test_put_back_by_who_leaves(self) -> None:
        """What was put back by who closes then is not brought any more."""

        class Leaving(Collector):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(first_of(data, 10, self.transport))
                getattr(self.transport, how)()

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(b"x" * 100)

        for how in ("loseConnection", "abortConnection"):
            server = Leaving()
            self.run_with(server, Sender())
            self.assertEqual(server.pieces, [b"x" * 10], how)

    def test_paused_from_the_first(self) -> None:
        """Who pauses at once is given nothing, and everything, the end too, when it resumes."""

        class Waiting(Collector):
            early = -1

            def begin(self) -> None:
                self.transport.reactor.callLater(0, self.transport.pauseProducing)
                self.transport.reactor.callLater(0.05, self.go_on)

            def go_on(self) -> None:
                self.early = len(self.pieces)
                self.transport.resumeProducing()

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(b"all of it")
                self.transport.loseConnection()

        server = Waiting()
        self.run_with(server, Sender())
        self.assertEqual((server.early, b"".join(server.pieces)), (0, b"all of it"))

    def test_others_in_between(self) -> None:
        """Others have their turns beside a sender who is as fast as its data is taken."""

        class Receiver(Collector):
            turn = 0
            taken: Counter[int]

            def begin(self) -> None:
                self.taken = Counter()
                self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _MANY)
                self.transport.pauseProducing()
                self.transport.reactor.callLater(0.05, self.go_on)

            def go_on(self) -> None:
                self.transport.resumeProducing()
                self.count()

            def count(self) -> None:
                if not self.ended.called:
                    self.turn += 1
                    self.transport.reactor.callLater(0, self.count)

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.taken[self.turn] += len(data)

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(bytes(20 * _MANY))
                self.transport.loseConnection()

        server = Receiver()
        self.run_with(server, Sender())
        self.assertEqual(sum(server.taken.values()), 20 * _MANY)
        if max(map(len, server.pieces)) < LARGE:
            raise SkipTest("the kernel keeps too little for a connection (net.core.rmem_max)")
        self.assertLess(max(server.taken.values()), 4 * LARGE)

    def test_pieces_after_a_lot(self) -> None:
        """Who wants little from now on because of a lot that has come is given what follows."""

        class Receiver(Collector):
            def begin(self) -> None:
                self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _MANY)
                self.transport.pauseProducing()
                self.transport.reactor.callLater(0.05, self.transport.resumeProducing)
                self.transport.reactor.callLater(5, self.transport.abortConnection)

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.bufferSize = 10_000

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(bytes(_MANY))
                self.transport.loseConnection()

        server = Receiver()
        self.run_with(server, Sender())
        if len(server.pieces[0]) < LARGE:
            raise SkipTest("the kernel keeps too little for a connection (net.core.rmem_max)")
        self.assertEqual(sum(map(len, server.pieces)), _MANY)

    def test_back_pressure(self) -> None:
        """A producer is paused while the other side takes nothing, and goes on when it does."""

        class Reader(Collector):
            def begin(self) -> None:
                self.transport.pauseProducing()

        @implementer(IPushProducer)
        class Producer(Collector):
            sent = 0
            paused_at = 0

            def begin(self) -> None:
                self.transport.write(b"x")
                # when the transport is uvloop's: until then Twisted's own buffer keeps it all
                self.transport.reactor.callLater(0.02, self.produce)

            def produce(self) -> None:
                self.transport.registerProducer(self, True)
                self.resumeProducing()

            def resumeProducing(self) -> None:
                self.running = True
                while self.running and self.sent < 20 * _MANY:
                    self.sent += 100_000
                    self.transport.write(bytes(100_000))
                if self.running:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

            def pauseProducing(self) -> None:
                self.running = False
                if not self.paused_at:
                    self.paused_at = self.sent
                    reader.transport.resumeProducing()

            def stopProducing(self) -> None:
                pass

        reader, producer = Reader(), Producer()
        self.run_with(reader, producer)
        self.assertEqual(sum(map(len, reader.pieces)), 20 * _MANY + 1)
        self.assertTrue(0 < producer.paused_at < 15 * _MANY)

    def test_closed_at_once(self) -> None:
        """What was written before uvloop's transport was there is sent before the end."""

        class Slow(Collector):
            def begin(self) -> None:
                self.transport.pauseProducing()
                self.transport.reactor.callLater(0.05, self.transport.resumeProducing)

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(bytes(20 * _MANY))
                self.transport.loseConnection()

        server = Slow()
        self.run_with(server, Sender())
        self.assertEqual(sum(map(len, server.pieces)), 20 * _MANY)

    def test_half_closed_at_once(self) -> None:
        """The same for a half-close; what is written behind it is dropped, and nothing is lost."""

        @implementer(IHalfCloseableProtocol)
        class Slow(Collector):
            def begin(self) -> None:
                self.transport.pauseProducing()
                self.transport.reactor.callLater(0.05, self.transport.resumeProducing)

            def readConnectionLost(self) -> None:  # noqa: N802
                client.transport.write(b"behind it")
                client.transport.writeSequence([b"behind", b" it"])
                self.transport.reactor.callLater(0.02, self.answer)

            def answer(self) -> None:
                self.transport.write(b"got it")
                self.transport.loseConnection()

            def writeConnectionLost(self) -> None:  # noqa: N802
                pass

        @implementer(IHalfCloseableProtocol)
        class Sender(Collector):
            def begin(self) -> None:
                self.transport.write(bytes(20 * _MANY))
                self.transport.loseWriteConnection()

            def readConnectionLost(self) -> None:  # noqa: N802
                self.transport.loseConnection()

            def writeConnectionLost(self) -> None:  # noqa: N802
                pass

        server, client = Slow(), Sender()
        self.run_with(server, client, until=client)
        self.assertEqual(sum(map(len, server.pieces)), 20 * _MANY)
        self.assertEqual(b"".join(client.pieces), b"got it")

    def test_written_together(self) -> None:
        """What is written for the end of a turn goes out in order with all else that is written."""
        for then in ("nothing", "close", "half-close", "register", "pull", "sequence"):
            server = Collector()
            self.run_with(server, Together(then))
            expected = b"0123" if "close" in then else b"012345"
            self.assertEqual(b"".join(server.pieces), expected, then)

    def test_many_together(self) -> None:
        """However many write in a turn, all of it goes out, and the first need not wait for it."""
        count = 50
        answered: list[int] = []

        class Answering(Collector):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                write_soon(self.transport, data[::-1])

        class Asking(Collector):
            def begin(self) -> None:
                asking.append(self)
                if len(asking) == count:  # uvloop's transports are there a little later
                    self.transport.reactor.callLater(0.01, ask)

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                answered.append(1)
                if len(answered) == count:
                    reactor.stop()

        def ask() -> None:
            for each in asking:
                write_soon(each.transport, b"ab")
            left.extend(each.transport.unsent for each in asking)

        asking: list[Asking] = []
        left: list[int] = []
        reactor = self.buildReactor()
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

        def connect(port: Any) -> None:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            for _ in range(count):
                connectProtocol(endpoint, Asking())

        listening.listen(Factory.forProtocol(Answering)).addCallback(connect)
        self.runReactor(reactor)
        self.assertEqual({b"".join(each.pieces) for each in asking}, {b"ba"})
        self.assertEqual((len(left), left[:48], left[48:]), (50, [0] * 48, [2, 2]))

    def test_one_of_many_fails(self) -> None:
        """A protocol that fails at its connection's end does not keep back what others write."""

        class Writing(Collector):
            def begin(self) -> None:
                writing.append(self)
                if len(writing) == 2:  # uvloop's transports are there a little later
                    self.transport.reactor.callLater(0.01, self.go_on)

            def go_on(self) -> None:
                writing[0].transport._hand_over = fail
                for each in writing:
                    write_soon(each.transport, b"x")

            def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # as above
                super().connectionLost(reason)
                if self is writing[0]:
                    fail()

        class Reading(Collector):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                reactor.stop()

        def fail() -> NoReturn:
            raise RuntimeError("planted")

        def make() -> Reading:
            reading.append(Reading())
            return reading[-1]

        writing: list[Writing] = []
        reading: list[Reading] = []
        reactor = self.buildReactor()
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

        def connect(port: Any) -> None:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            for _ in range(2):
                connectProtocol(endpoint, Writing())

        listening.listen(Factory.forProtocol(make)).addCallback(connect)
        self.runReactor(reactor, timeout=5)
        self.assertEqual(sorted(b"".join(each.pieces) for each in reading), [b"", b"x"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_aborted(self) -> None:
        """What was written for later goes out no more when all is broken off; nor what is then."""

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.reactor.callLater(0.01, self.go_on)

            def go_on(self) -> None:
                write_soon(self.transport, b"x")
                self.transport.abortConnection()
                write_soon(self.transport, b"y")

        server, client = Collector(), Sender()
        self.run_with(server, client)
        self.assertEqual(b"".join(server.pieces), b"")

    def test_other_side_ends(self) -> None:
        """What was written in a turn goes out though the other side ends in the same turn."""

        class Answering(Collector):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                write_soon(self.transport, b"answer")
                self.transport.eof_received()  # as uvloop calls it, which may be in this turn

        server, client = Answering(), HalfClosing()
        self.run_with(server, client, until=client)
        self.assertEqual(b"".join(client.pieces), b"answer")

    def test_stock_transport(self) -> None:
        """Where a transport knows nothing of that it is written as ever."""
        transport = StringTransport()
        write_soon(transport, b"x")
        self.assertEqual(transport.value(), b"x")

    def test_something_before_the_transport(self) -> None:
        """What stands before a transport, as TLS does, gets what is written to it."""

        class Sender(Collector):
            def begin(self) -> None:
                self.transport.reactor.callLater(0.01, self.go_on)

            def go_on(self) -> None:
                write_soon(self.transport, b"secret")
                self.transport.loseConnection()

        class Encrypting(ProtocolWrapper):
            def write(self, data: bytes) -> None:
                super().write(data[::-1])

        server, client = Collector(), Encrypting(WrappingFactory(Factory()), Sender())
        self.run_with(server, client)
        self.assertEqual(b"".join(server.pieces), b"terces")

    def test_pulled(self) -> None:
        """A producer that is asked for each piece leaves no timers behind, however many it has."""

        @implementer(IPullProducer)
        class Producer(Collector):
            left = 500
            timers = 0

            def begin(self) -> None:
                self.transport.reactor.callLater(0.02, self.transport.registerProducer, self, False)

            def resumeProducing(self) -> None:
                self.timers = max(self.timers, len(self.transport.reactor.getDelayedCalls()))
                self.left -= 1
                self.transport.write(bytes(1000))
                if not self.left:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

            def stopProducing(self) -> None:
                pass

        server, producer = Collector(), Producer()
        self.run_with(server, producer)
        self.assertEqual(sum(map(len, server.pieces)), 500 * 1000)
        self.assertLess(producer.timers, 10)

    def test_pushed(self) -> None:
        """So does one that pushes, from the first or later, also through Twisted's own buffer."""

        @implementer(IPushProducer)
        class Producer(Collector):
            left = 200
            timers = 0
            running = False

            def __init__(self, delay: float, *, buffered: bool) -> None:
                super().__init__()
                self._delay, self._buffered = delay, buffered

            def begin(self) -> None:
                write_soon(self.transport, b"x")
                if self._buffered:  # as where descriptors are sent
                    self.transport._choose_write = lambda: None
                if self._delay:
                    self.transport.reactor.callLater(self._delay, self.produce)
                else:
                    self.produce()

            def produce(self) -> None:
                self.transport.registerProducer(self, True)
                self.resumeProducing()

            def resumeProducing(self) -> None:
                self.timers = max(self.timers, len(self.transport.reactor.getDelayedCalls()))
                self.running = True
                while self.running and self.left:
                    self.left -= 1
                    self.transport.write(bytes(_MANY // 10))
                if not self.left:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

            def pauseProducing(self) -> None:
                self.running = False

            def stopProducing(self) -> None:
                pass

        for delay in (0, 0.02):
            for buffered in (False, True):
                server, producer = Collector(), Producer(delay, buffered=buffered)
                self.run_with(server, producer)
                self.assertEqual(sum(map(len, server.pieces)), 20 * _MANY + 1)
                self.assertLess(producer.timers, 5, (delay, buffered))

    def test_first_words(self) -> None:
        """What is written before uvloop's transport is there leaves nothing in its way later."""

        class Sender(Collector):
            direct = False

            def begin(self) -> None:
                self.transport.write(b"x")
                self.transport.reactor.callLater(0.02, self.look)

            def look(self) -> None:
                self.direct = self.transport._write is self.transport._plain
                self.transport.loseConnection()

        server, client = Collector(), Sender()
        self.run_with(server, client)
        self.assertTrue(client.direct)

    def hear_out(self, client: Collector) -> bytes:
        """
        Have a server answer before it has read anything, and close; the client goes on writing.

        :returns: what the client has heard.
        """
        reactor = self.buildReactor()

        def refuse() -> None:
            server, _ = listening.accept()
            server.sendall(b"that is too much")
            server.close()  # which resets the connection: there is something that it has not read
            client.transport.write(bytes(_MANY))

        def begin(connected: Collector) -> None:
            connected.transport.write(b"the beginning")
            reactor.callLater(0.02, refuse)  # when that has gone out

        with socket.create_server(("127.0.0.1", 0)) as listening:
            endpoint = TCP4ClientEndpoint(reactor, *listening.getsockname())
            connectProtocol(endpoint, client).addCallback(begin)
            client.ended.addBoth(lambda reason: reactor.stop())
            self.runReactor(reactor)
        return b"".join(client.pieces)

    def test_answered_too_early(self) -> None:
        """What a server has said before it closed is heard, though nothing can be sent any more."""
        self.assertEqual(self.hear_out(Collector()), b"that is too much")

    def test_answered_too_early_for_pieces(self) -> None:
        """The same for a protocol that wants little at once."""

        class Slow(Collector):
            def begin(self) -> None:
                self.transport.bufferSize = 3

        client = Slow()
        self.assertEqual(self.hear_out(client), b"that is too much")
        self.assertEqual(len(client.pieces[0]), 3)

    def test_answered_too_early_for_who_puts_back(self) -> None:
        """The same for one that puts some of it back: that comes again before the rest."""

        class Picky(Collector):
            def begin(self) -> None:
                self.transport.bufferSize = 5

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(first_of(data, 2, self.transport))

        client = Picky()
        self.assertEqual(self.hear_out(client), b"that is too much")

    def test_answered_too_early_for_nobody(self) -> None:
        """A protocol that has had enough of it is given no more."""

        class Short(Collector):
            def begin(self) -> None:
                self.transport.bufferSize = 3

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.abortConnection()

        self.assertEqual(self.hear_out(Short()), b"tha")

    def test_timers_are_not_early(self) -> None:
        """A timer is called when it is due, and the reactor is not woken over and over before."""
        reactor = self.buildReactor()
        woken = []
        look = reactor.runUntilCurrent
        due: list[float] = []

        def look_and_count() -> None:
            woken.append(reactor.seconds())
            look()

        reactor.runUntilCurrent = look_and_count

        def begin() -> None:
            for milliseconds in (10.3, 20.4, 30.49):
                at = reactor.seconds() + milliseconds / 1000
                reactor.callLater(milliseconds / 1000, due.append, at)
            reactor.callLater(0.05, reactor.stop)

        reactor.callWhenRunning(begin)
        self.runReactor(reactor)
        self.assertEqual(len(due), 3)
        self.assertLess(len(woken), 20)

    def test_connecting_anew(self) -> None:
        """A connector holds the connection that it has, and none when that has ended for good."""
        for unix in (False, True):
            reactor = self.buildReactor()
            again = Again(reactor)
            if unix:
                path = self.mktemp()
                reactor.listenUNIX(path, Factory.forProtocol(Protocol))
                connector = reactor.connectUNIX(path, again)
            else:
                port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
                connector = reactor.connectTCP("127.0.0.1", port.getHost().port, again)
            again.connected = connector.disconnect
            self.runReactor(reactor)
            self.assertEqual((again.lost, connector.transport), (2, None))
