"""The makes of a client's connection: whatever a server answers, they make the same of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import ResponseNeverReceived
from twisted.web.http import PotentialDataLoss

from llmux.engine.choice import HTTP, STOCK
from llmux.engine.outgoing import ClientRequest
from llmux.proxy.client import connection_maker
from llmux.test.stacks import NO_LLHTTP
from llmux.test.test_engine_client import HOST, Sink, Wire

_FRAMING = (b"content-length", b"transfer-encoding")

start_lines = st.sampled_from(
    (
        b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Same",
        b"HTTP/1.1 404 ", b"HTTP/1.1 500", b"HTTP/1.1 599 \xff", b"garbage", b"HTTP/1.1 OK",
    )
)  # fmt: skip
headers = st.lists(
    st.sampled_from(
        (
            b"Content-Length: 5", b"Content-Length: 0", b"content-length:  3 ",
            b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked",
            b"Transfer-Encoding: gzip", b"Connection: close", b"Connection: keep-alive",
            b"Connection: a, CLOSE", b"X: y", b"X:", b"Y: \xff\t z", b"no colon", b"Upgrade: h2c",
        )
    ),
    max_size=4,
    # llhttp refuses what says twice how its body is framed
    unique_by=lambda line: name if (name := _name(line)) in _FRAMING else line,
)  # fmt: skip
bodies = st.sampled_from(
    (
        b"", b"hello", b"hel", b"hello and more", b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\nX", b"5\r\nhello\r\n", b"5\r\nhe", b"5\r\nhello\r\nzz\r\n",
        b"2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
    )
)  # fmt: skip
interim = st.sampled_from(
    (b"", b"", b"HTTP/1.1 100 Go\r\n\r\n", b"HTTP/1.1 103 Hi\r\nLink: x\r\n\r\n")
)
answers = st.builds(
    lambda interim, line, headers, body: interim + b"\r\n".join((line, *headers, b"", body)),
    interim,
    start_lines,
    headers.map(tuple),
    bodies,
)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


@attrs.frozen
class Course:
    """
    What has become of a request.

    :param answer: the head of its answer, if it came; else whether anything did.
    :param body: what came of the body, and
    :param end: how it ended, if it did.
    :param reused: whether the connection could be used again.
    """

    answer: object
    body: bytes
    end: object
    reused: bool


def follow(
    http: str, method: bytes, reads: Sequence[bytes], lost: type[Exception] | None, *, late: bool
) -> Course:
    """
    Send a request on one stack's connection.

    :param reads: what comes back.
    :param lost: how the connection ends then, if it does.
    :param late: whether the body is asked for only when nothing more comes without that.
    """
    freed: list[object] = []
    connection = connection_maker(http)(freed.append, lambda connection: None)
    wire = Wire()
    connection.makeConnection(wire)
    got: list[Any] = []
    connection.send(ClientRequest(method, b"/", HOST)).addBoth(got.append)
    sink = Sink()

    def deliver() -> None:
        if got and not isinstance(got[0], Failure) and not sink.connected:
            got[0].deliverBody(sink)

    for read in reads:
        if wire.producerState == "paused":  # or nothing more would come
            deliver()
        if connection.idle or wire.disconnecting:
            break
        connection.dataReceived(read)
        if not late:
            deliver()
    deliver()
    reused = bool(freed)
    if lost is not None:
        connection.connectionLost(Failure(lost()))
    if not got:
        return Course(None, b"", None, reused)
    answer = got[0]
    if isinstance(answer, Failure):
        return Course(answer.check(ResponseNeverReceived) is None, b"", None, reused)
    fields = sorted((name, *values) for name, values in answer.received.getAllRawHeaders())
    end: object = type(sink.lost)
    if isinstance(sink.lost, PotentialDataLoss):
        end = end, answer.was_reset
    head = answer.version, answer.code, answer.phrase, answer.length, fields
    return Course(head, sink.received, end, reused)


class SameTests(SynchronousTestCase):
    skip = NO_LLHTTP

    @settings(max_examples=300)
    @given(
        st.sampled_from((b"GET", b"HEAD", b"POST")),
        answers,
        st.lists(st.integers(0, 200), max_size=5),
        st.sampled_from((None, ConnectionDone, ConnectionLost)),
        st.booleans(),
    )
    def test_same(
        self,
        method: bytes,
        answer: bytes,
        places: list[int],
        lost: type[Exception] | None,
        late: bool,
    ) -> None:
        """Head, body, end and whether the connection is of use again are the same."""
        ends = sorted({place % (len(answer) + 1) for place in places} | {0, len(answer)})
        reads = [answer[begin:end] for begin, end in pairwise(ends)]
        self.assertEqual(
            follow(HTTP.name, method, reads, lost, late=late),
            follow(STOCK, method, reads, lost, late=late),
        )
