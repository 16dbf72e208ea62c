"""What the client, the backend and the owner learn of a request."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import TestCase

from llmux.lease import Lease
from llmux.test.loopback import RawBackend, Served, http_answer, http_post, split, until
from llmux.test.stacks import on_each_stack
from llmux.urgency import BATCH, Urgency

CLOSE = b"Connection: close\r\n"


def get(target: bytes, head: bytes = b"") -> bytes:
    """Make a request without a body."""
    return b"GET %s HTTP/1.1\r\nHost: h\r\n%s%s\r\n" % (target, CLOSE, head)


@on_each_stack
class IdentityTests(TestCase):
    def setUp(self) -> None:
        """Serve one model."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address})

    async def test_taken_over(self) -> None:
        """A request's own name is given back, and told to the backend."""
        self.backend.answer = http_answer(b"x", b"X-Request-Id: the backend's\r\n")
        answer = await self.served.exchange(http_post(head=CLOSE + b"X-Request-Id: my-1\r\n"))
        self.assertEqual(split(answer)[1][b"x-request-id"], [b"my-1"])
        self.assertEqual(split(self.backend.requests[0])[1][b"x-request-id"], [b"my-1"])

    async def test_made(self) -> None:
        """A request without a usable name gets its own: the same for the client and the backend."""
        names = set()
        for head in (
            b"", b"X-Request-Id: \r\n", b"X-Request-Id: a b\r\n", b"X-Request-Id: \xff\r\n",
            b"X-Request-Id: 1\r\nX-Request-Id: 2\r\n", b"X-Request-Id: %s\r\n" % (b"x" * 129),
        ):  # fmt: skip
            answer = await self.served.exchange(http_post(head=CLOSE + head))
            (made,) = split(answer)[1][b"x-request-id"]
            self.assertRegex(made, rb"\A[0-9a-f]{32}\Z")
            self.assertEqual(split(self.backend.requests[-1])[1][b"x-request-id"], [made])
            names.add(made)
        self.assertEqual(len(names), 6)

    async def test_on_every_answer(self) -> None:
        """Own answers, errors and refusals carry the name, too."""
        head = CLOSE + b"X-Request-Id: my-2\r\n"
        for request in (
            get(b"/health", b"X-Request-Id: my-2\r\n"),
            http_post("nobody", head=head),
            http_post(head=head + b"Expect: cake\r\n"),
        ):
            named = split(await self.served.exchange(request))[1][b"x-request-id"]
            self.assertEqual(len(named), 1)
            if b"cake" not in request:
                self.assertEqual(named, [b"my-2"])

    async def test_server_timing(self) -> None:
        """The client learns how long it waited; what the backend says about its time stays."""
        self.backend.answer = http_answer(b"x", b"Server-Timing: gpu;dur=5\r\n")
        backends, ours = split(await self.served.exchange(http_post()))[1][b"server-timing"]
        self.assertEqual(backends, b"gpu;dur=5")
        found = re.fullmatch(rb"queue;dur=(\d+\.\d), switch;dur=(\d+\.\d)", ours)
        assert found is not None
        self.assertGreater(float(found[1]), 0)
        self.assertLessEqual(float(found[2]), float(found[1]))


@on_each_stack
class ForwardedTests(TestCase):
    async def seen(self, head: bytes, *, forwarded: bool) -> dict[bytes, list[bytes]]:
        """Give the headers that the backend got."""
        backend = RawBackend(self)
        served = Served(self, {"a": backend.address}, {"forwarded": forwarded})
        await served.exchange(http_post(head=CLOSE + head))
        return split(backend.requests[0])[1]

    async def test_off(self) -> None:
        """Without the setting what the client says about others passes as it is."""
        headers = await self.seen(b"X-Forwarded-For: 1.2.3.4\r\n", forwarded=False)
        self.assertEqual(headers[b"x-forwarded-for"], [b"1.2.3.4"])
        self.assertNotIn(b"x-forwarded-proto", headers)

    async def test_on(self) -> None:
        """With it the backend learns who asks, by which name, and how."""
        headers = await self.seen(b"", forwarded=True)
        self.assertEqual(headers[b"x-forwarded-for"], [b"127.0.0.1"])
        self.assertEqual(headers[b"x-forwarded-proto"], [b"http"])
        self.assertEqual(headers[b"x-forwarded-host"], [b"llmux"])

    async def test_behind_another_proxy(self) -> None:
        """The client's address is appended to others; the outermost scheme and host stay."""
        headers = await self.seen(
            b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example\r\n",
            forwarded=True,
        )
        self.assertEqual(headers[b"x-forwarded-for"], [b"1.2.3.4, 5.6.7.8, 127.0.0.1"])
        self.assertEqual(headers[b"x-forwarded-proto"], [b"https"])
        self.assertEqual(headers[b"x-forwarded-host"], [b"chat.example"])


@on_each_stack
class PathTests(TestCase):
    def setUp(self) -> None:
        """Serve two models, one with a slash in its name."""
        self.backend = RawBackend(self)
        models = {"a": self.backend.address, "b/c": self.backend.address}
        self.served = Served(self, models, {"blocked_paths": ("/sleep",)})

    async def test_upstream(self) -> None:
        """Under /upstream/ the path names the model, and the rest is the backend's, unchanged."""
        for target, rest in (
            (b"/upstream/a/v1//x/../y?q=%2F", b"/v1//x/../y?q=%2F"),
            (b"/upstream/b/c/slots%20/", b"/slots%20/"),
            (b"/upstream/b%2Fc/props", b"/props"),
            (b"/upstream/a", b"/"),
            (b"/upstream/a?x", b"/?x"),
        ):
            answer = await self.served.exchange(get(target))
            self.assertTrue(answer.endswith(b"hello"), answer)
            line = self.backend.requests[-1].partition(b"\r\n")[0]
            self.assertEqual(line, b"GET %s HTTP/1.1" % rest)

    async def test_query(self) -> None:
        """A request without a body may name its model in the query."""
        answer = await self.served.exchange(get(b"/v1/voices?model=b%2Fc"))
        self.assertTrue(answer.endswith(b"hello"), answer)

    async def test_blocked(self) -> None:
        """A blocked path is a 403, in every spelling and under /upstream/, and goes nowhere."""
        for target in (b"/sleep", b"/upstream/a/sleep", b"/upstream/a/%73leep", b"/x/..//sleep/1"):
            for request in (get(target), http_post(target=target)):
                status, _, body = split(await self.served.exchange(request))
                self.assertEqual(status, b"HTTP/1.1 403 Forbidden")
                self.assertIn("blocked_paths", json.loads(body)["error"]["message"])
        self.assertEqual(self.backend.wires, [])

    async def test_one_model(self) -> None:
        """One model is told as the list has it; one that is not there is a 404."""
        for target, name in ((b"/v1/models/b/c", "b/c"), (b"/v1/models/b%2Fc", "b/c")):
            status, _, body = split(await self.served.exchange(get(target)))
            self.assertEqual(status, b"HTTP/1.1 200 OK")
            listed = json.loads(split(await self.served.exchange(get(b"/v1/models")))[2])["data"]
            self.assertIn(json.loads(body), listed)
            self.assertEqual(json.loads(body)["id"], name)
        status, _, body = split(await self.served.exchange(get(b"/v1/models/nobody")))
        self.assertEqual(status, b"HTTP/1.1 404 Not Found")
        self.assertEqual(json.loads(body)["error"]["message"], "Model not found: nobody")


@on_each_stack
class ClassTests(TestCase):
    """A client says of which class its request is."""

    async def leased(self, trusted: bool, said: bytes) -> tuple[bytes, list[Urgency]]:
        """Send a request; give the status of its answer, and what its leases were."""
        backend = RawBackend(self)
        general = {"trust_class_header": trusted}
        served = Served(self, {"a": backend.address}, general, kind=BATCH, priority=1)
        leases: list[Urgency] = []
        acquire = served.app.switcher.acquire

        def note(lease: Lease) -> Lease:
            leases.append(lease.urgency)
            return lease

        def noted(name: str, urgency: Urgency | None = None) -> Deferred[Lease]:
            return acquire(name, urgency).addCallback(note)

        self.patch(served.app.switcher, "acquire", noted)
        answer = await served.exchange(http_post(head=CLOSE + said))
        return split(answer)[0].split(b" ")[1], leases

    async def test_said(self) -> None:
        """Where that is trusted, it counts."""
        told = await self.leased(True, b"X-LLMux-Class: interactive; priority=3\r\n")
        self.assertEqual(told, (b"200", [Urgency(priority=3)]))

    async def test_not_said(self) -> None:
        """Who says nothing gets what the configuration says of the model."""
        self.assertEqual(await self.leased(True, b""), (b"200", [Urgency(BATCH, 1)]))

    async def test_not_trusted(self) -> None:
        """Where it is not trusted, whatever is said means nothing."""
        for said in (b"X-LLMux-Class: interactive\r\n", b"X-LLMux-Class: nonsense\r\n"):
            self.assertEqual(await self.leased(False, said), (b"200", [Urgency(BATCH, 1)]))

    async def test_nonsense(self) -> None:
        """Where it is trusted, nonsense is refused, and so is what is said twice."""
        said = b"X-LLMux-Class: batch\r\n"
        for head in (b"X-LLMux-Class: bulk\r\n", said + said):
            self.assertEqual(await self.leased(True, head), (b"400", []))


@on_each_stack
class LogTests(TestCase):
    def setUp(self) -> None:
        """Serve one model, and listen to the log."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address})
        self.events: list[dict[str, Any]] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    async def ended(self) -> dict[str, Any]:
        """Give the one event that a request left."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event.get("event") == "request_ended"]

        await until(found, "the access log event")
        (event,) = found()
        return event

    async def test_complete(self) -> None:
        """A request leaves one event with all there is to know about it."""
        request = http_post(head=CLOSE + b"X-Request-Id: r1\r\n")
        await self.served.exchange(request)
        event = await self.ended()
        told = {name: event[name] for name in ("request_id", "model", "status", "how", "bytes_in")}
        self.assertEqual(
            told,
            {"request_id": "r1", "model": "a", "status": 200, "how": "complete", "bytes_in": 14},
        )
        self.assertEqual(event["bytes_out"], 5)
        self.assertLessEqual(event["queue_secs"], event["first_byte_secs"])
        self.assertLessEqual(event["first_byte_secs"], event["duration_secs"])

    async def test_cut(self) -> None:
        """An answer that the backend broke off is told as such."""
        self.backend.answer = None
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
        await client.until(b"part")
        wire.close()
        event = await self.ended()
        self.assertEqual((event["status"], event["how"], event["bytes_out"]), (200, "backend", 4))

    async def test_client_left(self) -> None:
        """So is a client that left before there was an answer."""
        self.backend.answer = None
        client = await self.served.client()
        client.send(http_post())
        await self.backend.asked()
        client.abort()
        event = await self.ended()
        self.assertEqual((event["status"], event["how"]), (499, "client"))

    async def test_client_left_while_it_sent(self) -> None:
        """And one that left before it had sent all of its request."""
        client = await self.served.client()
        head = b"X-Request-Id: r2\r\nExpect: 100-continue\r\n"
        client.send(http_post(head=head).partition(b"{")[0])
        await client.until(b"100 Continue")
        client.close()
        event = await self.ended()
        self.assertEqual((event["status"], event["how"]), (499, "client"))
        self.assertEqual((event["request_id"], event["bytes_in"]), ("r2", 0))
        self.assertEqual(self.served.sample("llmux_requests_total", model="", status="499"), 1)

    async def test_refused(self) -> None:
        """What is refused leaves an event, too."""
        await self.served.exchange(b"GET / HTTP/3\r\n\r\n")
        event = await self.ended()
        self.assertEqual((event["status"], event["model"], event["method"]), (400, "", "-"))
