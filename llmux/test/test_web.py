"""The HTTP face over real sockets: llmux's own answers, and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from klein.resource import KleinResource
from twisted.trial.unittest import TestCase

from llmux._version import __version__
from llmux.config import Backend
from llmux.proxy import answer as answers
from llmux.server.refusals import Refusal
from llmux.test.loopback import RawBackend, Served, Wire, http_answer, http_post, split, until
from llmux.test.stacks import on_each_stack


def get(target: bytes, method: bytes = b"GET") -> bytes:
    """Make a request without a body."""
    return b"%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % (method, target)


@on_each_stack
class OwnAnswersTests(TestCase):
    def setUp(self) -> None:
        """Serve two models."""
        self.backend = RawBackend(self)
        models = {"b/c": self.backend.address, "a": self.backend.address}
        self.served = Served(self, models)

    async def answer(self, request: bytes) -> tuple[bytes, dict[bytes, list[bytes]], Any]:
        """Give status line, headers and JSON body of an answer."""
        status, headers, body = split(await self.served.exchange(request))
        return status, headers, json.loads(body)

    async def test_models(self) -> None:
        """The configured models are listed, sorted by name, as OpenAI's API does it."""
        status, headers, body = await self.answer(get(b"/v1/models"))
        self.assertEqual(status, b"HTTP/1.1 200 OK")
        self.assertEqual(headers[b"content-type"], [b"application/json"])
        model = {"object": "model", "created": 0, "owned_by": "llmux"}
        self.assertEqual(
            body, {"object": "list", "data": [{"id": "a", **model}, {"id": "b/c", **model}]}
        )

    async def test_health(self) -> None:
        """Health tells the version and who is awake, and wakes nobody."""
        _, _, body = await self.answer(get(b"/health"))
        self.assertEqual(body, {"status": "ok", "version": __version__, "awake": []})
        await self.served.exchange(http_post("a"))
        _, _, body = await self.answer(get(b"/health"))
        self.assertEqual(body["awake"], ["a"])

    async def test_metrics(self) -> None:
        """Metrics come in Prometheus's text format 0.0.4."""
        _, headers, body = split(await self.served.exchange(get(b"/metrics")))
        self.assertEqual(headers[b"content-type"], [b"text/plain; version=0.0.4; charset=utf-8"])
        self.assertIn(b'llmux_model_in_flight{model="b/c"} 0.0\n', body)

    async def test_head(self) -> None:
        """HEAD is answered as GET is, without the body."""
        for target in (b"/v1/models", b"/health", b"/metrics"):
            status, headers, body = split(await self.served.exchange(get(target, b"HEAD")))
            self.assertEqual((status, body), (b"HTTP/1.1 200 OK", b""))
            self.assertNotEqual(headers[b"content-length"], [b"0"])

    async def test_query_does_not_matter(self) -> None:
        """A query behind one of llmux's own paths changes nothing."""
        status, _, _ = await self.answer(get(b"/v1/models?limit=1"))
        self.assertEqual(status, b"HTTP/1.1 200 OK")

    async def test_host_does_not_matter(self) -> None:
        """Whatever the Host header says, a request finds its way."""
        for host in (b"", b"x" * 300, b"\xff\xfe", b"a b", b"[::1]:3000", b"..", b"xn--a"):
            request = get(b"/health").replace(b"Host: h", b"Host: " + host)
            self.assertIn(b'"status": "ok"', await self.served.exchange(request))

    async def test_two_apps_do_not_share_anything(self) -> None:
        """Two multiplexers in one process have their own models and metrics."""
        other = Served(self, {"z": self.backend.address})
        await other.exchange(http_post("z"))
        self.assertEqual(self.served.sample("llmux_requests_total", model="z", status="200"), 0)
        self.assertEqual(other.sample("llmux_requests_total", model="z", status="200"), 1)
        self.assertIn(b'"z"', await other.exchange(get(b"/v1/models")))
        self.assertNotIn(b'"z"', await self.served.exchange(get(b"/v1/models")))


@on_each_stack
class ErrorTests(TestCase):
    def setUp(self) -> None:
        """Serve a model that works, and some that do not."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address, "refused": Backend("127.0.0.1", 1)})

    async def error(self, request: bytes, served: Served | None = None) -> tuple[int, str, int]:
        """Give status, message and Retry-After (0 if there is none) of an error."""
        answer = await (served or self.served).exchange(request)
        status, headers, body = split(answer)
        self.assertEqual(headers[b"content-type"], [b"application/json"])
        document = json.loads(body)
        self.assertEqual(set(document), {"error"})
        self.assertEqual(set(document["error"]) - {"code"}, {"message", "type"})
        self.assertEqual(document["error"]["type"], "llmux_error")
        retry_after = int(headers.get(b"retry-after", [b"0"])[0])
        return int(status.split()[1]), document["error"]["message"], retry_after

    async def test_unknown_model(self) -> None:
        """A model that nobody configured is a 404, and counted without its name."""
        self.assertEqual(await self.error(http_post("nope")), (404, "Model not found: nope", 0))
        self.assertEqual(self.served.sample("llmux_requests_total", model="", status="404"), 1)
        self.assertNotIn(b"nope", await self.served.exchange(get(b"/metrics")))

    async def test_no_model(self) -> None:
        """Without a model in a JSON body a request cannot go anywhere."""
        message = "No model specified in request"
        for body in (
            b"{}", b"", b"[]", b"not json", b'"model"', b"\xff", b"[" * 100_000,
        ):  # fmt: skip
            self.assertEqual(await self.error(http_post(body=body)), (404, message, 0))
        for target in (b"/", b"/favicon.ico", b"/%ff%0a", b"//", b"/metrics/", b"/v1/modelsa"):
            self.assertEqual(await self.error(get(target)), (404, message, 0))

    async def test_malformed_body(self) -> None:
        """A JSON body that breaks before its model is refused with what is wrong, and where."""
        status, message, _ = await self.error(http_post(body=b'{"model" 3}'))
        self.assertEqual(status, 400)
        self.assertEqual(message, "The JSON body is malformed at byte 9: expected ':' after a key")

    async def test_model_named_in_a_strange_way(self) -> None:
        """A model's name that is no proper text is refused like any other unknown one."""
        status, message, _ = await self.error(http_post(body=b'{"model": "\\ud800"}'))
        self.assertEqual((status, message), (404, "Model not found: \ufffd"))
        status, message, _ = await self.error(http_post("x" * 100_000))
        self.assertLess(len(message), 300)

    async def test_target_that_is_no_path(self) -> None:
        """A target that no backend could get is refused before it is sent."""
        for target in (b"llmux:80", b"ftp://x/y", b"http://"):
            status, message, _ = await self.error(http_post(target=target))
            self.assertEqual((status, message), (400, Refusal.TARGET.message))
        answer = await self.served.exchange(http_post(target=b"/caf\xc3\xa9"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "))
        self.assertEqual(self.backend.requests, [])

    async def test_backend_that_refuses(self) -> None:
        """A backend that cannot be reached is a 502 that says so."""
        status, message, _ = await self.error(http_post("refused"))
        self.assertEqual(status, 502)
        self.assertTrue(message.startswith("Backend error: the connection was refused"))
        self.assertEqual(self.served.app.switcher.in_flight("refused"), 0)

    async def test_backend_that_breaks_before_its_head(self) -> None:
        """A backend that closes without an answer is a 502 that says so."""
        self.backend.answer = None
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200")
        wire.close()
        answer = await client.until_lost()
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "))
        self.assertIn(b"Backend error: it broke while answering", answer)

    async def test_backend_that_closes_before_answering(self) -> None:
        """A backend that closes without a word is a 502 that says so, and is counted."""
        self.backend.answer = None
        for end in (Wire.close, Wire.abort):
            client = await self.served.client()
            client.send(http_post())
            end(await self.backend.asked(len(self.backend.wires)))
            answer = await client.until_lost()
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "))
            self.assertIn(b"Backend error: it closed the connection before answering", answer)
        closed = self.served.sample(
            "llmux_backend_failures_total", model="a", reason="backend_closed"
        )
        self.assertEqual(closed, 2)

    async def test_backend_that_does_not_speak_http(self) -> None:
        """A backend that answers nonsense is a 502, and the next request is served."""
        self.backend.answer = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"
        status, _, _ = await self.error(http_post())
        self.assertEqual(status, 502)
        self.backend.answer = http_answer(b"fine")
        self.assertTrue((await self.served.exchange(http_post())).endswith(b"fine"))

    async def test_wake_that_fails(self) -> None:
        """A failed wake is a 503 with Retry-After, without what the hook printed."""
        served = Served(self, {"a": self.backend.address}, wake="echo secret; exit 1")
        status, message, retry_after = await self.error(http_post("a"), served)
        self.assertEqual((status, retry_after), (503, 20))
        self.assertEqual(message, "Model a could not be woken; the server's log says why")
        self.assertEqual(served.sample("llmux_hook_failures_total", model="a", hook="wake"), 1)

    async def test_waiting_too_long(self) -> None:
        """A request that waits longer than it may is a 504."""
        gate = Path(self.mktemp()).absolute()
        wake = f"until test -e {gate}; do sleep 0.05; done"
        served = Served(self, {"a": self.backend.address}, wake=wake, request_timeout_secs=0.05)
        status, message, _ = await self.error(http_post("a"), served)
        self.assertEqual((status, message), (504, "Request timed out waiting for model"))
        gate.touch()
        await until(lambda: not served.hooks_running())

    async def test_client_that_leaves_while_it_waits(self) -> None:
        """A client that hangs up while it waits is out of the queue, and counted as 499."""
        gate = Path(self.mktemp()).absolute()
        wake = f"until test -e {gate}; do sleep 0.05; done"
        served = Served(self, {"a": self.backend.address}, wake=wake)
        client = await served.client()
        client.send(http_post("a"))
        await until(lambda: served.sample("llmux_request_queue_depth", model="a") == 1)
        client.abort()
        await until(lambda: served.sample("llmux_request_queue_depth", model="a") == 0)
        self.assertEqual(served.sample("llmux_requests_total", model="a", status="499"), 1)
        gate.touch()
        await until(lambda: not served.hooks_running())
        self.assertEqual(self.backend.requests, [])

    async def test_forms_are_not_looked_at(self) -> None:
        """A body that says it is a form, and is none, is the backend's business."""
        for kind in (b"multipart/form-data", b"application/x-www-form-urlencoded"):
            head = b"Connection: close\r\nContent-Type: %s\r\n" % kind
            answer = await self.served.exchange(http_post(head=head))
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)

    async def test_bug_in_the_midst_of_an_answer(self) -> None:
        """What nobody foresaw after the head is a cut, and not an answer that looks complete."""

        def broken(*arguments: object) -> None:
            raise RuntimeError("planted")

        self.patch(answers, "StalledClient", broken)
        self.backend.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await self.served.exchange(http_post())
        self.assertFalse(answer.endswith(b"0\r\n\r\n"), answer)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.served.app.switcher.in_flight("a"), 0)

    async def test_bug(self) -> None:
        """What nobody foresaw is a 500 without details, and is logged with its traceback."""

        def broken(name: str, urgency: object) -> None:
            raise RuntimeError("secret detail")

        self.served.app.switcher.acquire = broken  # type: ignore[method-assign,assignment]  # a planted bug
        status, message, _ = await self.error(http_post())
        self.assertEqual((status, message), (500, "Internal error; the server's log says more"))
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("secret detail", str(failure))

    async def test_end_that_fails(self) -> None:
        """A fault behind the last step is logged, and the request has an end all the same."""

        def fail(**fields: object) -> None:
            raise ValueError("a bug")

        served = Served(self, {"a": RawBackend(self).address})
        served.app.events.request_ended = fail  # type: ignore[method-assign]  # the test's own
        answer = await served.exchange(http_post())
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_no_look_up(self) -> None:
        """A request for a model is not looked up in Klein's map."""
        self.patch(KleinResource, "render", None)
        served = Served(self, {"a": RawBackend(self).address})
        self.assertTrue((await served.exchange(http_post())).endswith(b"hello"))


class SwitchTests(TestCase):
    async def test_switch_there_and_back(self) -> None:
        """Requests for two models are answered by the right backends, one after the other."""
        first, second = RawBackend(self), RawBackend(self)
        first.answer, second.answer = http_answer(b"first"), http_answer(b"second")
        served = Served(self, {"a": first.address, "b/c": second.address})
        for model, body in (("a", b"first"), ("b/c", b"second"), ("a", b"first")):
            self.assertTrue((await served.exchange(http_post(model))).endswith(body))
        there = served.sample("llmux_switch_total", **{"from": "a", "to": "b/c"}, result="success")
        self.assertEqual(there, 1)
        self.assertEqual(served.sample("llmux_request_queue_wait_seconds_count", model="a"), 2)

    async def test_many_clients(self) -> None:
        """Twenty clients at once for two models are all answered, with few switches."""
        backends = {"a": RawBackend(self), "b": RawBackend(self)}
        for name, backend in backends.items():
            backend.answer = http_answer(name.encode())
        served = Served(self, {name: backend.address for name, backend in backends.items()})
        clients = [await served.client() for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(http_post("ab"[number % 2]))
        for number, client in enumerate(clients):
            self.assertTrue((await client.until_lost()).endswith(b"ab"[number % 2 :][:1]))
        switches = sum(
            served.sample("llmux_switch_total", **{"from": source, "to": target}, result="success")
            for source, target in (("idle", "a"), ("a", "b"), ("b", "a"))
        )
        self.assertLessEqual(switches, 3)
