"""A request as whoever answers it sees it: it is Twisted's, whole, and its answers are."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest
from zope.interface.verify import verifyObject

from llmux.server.request import RelayRequest
from llmux.test.messages import Message, read_message
from llmux.test.stacks import on_each_stack
from llmux.test.test_channel import GET, POST, Connection

OLD = GET.replace(b"HTTP/1.1", b"HTTP/1.0")


@on_each_stack
class AnswerTests(SynchronousTestCase):
    http: str

    def ask(self, said: bytes = GET) -> RelayRequest:
        """Send a request."""
        self.connection = Connection(self.http)
        self.connection.desk.slow = True
        self.connection.say(said)
        (request,) = self.connection.desk.requests
        return request

    def answered(self, answer: Callable[[RelayRequest], object], said: bytes = GET) -> Message:
        """Send a request and answer it; give what has come of that."""
        request = self.ask(said)
        answer(request)
        request.finish()
        read = read_message(
            self.connection.line.value(),
            ended=not self.connection.line.connected,
            bodiless=said.startswith(b"HEAD"),
        )
        assert read is not None
        self.assertEqual(read[1], b"", "there is more than one answer")
        return read[0]

    def test_interface(self) -> None:
        """It is a request of Twisted's, its body in hand."""
        request = self.ask(POST)
        self.assertTrue(verifyObject(IRequest, request))
        self.assertIsInstance(request.content, BytesIO)
        self.assertEqual(request.getHeader(b"host"), b"h")
        self.assertEqual(request.client_host, self.connection.line.getPeer().host)

    def test_framing(self) -> None:
        """A body goes in chunks to clients that know of them, if its length is not said."""

        def in_pieces(request: RelayRequest) -> None:
            for piece in (b"one", b"", b"two"):
                request.write(piece)

        def with_length(request: RelayRequest) -> None:
            request.setHeader(b"Content-Length", b"6")
            in_pieces(request)

        for said, answer, chunked, closes in (
            (GET, in_pieces, True, False),
            (GET, with_length, False, False),
            (OLD, in_pieces, False, True),
            (OLD, with_length, False, True),
        ):
            message = self.answered(answer, said)
            self.assertEqual((message.body, message.whole), (b"onetwo", True))
            self.assertEqual("transfer-encoding" in message.headers, chunked)
            self.assertEqual("connection" in message.headers, closes)
            self.assertEqual(self.connection.desk.requests[0].bytes_sent, 6)

    def test_no_body(self) -> None:
        """Where no body may be none is sent, and none is counted."""

        def none(code: int) -> Callable[[RelayRequest], None]:
            def answer(request: RelayRequest) -> None:
                request.setResponseCode(code)
                request.write(b"one")
                request.write(b"two")

            return answer

        for said, code in ((GET.replace(b"GET", b"HEAD"), 200), (GET, 204), (GET, 304)):
            message = self.answered(none(code), said)
            self.assertEqual((message.status, message.body), (code, b""))
            self.assertNotIn("transfer-encoding", message.headers)
            self.assertEqual(self.connection.desk.requests[0].bytes_sent, 0)

    def test_everything_else(self) -> None:
        """Cookies, entity tags and dates go into the head, as with any request of Twisted's."""

        def answer(request: RelayRequest) -> None:
            request.addCookie(b"a", b"b")
            request.addCookie(b"c", b"d", secure=True)
            request.setETag(b'"x"')
            request.setLastModified(0.0)
            request.write(b"!")

        headers = self.answered(answer).headers
        self.assertEqual(headers["set-cookie"], (b"a=b", b"c=d; Secure"))
        self.assertEqual(headers["etag"], (b'"x"',))
        self.assertEqual(headers["last-modified"], (b"Thu, 01 Jan 1970 00:00:00 GMT",))
        self.assertNotIn("content-type", headers)

    def test_one_write(self) -> None:
        """Head and first piece go out together, unless the head has to go before."""
        request = self.ask()
        writes: list[bytes] = []
        self.connection.line.write = writes.append  # type: ignore[method-assign]  # it only listens
        request.write(b"x")
        self.assertEqual(len(writes), 1)
        request = self.ask()
        request.answer(200, b"OK", Headers())
        self.assertEqual(self.connection.line.value(), b"")
        request.flush()
        request.flush()
        self.assertEqual(self.connection.line.value().count(b"\r\n\r\n"), 1)
        request.write(b"x")
        self.assertEqual(self.connection.line.value().count(b"\r\n\r\n"), 1)

    def test_after_the_end(self) -> None:
        """Nothing can be written behind the end; to a client that has gone it is in vain."""
        request = self.ask()
        request.finish()
        self.assertRaises(RuntimeError, request.write, b"x")
        request = self.ask()
        self.connection.line.loseConnection()
        request.write(b"x")
        self.assertEqual(self.connection.line.value(), b"")
