"""Tests of :mod:`llmux.headers`."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from llmux.headers import HOP_BY_HOP, for_backend, for_client

Fields = list[tuple[bytes, list[bytes]]]

HOST = b"127.0.0.1:8001"
HOP_BY_HOP_IN_RFCS = (
    b"Connection", b"Keep-Alive", b"Proxy-Authenticate", b"Proxy-Authorization",
    b"Proxy-Connection", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade",
)  # fmt: skip

_token = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=12)
tokens = _token.map(str.encode)
odd_case = st.sampled_from(HOP_BY_HOP_IN_RFCS).flatmap(
    lambda name: st.sampled_from((name, name.lower(), name.upper()))
)
own = st.sampled_from((b"Host", b"Content-Length", b"Expect", b"Authorization", b"Content-Type"))
# What Twisted's parser hands over: no line ends, no white space around it, any bytes besides.
values = st.binary(max_size=20).map(lambda value: b" ".join(value.split()))
fields = st.lists(
    st.tuples(tokens | odd_case | own, st.lists(values, min_size=1, max_size=3)), max_size=8
)
named = st.lists(tokens | own, max_size=3)


def received(fields: Fields, connection: list[bytes]) -> Headers:
    """Make the headers that a client or a backend sent."""
    headers = Headers()
    for name, raw in fields:
        for value in raw:
            headers.addRawHeader(name, value)
    if connection:
        headers.addRawHeader(b"Connection", b" , ".join(connection))
    return headers


def as_dict(headers: Headers) -> dict[bytes, list[bytes]]:
    """Give headers by their name in lower case."""
    return {name.lower(): list(raw) for name, raw in headers.getAllRawHeaders()}


def without(headers: Headers, *more: bytes) -> dict[bytes, list[bytes]]:
    """Say what should be left of headers: plainly, as the RFC puts it."""
    dropped = {name.lower() for name in HOP_BY_HOP_IN_RFCS} | set(more)
    for value in headers.getRawHeaders(b"connection", []):
        dropped |= {option.strip().lower() for option in value.split(b",")}
    return {name: raw for name, raw in as_dict(headers).items() if name not in dropped}


class ForBackendTests(SynchronousTestCase):
    def test_authorization(self) -> None:
        """A client's key and cookies reach its backend, byte for byte."""
        sent = Headers({b"Authorization": [b"Bearer \xfft  k"], b"Cookie": [b"a=1", b"b=2"]})
        chosen = as_dict(for_backend(sent, HOST))
        self.assertEqual(chosen[b"authorization"], sent.getRawHeaders(b"authorization"))
        self.assertEqual(chosen[b"cookie"], [b"a=1", b"b=2"])

    def test_host(self) -> None:
        """The backend is called by its own name, however the client called llmux."""
        for sent in (Headers(), Headers({b"host": [b"llmux.example", b"b"]})):
            self.assertEqual(as_dict(for_backend(sent, HOST)), {b"host": [HOST]})

    def test_framing(self) -> None:
        """The body's framing is left to the HTTP client, and Expect has been answered already."""
        sent = Headers({b"Content-Length": [b"3"], b"Expect": [b"100-continue"]})
        self.assertEqual(as_dict(for_backend(sent, HOST)), {b"host": [HOST]})

    def test_named_by_connection(self) -> None:
        """A header that Connection names ends here, whatever its case."""
        sent = Headers({b"Connection": [b"close, X-One,,x-two"], b"X-TWO": [b"1"], b"X-3": [b"3"]})
        sent.addRawHeader(b"connection", b"\tX-ONE ")
        sent.addRawHeader(b"x-one", b"1")
        self.assertEqual(as_dict(for_backend(sent, HOST)), {b"host": [HOST], b"x-3": [b"3"]})

    @settings(max_examples=200)
    @given(fields, named)
    def test_everything_else(self, fields: Fields, connection: list[bytes]) -> None:
        """Hop-by-hop headers never pass; everything else does, byte for byte, in its order."""
        sent = received(fields, connection)
        expected = without(sent, b"host", b"content-length", b"expect")
        self.assertEqual(as_dict(for_backend(sent, HOST)), {**expected, b"host": [HOST]})

    @given(fields, named)
    def test_the_request_stays(self, fields: Fields, connection: list[bytes]) -> None:
        """What the client sent is not changed: it is still needed for the answer."""
        sent = received(fields, connection)
        before = sent.copy()
        for_backend(sent, HOST)
        self.assertEqual(sent, before)


class ForClientTests(SynchronousTestCase):
    def assert_length(self, expected: list[bytes], length: int | None, **framing: bytes) -> None:
        """Check the length that a client is told of an answer with such a framing."""
        sent = {name.replace("_", "-").encode(): [value] for name, value in framing.items()}
        told = as_dict(for_client(Headers(sent), length))
        self.assertEqual(told, {b"content-length": expected} if expected else {})

    def test_list(self) -> None:
        """The list of hop-by-hop headers is that of the RFCs."""
        self.assertEqual(HOP_BY_HOP, {name.lower() for name in HOP_BY_HOP_IN_RFCS})

    def test_length(self) -> None:
        """A length that the backend announced is announced to the client."""
        self.assert_length([b"0"], 0)
        self.assert_length([b"12"], 12, content_length=b"12")

    def test_no_body(self) -> None:
        """Where there is no body, as after HEAD, the length that it would have goes through."""
        self.assert_length([b"12"], None, content_length=b"12")

    def test_no_length(self) -> None:
        """Where no length was announced, or chunks overrule it, none is invented."""
        self.assert_length([], None)
        self.assert_length([], None, transfer_encoding=b"chunked")
        self.assert_length([], None, transfer_encoding=b"chunked", content_length=b"12")

    def test_named_by_connection(self) -> None:
        """A header that the backend's Connection names ends here."""
        got = {b"X-One": [b"1"], b"Connection": [b"close, x-ONE"], b"X-Two": [b"2"]}
        self.assertEqual(as_dict(for_client(Headers(got), None)), {b"x-two": [b"2"]})

    def test_cookies(self) -> None:
        """Each of several headers of one name goes through, in its order."""
        cookies = [b"b=2", b"a=1; Path=/", b"b=2"]
        got = Headers({b"Set-Cookie": cookies[:2], b"X": [b""]})
        got.addRawHeader(b"set-cookie", cookies[2])
        self.assertEqual(as_dict(for_client(got, None)), {b"set-cookie": cookies, b"x": [b""]})

    @settings(max_examples=200)
    @given(fields, named, st.none() | st.integers(0, 10**12))
    def test_everything_else(
        self, fields: Fields, connection: list[bytes], length: int | None
    ) -> None:
        """Hop-by-hop headers never pass; everything else does, byte for byte, in its order."""
        got = received(fields, connection)
        expected = without(got)
        if length is not None:
            expected[b"content-length"] = [str(length).encode()]
        elif got.hasHeader(b"Transfer-Encoding"):
            expected.pop(b"content-length", None)
        before = got.copy()
        chosen = for_client(got, length)
        self.assertEqual(as_dict(chosen), expected)
        for name in expected:
            chosen.addRawHeader(name, b"more")
        self.assertEqual(got, before, "the answer is not changed by what is added for the client")
