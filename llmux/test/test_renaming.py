"""What a backend gets differs from what was sent in the model's name alone, byte for byte."""

from __future__ import annotations

import json
from io import BytesIO

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux.clock import VirtualClock
from llmux.envelope import ModelValue, Patch
from llmux.envelope.target import read_query
from llmux.proxy.body import SpooledBody
from llmux.test.envelopes import feed, make_reader
from llmux.test.loopback import RawBackend, Served, http_answer, http_post, split
from llmux.test.said import Said, documents, forms, names, parts

cuts = st.lists(st.integers(0, 400), max_size=6)


class Consumer:
    """Takes a body."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.taken += data


def find(body: bytes, at: list[int], kind: bytes | None = None) -> ModelValue:
    """Find the model in a body that comes in pieces."""
    reader = make_reader(content_type=kind)
    feed(reader, body, at)
    value = reader.finish().value
    assert value is not None
    return value


def sent(body: bytes, patch: Patch) -> bytes:
    """Give what a backend gets of a body, produced and taken whole alike."""
    clock, consumer = VirtualClock(), Consumer()
    spooled = SpooledBody(clock, BytesIO(body), len(body), patch)
    whole = SpooledBody(clock, BytesIO(body), len(body), patch)
    done: Deferred[None] = spooled.startProducing(consumer)  # type: ignore[arg-type]  # all it needs
    assert done.called
    assert len(consumer.taken) == spooled.length, "the length that is told to the backend"
    assert whole.take_whole() == consumer.taken
    assert whole.complete
    return consumer.taken


class BodyTests(SynchronousTestCase):
    def assert_nothing_else(self, said: Said, new: str, at: list[int]) -> None:
        """Fail if anything but the name changes."""
        value = find(said.whole, at, said.content_type)
        self.assertEqual((value.said, value.kind), (said.name, said.kind))
        (patch,) = value.replaced(new)
        self.assertEqual(said.named_in(sent(said.whole, patch)), new)

    @settings(max_examples=500)
    @given(documents(), names, cuts)
    def test_json(self, said: Said, new: str, at: list[int]) -> None:
        """Of JSON only the string changes that is the model, quotes and escapes included."""
        self.assert_nothing_else(said, new, at)

    @settings(max_examples=300)
    @given(forms(), names, cuts)
    def test_form(self, said: Said, new: str, at: list[int]) -> None:
        """Of a form only the field's value changes."""
        self.assert_nothing_else(said, new, at)

    @settings(max_examples=300)
    @given(parts(), names, cuts)
    def test_parts(self, said: Said, new: str, at: list[int]) -> None:
        """Of a form in parts only the content of the field changes."""
        self.assert_nothing_else(said, new, at)

    @settings(max_examples=300)
    @given(forms(), names, st.sampled_from((b"/v1/x?", b"/model=a/x?", b"/?", b"/x?model2=&")))
    def test_query(self, said: Said, new: str, before: bytes) -> None:
        """Of a target only the value in the query changes."""
        value = read_query(before + said.whole)
        assert value is not None
        self.assertEqual((value.said, value.in_target), (said.name, True))
        (patch,) = value.replaced(new)
        whole = attrs.evolve(said, before=before + said.before)
        self.assertEqual(whole.named_in(patch.apply(whole.whole)), new)

    @given(st.binary(max_size=300_000), st.data())
    @settings(max_examples=50)
    def test_long_bodies(self, body: bytes, data: st.DataObject) -> None:
        """However long a body is, and wherever the name is in it, all else comes through."""
        begin = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(begin, len(body)))
        new = data.draw(st.binary(max_size=50))
        self.assertEqual(sent(body, Patch(begin, end, new)), body[:begin] + new + body[end:])


class RelayTests(TestCase):
    """The same over real sockets, through all of llmux."""

    def setUp(self) -> None:
        """Serve a model that has an alias, and one that its backend calls otherwise."""
        self.a, self.b = RawBackend(self), RawBackend(self)
        self.a.answer = self.b.answer = http_answer(b"x")
        models = {"a": self.a.address, "b": self.b.address}
        names = {"default_model": "a", "first_awake": {"any": ("b", "a")}}
        self.served = Served(self, models, names)
        config = self.served.app.config
        changed = {
            "a": attrs.evolve(config.models["a"], aliases=("gpt-4o",)),
            "b": attrs.evolve(config.models["b"], rewrite_model='real "b"'),
        }
        return self.served.app.apply(attrs.evolve(config, models=changed))  # type: ignore[return-value]  # trial waits for it

    async def seen(self, backend: RawBackend, request: bytes) -> tuple[bytes, bytes]:
        """Send a request; give the first line and the body that a backend got."""
        answer = await self.served.exchange(request)
        self.assertIn(b"200", answer.partition(b"\r\n")[0], answer)
        head, headers, body = split(backend.requests[-1])
        if body:
            self.assertEqual(headers[b"content-length"], [b"%d" % len(body)])
        return head, body

    async def test_alias(self) -> None:
        """A backend is asked by its model's own name, for it knows no alias."""
        body = b'{ "messages" : [{"model":"gpt-4o"}], "model":"gpt\\u002d4o" ,"x":1.50}'
        _, got = await self.seen(self.a, http_post(body=body))
        self.assertEqual(got, body.replace(b'"gpt\\u002d4o"', b'"a"'))

    async def test_own_name(self) -> None:
        """A request that says the right name passes as it is."""
        body = b'{"model" : "\\u0061"}'
        self.assertEqual((await self.seen(self.a, http_post(body=body)))[1], body)

    async def test_rewrite(self) -> None:
        """Where the file says what the backend expects, it gets that."""
        _, got = await self.seen(self.b, http_post(body=b'{"a":[1, 2],"model":"b","c":null}'))
        self.assertEqual(got, b'{"a":[1, 2],"model":"real \\"b\\"","c":null}')

    async def test_query(self) -> None:
        """A query changes where it names the model, and nowhere else."""
        for asked, expected in (
            (b"/v1/x?q=model=b&model=b&z=%20", b"/v1/x?q=model=b&model=real%20%22b%22&z=%20"),
            (b"/v1/x?model=b&y&model=b", b"/v1/x?model=real%20%22b%22&y&model=real%20%22b%22"),
        ):
            request = b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % asked
            head, _ = await self.seen(self.b, request)
            self.assertEqual(head, b"GET %s HTTP/1.1" % expected)

    async def test_no_name(self) -> None:
        """A request that names no model gets the default one, and passes as it is."""
        body = b'{"input": "x"}'
        self.assertEqual((await self.seen(self.a, http_post(body=body)))[1], body)

    async def test_any_of_several(self) -> None:
        """Whoever serves a request that any of several can serve is asked by its own name."""
        _, got = await self.seen(self.b, http_post("any"))
        self.assertEqual(got, b'{"model": "real \\"b\\""}')
        self.assertEqual(self.served.sample("llmux_requests_total", model="b", status="200"), 1)

    async def test_upstream(self) -> None:
        """Behind a model in the path, the body's own is changed where it is a name of llmux's."""
        for said, expected in ((b"gpt-4o", b"a"), (b"lora-7", b"lora-7"), (b"any", b"a")):
            request = http_post(target=b"/upstream/gpt-4o/v1/x", body=b'{"model":"%s"}' % said)
            head, got = await self.seen(self.a, request)
            self.assertEqual((head, got), (b"POST /v1/x HTTP/1.1", b'{"model":"%s"}' % expected))

    async def test_digests(self) -> None:
        """What is not true of the body any more is not said of it; else it passes."""
        head = b"Connection: close\r\nContent-MD5: x\r\nDigest: y\r\n"
        await self.seen(self.a, http_post("gpt-4o", head=head))
        self.assertNotIn(b"content-md5", split(self.a.requests[-1])[1])
        await self.seen(self.a, http_post("a", head=head))
        self.assertEqual(split(self.a.requests[-1])[1][b"digest"], [b"y"])

    async def test_listed(self) -> None:
        """All names are listed, and each can be looked at; a mistyped one is told what is near."""
        get = b"GET /v1/models%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        _, _, body = split(await self.served.exchange(get % b""))
        listed = [each["id"] for each in json.loads(body)["data"]]
        self.assertEqual(listed, ["a", "any", "b", "gpt-4o"])
        for name in listed:
            status, _, body = split(await self.served.exchange(get % (b"/" + name.encode())))
            self.assertEqual((status, json.loads(body)["id"]), (b"HTTP/1.1 200 OK", name))
        status, _, body = split(await self.served.exchange(http_post("gpt4o")))
        self.assertIn(b"404", status)
        message = json.loads(body)["error"]["message"]
        self.assertEqual(message, "Model not found: gpt4o; did you mean gpt-4o?")
