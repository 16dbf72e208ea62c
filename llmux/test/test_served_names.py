"""Names over real sockets, through all of llmux: who is asked, and what is heard at the backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from llmux.config import Config
from llmux.server.spool import IN_MEMORY
from llmux.test.exchanges import pieces
from llmux.test.loopback import RawBackend, Served, http_answer, http_post, split
from llmux.test.said import Said, documents, forms, parts

REAL = 'real "b"/é'  # what the backend of b calls it
GET = b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
EVENTS = b"Content-Type: text/event-stream\r\n"

_names = st.sampled_from(("a", "gpt-4o", "any", "b"))
_names_or_others = _names | st.sampled_from(("lora-7", "A", REAL))


def named(config: Config, **changes: dict[str, Any]) -> Config:
    """Give models other names, or other settings."""
    models = {
        name: attrs.evolve(model, **changes.get(name, {})) for name, model in config.models.items()
    }
    return attrs.evolve(config, models=models)


@attrs.frozen
class Asking:
    """
    A random request.

    :param said: its body, or its query.
    :param in_query: whether that is its query.
    :param upstream: the name in front of the path, if there is one.
    :param chunked: whether the body comes in chunks.
    :param cuts: where the request is cut into pieces, in thousandths of it.
    """

    said: Said
    in_query: bool
    upstream: str | None
    chunked: bool
    cuts: list[int]

    def expected_at(self, model: str) -> str | None:
        """Say which name a model's backend has to be given; ``None``: what was sent, untouched."""
        if self.in_query and self.upstream is not None:
            return None
        if model == "b":
            return None if self.said.name == REAL else REAL
        return "a" if self.said.name in ("gpt-4o", "any") else None

    def request(self) -> bytes:
        """Write it."""
        target = b"/v1/x?z=%20"
        if self.in_query:
            target += b"&" + self.said.whole
        if self.upstream is not None:
            target = b"/upstream/" + self.upstream.encode() + target
        head = b"POST %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Same: \xe9 y\r\n" % target
        if self.in_query:
            return head + b"Content-Length: 0\r\n\r\n"
        body = self.said.whole
        head += b"Content-Type: %s\r\n" % self.said.content_type
        if self.chunked:
            return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (
                len(body),
                body,
            )
        return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@st.composite
def askings(draw: st.DrawFn) -> Asking:
    """Choose a request."""
    upstream = draw(st.none() | _names)
    said = _names if upstream is None else _names_or_others
    in_query = draw(st.booleans()) and draw(st.booleans())
    content = forms(said) if in_query else st.one_of(documents(said), forms(said), parts(said))
    cuts = draw(st.lists(st.integers(0, 1000), max_size=5))
    return Asking(draw(content), in_query, upstream, draw(st.booleans()), cuts)


class RandomTests(TestCase):
    """Random requests to two models that are both awake."""

    def setUp(self) -> None:
        """Serve a model that has an alias, and one that its backend calls otherwise."""
        self.backends = {"a": RawBackend(self), "b": RawBackend(self)}
        models = {name: backend.address for name, backend in self.backends.items()}
        general = {"first_awake": {"any": ("b", "a")}, "resources": {"gpu": 2.0}}
        self.served = Served(self, models, general, needs=({"gpu": 1.0},))
        config = named(
            self.served.app.config, a={"aliases": ("gpt-4o",)}, b={"rewrite_model": REAL}
        )
        return self.served.app.apply(config)  # type: ignore[return-value]  # trial waits for it

    def test_random_requests(self) -> Deferred[None]:
        """However a request names its model, that name changes on its way, and no other byte."""

        @settings(max_examples=300, suppress_health_check=list(HealthCheck))
        @given(askings())
        def check(asking: Asking) -> None:
            blockingCallFromThread(reactor, self._begin, asking)  # type: ignore[arg-type]  # Twisted's are not exact

        return deferToThread(check)

    def _begin(self, asking: Asking) -> Deferred[None]:
        return Deferred.fromCoroutine(self._asked(asking))

    async def _asked(self, asking: Asking) -> None:
        for backend in self.backends.values():
            backend.requests.clear()
        wire = await self.served.client()
        for piece in pieces(asking.request(), asking.cuts):
            wire.send(piece)
            await deferLater(reactor, 0)
        answer = await wire.until_lost()
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        ((model, request),) = (
            (name, request)
            for name, backend in self.backends.items()
            for request in backend.requests
        )
        start, headers, body = split(request)
        said, expected = asking.said, asking.expected_at(model)
        assert headers[b"content-length"] == [b"%d" % len(body)], headers
        assert headers[b"x-same"] == [b"\xe9 y"], headers
        target = b"/v1/x?z=%20"
        if asking.in_query:
            target += b"&" + said.whole
            if expected is not None:
                before = b"POST /v1/x?z=%20&" + said.before
                whole = attrs.evolve(said, before=before, behind=said.behind + b" HTTP/1.1")
                assert whole.named_in(start) == expected, start
                return
        assert start == b"POST %s HTTP/1.1" % target, start
        if asking.in_query:
            assert body == b"", body
        elif expected is None:
            assert body == said.whole, body
        else:
            assert said.named_in(body) == expected, body


class ServedNamesTests(TestCase):
    """Two models, of which one can be awake, and a name that either can serve."""

    def serve(self, wake: str = "true", **settings: object) -> Served:
        """Serve them."""
        self.a, self.b = RawBackend(self), RawBackend(self)
        models = {"a": self.a.address, "b": self.b.address}
        return Served(self, models, {"first_awake": {"any": ("a", "b")}}, wake=wake, **settings)

    async def test_another_model_the_second_time(self) -> None:
        """A long request that its model's backend did not take is named anew for the next model."""
        once = Path(self.mktemp()).absolute()
        served = self.serve(wake=f'test "$LLMUX_MODEL" = b || mkdir {once}')
        await served.app.apply(named(served.app.config, b={"rewrite_model": REAL}))
        before, behind = (
            b'{"x": "%s", "model": ' % (b"0123456789" * (IN_MEMORY // 9)),
            b' , "y": 1}',
        )
        body = before + b'"any"' + behind
        await served.exchange(http_post(body=body))
        self.assertEqual(split(self.a.requests[-1])[2], before + b'"a"' + behind)
        await self.a.go_down()
        answer = await served.exchange(http_post(body=body))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        _, headers, got = split(self.b.requests[-1])
        self.assertEqual(got, before + json.dumps(REAL, ensure_ascii=False).encode() + behind)
        self.assertEqual(headers[b"content-length"], [b"%d" % len(got)])
        for model, requests in (("a", 1), ("b", 1), ("any", 0)):
            self.assertEqual(
                served.sample("llmux_requests_total", model=model, status="200"), requests
            )

    async def test_reload(self) -> None:
        """Another configuration's names count at once; those that it has not are unknown."""
        served = self.serve()
        config = named(served.app.config, a={"aliases": ("old",)})
        await served.app.apply(config)
        for target in (b"/v1/x", b"/upstream/old/v1/x"):
            await served.exchange(http_post("old", target))
            self.assertEqual(split(self.a.requests[-1])[2], b'{"model": "a"}')
        config = named(config, a={"aliases": ("new",)})
        await served.app.apply(attrs.evolve(config, first_awake={"some": ("b",)}))
        self.assertIn(b'llmux_request_queue_depth{model="some"} 0.0', served.app.metrics.render())
        for name in (b"old", b"any"):
            for request in (http_post(name.decode()), GET % (b"/upstream/" + name)):
                answer = await served.exchange(request)
                self.assertIn(b" 404 ", answer.partition(b"\r\n")[0])
        await served.exchange(http_post("new"))
        self.assertEqual(split(self.a.requests[-1])[2], b'{"model": "a"}')
        await served.exchange(http_post("some"))
        self.assertEqual(split(self.b.requests[-1])[2], b'{"model": "b"}')

    async def test_near_misses(self) -> None:
        """Wherever a name is mistyped, the answer says what was probably meant."""
        served = self.serve()
        await served.app.apply(named(served.app.config, a={"aliases": ("gpt-4o",)}))
        message = "Model not found: gpt4o; did you mean gpt-4o?"
        for request in (
            http_post("gpt4o"),
            GET % b"/v1/x?model=gpt4o",
            GET % b"/upstream/gpt4o/v1/x",
            GET % b"/v1/models/gpt4o",
        ):
            status, _, body = split(await served.exchange(request))
            self.assertEqual(status, b"HTTP/1.1 404 Not Found")
            self.assertEqual(json.loads(body)["error"]["message"], message)

    async def test_no_name_is_no_name(self) -> None:
        """The default has no name of its own that could be looked at."""
        served = self.serve()
        await served.app.apply(attrs.evolve(served.app.config, default_model="a"))
        answer = await served.exchange(GET % b"/v1/models/")
        self.assertTrue(answer.startswith(b"HTTP/1.1 404 "), answer)

    async def test_empty_names(self) -> None:
        """An empty name is the default's, and is filled in where a value can stand."""
        served = self.serve()
        config = named(served.app.config, b={"rewrite_model": "real"})
        await served.app.apply(attrs.evolve(config, default_model="b"))
        for asked, expected in (
            (b"/x?model", b"/x?model"),
            (b"/x?model=&y", b"/x?model=real&y"),
            (b"/x", b"/x"),
        ):
            await served.exchange(GET % asked)
            self.assertEqual(split(self.b.requests[-1])[0], b"GET %s HTTP/1.1" % expected)
        await served.exchange(http_post(""))
        self.assertEqual(split(self.b.requests[-1])[2], b'{"model": "real"}')

    async def test_sign_of_life(self) -> None:
        """Who waits for any of several models is shown that as often as the most eager of them."""
        gate = Path(self.mktemp()).absolute()
        self.addCleanup(gate.touch)
        served = self.serve(wake=f"until test -e {gate}; do sleep 0.02; done")
        self.a.answer = self.b.answer = http_answer(b"data: 1\n\n", EVENTS)
        changes = {"a": {"keepalive_secs": 3600.0}, "b": {"keepalive_secs": 0.05}}
        await served.app.apply(named(served.app.config, **changes))
        client = await served.client()
        client.send(http_post(body=b'{"model": "any", "stream": true}'))
        await client.until(b": waiting for any, 0 before you\n\n")
        self.assertEqual(served.sample("llmux_request_queue_depth", model="any"), 1)
        gate.touch()
        self.assertIn(b"data: 1", await client.until_lost())
