"""Tests of :mod:`llmux.envelope.json_scan`: the model in a JSON body."""

from __future__ import annotations

import json
from typing import NoReturn

from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.envelope import Envelope
from llmux.envelope.json_scan import DEEPEST, JsonScanner
from llmux.envelope.scanner import LONGEST_NAME
from llmux.errors import NoModel
from llmux.test.envelopes import cuts, feed, make_reader, outcome, read

NO_MODEL = (404, "No model specified in request")


class Pairs(list[tuple[str, object]]):
    """An object with all of its members, as a strict parser saw them."""


def parse_begin(body: bytes) -> tuple[object, int]:
    """
    Parse as JSON's standard says, by another parser than ours.

    :returns: the document, and how many characters stand behind it.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    decoder = json.JSONDecoder(object_pairs_hook=Pairs, parse_constant=refuse)
    document, end = decoder.raw_decode(text)
    text[:end].encode("utf-8")  # fails for what was not UTF-8
    return document, len(text) - end


def expected_model(body: bytes) -> tuple[Pairs, int] | None:
    """Find the shortest begin of a body that would, with a brace, end with a string model."""
    for end in range(1, len(body) + 1):
        if body[end - 1 : end] == b'"':
            try:
                document, behind = parse_begin(body[:end] + b"}")
            except ValueError:
                continue
            if not behind and isinstance(document, Pairs) and document[-1][0] == "model":
                return document, end
    return None


blanks = st.text(" \t\r\n", max_size=2)
keys = st.sampled_from(
    [
        '"model"',
        r'"\u006dodel"',
        r'"m\u006Fdel"',
        '"stream"',
        r'"strea\u006d"',
        '"Model"',
        '"a"',
        '""',
    ]
) | st.text(max_size=3).map(json.dumps)
scalars = st.one_of(
    st.sampled_from(
        ["true", "false", "null", "0", "-0", "1e5", "-1.5E-07", "10", "120.050", r'"\\"', r'"\"]}"']
    ),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(max_size=6).map(json.dumps),
    st.text(st.characters(codec="utf-8"), max_size=6).map(
        lambda t: json.dumps(t, ensure_ascii=False)
    ),
)


@st.composite
def spaced(draw: st.DrawFn, tokens: st.SearchStrategy[list[str]]) -> str:
    """Put blanks between tokens."""
    return "".join(draw(blanks) + token for token in draw(tokens)) + draw(blanks)


def joined(elements: list[list[str]], begin: str, end: str) -> list[str]:
    """Write a container."""
    tokens = [begin]
    for number, element in enumerate(elements):
        tokens += [","] * (number > 0) + element
    return [*tokens, end]


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Write containers with other values in them."""
    arrays = st.lists(inner.map(lambda value: [value]), max_size=4)
    return spaced(arrays.map(lambda elements: joined(elements, "[", "]"))) | objects(inner)


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Write objects with other values in them."""
    members = st.lists(st.tuples(keys, st.just(":"), inner).map(list), max_size=5)
    return spaced(members.map(lambda each: joined(each, "{", "}")))


values = st.recursive(scalars, containers, max_leaves=12)
documents = objects(values).map(str.encode)


class JsonTests(SynchronousTestCase):
    def assert_read(self, body: bytes, expected: tuple[object, object]) -> None:
        """Check what is made of a body, whole, cut anywhere, and byte by byte."""
        self.assertEqual(outcome(body), expected, body)
        self.assertEqual(outcome(body, at=range(len(body))), expected, body)
        if len(body) < 200:
            for cut in range(1, len(body)):
                self.assertEqual(outcome(body, at=[cut]), expected, (body, cut))

    def assert_malformed(self, body: bytes, offset: int, what: str) -> None:
        """Check that a body is refused, wherever it is cut."""
        message = f"The JSON body is malformed at byte {offset}: {what}"
        self.assert_read(body, (400, message))

    def test_chat(self) -> None:
        """A chat request says its model, and whether it wants a stream."""
        body = b'{"messages": [], "model": "facebook/opt-125m", "stream": true}'
        self.assert_read(body, (Envelope("facebook/opt-125m", stream=True), (26, 45)))

    def test_no_stream(self) -> None:
        """A stream is what asks for one with true, and nothing else; the last word counts."""
        for value in (
            "false",
            "null",
            "1",
            '"true"',
            "[true]",
            '{"stream": true}',
            'true, "stream": 0',
        ):
            for body in (f'{{"model":"a","stream":{value}}}', f'{{"stream":{value},"model":"a"}}'):
                self.assertEqual(read(body.encode()), Envelope("a", stream=False), value)
        late = b'{"stream": false, "model": "a", "str\\u0065am" : true }'
        self.assertEqual(read(late), Envelope("a", stream=True))

    def test_escaped(self) -> None:
        """Keys and names may be escaped; half of a surrogate pair is replaced."""
        escaped = "".join(f"\\u{ord(letter):04X}" for letter in "model")
        self.assert_read(
            f'{{"{escaped}": "\\u0061\\/\\"\\n\\ud83d\\ude00"}}'.encode(),
            (Envelope('a/"\n\U0001f600', stream=False), (35, 35 + 26)),
        )
        self.assertEqual(read(b'{"model": "a\\udc00"}').model, "a\ufffd")
        self.assertEqual(read('{"model": "große"}'.encode()).model, "große")

    def test_malformed_before_the_model(self) -> None:
        """What is wrong before the model is said, and where."""
        for body, offset, what in (
            ('{"a" 1, "model": "a"}', 5, "expected ':' after a key"),
            ('{model: "a"}', 1, "expected a key in double quotes"),
            ('{"a": 1, }', 9, "expected a key in double quotes"),
            ("{,}", 1, "expected a key in double quotes"),
            ('{"a": }', 6, "expected a value"),
            ('{"a": [1, ]}', 10, "expected a value"),
            ('{"a": [,1]}', 7, "expected a value"),
            ('{"a": +1}', 6, "expected a value"),
            ('{"a": .5}', 6, "expected a value"),
            ('{"a": trux}', 6, "expected a value"),
            ('{"a": trux', 6, "expected a value"),
            ('{"a": [[1, ], 2]}', 11, "expected a value"),
            ('{"a": {"b": 1, }, "c": 2}', 15, "expected a key in double quotes"),
            ('{"a": [{"b": 1, }, 2]}', 16, "expected a key in double quotes"),
            ('{"a": NaN}', 6, "expected a value"),
            ('{"a": -Infinity}', 6, "expected a digit after '-'"),
            ('{"a": 012}', 7, "expected ',' or '}' after a value"),
            ('{"a": -1.}', 8, "expected ',' or '}' after a value"),
            ('{"a": [12.34e]}', 12, "expected ',' or ']' after a value"),
            ('{"a": [1.0e+5.5]}', 13, "expected ',' or ']' after a value"),
            ('{"a": [1 2]}', 9, "expected ',' or ']' after a value"),
            ('{"a": [1}', 8, "expected ',' or ']' after a value"),
            ('{"a": {"b": 1]', 13, "expected ',' or '}' after a value"),
            ('{"a": nullx}', 10, "expected ',' or '}' after a value"),
            ('{"a": "x\ty"}', 8, "a control character in a string"),
            ('{"a": "x\\xy"}', 8, "an escape that JSON does not know"),
            ('{"a": "\\u12g4"}', 7, "an escape that JSON does not know"),
            ('{"model": "a\\q"}', 12, "an escape that JSON does not know"),
            ('{"a": 1 // no\n}', 8, "expected ',' or '}' after a value"),
        ):
            self.assert_malformed(body.encode(), offset, what)

    def test_control_characters(self) -> None:
        """Control characters do not stand in strings, be they long or skipped with others."""
        for control in range(0x20):
            for form in ('{"a": ["%c", 1], "b": 2}', '{"%c": 1, "b": 2}', '{"a": [{"%c": 1}, 2]}'):
                body = form % control
                what = "a control character in a string"
                self.assert_malformed(body.encode(), body.index(chr(control)), what)
        self.assertEqual(read(b'{"\x7f": "\x7f", "model": "a"}').model, "a")

    def test_not_utf_8(self) -> None:
        """Bytes that are not UTF-8 are refused where they stand, in strings and outside."""
        what = "it is not UTF-8"
        self.assert_malformed(b'{"a": "\xc3\xa9\xff", "model": "a"}', 9, what)
        self.assert_malformed(b'{"a": tru\xff}', 9, what)
        self.assert_malformed(b'{"a": "\xe2\x82"}', 7, what)
        self.assert_malformed(b'{"a": "\xed\xa0\x80"}', 7, what)  # half of a surrogate pair
        self.assert_malformed(b'{"a": 1234\xe2\x28}', 10, what)
        self.assert_malformed('{"a": 1é}'.encode(), 7, "expected ',' or '}' after a value")
        self.assert_malformed(
            '{"model": "a"}'.encode("utf-16-le"), 1, "expected a key in double quotes"
        )

    def test_ends_before_the_model(self) -> None:
        """A body that ends too early is refused with what it ends in."""
        for body, where in (
            ("{", "an object"),
            ('{"model": "a', "a string"),
            ('{"model": "a\\u00', "a string"),
            ('{"a": [', "an array"),
            ('{"a": [12', "an array"),
            ('{"a": nul', "an object"),
            ('{"a": "ü', "a string"),
        ):
            size = len(body.encode())
            message = f"The JSON body ends at byte {size} in the middle of {where}"
            self.assert_read(body.encode(), (400, message))

    def test_model_that_is_no_string(self) -> None:
        """A model that is not a string is refused with what it is, and where."""
        for value, kind in (
            ("{}", "an object"), ("[]", "an array"), ("true", "a boolean"), ("false", "a boolean"),
            ("null", "null"), ("1", "a number"), ("-1.5", "a number"),
        ):  # fmt: skip
            message = f"The model in the JSON body must be a string, but at byte 10 it is {kind}"
            self.assert_read(f'{{"model": {value}}}'.encode(), (400, message))

    def test_two_models(self) -> None:
        """Two models are refused with where they stand, were they the same."""
        message = "The JSON body names two models, at byte 1 and at byte 23"
        self.assert_read(b'{"model": "a", "b": 1, "m\\u006fdel": "a"}', (400, message))

    def test_nested_models(self) -> None:
        """A model that is not the document's own is no model."""
        body = b'{"a": {"model": "b"}, "c": [{"model": 1}, {"stream": true}]'
        self.assert_read(body + b"}", NO_MODEL)
        self.assertEqual(read(body + b', "model": "a"}'), Envelope("a", stream=False))

    def test_no_model(self) -> None:
        """An object without a model names none, whatever follows; an empty name is none."""
        for body in (
            b"{}",
            b' {"Model": "a"}',
            b"{} x",
            b'{"model": ""}',
            b'{"m": "model"}{"model": "a"}',
        ):
            self.assert_read(body, NO_MODEL)

    def test_what_follows_the_model(self) -> None:
        """What follows the model is the backend's business, even if it is not JSON."""
        for rest in (
            "",
            ",",
            "}",
            "} x",
            " x",
            ', "a": \x00}',
            ', "stream": tru',
            '"',
            ', "b": [}',
        ):
            self.assertEqual(
                read(f'{{"model": "a"{rest}'.encode()), Envelope("a", stream=False), rest
            )
        self.assertEqual(read(b'{"model": "a", "b": "\xff", "model": 1}').model, "a")

    def test_nesting(self) -> None:
        """Containers may be nested so deeply, and no deeper until the model is known."""
        depth = DEEPEST - 1  # inside the document
        for begin, end in (
            (b"[", b"]"),
            (b'{"b":', b"}"),
            (b"[1,", b"]"),
            (b'[{"b": [], "c":', b"}]"),
        ):
            fits = depth // (1 + (begin[:2] == b"[{"))
            good = b'{"a": %s1%s, "model": "a"}' % (begin * fits, end * fits)
            self.assertEqual(read(good).model, "a")
            self.assertEqual(read(good, at=range(len(good))).model, "a")
            bad = b'{"a": %s[]%s, "model": "a"}' % (begin * fits, end * fits)
            bad = bad.replace(b"[]", b"[[]]") if fits < depth else bad
            what = f"it is nested deeper than {DEEPEST} levels"
            status, message = outcome(bad)
            self.assertEqual(status, 400)
            self.assertIn(what, str(message))
            self.assertEqual(outcome(bad, at=range(len(bad))), (status, message))
            self.assertEqual(read(b'{"model": "a",' + bad[1:-14] + b"}").model, "a")

    def test_nested_without_end(self) -> None:
        """A body that is nested a million times is refused, and does not end the server."""
        self.assertEqual(outcome(b'{"a":' * 1_000_000)[0], 400)
        self.assertEqual(read(b'{"model": "a", "x": ' + b"[" * 1_000_000).model, "a")

    def test_long_tokens(self) -> None:
        """Strings, keys, numbers and blanks of a megabyte are nothing special."""
        big = 1_000_000
        body = b'{"%s": "%s\\n\xc3\xbc%s", "n": [-%s.%se%s], %s "model": "a"}' % (
            b"k" * big, b"x" * big, b"y" * big, b"1" * big, b"0" * big, b"2" * big, b" " * big,
        )  # fmt: skip
        self.assertEqual(read(body).model, "a")
        self.assertEqual(read(body, at=range(7, len(body), 1777)).model, "a")

    def test_nothing_is_kept(self) -> None:
        """However long a body is, a few bytes of it are kept at any time."""
        body = b'{"%s": "%s", "n": %s, "b": [%s1], "model": "a"}' % (
            b"k" * 10_000, b"x" * 10_000, b"1" * 10_000, b"[1], " * 2000,
        )  # fmt: skip
        reader = make_reader()
        for offset in range(len(body)):
            reader.feed(body[offset : offset + 1])
            assert reader._scanner is not None
            self.assertLess(len(reader._scanner._held), 16)
        self.assertEqual(reader.finish().model, "a")

    def test_long_names(self) -> None:
        """A name may be so long; a longer one is refused, and not kept."""
        name = "x" * LONGEST_NAME
        self.assertEqual(read(f'{{"model": "{name}"}}'.encode()).model, name)
        message = (
            f"The model that the JSON body names at byte 1 is longer than {LONGEST_NAME} bytes"
        )
        self.assert_read(f'{{"model": "{name}x"}}'.encode(), (400, message))
        self.assert_read(f'{{"model": "{name}xxx'.encode(), (400, message))

    @given(documents, cuts)
    @example(b'{"a":[[1,[2]],{"":0}],"model":"a"}', [])
    def test_valid_documents(self, body: bytes, at: list[int]) -> None:
        """Of any valid document, however it is cut, what another parser finds is found."""
        document, _ = parse_begin(body)
        assert isinstance(document, Pairs)
        models = [value for key, value in document if key == "model"]
        streams = [value for key, value in document if key == "stream"]
        result = outcome(body, at=at)
        if len(models) > 1 or not isinstance((*models, "")[0], str):
            self.assertEqual(result[0], 400)
        elif not models or not models[0]:
            self.assertEqual(result, NO_MODEL)
        else:
            name = str(models[0]).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            envelope, span = result
            self.assertEqual(envelope, Envelope(name, (*streams, False)[-1] is True))
            assert isinstance(span, tuple)
            self.assertEqual(json.loads(body[slice(*span)]), models[0])

    @given(
        documents,
        st.integers(0, 400),
        st.integers(0, 3),
        st.binary(max_size=2)
        | st.sampled_from([b'"', b",", b"\\", b"[", b"}", b":", b" ", b'"model":"a"']),
        cuts,
    )
    def test_mutations(
        self, document: bytes, offset: int, removed: int, added: bytes, at: list[int]
    ) -> None:
        """Of any broken document the model is found if all before it is valid, or it is refused."""
        body = document[:offset] + added + document[offset + removed :]
        assume(body.lstrip(b" \t\r\n")[:1] == b"{")
        result = outcome(body)
        self.assertEqual(outcome(body, at=at), result)
        self.assertEqual(outcome(body, at=range(len(body))), result)
        found = expected_model(body)
        if found is None:
            try:
                whole, _ = parse_begin(body)
            except ValueError:
                self.assertEqual(result[0], 400, body)
            else:
                named = isinstance(whole, Pairs) and "model" in dict(whole)
                self.assertEqual(result[0], 400 if named else 404, body)
            return
        pairs, end = found
        if [key for key, _ in pairs].count("model") > 1:
            self.assertEqual(result[0], 400)
        elif result[0] == 400:
            self.assertIn("names two models", str(result[1]))
            second = int(str(result[1]).rpartition(" ")[2])
            self.assertGreater(second, end)
            text = body[second:].decode("utf-8", "replace")
            self.assertEqual(json.JSONDecoder().raw_decode(text)[0], "model")
        elif pairs[-1][1]:
            assert isinstance(result[0], Envelope)
            assert isinstance(result[1], tuple)
            self.assertEqual(result[1][1], end)
            self.assertEqual(json.loads(body[slice(*result[1])]), pairs[-1][1])
        else:
            self.assertEqual(result, NO_MODEL)

    @given(st.binary(max_size=40), cuts)
    def test_any_bytes(self, rest: bytes, at: list[int]) -> None:
        """Whatever follows a brace, there is a model or an error, the same for any cut."""
        body = b"{" + rest
        self.assertEqual(outcome(body), outcome(body, at=at))

    def test_usual_documents(self) -> None:
        """A usual document that comes at once is not gone through step by step."""
        usual = (
            b'{"model": "a", "messages": [{"role": "user", "content": "x\\n"}], "stream": true}',
            b'{"messages":[{"content":[{"x":1}]}],"stream":false,"model":"a","stream":true}',
            b'{"n": 1, "stream": true, "model" : "a" , "o": "\xc3\xbc" }',
        )
        self.patch(JsonScanner, "_walk", None)
        for body in usual:
            self.assertEqual(read(body), Envelope("a", stream=True), body)
        self.assertRaises(NoModel, read, b'{"n": 1}')

    def test_span_counts_all_bytes(self) -> None:
        """The span counts from the body's begin, blanks before the document included."""
        body = b'\r\n  {"a": "\xc3\xbc", "model" : "a" }'
        reader = make_reader()
        feed(reader, body, at=[1, 3, 9])
        self.assertEqual(reader.model_span, (body.index(b'"a" }'), body.index(b" }")))

    def test_no_object(self) -> None:
        """JSON that is not an object names no model."""
        for body in (
            b'"model"',
            b'["model"]',
            b'[{"model": "a"}]',
            b"1",
            b"\xef\xbb\xbf{}",
            b" ",
            b"model=a",
        ):
            self.assertRaises(NoModel, read, body)
            self.assertRaises(NoModel, read, body, b"application/json")
