"""A client's connection: its deadlines, its limits, and requests in pieces of any size."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import alsoProvides

from llmux.clock import VirtualClock
from llmux.config import Limits
from llmux.server.channel import HEAD_SECS, IDLE_SECS, LINGER_SECS, SLICE, RelayChannel
from llmux.server.head_reader import MAX_HEAD
from llmux.server.refusals import Refusal, Refused
from llmux.server.request import RelayRequest
from llmux.server.site import RelaySite
from llmux.test.messages import Message, read_message
from llmux.test.stacks import on_each_stack

BODY_SECS = 60.0
MAX_BODY = 2_000_000
GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Line(StringTransportWithDisconnection):
    """
    The transport of a client's connection.

    :ivar half_closed: whether nothing more is sent.
    :ivar was_reset: whether it was closed at once.
    """

    half_closed = was_reset = False

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`ITCPTransport.setTcpNoDelay`."""

    def loseWriteConnection(self) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`IHalfCloseableDescriptor.loseWriteConnection`."""
        self.half_closed = True

    def abortConnection(self) -> None:  # Twisted's name
        """See :meth:`ITCPTransport.abortConnection`."""
        self.was_reset = True
        self.loseConnection()


class Patient(Line):
    """
    One that brings again what has been put back.

    :ivar left: what that is.
    :ivar bufferSize: how much is to be brought at once.
    """

    left = b""
    bufferSize = 64 * 1024  # noqa: N815  # Twisted's name

    def put_back(self, data: bytes, start: int) -> None:
        """See :func:`llmux.engine.holding.first_of`."""
        self.left = data[start:] + self.left


class Desk(Resource):
    """
    Answers each request with what it was, or with why it is refused.

    :ivar requests: all that have come.
    :ivar slow: whether it leaves the answers to the test.
    """

    isLeaf = True  # noqa: N815  # Twisted's name
    slow = False

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[RelayRequest] = []

    def render(self, request: RelayRequest) -> bytes | int:
        """See :meth:`IResource.render`."""
        self.requests.append(request)
        return NOT_DONE_YET if self.slow else self.answer(request)

    def answer(self, request: RelayRequest) -> bytes:
        """Make the answer to a request."""
        if request.refusal is not None:
            request.setResponseCode(request.refusal.status)
            return request.refusal.message.encode()
        assert request.content is not None
        body: bytes = request.content.read()
        return b"%s %s " % (request.method, request.uri) + body


@attrs.define(eq=False)
class Connection:
    """
    A client's connection to a site, on virtual time.

    :param http: the HTTP stack.
    :param spool: where bodies are kept; ``None``: where the system keeps temporary files.
    """

    http: str
    spool: Path | None = None
    clock: VirtualClock = attrs.field(factory=VirtualClock)
    desk: Desk = attrs.field(factory=Desk)
    line: Line = attrs.field(factory=Line)
    site: RelaySite = attrs.field(init=False)
    channel: RelayChannel = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = Limits(max_body_bytes=MAX_BODY, body_timeout_secs=BODY_SECS, spool_dir=self.spool)
        self.site = RelaySite(
            self.desk,
            self.clock,
            limits,
            is_model=lambda name: False,
            refused=lambda: None,
            abandoned=lambda request: None,
            http=self.http,
        )
        self.connect()

    def connect(self) -> None:
        """Connect to the site."""
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert isinstance(channel, RelayChannel)
        self.channel = channel
        alsoProvides(self.line, ITCPTransport)
        self.line.protocol = channel
        channel.makeConnection(self.line)

    def say(self, *pieces: bytes) -> bytes:
        """Say something in some pieces; give all that has come back so far."""
        for piece in pieces:
            if self.line.connected:
                self.channel.dataReceived(piece)
        said: bytes = self.line.value()
        return said

    def heard(self) -> list[Message]:
        """Give all answers."""
        messages, rest = [], self.line.value()
        while (found := read_message(rest, ended=False)) is not None:
            message, rest = found
            messages.append(message)
        assert not rest, rest
        return messages

    def refusals(self) -> list[Refusal | None]:
        """Say of each request why it was refused, if it was."""
        refusals: list[Refusal | None] = []
        for request in self.desk.requests:
            refused = request.refusal
            refusals.append(refused.refusal if isinstance(refused, Refused) else None)
        return refusals


@on_each_stack
class DeadlineTests(SynchronousTestCase):
    http: str

    def setUp(self) -> None:
        """Connect."""
        self.connection = Connection(self.http)
        self.say, self.clock = self.connection.say, self.connection.clock
        self.line, self.desk = self.connection.line, self.connection.desk
        self.addCleanup(self.assert_nothing_is_left)

    def assert_nothing_is_left(self) -> None:
        """Fail if a connection that has ended leaves a timer behind."""
        if self.line.connected:
            self.connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assert_refused(self, refusal: Refusal) -> None:
        """Fail if the last request was not refused, or if the client was not told."""
        self.assertIs(self.connection.refusals()[-1], refusal)
        answer = self.connection.heard()[-1]
        self.assertEqual(answer.status, refusal.status)
        self.assertEqual(answer.one("connection"), b"close")
        self.assertTrue(self.line.half_closed)

    def test_slow_head(self) -> None:
        """A head has its time from its first byte on, however it trickles."""
        for number in range(27):
            self.say(GET[number : number + 1])
            self.clock.advance(1)
        self.clock.advance(HEAD_SECS - 27 - 0.25)
        self.assertEqual(self.desk.requests, [])
        self.clock.advance(0.25)
        self.assert_refused(Refusal.HEAD_SLOW)

    def test_slow_second_head(self) -> None:
        """The head of a further request has the same time, from its own first byte on."""
        self.say(GET)
        self.clock.advance(IDLE_SECS - 1)
        self.say(b"G")
        self.clock.advance(HEAD_SECS - 0.25)
        self.assertEqual(len(self.desk.requests), 1)
        self.clock.advance(0.25)
        self.assert_refused(Refusal.HEAD_SLOW)

    def test_slow_head_behind_a_request(self) -> None:
        """So has one that began to come along with the request before."""
        self.say(GET + b"GET /x HT")
        self.clock.advance(HEAD_SECS - 0.25)
        self.assertEqual(len(self.desk.requests), 1)
        self.clock.advance(0.25)
        self.assert_refused(Refusal.HEAD_SLOW)

    def test_last_request_with_a_body(self) -> None:
        """A client that says that it is done, and sends nothing more, is not waited for."""
        self.say(POST.replace(b"Host", b"Connection: close\r\nHost"))
        self.assertEqual(self.connection.refusals(), [None])
        self.assertFalse(self.line.connected)
        self.assertFalse(self.line.half_closed)

    def test_client_behind_too_much(self) -> None:
        """A connection that is not read, for too much has come, is looked at until it is."""
        self.desk.slow = True
        self.say(GET)
        self.connection.channel.pauseProducing()  # the client takes nothing
        self.say(b"x" * 20_000)
        self.assertEqual(self.line.producerState, "paused")
        self.clock.advance(10)
        self.assertTrue(self.line.connected)

    def test_head_in_time(self) -> None:
        """A head that is whole in time is answered, and its deadline is over."""
        self.say(GET[:-1])
        self.clock.advance(HEAD_SECS - 0.25)
        self.say(GET[-1:])
        self.assertEqual(self.connection.refusals(), [None])
        self.clock.advance(0.5)
        self.assertEqual(self.connection.refusals(), [None])

    def test_slow_body(self) -> None:
        """A body may take any time while it goes on, and is given up when it stops."""
        self.say(POST[:-5])
        for _ in range(4):
            self.clock.advance(BODY_SECS - 0.25)
            self.say(b"x")
        self.assertEqual(self.desk.requests, [])
        self.clock.advance(BODY_SECS - 0.25)
        self.assertEqual(self.desk.requests, [])
        self.clock.advance(0.25)
        self.assert_refused(Refusal.BODY_SLOW)

    def test_slow_chunks(self) -> None:
        """Chunks that stop are given up as any body."""
        self.say(CHUNKED + b"5\r\nhel")
        self.clock.advance(BODY_SECS)
        self.assert_refused(Refusal.BODY_SLOW)

    def test_idle(self) -> None:
        """A connection on which nobody asks anything is closed without a word."""
        self.clock.advance(IDLE_SECS - 0.25)
        self.assertTrue(self.line.connected)
        self.clock.advance(0.25)
        self.assertFalse(self.line.connected)
        self.assertEqual(self.line.value(), b"")

    def test_idle_after_a_request(self) -> None:
        """After an answer the client has the same time for its next request."""
        self.clock.advance(IDLE_SECS - 1)
        answered = self.say(POST)
        self.clock.advance(IDLE_SECS - 0.25)
        self.assertTrue(self.line.connected)
        self.clock.advance(0.25)
        self.assertFalse(self.line.connected)
        self.assertEqual(self.line.value(), answered)

    def test_no_deadline_for_answers(self) -> None:
        """While a request is being answered no deadline of its client's runs."""
        self.desk.slow = True
        self.say(POST)
        self.clock.advance(100_000)
        self.assertTrue(self.line.connected)
        self.desk.requests[0].write(b"late")
        self.desk.requests[0].finish()
        self.assertEqual(self.connection.heard()[0].body, b"late")

    def test_lingers(self) -> None:
        """What was refused may be sent on for a while, unheard; then the connection is reset."""
        answered = self.say(b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assert_refused(Refusal.METHOD)
        self.say(GET, b"x" * 100_000, b"\n")
        self.clock.advance(LINGER_SECS - 0.25)
        self.assertTrue(self.line.connected)
        self.assertFalse(self.line.was_reset)
        self.clock.advance(0.25)
        self.assertTrue(self.line.was_reset)
        self.assertEqual(self.line.value(), answered)
        self.assertEqual(len(self.desk.requests), 1)

    def test_nothing_is_left_behind(self) -> None:
        """A client that leaves at whatever moment leaves no timer and no count behind."""
        for said in (b"", b"G", POST[:-1], POST, CHUNKED, b"BREW / HTTP/1.1\r\n", GET * 2):
            connection = Connection(self.http)
            connection.say(said)
            self.assertEqual(connection.site.connections, 1)
            connection.line.loseConnection()
            self.assertEqual(connection.site.connections, 0)
            self.assertEqual(connection.clock.getDelayedCalls(), [], said)


@on_each_stack
class LimitTests(SynchronousTestCase):
    http: str

    def refusal(self, *said: bytes, spool: Path | None = None) -> Refusal | None:
        """Say something; give why it was refused.  Nothing of it may be taken for a good one."""
        connection = Connection(self.http, spool)
        connection.say(*said)
        (refusal,) = connection.refusals()
        return refusal

    def test_head(self) -> None:
        """A head may be so long and no longer, in one line or in many."""
        room = MAX_HEAD - len(GET) - len(b"A: \r\n")
        self.assertIsNone(self.refusal(GET[:-2] + b"A: " + b"a" * room + b"\r\n\r\n"))
        many = (b"A: " + b"b" * 1000 + b"\r\n") * (MAX_HEAD // 1000 + 1)
        for line in (b"A: " + b"a" * room + b"a\r\n", many, b"a" * 99_999):
            self.assertIs(self.refusal(GET[:-2] + line + b"\r\n"), Refusal.HEAD_SIZE)
        self.assertIs(self.refusal(b"GET /" + b"a" * 99_999), Refusal.HEAD_SIZE)

    def test_body(self) -> None:
        """A body that is too long is refused by its length, or as soon as it is known."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        connection = Connection(self.http)
        self.assertNotIn(CONTINUE, connection.say(head % (MAX_BODY + 1)))
        self.assertEqual(connection.refusals(), [Refusal.BODY_SIZE])
        self.assertIsNone(self.refusal(head % MAX_BODY, b"a" * MAX_BODY))
        size = b"%x\r\n" % (2 * MAX_BODY)
        self.assertIs(self.refusal(CHUNKED, size, b"a" * (MAX_BODY + 1)), Refusal.BODY_SIZE)

    def test_chunks(self) -> None:
        """Chunks that are none are refused, and nothing behind them is looked at."""
        for body in (
            b"x\r\n",
            b"-1\r\n",
            b"5\r\nhelloX",
            b"5;\x01\r\n",
            b"0\r\nA: " + b"a" * 99_999,
        ):
            self.assertIs(self.refusal(CHUNKED + body + GET), Refusal.CHUNK)

    def test_no_room(self) -> None:
        """A body for which there is no room is refused, not lost."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1500000\r\n\r\n"
        gone = Path(self.mktemp())
        self.assertIs(self.refusal(head, b"a" * 1_500_000, spool=gone), Refusal.SPOOL)

    def test_line_ends(self) -> None:
        """A line that ends with a bare LF is refused at once; its CRLF would never come."""
        for head in (b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: h\n", b"\n", b"\r\n\n"):
            self.assertIs(self.refusal(head), Refusal.LINE_END)

    def test_empty_lines(self) -> None:
        """One empty line before a request is overlooked, a second one is not."""
        self.assertIsNone(self.refusal(b"\r\n" + GET))
        self.assertIs(self.refusal(b"\r\n\r\n" + GET), Refusal.REQUEST_LINE)

    def test_continue(self) -> None:
        """Who waits for 100 Continue gets it when the head has been taken, and only once."""
        connection = Connection(self.http)
        self.assertEqual(connection.say(CHUNKED[:-2] + b"Expect: 100-continue\r\n\r\n"), CONTINUE)
        self.assertEqual(connection.say(b"5\r\nhello\r\n"), CONTINUE)
        connection.say(b"0\r\n\r\n")
        self.assertEqual([one.status for one in connection.heard()], [100, 200])


@on_each_stack
class PieceTests(SynchronousTestCase):
    http: str
    STREAMS = (
        GET + POST + GET,
        CHUNKED + b"5;a=b\r\nhello\r\n006\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n" + GET,
        b"\r\n" + POST + b"\r\n" + POST,
        POST.replace(b"Content", b"Expect: 100-continue\r\nContent"),
        GET + b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n" + GET,
        GET.replace(b"\r\nHost", b"\nHost") + GET,
        GET.replace(b"h\r\n", b"h\n") + GET,
        GET.replace(b"h\r\n", b"h\r\n folded\r\n"),
        POST.replace(b"5", b"+5") + GET,
        CHUNKED + b"5\r\nhello\n0\r\n\r\n" + GET,
        CHUNKED + b"5\nhello\r\n0\r\n\r\n" + GET,
    )

    def test_every_split(self) -> None:
        """Wherever what a client sends is split, it is answered the same."""
        for stream in self.STREAMS:
            whole = self.told(stream)
            for place in range(1, len(stream)):
                self.assertEqual(self.told(stream[:place], stream[place:]), whole, (stream, place))

    def test_every_byte(self) -> None:
        """What comes a byte at a time is answered as what comes at once."""
        for stream in self.STREAMS:
            bytewise = self.told(*(stream[at : at + 1] for at in range(len(stream))))
            self.assertEqual(bytewise, self.told(stream), stream)

    def test_large_body_behind_its_head(self) -> None:
        """What comes along with a head is looked into in small pieces, too."""
        body = b"x" * (3 * SLICE + 5)
        plain = POST.replace(b"5\r\n\r\nhello", b"%d\r\n\r\n%b" % (len(body), body))
        sizes: list[int] = []

        def look(request: RelayRequest, data: bytes) -> None:
            sizes.append(len(data))
            take(request, data)

        take = RelayRequest.handleContentChunk
        self.patch(RelayRequest, "handleContentChunk", look)
        for said in (plain, CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)):
            line = Patient()
            connection = Connection(self.http, line=line)
            connection.say(said + GET)
            while line.left:
                piece, line.left = line.left[: line.bufferSize], line.left[line.bufferSize :]
                connection.say(piece)
            self.assertEqual([len(each.body) for each in connection.heard()], [len(body) + 8, 7])
            self.assertLessEqual(max(sizes), SLICE)

    def test_many_at_once(self) -> None:
        """What comes at once is looked at in several turns, wherever heads are cut by that."""
        line, turns = Patient(), 0
        connection = Connection(self.http, line=line)
        count = 8 * SLICE // len(GET)
        line.left = GET * count
        while line.left:
            piece, line.left = line.left, b""
            connection.say(piece)
            turns += 1
        self.assertEqual(len(connection.heard()), count)
        self.assertGreaterEqual(turns, 4)

    def test_trickling_line(self) -> None:
        """A long line that comes a byte at a time is gone through when its end may have come."""
        looked: list[int] = []
        look = LineReceiver.dataReceived

        def count(channel: LineReceiver, data: bytes) -> None:
            looked.append(len(data))
            look(channel, data)

        self.patch(LineReceiver, "dataReceived", count)
        connection = Connection(self.http)
        head = GET[:-2] + b"A: " + b"b" * 5000 + b"\r\n\r\n"
        connection.say(*(head[at : at + 1] for at in range(len(head))))
        self.assertEqual(connection.refusals(), [None])
        self.assertLess(len(looked), 20)

    def test_in_order(self) -> None:
        """A request that comes while another is being answered waits for its turn."""
        connection = Connection(self.http)
        connection.desk.slow = True
        connection.say(GET + POST)
        for number in range(2):
            self.assertEqual(len(connection.desk.requests), number + 1)
            request = connection.desk.requests[number]
            request.write(connection.desk.answer(request))
            request.finish()
        bodies = [answer.body for answer in connection.heard()]
        self.assertEqual(bodies, [b"GET /x ", b"POST /x hello"])

    def told(self, *pieces: bytes) -> tuple[bytes, list[Refusal | None]]:
        """Say some pieces; give all that comes back, and what was refused."""
        connection = Connection(self.http)
        return connection.say(*pieces), connection.refusals()
