"""One request of a client that looks at each byte of its answer, and may be slow, or leave."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from itertools import islice

import attrs

from bench.fleet import Backend
from llmux.demo import speech

ANSWERED, REFUSED, CUT, LEFT = "answered", "refused", "cut", "left"
UNANSWERED, UNHEARD, WRONG, STUCK = "unanswered", "nobody listens", "wrong", "stuck"


@attrs.frozen(kw_only=True)
class Question:
    """
    What is asked, and how.

    :param backend: who is to answer.
    :param prompt: what is said to it.
    :param tokens: how long the answer is.
    :param stream: whether it is wanted piece by piece.
    :param leave_after: the client leaves after so many seconds; ``None``: it stays.
    :param pause: how long a slow client waits before it reads on, in seconds.
    :param bound: how long the whole may take, in seconds.
    """

    backend: Backend
    prompt: str
    tokens: int
    stream: bool = False
    leave_after: float | None = None
    pause: float = 0.0
    bound: float = 160.0


@attrs.frozen
class Answer:
    """
    What became of it.

    :param outcome: one of the words above.
    :param what: the status and the message of a refusal; what is wrong with an answer.
    :param waited: seconds until the answer began, or until it was clear that there would be none.
    :param seconds: how long it took.
    :param began: when it was asked, by ``time.monotonic``.
    """

    outcome: str
    what: str
    waited: float
    seconds: float
    began: float


class _Cut(Exception):
    """The connection ended in the midst of an answer."""


class _Wrong(Exception):
    """An answer is not what was asked for."""


class _Refused(Exception):
    """An answer says why there is none."""


async def ask(port: int, question: Question) -> Answer:
    """
    Ask, and say what became of it; a client that is cancelled leaves.

    :param port: where llmux listens.
    """
    asking = _Asking(question)
    began = time.monotonic()
    outcome, what = ANSWERED, ""
    try:
        allowed = question.bound if question.leave_after is None else question.leave_after
        async with asyncio.timeout(allowed):
            await asking.run(port)
    except TimeoutError:
        outcome, what = (STUCK, asking.where) if question.leave_after is None else (LEFT, "")
    except _Refused as error:
        outcome, what = REFUSED, str(error)
    except _Wrong as error:
        outcome, what = WRONG, str(error)
    except (_Cut, OSError, asyncio.IncompleteReadError) as error:
        outcome, what = asking.lost(error), asking.where
    finally:
        asking.abort()
    end = time.monotonic()
    return Answer(outcome, what, (asking.answer_began or end) - began, end - began, began)


class _Asking:
    def __init__(self, question: Question) -> None:
        self._question = question
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.answer_began: float | None = None
        self.where = "connecting"

    async def run(self, port: int) -> None:
        question = self._question
        taken = socket.socket()
        if question.pause:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        taken.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(taken, ("127.0.0.1", port))
            self._reader, self._writer = await asyncio.open_connection(sock=taken, limit=65536)
        except BaseException:
            taken.close()
            raise
        body = {
            "model": question.backend.name,
            "messages": [{"role": "user", "content": question.prompt}],
            "max_tokens": question.tokens,
            "stream": question.stream,
        }
        content = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self.where = "waiting for an answer"
        self._writer.write(head.encode() + content)
        await self._writer.drain()
        await self._read_answer()

    def lost(self, error: Exception) -> str:
        """Say what it means that the connection is lost now."""
        if self._writer is None:
            return UNHEARD
        return CUT if self.where == "in the answer" else UNANSWERED

    def abort(self) -> None:
        """Leave, if it is not over yet."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _read_answer(self) -> None:
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.where = "in the answer"
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        streamed = headers.get("content-type", "").startswith("text/event-stream")
        if status != 200 or not streamed:
            self.answer_began = time.monotonic()
        body = bytearray()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                self._take(body, await self._reader.readexactly(size), streamed)
                await self._reader.readexactly(2)
                await asyncio.sleep(self._question.pause)
            await self._reader.readuntil(b"\r\n")
        elif "content-length" in headers:
            self._take(
                body, await self._reader.readexactly(int(headers["content-length"])), streamed
            )
        else:
            raise _Wrong(f"it cannot be told where this answer ends: {head!r}")
        self._judge(status, bytes(body), streamed)

    def _take(self, body: bytearray, piece: bytes, streamed: bool) -> None:
        if self.answer_began is None and streamed and not piece.startswith(b":"):
            self.answer_began = time.monotonic()  # a sign of life is no answer
        body += piece

    def _judge(self, status: int, body: bytes, streamed: bool) -> None:
        if streamed:
            events = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
            documents = [json.loads(event) for event in events if event != "[DONE]"]
            if documents and "error" in documents[-1]:
                self._refuse(status, documents[-1])
            self._compare(
                [document.get("model") for document in documents],
                "".join(_delta(document) for document in documents),
            )
            if not events or events[-1] != "[DONE]":
                raise _Wrong(f"a stream without an end: {events[-1:]}")
            return
        try:
            document = json.loads(body)
        except ValueError:
            raise _Wrong(f"status {status}, and this is no JSON: {body[:300]!r}") from None
        if status != 200:
            self._refuse(status, document)
        text = document["choices"][0]["message"].get("content") or ""
        self._compare([document.get("model")], text)

    def _refuse(self, status: int, document: dict[str, object]) -> None:
        error = document.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        if not message:
            raise _Wrong(f"status {status} without a reason: {document}")
        if "oading" in str(message):
            raise _Wrong(f"it was sent to a model that is not awake: {message}")
        raise _Refused(f"{status} {message}")

    def _compare(self, names: list[object], text: str) -> None:
        backend = self._question.backend
        if set(names) != {backend.name}:
            raise _Wrong(f"{backend.name} was asked, and {set(names)} answered")
        if not backend.demo:
            return
        said = islice(speech.answer(backend.name, self._question.prompt), self._question.tokens)
        expected = "".join(said)
        if text != expected:
            raise _Wrong(f"{text[-200:]!r} instead of {expected[-200:]!r}")


def _delta(document: dict[str, object]) -> str:
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        return ""
    return str(choices[0].get("delta", {}).get("content") or "")
