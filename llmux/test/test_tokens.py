"""How many tokens are counted in a request and its answer."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from llmux.tokens import MEDIA_BYTES, TAIL, TEXT_BYTES, Tally, estimate, media_type

STREAM = b"text/event-stream; charset=utf-8"
TEXTS = st.text(st.sampled_from('ab\n\r"\\:{} data[DONE]'), max_size=30)


def tally(body: bytes, kind: bytes = b"application/json", size: int = 7, **more: bytes) -> Tally:
    """Count an answer that comes in pieces of so many bytes."""
    headers = Headers({b"Content-Type": [kind]})
    for name, value in more.items():
        headers.setRawHeaders(name.replace("_", "-"), [value])
    counted = Tally(headers)
    for begin in range(0, len(body), size):
        counted.feed(body[begin : begin + size])
    return counted


def stream(*documents: object, done: bytes = b"data: [DONE]\n\n") -> bytes:
    """Write a stream of events."""
    written = (b"data: %s\n\n" % json.dumps(each).encode() for each in documents)
    return b"".join(written) + done


class SaidTests(SynchronousTestCase):
    """What an answer says of itself counts."""

    def assert_said(self, counted: Tally, prompt: int | None, output: int) -> None:
        """Check what an answer says."""
        self.assertEqual((counted.prompt(), counted.output()), (prompt, output))

    def test_documents(self) -> None:
        """Each of the usual interfaces has its own names for the same two numbers."""
        for usage in (
            {"usage": {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}},
            {"usage": {"input_tokens": 12, "output_tokens": 34}},
            {"prompt_eval_count": 12, "prompt_eval_duration": 5, "eval_count": 34},
        ):
            document = json.dumps({"choices": ["x" * 9000], **usage, "timings": {"n": 1.5}})
            self.assert_said(tally(document.encode()), 12, 34)

    def test_stream(self) -> None:
        """The last events of a stream may say it; the last word counts."""
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        last = {**usage, "completion_tokens": 2}
        events = ({"t": "a", "usage": usage}, {"t": "b"}, {"choices": [], "usage": last})
        self.assert_said(tally(stream(*events), STREAM), 3, 2)

    def test_embeddings(self) -> None:
        """An answer that tells the prompt's tokens alone has none of its own."""
        usage = {"prompt_tokens": 8, "total_tokens": 8}
        document = {"data": [{"embedding": [0.123456789] * 1024}], "usage": usage}
        self.assert_said(tally(json.dumps(document).encode()), 8, 0)

    def test_far_from_the_end(self) -> None:
        """What is said long before the end is not kept."""
        document = {"usage": {"prompt_tokens": 8}, "text": "x" * TAIL}
        self.assertIsNone(tally(json.dumps(document).encode()).prompt())

    def test_nothing(self) -> None:
        """Null and broken numbers say nothing."""
        for usage in ("null", "1.5", "-1", '"7"', "1e3", "1" * 30):
            body = b'{"usage": {"prompt_tokens": %s}}' % usage.encode()
            self.assertIsNone(tally(body).prompt(), usage)

    @given(TEXTS)
    def test_contents(self, text: str) -> None:
        """A text that looks like it says nothing."""
        words = f'{text}"prompt_tokens": 7, "completion_tokens": 8{text}'
        counted = tally(json.dumps({"text": words}).encode())
        self.assertIsNone(counted.prompt())


class EstimateTests(SynchronousTestCase):
    """Where nothing is said, it is estimated."""

    def test_events(self) -> None:
        """A stream has as many tokens as events, however its bytes come; its end is none."""
        body = stream(*({"text": f"\ndata: {number}"} for number in range(50)))
        for size in (1, 2, 5, 6, 7, 100, 10_000):
            self.assertEqual(tally(body, STREAM, size).output(), 50, size)

    def test_cut_stream(self) -> None:
        """One that was cut has those that came."""
        self.assertEqual(tally(stream({}, {}, done=b"data: {"), STREAM).output(), 3)
        self.assertEqual(tally(b"", STREAM).output(), 0)

    def test_other_lines(self) -> None:
        """Comments and names of events are none, whatever ends their lines."""
        body = b": still waiting\r\n\r\nevent: x\r\nid: data:\r\ndata:{}\r\n\r\n"
        self.assertEqual(tally(body, STREAM, 3).output(), 1)

    def test_lines(self) -> None:
        """A stream of documents has as many as lines."""
        self.assertEqual(tally(b'{"a": 1}\n{"b": 2}\n', b"application/x-ndjson", 4).output(), 2)

    @given(st.lists(TEXTS, max_size=8), st.integers(1, 40))
    def test_any_pieces(self, texts: list[str], size: int) -> None:
        """However a stream is cut into pieces, its events are as many."""
        body = stream(*texts)
        self.assertEqual(tally(body, STREAM, size).output(), len(texts))

    def test_sizes(self) -> None:
        """Anything else goes by its size: text, and what is no text."""
        self.assertEqual(tally(b"x" * 9, b"text/plain").output(), 3)
        self.assertEqual(tally(b"x" * 5000, b"audio/mpeg").output(), 10)
        self.assertEqual(tally(b"x" * 8, STREAM, content_encoding=b"gzip").output(), 2)
        self.assertEqual(estimate(0, b""), 0)
        self.assertEqual(estimate(TEXT_BYTES * 3, b""), 3)
        self.assertEqual(estimate(MEDIA_BYTES * 3, b"multipart/form-data"), 3)

    def test_type(self) -> None:
        """The type of something is read without its parameters."""
        headers = Headers({b"Content-Type": [b" Text/Event-Stream ;x=y"]})
        self.assertEqual(media_type(headers), b"text/event-stream")
        self.assertEqual(media_type(Headers()), b"")

    def test_bounded(self) -> None:
        """Of an answer of any length a few kilobytes are kept."""
        counted = tally(b"x" * 1_000_000, b"text/plain", 65_536)
        self.assertEqual(counted.output(), 250_000)
        kept = [value for value in vars(counted).values() if isinstance(value, bytes)]
        self.assertLessEqual(sum(map(len, kept)), TAIL + 100)
