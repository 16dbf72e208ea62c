"""Tests of :mod:`llmux.envelope`."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.envelope import Envelope, read_envelope
from llmux.errors import NoModel

values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class ReadEnvelopeTests(SynchronousTestCase):
    def test_chat(self) -> None:
        """A chat request says its model, and whether it wants a stream."""
        body = b'{"messages": [], "model": "facebook/opt-125m", "stream": true}'
        self.assertEqual(read_envelope(body), Envelope("facebook/opt-125m", stream=True))

    def test_no_stream(self) -> None:
        """A stream is what asks for one with true, and nothing else."""
        self.assertEqual(read_envelope(b'{"model": "a"}'), Envelope("a", stream=False))
        for value in ("false", "null", "1", '"true"', "[true]"):
            body = f'{{"model": "a", "stream": {value}}}'.encode()
            self.assertEqual(read_envelope(body), Envelope("a", stream=False), value)

    @settings(deadline=None)
    @given(st.dictionaries(st.text(), values), st.text(), st.booleans(), st.booleans())
    def test_any_request(
        self, fields: dict[str, object], model: str, stream: bool, ascii_only: bool
    ) -> None:
        """Whatever else a request holds, and however it is written, its model is found."""
        document = {**fields, "model": model, "stream": stream}
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
        self.assertEqual(read_envelope(body), Envelope(model, stream))

    def test_no_model(self) -> None:
        """A body that is not a JSON object with a string model says no model."""
        bodies = [
            b"",
            b"model=a",
            b'{"model": "a"',
            b'{"model": "a"} x',
            b"{}",
            b'"model"',
            b'["model"]',
            b'[{"model": "a"}]',
            b'{"Model": "a"}',
            b'{"body": {"model": "a"}}',
            *(f'{{"model": {value}}}'.encode() for value in ("null", "1", "true", "[]", "{}")),
        ]
        for body in bodies:
            error = self.assertRaises(NoModel, read_envelope, body)
            self.assertEqual(str(error), "No model specified in request", body)

    def test_not_utf_8(self) -> None:
        """Bytes that are not UTF-8 say no model, and break nothing."""
        for body in (b'{"model": "\xff"}', '{"model": "a"}'.encode("utf-16"), bytes(range(256))):
            self.assertRaises(NoModel, read_envelope, body)

    def test_nested_without_end(self) -> None:
        """A body that is nested a million times says no model, and does not end the server."""
        deep = b"[" * 1_000_000
        self.assertRaises(NoModel, read_envelope, deep)
        self.assertRaises(NoModel, read_envelope, b'{"model": "a", "x": ' + deep)

    @settings(deadline=None)
    @given(st.binary(max_size=40))
    def test_any_bytes(self, body: bytes) -> None:
        """Whatever bytes come, there is a model or there is none."""
        with contextlib.suppress(NoModel):
            self.assertIsInstance(read_envelope(body).model, str)
