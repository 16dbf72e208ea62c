"""Tests of :mod:`llmux.engine.chunks`."""

from __future__ import annotations

from itertools import pairwise

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError

from llmux.engine.chunks import _MOST, ChunkScanner


@attrs.frozen
class Course:
    """
    What became of a body.

    :param payload: what it has handed on.
    :param rest: what came behind it; ``None``: it has not come to its end.
    :param bad: whether it was refused.
    """

    payload: bytes
    rest: bytes | None
    bad: bool


def reference(body: bytes) -> Course:
    """Read a body byte by byte, as Twisted does it."""
    taken: list[bytes] = []
    ended: list[bytes] = []
    decoder = _ChunkedTransferDecoder(taken.append, ended.append)
    for at in range(len(body)):
        try:
            decoder.dataReceived(body[at : at + 1])
        except _MalformedChunkedDataError:
            return Course(b"".join(taken), None, bad=True)
        if getattr(decoder, "length", 0) > _MOST:  # which Twisted takes
            return Course(b"".join(taken), None, bad=True)
        if ended:
            return Course(b"".join(taken), body[at + 1 :], bad=False)
    # Twisted looks at the two bytes behind a chunk when both are there; the first may tell.
    bad = decoder.state == "CRLF" and not b"\r\n".startswith(bytes(decoder._buffer))
    return Course(b"".join(taken), None, bad)


def follow(reads: list[bytes], *, framed: bool = False) -> Course:
    """Have reads scanned."""
    scanner = ChunkScanner()
    taken = b""
    for number, read in enumerate(reads):
        piece = scanner.framed(read) if framed else scanner.decoded(read)
        if not framed:
            assert scanner.size == len(piece)
        taken += piece
        if scanner.wrong:
            return Course(taken, None, bad=True)
        if scanner.ended:
            return Course(taken, scanner.rest + b"".join(reads[number + 1 :]), bad=False)
    return Course(taken, None, bad=False)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """Cut a body at some places."""
    ends = sorted({place % (len(body) + 1) for place in places} | {0, len(body)})
    return [body[begin:end] for begin, end in pairwise(ends)]


sizes = st.builds(
    lambda zeros, capital: lambda size: b"0" * zeros + (b"%X" if capital else b"%x") % size,
    st.sampled_from((0, 0, 0, 1, 30)),
    st.booleans(),
)
extensions = st.sampled_from((b"", b"", b"", b";", b";a=b", b'; x="\xff\t"'))
chunks = st.builds(
    lambda payload, size, extension: b"%s%s\r\n%s\r\n" % (size(len(payload)), extension, payload),
    st.binary(min_size=1, max_size=20) | st.sampled_from((b"\r\n", b"0\r\n\r\n", b"x" * 300)),
    sizes,
    extensions,
)
bodies = st.builds(
    lambda chunks, last, trailers, rest: b"".join((*chunks, last, *trailers, b"\r\n", rest)),
    st.lists(chunks, max_size=6),
    st.sampled_from((b"0\r\n", b"000\r\n", b"0;a\r\n")),
    st.lists(st.sampled_from((b"X-Sum: 1\r\n", b"a\r\n")), max_size=2),
    st.sampled_from((b"", b"", b"HTTP/1.1 200 OK\r\n")),
)
places = st.lists(st.integers(0, 2000), max_size=20)


class ChunkScannerTests(SynchronousTestCase):
    @given(bodies, places)
    def test_any_cut(self, body: bytes, places: list[int]) -> None:
        """However a body is cut into reads, its payload and its end are the same."""
        expected = reference(body)
        self.assertIsNotNone(expected.rest)
        self.assertEqual(follow(cut(body, places)), expected)

    @given(bodies, places)
    def test_framed(self, body: bytes, places: list[int]) -> None:
        """What is handed on with its framing is the same body, without extensions and trailers."""
        expected = reference(body)
        got = follow(cut(body, places), framed=True)
        self.assertEqual(got.rest, expected.rest)
        self.assertEqual(reference(got.payload + b"0\r\n\r\n").payload, expected.payload)
        self.assertEqual(reference(got.payload + b"0\r\n\r\n").rest, b"")
        self.assertNotIn(b";a=b", got.payload.replace(expected.payload, b""))

    @given(bodies, places)
    def test_sizes(self, body: bytes, places: list[int]) -> None:
        """How much of the body is in a read is the same, whether its framing is given or not."""
        framed, decoded = ChunkScanner(), ChunkScanner()
        for read in cut(body, places):
            framed.framed(read)
            decoded.decoded(read)
            self.assertEqual(framed.size, decoded.size)

    @given(bodies, places, st.integers(0, 2000), st.binary(max_size=2))
    def test_damaged(self, body: bytes, places: list[int], at: int, wrong: bytes) -> None:
        """A body with bytes in it that do not belong there is seen in the same way, or refused."""
        at %= len(body)
        damaged = body[:at] + wrong + body[at + 1 :]
        expected = reference(damaged)
        self.assertEqual(follow(cut(damaged, places)), expected)
        framed = follow(cut(damaged, places), framed=True)
        self.assertEqual((framed.rest, framed.bad), (expected.rest, expected.bad))
        self.assertEqual(reference(framed.payload).payload, expected.payload)

    @given(bodies, st.integers(0, 2000))
    def test_truncated(self, body: bytes, end: int) -> None:
        """A body that breaks off has not come to its end, and all that came of it is handed on."""
        part = body[: end % len(body)]
        self.assertEqual(follow([part]), reference(part))

    @given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=4))
    def test_whole_chunks_are_handed_on_as_they_are(self, payloads: list[bytes]) -> None:
        """A read of whole chunks is not even copied."""
        read = b"".join(b"%x\r\n%s\r\n" % (len(payload), payload) for payload in payloads)
        scanner = ChunkScanner()
        for _ in range(2):
            self.assertIs(scanner.framed(read), read)
            self.assertEqual(scanner.size, sum(map(len, payloads)))

    def test_inside_of_a_chunk(self) -> None:
        """Nor is a read of which all is inside of one chunk."""
        scanner = ChunkScanner()
        self.assertEqual(scanner.framed(b"ff\r\nabc"), b"ff\r\nabc")
        read = b"\r\n0\r\n\r\n"
        self.assertIs(scanner.framed(read), read)
        self.assertEqual(scanner.size, len(read))

    def test_held_back(self) -> None:
        """Framing goes on only when it is known what it says."""
        scanner = ChunkScanner()
        reads = (b"2", b"\r", b"\nab\r", b"\n", b"0", b"\r\n\r\n")
        self.assertEqual(
            [scanner.framed(read) for read in reads], [b"", b"", b"2\r\nab", b"\r\n", b"", b""]
        )
        self.assertTrue(scanner.ended)

    def test_refused(self) -> None:
        """What is no chunked body is refused."""
        for body in (
            b"zz\r\n", b"-1\r\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b" 5\r\n", b"5 \r\n",
            b"1_0\r\n", b"\r\n", b";a\r\n", b"5;\x01\r\n", b"5\nhello\r\n", b"5\r\nhello!\r\n",
            b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\rX", b"f" * 17 + b"\r\n", b"0" * 1025,
            b"5;" + b"a" * 1024, b"0\r\nX: " + b"a" * 70_000,
            b"0\r\n" + b"X: " + b"a" * 70_000 + b"\r\n\r\n", b"\xef\xbc\x91\r\nx\r\n",
        ):  # fmt: skip
            for framed in (False, True):
                self.assertTrue(follow([body], framed=framed).bad, body[:30])
