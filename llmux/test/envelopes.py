"""What the tests of the envelope share: a body in pieces, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import strategies as st

from llmux.envelope import Envelope, EnvelopeReader, Kind
from llmux.errors import RequestError

MULTIPART = b'multipart/form-data; boundary="b"'
URLENCODED = b"application/x-www-form-urlencoded"
MODELS = frozenset({"a", "a/b", "a/b/c", "qwen3:8b", "große", "with space"})

# Where to cut a body; numbers behind its end do no harm
cuts = st.lists(st.integers(1, 400), max_size=8)


def make_reader(target: bytes = b"/v1/x", content_type: bytes | None = None) -> EnvelopeReader:
    """Make a reader that knows :data:`MODELS`."""
    return EnvelopeReader(target, content_type, MODELS.__contains__)


def read(
    body: bytes,
    content_type: bytes | None = None,
    target: bytes = b"/v1/x",
    at: Iterable[int] = (),
) -> Envelope:
    """
    Read an envelope.

    :param at: where the body is cut into pieces.
    """
    reader = make_reader(target, content_type)
    feed(reader, body, at)
    return reader.finish()


def feed(reader: EnvelopeReader, body: bytes, at: Iterable[int] = ()) -> None:
    """Feed a body in pieces."""
    borders = [0, *sorted(set(at)), len(body)]
    for begin, end in pairwise(borders):
        if body[begin:end]:
            reader.feed(body[begin:end])


def outcome(
    body: bytes,
    content_type: bytes | None = None,
    target: bytes = b"/v1/x",
    at: Iterable[int] = (),
) -> tuple[object, object]:
    """Give the envelope and the model's span, or the status and the message of the error."""
    reader = make_reader(target, content_type)
    feed(reader, body, at)
    try:
        envelope = reader.finish()
        in_json = envelope.value is not None and envelope.value.kind is Kind.JSON
        return envelope, reader.model_span if in_json else None
    except RequestError as error:
        return error.status, error.message
