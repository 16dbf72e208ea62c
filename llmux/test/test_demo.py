"""Tests of :mod:`llmux.demo` as a backend."""

import base64
import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

from twisted.web.resource import IResource
from zope.interface.verify import verifyObject

from llmux.demo import speech
from llmux.demo.backend import Backend
from llmux.demo.engine import Pace
from llmux.demo.wire import Ask
from llmux.test.demo import DemoTests


class Broken(Backend):
    """A backend that fails after its first token."""

    async def speak(self, ask: Ask) -> AsyncIterator[str]:
        """Say one word."""
        yield "One"
        raise RuntimeError("broken")


class BackendTests(DemoTests):
    """What a backend answers."""

    def test_resource(self) -> None:
        """The demo's resource is one that any Twisted web site can hold."""
        self.assertTrue(verifyObject(IResource, self.resource))

    def test_loading(self) -> None:
        """While it loads, its health and every other answer are 503; afterwards it is healthy."""
        self.put(Backend("tiny-llama", self.clock, load_secs=2, pace=Pace(8)))
        self.clock.advance(1.75)
        health, api = self.ask("GET", "/health"), self.ask("GET", "/v1/models")
        self.assertEqual((health.status, health.json), (503, {"status": "loading"}))
        self.assertEqual((api.status, api.json["error"]["type"]), (503, "unavailable_error"))
        self.assertEqual(self.chat().status, 503)
        self.clock.advance(0.25)
        health = self.ask("GET", "/health")
        self.assertEqual((health.status, health.json), (200, {"status": "ok"}))

    def test_models(self) -> None:
        """It lists its one model."""
        listed = self.ask("GET", "/v1/models").json
        self.assertEqual([model["id"] for model in listed["data"]], ["tiny-llama"])

    def test_whole_answer(self) -> None:
        """An answer in one piece comes when its last token is due, and counts its tokens."""
        exchange = self.chat(max_tokens=20)
        self.pass_tokens(19)
        self.assertEqual((exchange.status, self.backend.in_flight), (0, 1))
        self.pass_tokens(1)
        self.assertEqual((exchange.status, self.backend.in_flight), (200, 0))
        answer = exchange.json
        self.assertEqual(answer["object"], "chat.completion")
        [choice] = answer["choices"]
        self.assertEqual(choice["finish_reason"], "length")
        self.assertIn("tiny-llama", choice["message"]["content"])
        self.assertIn("Where is the sea?", choice["message"]["content"])
        self.assertEqual(len(choice["message"]["content"].split()), 20)
        self.assertEqual(
            answer["usage"], {"prompt_tokens": 7, "completion_tokens": 20, "total_tokens": 27}
        )

    def test_prompt(self) -> None:
        """An answer begins when its prompt has been read, in one piece or as a stream."""
        self.put(Backend("tiny-llama", self.clock, load_secs=0, pace=Pace(8, 14)))
        whole, streamed = self.chat(max_tokens=2), self.chat(max_tokens=2, stream=True)
        self.pass_tokens(4)  # half a second, for seven tokens
        self.assertEqual(streamed.status, 0)
        self.pass_tokens(1)
        self.assertEqual((len(streamed.events), whole.status), (1, 0))
        self.pass_tokens(1)
        self.assertEqual((streamed.events[-1], whole.status), ("[DONE]", 200))

    def test_crowd(self) -> None:
        """Two answers at once take longer than one alone, and a client that leaves makes room."""
        pace = Pace(8, slowdown=1, most=2)
        self.put(Backend("tiny-llama", self.clock, load_secs=0, pace=pace))
        leaving, staying, queued = (self.chat(max_tokens=4) for _ in range(3))
        self.pass_tokens(4)
        leaving.leave()
        self.pass_tokens(3)
        self.assertEqual((staying.status, queued.status), (0, 0))
        self.pass_tokens(1)
        self.assertEqual((staying.status, queued.status), (200, 0))
        self.pass_tokens(2)
        self.assertEqual((queued.status, self.backend.in_flight), (200, 0))

    def test_default_length(self) -> None:
        """An answer whose length nobody set stops by itself after 48 tokens."""
        exchange = self.chat(max_tokens=None)
        self.pass_tokens(48)
        self.assertEqual(exchange.json["usage"]["completion_tokens"], 48)
        self.assertEqual(exchange.json["choices"][0]["finish_reason"], "stop")

    def test_another_model(self) -> None:
        """A request for another model is answered all the same, in its own name."""
        exchange = self.chat(model="gpt-5", max_completion_tokens=1)
        self.pass_tokens(1)
        self.assertEqual((exchange.status, exchange.json["model"]), (200, "tiny-llama"))

    def test_stream(self) -> None:
        """A stream has one event a token, each at its time, then the reason why it ended."""
        exchange = self.chat(max_tokens=3, stream=True)
        self.pass_tokens(1)
        self.assertIn("content-type: text/event-stream", exchange.head)
        self.assertNotIn("content-length", exchange.head)
        self.assertEqual(len(exchange.events), 1)
        self.pass_tokens(1)
        self.assertEqual(len(exchange.events), 2)
        self.pass_tokens(1)
        *pieces, end, done = exchange.events
        deltas = [json.loads(piece)["choices"][0]["delta"] for piece in pieces]
        self.assertEqual(
            deltas,
            [
                {"role": "assistant", "content": "This"},
                {"content": " is"},
                {"content": " tiny-llama,"},
            ],
        )
        self.assertEqual(
            json.loads(end)["choices"], [{"index": 0, "finish_reason": "length", "delta": {}}]
        )
        self.assertEqual(done, "[DONE]")

    def test_stream_says_what_the_whole_says(self) -> None:
        """The pieces of a stream make up the text that comes in one piece otherwise."""
        whole, streamed = self.chat(), self.chat(stream=True)
        self.pass_tokens(48)
        pieces = [json.loads(event)["choices"][0]["delta"] for event in streamed.events[:-1]]
        text = "".join(piece.get("content", "") for piece in pieces)
        self.assertEqual(text, whole.json["choices"][0]["message"]["content"])

    def test_stream_usage(self) -> None:
        """A stream that was asked for its token counts ends with them."""
        exchange = self.chat(max_tokens=2, stream=True, stream_options={"include_usage": True})
        self.pass_tokens(2)
        *pieces, tally = [json.loads(event) for event in exchange.events[:-1]]
        self.assertEqual([piece["usage"] for piece in pieces], [None] * 3)
        self.assertEqual((tally["choices"], tally["usage"]["total_tokens"]), ([], 9))

    def test_completion(self) -> None:
        """A plain completion answers a prompt, in one piece or streamed."""
        whole = self.ask("POST", "/v1/completions", {"prompt": "Once upon", "max_tokens": 2})
        asked = {"prompt": ["Once upon"], "max_tokens": 2, "stream": True}
        streamed = self.ask("POST", "/v1/completions", asked)
        self.pass_tokens(2)
        self.assertEqual(whole.json["choices"][0]["text"], "This is")
        pieces = [json.loads(event) for event in streamed.events[:-1]]
        self.assertEqual([piece["choices"][0]["text"] for piece in pieces], ["This", " is", ""])
        self.assertEqual({piece["object"] for piece in pieces}, {"text_completion"})

    def test_client_leaves(self) -> None:
        """A client that leaves ends its answer: no timer stays, and nothing is in flight."""
        for stream in (False, True):
            exchange = self.chat(stream=stream)
            self.pass_tokens(3)
            self.assertEqual(self.backend.in_flight, 1)
            exchange.leave()
            self.assertEqual(self.backend.in_flight, 0)
            self.assertIn("the client left", self.log[-1])
        self.clock.advance(0.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bad_requests(self) -> None:
        """What cannot be answered as it stands gets 400 with an error object."""
        user = [{"role": "user", "content": "x"}]
        chat, complete, embed = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
        cases: list[tuple[str, object]] = [
            (chat, b"{"),
            (chat, b"\xff"),
            (chat, b"[" * 100_000),
            (chat, []),
            (chat, {}),
            (chat, {"messages": []}),
            (chat, {"messages": ["x"]}),
            (chat, {"messages": user, "max_tokens": 0}),
            (chat, {"messages": user, "max_tokens": True}),
            (chat, {"messages": user, "max_tokens": "9"}),
            (complete, {"prompt": None}),
            (complete, {"prompt": ["two", "prompts"]}),
            (embed, {"input": []}),
            (embed, {"input": [None]}),
        ]
        for path, body in cases:
            exchange = self.ask("POST", path, body)
            self.assertEqual((exchange.status, path, body), (400, path, body))
            self.assertEqual(exchange.json["error"]["type"], "invalid_request_error")

    def test_odd_text(self) -> None:
        """Half a surrogate pair, parts that are no text and a missing content do no harm."""
        contents: list[object] = ["\ud800", [{"type": "image_url"}, {"text": "hi"}], None, 7]
        for content in contents:
            messages = [{"role": "user", "content": content}]
            asked = {"messages": messages, "max_tokens": 30}
            exchange = self.ask("POST", "/v1/chat/completions", asked)
            self.pass_tokens(30)
            self.assertEqual(exchange.status, 200)
        self.assertEqual(self.ask("POST", "/v1/embeddings", {"input": "\ud800"}).status, 200)

    def test_nowhere(self) -> None:
        """A path that does not exist is 404, a method that a path does not know 405, in JSON."""
        for method, path, status in (
            ("GET", "/", 404),
            ("POST", "/v1/nope?x=1", 404),
            ("GET", "/v1/embeddings", 405),
            ("BREW", "/health", 405),
        ):
            exchange = self.ask(method, path)
            self.assertEqual(exchange.status, status)
            self.assertIn("content-type: application/json", exchange.head)
            self.assertIn("message", exchange.json["error"])

    def test_own_fault(self) -> None:
        """A fault of the demo's own is 500 in JSON, or a stream that breaks off."""
        self.put(Broken("tiny-llama", self.clock, load_secs=0, pace=Pace(8)))
        whole, streamed = self.chat(), self.chat(stream=True)
        self.assertEqual((whole.status, whole.json["error"]["type"]), (500, "server_error"))
        self.assertTrue(streamed.transport.disconnecting)
        self.assertFalse(streamed.transport.value().endswith(b"0\r\n\r\n"))
        self.assertNotIn(b"<html", whole.transport.value() + streamed.transport.value())

    def test_log(self) -> None:
        """Each request is one plain line, but for the many that ask for its health."""
        self.ask("GET", "/health")
        self.chat(max_tokens=2)
        self.pass_tokens(2)
        self.ask("GET", "/nope?a=b")
        self.assertEqual(
            self.log,
            ["POST /v1/chat/completions 200 0.250 s 2 tokens", "GET /nope 404 0.000 s"],
        )


class EmbeddingTests(DemoTests):
    """Texts as vectors."""

    def test_embeddings(self) -> None:
        """Each text gets a vector of length 1, the same one every time, close to its like."""
        given = ["a red fox", "a red dog", "blue"]
        answer = self.ask("POST", "/v1/embeddings", {"input": given}).json
        fox, dog, blue = [item["embedding"] for item in answer["data"]]
        self.assertAlmostEqual(math.hypot(*fox), 1)
        self.assertEqual(fox, speech.embed("a red fox"))
        self.assertGreater(_dot(fox, dog), 0.4)
        self.assertLess(_dot(fox, blue), 0.4)
        self.assertEqual(answer["usage"], {"prompt_tokens": 7, "total_tokens": 7})

    def test_embeddings_of_tokens(self) -> None:
        """One list of token numbers is one text; a list of such lists is several."""
        for given, texts in (([1, 2], 1), ([[1, 2], [3]], 2), ("hello", 1), (["a", [1]], 2)):
            answer = self.ask("POST", "/v1/embeddings", {"input": given}).json
            self.assertEqual(len(answer["data"]), texts)

    def test_embeddings_in_base64(self) -> None:
        """Packed vectors hold the same numbers."""
        asked = {"input": "hello", "encoding_format": "base64"}
        [item] = self.ask("POST", "/v1/embeddings", asked).json["data"]
        numbers = struct.unpack("<16f", base64.b64decode(item["embedding"]))
        for number, expected in zip(numbers, speech.embed("hello"), strict=True):
            self.assertAlmostEqual(number, expected, places=6)


class TranscriptionTests(DemoTests):
    """Recordings as text."""

    def transcribe(self, body: bytes, media_type: str = "multipart/form-data; boundary=x") -> Any:
        """Upload a form."""
        return self.ask("POST", "/v1/audio/transcriptions", body, media_type)

    def test_transcription(self) -> None:
        """Of a recording it tells how many bytes it has, wherever the model's name stands."""
        model = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n'
        for recording in (b"", b"\r", b"\n--y\r\n", bytes(range(256)) * 100):
            head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
            file = head + b"Content-Type: audio/wav\r\n\r\n" + recording + b"\r\n"
            for form in (file + model, model + file):
                exchange = self.transcribe(form + b"--x--\r\n")
                told = f"This recording has {len(recording)} bytes."
                self.assertEqual((exchange.status, exchange.json), (200, {"text": told}))

    def test_no_recording(self) -> None:
        """Without a recording there is nothing to write down."""
        model = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--x--\r\n'
        for exchange in (
            self.transcribe(model),
            self.transcribe(b'{"model": "tiny"}', "application/json"),
        ):
            self.assertEqual(exchange.status, 400)
            self.assertIn("'file'", exchange.json["error"]["message"])


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
