"""Clients that wait for their model are shown that they do."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import TestCase

from llmux.test.loopback import RawBackend, Served, Wire, http_answer, http_post, split, until
from llmux.test.stacks import on_each_stack

STREAM = b'{"model": "a", "stream": true}'
EVENTS = b"Content-Type: text/event-stream; charset=utf-8\r\n"


@on_each_stack
class SignOfLifeTests(TestCase):
    def setUp(self) -> None:
        """Serve a model that wakes when the test says so."""
        self.backend = RawBackend(self)
        self.gate = Path(self.mktemp()).absolute()
        wake = f'until test -e {self.gate}; do sleep 0.02; done; test ! -s "{self.gate}"'
        self.served = Served(self, {"a": self.backend.address}, wake=wake, keepalive_secs=0.05)
        self.addCleanup(self.wake)

    def wake(self, how: str = "") -> None:
        """Let the wake hook end; it fails if it is given anything."""
        self.gate.write_text(how)

    async def waiting(self, request: bytes) -> Wire:
        """Send a request and wait until a comment has come."""
        client = await self.served.client()
        client.send(request)
        await client.until(b" before you\n\n")
        return client

    def events(self, answer: bytes) -> list[bytes]:
        """Give what the stream held, without comments and framing; it must have ended properly."""
        self.assertTrue(answer.endswith(b"\r\n0\r\n\r\n"), answer)
        lines = answer.partition(b"\r\n\r\n")[2].splitlines()
        return [line for line in lines if line.startswith(b"data:")]

    async def test_stream(self) -> None:
        """The head and comments come while the model wakes, then the backend's events."""
        self.backend.answer = http_answer(b"data: 1\n\ndata: [DONE]\n\n", EVENTS + b"X-Gone: 1\r\n")
        client = await self.waiting(
            http_post(body=STREAM, head=b"Connection: close\r\nAccept-Encoding: br\r\n")
        )
        status, headers, _ = split(bytes(client.received))
        self.assertEqual(status, b"HTTP/1.1 200 OK")
        self.assertEqual(headers[b"content-type"], [b"text/event-stream"])
        self.assertIn(b"x-request-id", headers)
        self.wake()
        answer = await client.until_lost()
        self.assertEqual(self.events(answer), [b"data: 1", b"data: [DONE]"])
        self.assertNotIn(b"X-Gone", answer)
        self.assertIn(b"Accept-Encoding: identity\r\n", self.backend.requests[0])
        self.assertEqual(self.served.sample("llmux_requests_total", model="a", status="200"), 1)

    async def test_place(self) -> None:
        """A comment says how many are served first."""
        first = await self.waiting(http_post(body=STREAM))
        second = await self.served.client()
        second.send(http_post(body=STREAM))
        await second.until(b": waiting for a, 1 before you\n\n")
        first.abort()
        await second.until(b": waiting for a, 0 before you\n\n")

    async def test_error_of_the_backend(self) -> None:
        """A backend's error becomes an event, and is counted as what it was."""
        self.backend.answer = http_answer(
            b'{"error": {\n"message": "too long"}}',
            b"Content-Type: application/json\r\n",
            b"400 No",
        )
        client = await self.waiting(http_post(body=STREAM))
        self.wake()
        (event,) = self.events(await client.until_lost())
        self.assertEqual(
            json.loads(event.removeprefix(b"data:")), {"error": {"message": "too long"}}
        )
        self.assertEqual(self.served.sample("llmux_requests_total", model="a", status="400"), 1)

    async def test_connection_is_kept(self) -> None:
        """A connection over which an error has come whole is used again; one cut short is not."""
        for body, wires in ((b"no", 1), (b"x" * 100_000, 2)):
            self.backend.answer = http_answer(body, status=b"500 No")
            served = Served(
                self, {"a": self.backend.address}, wake="sleep 0.2", keepalive_secs=0.05
            )
            self.backend.wires.clear()
            await served.exchange(http_post(body=STREAM))
            await served.exchange(http_post())
            self.assertEqual(len(self.backend.wires), wires)

    async def test_error_that_does_not_end(self) -> None:
        """An error that the backend never finishes is told as far as it has come."""
        self.backend.answer = b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\nhalf of it"
        models = {"a": self.backend.address}
        served = Served(self, models, wake="sleep 0.2", keepalive_secs=0.05, idle_timeout_secs=0.1)
        (event,) = self.events(await served.exchange(http_post(body=STREAM)))
        self.assertIn(b"half of it", event)

    async def test_no_stream(self) -> None:
        """An answer that is no stream of events, or an encoded one, becomes an error event."""
        for head in (b"Content-Type: text/html\r\n", EVENTS + b"Content-Encoding: gzip\r\n"):
            served = Served(
                self, {"a": self.backend.address}, wake="sleep 0.2", keepalive_secs=0.05
            )
            self.backend.answer = http_answer(b"<p>hello", head)
            answer = await served.exchange(http_post(body=STREAM))
            (event,) = self.events(answer)
            message = json.loads(event.removeprefix(b"data:"))["error"]["message"]
            self.assertIn("<p>hello", message)
            self.assertEqual(served.sample("llmux_requests_total", model="a", status="502"), 1)

    async def test_wake_that_fails(self) -> None:
        """A failed wake becomes an event, and is counted as 503."""
        client = await self.waiting(http_post(body=STREAM))
        self.wake("fail")
        (event,) = self.events(await client.until_lost())
        error = json.loads(event.removeprefix(b"data:"))["error"]
        self.assertEqual(error["type"], "llmux_error")
        self.assertIn("could not be woken", error["message"])
        self.assertEqual(self.served.sample("llmux_requests_total", model="a", status="503"), 1)

    async def test_backend_that_refuses(self) -> None:
        """A backend that closes without an answer becomes an event, too."""
        self.backend.answer = None
        client = await self.waiting(http_post(body=STREAM))
        self.wake()
        (await self.backend.asked()).close()
        (event,) = self.events(await client.until_lost())
        self.assertEqual(
            json.loads(event.removeprefix(b"data:"))["error"]["code"], "backend_closed"
        )

    async def test_stream_that_is_cut(self) -> None:
        """A stream that the backend breaks off does not end properly."""
        self.backend.answer = None
        client = await self.waiting(http_post(body=STREAM))
        self.wake()
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\n" + EVENTS + b"Content-Length: 99\r\n\r\ndata: 1\n\n")
        await client.until(b"data: 1")
        wire.close()
        answer = await client.until_lost()
        self.assertFalse(answer.endswith(b"0\r\n\r\n"), answer)

    async def test_client_that_leaves(self) -> None:
        """A client that leaves after the first comment is out of the queue, and counted as 499."""
        client = await self.waiting(http_post(body=STREAM))
        client.abort()
        await until(lambda: not self.served.sample("llmux_request_queue_depth", model="a"))
        self.assertEqual(self.served.sample("llmux_requests_total", model="a", status="499"), 1)

    async def test_others_are_left_alone(self) -> None:
        """No sign of life goes where it would be taken for the answer."""
        clients = []
        for request in (
            http_post(),
            http_post(body=STREAM, target=b"/v1/embeddings"),
            http_post(body=STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            clients.append(await self.served.client())
            clients[-1].send(request)
        await self.waiting(http_post(body=STREAM))
        self.assertEqual([bytes(client.received) for client in clients], [b""] * 3)
        self.wake()
        for client in clients:
            self.assertIn(b"hello", await client.until_lost())
