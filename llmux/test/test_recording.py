"""What a trace says of the requests that a multiplexer has served."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from llmux.test.loopback import RawBackend, Served, http_answer, http_post, until
from llmux.tracefile import COLUMNS

JSON, STREAM, SOUND = (
    b"Content-Type: %s\r\n" % kind
    for kind in (b"application/json", b"text/event-stream", b"audio/mpeg")
)
CLOSE = b"Connection: close\r\n"
EVENT = b'data: {"choices": [{"delta": {"content": "secret"}}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}\n\n'
FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="secret.wav"\r\n\r\n'
    + b"z" * 5000
    + b"\r\n--B--\r\n"
)
HANDSHAKE = (
    b"GET /v1/realtime?model=a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n"
)


class RecordingTests(TestCase):
    def setUp(self) -> None:
        """Serve one model, with two more names, and record."""
        self.backend = RawBackend(self)
        self.served = Served(
            self,
            {"a": self.backend.address},
            {"first_awake": {"any": ("a",)}, "trust_class_header": True},
            aliases=("gpt-4",),
        )
        self.path = Path(self.mktemp()).absolute()
        self.recorder = self.served.app.recorder
        self.recorder.start(self.path)

    def rows(self) -> list[dict[str, str]]:
        """Give the rows that there are."""
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    async def row(self, request: bytes | None = None, answer: bytes | None = None) -> Any:
        """Have a request answered; give model, tokens asked and tokens answered as recorded."""
        if answer is not None:
            self.backend.answer = answer
        before = len(self.rows())
        await self.served.exchange(http_post(head=CLOSE + JSON) if request is None else request)
        await until(lambda: len(self.rows()) > before, "a row")
        (row,) = self.rows()[before:]
        self.assertNotIn("secret", self.path.read_text())
        return row["model"], int(row["prompt_tokens"]), int(row["output_tokens"])

    async def test_document(self) -> None:
        """A document says how long it is, and how long the prompt was."""
        body = b'{"text": "secret", "usage": {"prompt_tokens": 9, "completion_tokens": 2}}'
        self.assertEqual(await self.row(None, http_answer(body, JSON)), ("a", 9, 2))
        (row,) = self.rows()
        self.assertEqual(tuple(row), COLUMNS)
        self.assertEqual((row["session"], row["think_secs"], row["class"]), ("", "", ""))
        self.assertGreater(float(row["arrived_at"]), 1.7e9)

    async def test_streams(self) -> None:
        """So does a stream; in one that does not, events are counted."""
        said = EVENT * 5 + USAGE + b"data: [DONE]\n\n"
        self.assertEqual(await self.row(None, http_answer(said, STREAM)), ("a", 9, 2))
        unsaid = EVENT * 5 + b"data: [DONE]\n\n"
        self.assertEqual(await self.row(None, http_answer(unsaid, STREAM)), ("a", 4, 5))

    async def test_uploads(self) -> None:
        """Sound counts by its size, either way."""
        head = CLOSE + b"Content-Type: multipart/form-data; boundary=B\r\n"
        request = http_post(target=b"/v1/audio/transcriptions", head=head, body=FORM)
        self.assertEqual(await self.row(request, http_answer(b'{"text": 1}', JSON)), ("a", 11, 3))
        answer = http_answer(b"z" * 1024, SOUND)
        self.assertEqual(await self.row(None, answer), ("a", 4, 2))

    async def test_names(self) -> None:
        """Whatever a client calls a model, the trace calls it by its name."""
        for name in ("gpt-4", "any", "a"):
            model, _, _ = await self.row(http_post(name, head=CLOSE + JSON))
            self.assertEqual(model, "a")

    async def test_classes(self) -> None:
        """What a request says of its class is there; where it says nothing, nothing is."""
        for said in (b"batch", b"interactive;priority=-2"):
            await self.row(http_post(head=CLOSE + JSON + b"X-LLMux-Class: %s\r\n" % said))
        await self.row()
        classes = [row["class"] for row in self.rows()]
        self.assertEqual(classes, ["batch", "interactive;priority=-2", ""])

    async def test_client_that_leaves(self) -> None:
        """A request that is broken off has a row with what had come."""
        self.backend.answer = None
        client = await self.served.client()
        client.send(http_post(head=JSON))
        wire = await self.backend.asked()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n" % STREAM
        wire.send(head + b"%x\r\n%s\r\n" % (len(EVENT) * 3, EVENT * 3))
        await client.until(b"secret")
        self.assertEqual(self.rows(), [])
        client.abort()
        await until(self.rows, "a row")
        self.assertEqual(self.rows()[0]["output_tokens"], "3")

    async def test_errors(self) -> None:
        """An error is no answer: the request has a row, and nothing was generated."""
        answer = http_answer(b'{"error": "too long"}', JSON, b"400 Bad")
        self.assertEqual(await self.row(None, answer), ("a", 4, 0))
        await self.backend.go_down()
        self.assertEqual(await self.row(), ("a", 4, 0))

    async def test_no_model(self) -> None:
        """What is for no model is not recorded, and neither is what llmux answers itself."""
        for request in (
            http_post("nobody"), http_post(None), http_post(target=b"/health", method=b"GET"),
            http_post(head=CLOSE + b"Expect: cake\r\n"), http_post("a", target=b"/sleep"),
        ):  # fmt: skip
            await self.served.exchange(request)
        await self.row()
        self.assertEqual(len(self.rows()), 1)

    async def test_tunnel(self) -> None:
        """What goes through a tunnel counts by its size, either way."""
        self.backend.answer = None
        client = await self.served.client()
        client.send(HANDSHAKE)
        wire = await self.backend.wire()
        await wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await client.until(b"\r\n\r\n")
        client.send(b"x" * 600)
        wire.send(b"y" * 1100)
        await client.until(b"y" * 1100)
        await wire.until(b"x" * 600)
        wire.close()
        await until(self.rows, "a row")
        (row,) = self.rows()
        self.assertEqual((row["prompt_tokens"], row["output_tokens"]), ("2", "3"))

    async def test_switched_on_meanwhile(self) -> None:
        """A request whose answer had begun before has a row, too."""
        self.recorder.stop()
        self.backend.answer = None
        client = await self.served.client()
        client.send(http_post(head=CLOSE + JSON))
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await client.until(b"ab")
        self.recorder.start(self.path)
        wire.send(b"cd")
        await client.until_lost()
        await until(self.rows, "a row")
        self.assertEqual(self.rows()[0]["output_tokens"], "0")

    async def test_full_disk(self) -> None:
        """Requests are served whatever becomes of the trace."""
        self.recorder.follow(Path("/dev/full"))
        answer = await self.served.exchange(http_post())
        self.assertTrue(answer.endswith(b"hello"))
        await until(lambda: self.recorder.as_json()["lost"] == 1)
