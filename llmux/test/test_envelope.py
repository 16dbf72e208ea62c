"""Tests of :mod:`llmux.envelope`: which model a request is for, however it says so."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.envelope import Envelope
from llmux.envelope.scanner import LONGEST_NAME
from llmux.envelope.target import read_upstream
from llmux.errors import BadEnvelope, NoModel, UnknownModel
from llmux.test.envelopes import (
    MODELS,
    MULTIPART,
    URLENCODED,
    cuts,
    feed,
    make_reader,
    outcome,
    read,
)


class BodyTests(SynchronousTestCase):
    def test_json_whatever_its_type(self) -> None:
        """A body that begins with a brace is JSON, whatever the Content-Type says."""
        body = b' \r\n\t{"model": "a", "stream": true}'
        for kind in (
            None,
            b"application/json",
            URLENCODED,
            MULTIPART,
            b"multipart/form-data",
            b"nonsense",
        ):
            for at in ([], [1], [3, 4, 5], range(len(body))):
                self.assertEqual(read(body, kind, at=at), Envelope("a", stream=True), kind)
            self.assertEqual(outcome(b"{]", kind)[0], 400)

    def test_forms_by_their_type(self) -> None:
        """Other bodies are what the Content-Type says."""
        form = b"model=a&x={"
        parts = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--\r\n'
        self.assertEqual(read(form, URLENCODED).model, "a")
        self.assertEqual(
            read(form, b"Application/X-WWW-Form-Urlencoded ; charset=UTF-8").model, "a"
        )
        self.assertEqual(read(parts, MULTIPART).model, "a")
        self.assertEqual(read(b"\r\n" + parts, MULTIPART, at=[1, 2, 3]).model, "a")
        for kind in (None, b"", b"text/plain", b"application/json", b"multipart/mixed; boundary=b"):
            self.assertRaises(NoModel, read, form, kind)
            self.assertRaises(NoModel, read, parts, kind)

    def test_blanks(self) -> None:
        """A body of nothing but blanks names no model, and is a body."""
        self.assertRaises(NoModel, read, b" \n", target=b"/?model=a")
        self.assertRaises(NoModel, read, b" \n", URLENCODED)
        self.assertRaises(BadEnvelope, read, b" \n", MULTIPART)


class QueryTests(SynchronousTestCase):
    def test_model(self) -> None:
        """A request without a body may name its model in the query."""
        for query in (
            b"model=a%2Fb",
            b"x=y&model=a/b&z",
            b"m%6fdel=a/b",
            b"&&model=a/b&model=a%2fb",
        ):
            reader = make_reader(b"/v1/realtime?" + query)
            self.assertEqual(reader.finish(), Envelope("a/b", stream=False))
            self.assertEqual(reader.target, b"/v1/realtime?" + query)
        self.assertEqual(read(b"", target=b"/?model=with+space").model, "with space")
        self.assertEqual(read(b"", target=b"/?model=%ff").model, "\ufffd")

    def test_no_model(self) -> None:
        """A query without a model names none."""
        for target in (
            b"/",
            b"/?",
            b"/model=a",
            b"/?model",
            b"/?model=",
            b"/?xmodel=a",
            b"/?x=1?model=a",
            b"/?Model=a",
        ):
            self.assertRaises(NoModel, read, b"", target=target)

    def test_two_models(self) -> None:
        """A query that names two models is refused."""
        for query in (b"model=a&model=b", b"model=a&x&model"):
            error = self.assertRaises(BadEnvelope, read, b"", target=b"/?" + query)
            self.assertEqual(error.message, "The query names several models")

    def test_only_without_a_body(self) -> None:
        """A request with a body names its model in the body."""
        for body in (b"{}", b"x"):
            self.assertRaises(NoModel, read, body, target=b"/?model=a")
        self.assertEqual(read(b'{"model": "a"}', target=b"/?model=b").model, "a")


class UpstreamTests(SynchronousTestCase):
    def assert_upstream(self, target: bytes, model: str, rest: bytes) -> None:
        """Check which model a target names, and what the backend is asked for."""
        reader = make_reader(target)
        self.assertEqual(reader.target, rest)
        self.assertEqual(reader.finish(), Envelope(model, stream=False))

    def test_rest(self) -> None:
        """What follows the model goes to the backend exactly as it is."""
        for rest in (
            b"/",
            b"/x",
            b"//x//",
            b"/../x/.",
            b"/%2F%zz%2e%2E/\xff",
            b"/x?",
            b"/?a=b?c#d",
            b"/upstream/a",
            b"/a/../b?model=b",
        ):
            self.assert_upstream(b"/upstream/qwen3:8b" + rest, "qwen3:8b", rest)

    def test_root(self) -> None:
        """A target that ends with the model asks for the backend's root."""
        self.assert_upstream(b"/upstream/a", "a", b"/")
        self.assert_upstream(b"/upstream/a?x=/y", "a", b"/?x=/y")
        self.assert_upstream(b"/upstream/a?", "a", b"/?")

    def test_names(self) -> None:
        """Names may hold slashes, and be encoded; the longest that is known wins."""
        self.assert_upstream(b"/upstream/a/b/c/d", "a/b/c", b"/d")
        self.assert_upstream(b"/upstream/a/b/d", "a/b", b"/d")
        self.assert_upstream(b"/upstream/a/d/c", "a", b"/d/c")
        self.assert_upstream(b"/upstream/a%2Fb/c%2Fd", "a/b", b"/c%2Fd")
        self.assert_upstream(b"/upstream/a%2fb%2Fc", "a/b/c", b"/")
        self.assert_upstream(b"/upstream/%61/%62?", "a/b", b"/?")
        self.assert_upstream(b"/upstream/qwen3%3A8b/", "qwen3:8b", b"/")
        self.assert_upstream("/upstream/große/x".encode(), "große", b"/x")
        self.assert_upstream(b"/upstream/gro%C3%9Fe/x", "große", b"/x")
        self.assert_upstream(b"/upstream/with%20space/x", "with space", b"/x")

    def test_unknown(self) -> None:
        """A name that is not known is a 404, with or without a body."""
        for target, name in (
            (b"/upstream/nope/v1", "nope"), (b"/upstream/ab", "ab"), (b"/upstream/A/x", "A"),
            (b"/upstream//a", "a"), (b"/upstream/with+space/x", "with+space"),
            (b"/upstream/%ff", "\ufffd"),
        ):  # fmt: skip
            reader = make_reader(target)
            self.assertEqual(reader.target, target)
            feed(reader, b'{"model": "a"}')
            error = self.assertRaises(UnknownModel, reader.finish)
            self.assertEqual(error.message, f"Model not found: {name}")

    def test_no_name(self) -> None:
        """A target that ends before the model names none."""
        for target in (b"/upstream/", b"/upstream/?model=a", b"/upstream//"):
            self.assertRaises(NoModel, read, b"", target=target)

    def test_other_targets(self) -> None:
        """Only a target that begins so is of this form."""
        for target in (
            b"/upstream",
            b"/Upstream/a/x",
            b"/x/upstream/a",
            b"//upstream/a",
            b"/upstream%2Fa",
        ):
            reader = make_reader(target)
            self.assertEqual(reader.target, target)
            self.assertRaises(NoModel, reader.finish)

    def test_bodies(self) -> None:
        """The body does not name the model, but says whether it asks for a stream."""
        for body, stream in (
            (b'{"model": "b", "stream": true}', True),
            (b'{"model": 1, "stream": true}', True),
            (b'{"model": "b", "model": "c", "stream": true}', True),
            (b'{"model": "%s", "stream": true}' % (b"x" * 5000), True),
            (b'{"stream": true, oops', True),
            (b'{oops, "stream": true', False),
            (b"{", False),
            (b"[]", False),
            (b"stream=true", False),
        ):
            for kind in (None, URLENCODED, b"multipart/form-data"):
                envelope = read(body, kind, target=b"/upstream/a/x?model=c")
                self.assertEqual(envelope, Envelope("a", stream), body)

    def test_span(self) -> None:
        """Where a body names a model is known, even if it does not count."""
        reader = make_reader(b"/upstream/a")
        feed(reader, b'{"model": "b"}')
        self.assertEqual(reader.model_span, (10, 13))
        self.assertEqual(make_reader(b"/upstream/a").model_span, None)
        for body in (b'{"model": {"b": "c"}}', b'{"model": ["b"]}', b'{"model": 1, "b": ["c"]}'):
            reader = make_reader(b"/upstream/a")
            feed(reader, body)
            self.assertEqual(reader.model_span, None)

    def test_last_model(self) -> None:
        """Of several models in a body that need not name any the last one is known, or none."""
        field = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
        for kind, body, said in (
            (None, b'{"model": "b", "model": "c"}', "c"),
            (None, b'{"model": "b", "model": 5}', None),
            (None, b'{"model": 5, "model": "c"}', "c"),
            (None, b'{"model": "b", "model": "%s"}' % (b"x" * 5000), None),
            (None, b'{"model": "b", oops', "b"),
            (URLENCODED, b"model=b", "b"),
            (URLENCODED, b"model=b&x=1&m%6fdel=c", "c"),
            (URLENCODED, b"model=b&model", None),
            (URLENCODED, b"model=b&model=%ff", None),
            (MULTIPART, field % b"b" + b"--b--", "b"),
            (MULTIPART, field % b"b" + field % b"c" + b"--b--", "c"),
            (MULTIPART, field % b"b" + field % b"\xff" + b"--b--", None),
            (MULTIPART, field % b"b", None),
            (MULTIPART, b"--b\r\noops\r\n\r\n", None),
            (b"multipart/form-data", field % b"b", None),
        ):
            value = read(body, kind, target=b"/upstream/a").value
            self.assertEqual(None if value is None else value.said, said, body)

    def test_bare_key(self) -> None:
        """A field without a sign behind its name has no value that could be another one."""
        for body in (b"model", b"model&a=b", b"a=b&%6dodel"):
            self.assertEqual(read(body, URLENCODED, target=b"/upstream/a").value, None)
        for query, spans in ((b"model", 0), (b"model&model=", 1), (b"model=&x&model=", 2)):
            reader = make_reader(b"/v1/x?" + query)
            value = reader.finish(nameless=True).value
            assert value is not None
            self.assertEqual((value.said, len(value.spans)), ("", spans))

    def test_many_slashes(self) -> None:
        """A target of many slashes costs no more than a few look-ups."""
        asked: list[str] = []

        def is_model(name: str) -> bool:
            asked.append(name)
            return name == "a"

        for rest in (b"/" * 10_000, b"/x" * 10_000, b"/" + b"x" * 10_000):
            asked.clear()
            reader = make_reader(b"/upstream/a" + rest)
            self.assertEqual(reader.target, rest)
            read_upstream(b"/upstream/a" + rest, is_model)
            self.assertLess(len(asked), 100)
            self.assertLessEqual(max(map(len, asked)), LONGEST_NAME)
        longest = "/".join("x" * 65)  # as many slashes as a name may have
        for name, known in ((longest, longest), (longest + "/x", None)):
            found = read_upstream(b"/upstream/" + name.encode() + b"/v1/x", name.__eq__)
            assert found is not None
            self.assertEqual(found.model, known)

    def test_long_name(self) -> None:
        """A name that is longer than names can be is not known, and is shown shortened."""
        message = self.assertRaises(
            UnknownModel, read, b"", target=b"/upstream/" + b"x" * 5000
        ).message
        self.assertEqual(message, "Model not found: " + "x" * 200 + "...")

    @given(
        st.sampled_from(sorted(MODELS)),
        st.sampled_from(["", "/", ":/"]),
        st.binary(max_size=20),
        cuts,
    )
    def test_any_rest(self, model: str, safe: str, rest: bytes, at: list[int]) -> None:
        """However the name is written, the rest is what follows it."""
        target = b"/upstream/" + quote(model, safe=safe).encode() + b"/x" + rest
        reader = make_reader(target)
        feed(reader, b'{"stream": true}', at)
        self.assertEqual((reader.finish().model, reader.target), (model, b"/x" + rest))
