"""Random exchanges between a client and a backend, and what has to come of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import attrs
from hypothesis import strategies as st

Lines = tuple[tuple[bytes, bytes], ...]
Values = dict[str, tuple[bytes, ...]]

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")

STOPS_HERE = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""What the documentation says speaks of one connection only; and what ``Connection`` names."""

_ENDS = {"host", "content-length", "expect", "x-request-id"}  # written anew, or set apart here


@attrs.frozen
class Framing:
    """
    How a body is written.

    :param kind: ``length``, ``chunked``, or ``none``: no body, or up to the connection's end.
    :param sizes: of the chunks, again and again; of a large body there are some hundreds.
    :param extension: of each chunk.
    :param trailers: behind the last chunk.
    """

    kind: str
    sizes: tuple[int, ...] = (1,)
    extension: bytes = b""
    trailers: bytes = b""

    @property
    def header(self) -> bytes:
        """The line that announces chunks."""
        return b"Transfer-Encoding: chunked\r\n" if self.kind == "chunked" else b""

    def write(self, body: bytes) -> bytes:
        """Write a body."""
        if self.kind != "chunked":
            return body
        written, at, turn, least = b"", 0, 0, len(body) // 300
        while at < len(body):
            piece = body[at : at + max(least, self.sizes[turn % len(self.sizes)])]
            written += b"%x%s\r\n%s\r\n" % (len(piece), self.extension, piece)
            at, turn = at + len(piece), turn + 1
        return written + b"0%s\r\n%s\r\n" % (self.extension, self.trailers)


@attrs.frozen(kw_only=True)
class Exchange:
    """
    A request and its answer.

    :param method: of the request.
    :param sent_target: as the client writes it.
    :param target: as the backend has to get it.
    :param old: whether the client speaks HTTP/1.0.
    :param expects: whether it asks for ``100 Continue``.
    :param lines: the request's headers.
    :param named: what its ``Connection`` names.
    :param body: of the request.
    :param framing: of that.
    :param cuts: where it is split, in thousandths; ``None``: at every byte.
    :param status: of the answer.
    :param reason: its reason phrase.
    :param interim: how many interim answers come before it.
    :param answer_old: whether the backend speaks HTTP/1.0.
    :param answer_lines: the answer's headers.
    :param answer_named: what its ``Connection`` names.
    :param answer_body: of the answer.
    :param answer_framing: of that.
    :param answer_cuts: where it is split.
    """

    method: bytes
    sent_target: bytes
    target: bytes
    old: bool
    expects: bool
    lines: Lines
    named: tuple[bytes, ...]
    body: bytes
    framing: Framing
    cuts: tuple[int, ...] | None
    status: int
    reason: bytes
    interim: int
    answer_old: bool
    answer_lines: Lines
    answer_named: tuple[bytes, ...]
    answer_body: bytes
    answer_framing: Framing
    answer_cuts: tuple[int, ...] | None

    @property
    def bodiless(self) -> bool:
        """Whether the answer has a head only."""
        return self.method == b"HEAD" or self.status in (204, 304)

    @property
    def request(self) -> bytes:
        """The request, as the client writes it."""
        head = b"%s %s HTTP/1.%d\r\n" % (self.method, self.sent_target, not self.old)
        head += _host_and_lines(self.lines, self.named) + self.framing.header
        if self.framing.kind == "length":
            head += b"content-length: %d\r\n" % len(self.body)
        if self.expects:
            head += b"Expect: 100-continue\r\n"
        return head + b"\r\n" + self.framing.write(self.body)

    @property
    def answer(self) -> bytes:
        """The answer, as the backend writes it."""
        written = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * self.interim
        written += b"HTTP/1.%d %d %s\r\n" % (not self.answer_old, self.status, self.reason)
        written += _lines(self.answer_lines, self.answer_named) + self.answer_framing.header
        if self.answer_framing.kind == "length":
            written += b"Content-length: %d\r\n" % len(self.answer_body)
        return (
            written
            + b"\r\n"
            + (b"" if self.bodiless else self.answer_framing.write(self.answer_body))
        )

    @property
    def ends_with_connection(self) -> bool:
        """Whether the answer's body goes on until the backend closes."""
        return self.answer_framing.kind == "none" and not self.bodiless

    @property
    def announced(self) -> tuple[bytes, ...]:
        """The length that the client has to learn, if it can."""
        return (b"%d" % len(self.answer_body),) if self.answer_framing.kind == "length" else ()


def pieces(data: bytes, cuts: Sequence[int] | None) -> list[bytes]:
    """Split something; what is long is not split at every byte, but two hundred times."""
    places = (
        range(0, len(data), max(1, len(data) // 200))
        if cuts is None
        else sorted({len(data) * cut // 1000 for cut in cuts})
    )
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def carried(lines: Lines, named: tuple[bytes, ...]) -> Values:
    """Say which headers have to go through, by lower-case name."""
    gone = STOPS_HERE | {name.decode().lower() for name in named}
    values: Values = {}
    for name, value in lines:
        key = name.decode().lower()
        if key not in gone:
            values[key] = (*values.get(key, ()), value.strip(b" \t"))
    return values


def _lines(lines: Lines, named: tuple[bytes, ...]) -> bytes:
    written = b"".join(b"%s:%s\r\n" % line for line in lines)
    return written + (b"Connection: %s\r\n" % b" ,".join(named) if named else b"")


def _host_and_lines(lines: Lines, named: tuple[bytes, ...]) -> bytes:
    middle = len(lines) // 2
    return _lines(lines[:middle], ()) + b"hOST: client.example\r\n" + _lines(lines[middle:], named)


_PUNCTUATION = "!#$%&'*+-.^_`|~"
_NAMES = st.one_of(
    st.sampled_from(
        [
            b"X-A", b"x-a", b"X-B", b"Cookie", b"Set-Cookie", b"Authorization", b"Content-Type",
            b"Accept-Encoding", b"Content-Encoding", b"ETag", b"Date", b"Server", b"Server-Timing",
            b"Via", b"Range", b"Vary", b"X-Forwarded-For", b"Last-Modified", b"Accept", b"Link",
            b"Keep-Alive", b"TE", b"Trailer", b"Proxy-Authorization", b"Proxy-Connection",
            b"Access-Control-Allow-Origin", b"Retry-After", b"Content-Range", b"Age",
        ]
    ),
    st.text(f"{_PUNCTUATION}09azAZ", min_size=1, max_size=9).map(str.encode),
).filter(lambda name: name.decode().lower() not in _ENDS)  # fmt: skip
_VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
).map(lambda text: text.replace("A", "\t").encode("latin-1"))
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=6).map(tuple)
_BODIES = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.builds(
        lambda seed, times: seed * times, st.binary(min_size=1, max_size=9), st.integers(1, 9999)
    ),
)
_FRAMINGS = st.builds(
    Framing,
    st.sampled_from(["length", "chunked", "none"]),
    st.lists(st.integers(1, 5000), min_size=1, max_size=4).map(tuple),
    st.sampled_from([b"", b"", b";a", b';a="b c"', b"; \xff=1 ;c"]),
    st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"A: b\r\nC:\r\n"]),
)
_CUTS = st.one_of(
    st.just(()), st.none(), st.lists(st.integers(0, 1000), min_size=1, max_size=5).map(tuple)
)
_TARGET = "abz019/.%?&=+;:@!$'()*,-_~|\"<>[]{}\\^`"
_PATHS = st.text(_TARGET, max_size=30).map(lambda text: b"/" + text.encode())
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
_REASONS = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=12
).map(lambda text: text.strip().encode("latin-1"))


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    """Draw an exchange that has to succeed, with the model ``a``."""
    method = draw(st.sampled_from(METHODS))
    way = draw(st.sampled_from(["upstream", "json", "query"]))
    old = draw(st.integers(0, 9)) == 9
    framing = draw(_FRAMINGS)
    body = b""
    path = draw(_PATHS)
    sent = target = path
    if way == "upstream":
        body = draw(_BODIES)
        sent = draw(st.sampled_from([b"/upstream/a", b"/upstream/%61"])) + path
    elif way == "json":
        document = draw(st.dictionaries(st.text(max_size=5), _JSON, max_size=4))
        items = [(key, value) for key, value in document.items() if key != "model"]
        items.insert(draw(st.integers(0, len(items))), ("model", "a"))
        body = json.dumps(dict(items), ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")
    else:
        sent = target = (
            path.replace(b"=", b"").replace(b"?", b"")
            + b"?x&model=a&"
            + path[1:].replace(b"=", b"")
        )
    if old and framing.kind == "chunked":
        framing = Framing("length")
    if framing.kind == "none":
        framing, body = (Framing("length"), body) if body else (framing, b"")
    lines = draw(_HEADERS)
    answer_lines = draw(_HEADERS)
    answer_framing = draw(_FRAMINGS)
    return Exchange(
        method=method,
        sent_target=sent,
        target=target,
        old=old,
        expects=draw(st.integers(0, 9)) == 9,
        lines=lines,
        named=draw(_named(lines, ("keep-alive",))),
        body=body,
        framing=framing,
        cuts=draw(_CUTS),
        status=draw(
            st.one_of(st.sampled_from([200, 204, 304, 404, 429, 500]), st.integers(200, 999))
        ),
        reason=draw(_REASONS),
        interim=draw(st.sampled_from([0, 0, 0, 1, 2])),
        answer_lines=answer_lines,
        answer_named=draw(_named(answer_lines, ("keep-alive", "close"))),
        answer_body=draw(_BODIES),
        answer_old=draw(st.integers(0, 9)) == 9 and answer_framing.kind != "chunked",
        answer_framing=answer_framing,
        answer_cuts=draw(_CUTS),
    )


def _named(lines: Lines, others: tuple[str, ...]) -> st.SearchStrategy[tuple[bytes, ...]]:
    """Draw what ``Connection`` names: some of the headers that there are, and what is usual."""
    names = [*(name for name, _ in lines), *(other.encode() for other in others)]
    return st.one_of(st.just(()), st.lists(st.sampled_from(names), max_size=2).map(tuple))
