"""The demo's part of the OpenAI HTTP API: what requests mean and what answers look like."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence

from attrs import frozen

from llmux.demo.speech import count_tokens, embed

Json = dict[str, object]

#: What an answer comes to when the request does not say how long it may be, and the most that it
#: can be, in tokens.
DEFAULT_TOKENS, MOST_TOKENS = 48, 8192


class BadRequest(Exception):
    """The request cannot be answered as it stands; the message is for whoever wrote it."""


@frozen
class Ask:
    """
    A request for an answer in words.

    :ivar chat: whether it came as messages; else as a prompt.
    :ivar prompt: what was said last.
    :ivar prompt_tokens: how many tokens everything said comes to.
    :ivar tokens: how many tokens the answer has.
    :ivar finish_reason: ``length`` when the request set that number, else ``stop``.
    :ivar stream: whether the answer is wanted piece by piece.
    :ivar include_usage: whether a stream ends with the token counts.
    """

    chat: bool
    prompt: str
    prompt_tokens: int
    tokens: int
    finish_reason: str
    stream: bool
    include_usage: bool


@frozen
class Answer:
    """
    The frame that every piece of one answer comes in.

    :ivar created: when, in seconds since 1970.
    """

    ask: Ask
    model: str
    identity: str
    created: int

    def piece(self, text: str | None, *, first: bool = False) -> Json:
        """Make one event of a stream: some text, or the end of the text."""
        finish_reason = self.ask.finish_reason if text is None else None
        choice: Json = {"index": 0, "finish_reason": finish_reason}
        if self.ask.chat:
            role = {"role": "assistant"} if first else {}
            choice["delta"] = role if text is None else {**role, "content": text}
        else:
            choice["text"] = text or ""
        event = self._frame([choice], streamed=True)
        return {**event, "usage": None} if self.ask.include_usage else event

    def tally(self) -> Json:
        """Make the last event of a stream whose token counts are wanted."""
        return {**self._frame([], streamed=True), "usage": self._usage()}

    def whole(self, text: str) -> Json:
        """Make the answer in one piece."""
        choice: Json = {"index": 0, "finish_reason": self.ask.finish_reason}
        if self.ask.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return {**self._frame([choice], streamed=False), "usage": self._usage()}

    def _frame(self, choices: list[Json], *, streamed: bool) -> Json:
        chat_kind = "chat.completion.chunk" if streamed else "chat.completion"
        return {
            "id": self.identity,
            "object": chat_kind if self.ask.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _usage(self) -> Json:
        asked, said = self.ask.prompt_tokens, self.ask.tokens
        return {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
        }


def read_body(body: bytes) -> Json:
    """
    Read a request's body.

    :raises BadRequest: it is not a JSON object.
    """
    try:
        read = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise BadRequest("The body is not a JSON object")
    return read


def read_ask(body: Json, *, chat: bool) -> Ask:
    """
    Read a request for a chat completion or a completion.

    :raises BadRequest: a field that the demo needs is missing or of the wrong type.
    """
    said, last = _messages(body.get("messages")) if chat else _prompt(body.get("prompt"))
    wanted = None
    for field in ("max_completion_tokens", "max_tokens"):
        wanted = body.get(field) if wanted is None else wanted
    if wanted is not None and (type(wanted) is not int or wanted < 1):
        raise BadRequest("'max_tokens' must be a whole number of at least 1")
    options = body.get("stream_options")
    return Ask(
        chat=chat,
        prompt=last,
        prompt_tokens=sum(count_tokens(text) for text in said),
        tokens=min(wanted or DEFAULT_TOKENS, MOST_TOKENS),
        finish_reason="stop" if wanted is None else "length",
        stream=body.get("stream") is True,
        include_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
    )


def embeddings(body: Json, model: str) -> Json:
    """
    Answer a request for embeddings.

    :raises BadRequest: the input is not one of the four forms that the API knows.
    """
    given = body.get("input")
    if isinstance(given, str) or _are_tokens(given):
        given = [given]
    if not isinstance(given, list) or not given:
        raise BadRequest("'input' must be a string, a list of token numbers, or a list of either")
    texts = [_text(one, "input") for one in given]
    packed = body.get("encoding_format") == "base64"
    vectors = [_pack(embed(text)) if packed else embed(text) for text in texts]
    tokens = sum(count_tokens(text) for text in texts)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def transcription(form: Mapping[bytes, Sequence[bytes]]) -> Json:
    """
    Answer a request to write down what is said in a recording: the demo hears how long it is.

    :param form: the values of each field.
    :raises BadRequest: there is no recording.
    """
    recordings = form.get(b"file")
    if not recordings:
        raise BadRequest("'file' must be a recording, in a form of the type multipart/form-data")
    return {"text": f"This recording has {len(recordings[0])} bytes."}


def models(model: str) -> Json:
    """List the one model."""
    listed = {"id": model, "object": "model", "created": 0, "owned_by": "llmux-demo"}
    return {"object": "list", "data": [listed]}


def error(message: str, kind: str) -> Json:
    """Make an error object."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def event(content: Json | str) -> bytes:
    """Make one server-sent event."""
    return f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode()


def _messages(given: object) -> tuple[list[str], str]:
    """Give every message's text, and the last of the user, or of anybody if the user is silent."""
    if not isinstance(given, list) or not given or not all(isinstance(m, Mapping) for m in given):
        raise BadRequest("'messages' must be a list of at least one message")
    texts = [_content(one.get("content")) for one in given]
    by_user = [text for one, text in zip(given, texts, strict=True) if one.get("role") == "user"]
    return texts, (by_user or texts)[-1]


def _content(given: object) -> str:
    parts = given if isinstance(given, list) else [{"text": given}]
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return " ".join(_clean(text) for text in texts if isinstance(text, str))


def _prompt(given: object) -> tuple[list[str], str]:
    """Give the prompt's text, in the same form as :func:`_messages`."""
    if isinstance(given, list) and len(given) == 1 and not _are_tokens(given):
        given = given[0]
    text = _text(given, "prompt")
    return [text], text


def _text(given: object, field: str) -> str:
    if isinstance(given, str):
        return _clean(given)
    if isinstance(given, list) and _are_tokens(given):
        return " ".join(f"#{token}" for token in given)
    raise BadRequest(f"{field!r} must be one text or one list of token numbers")


def _are_tokens(given: object) -> bool:
    return (
        isinstance(given, list) and bool(given) and all(isinstance(token, int) for token in given)
    )


def _clean(text: str) -> str:
    """Replace what JSON can say and UTF-8 cannot: half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _pack(vector: Sequence[float]) -> str:
    """Write a vector as the ``openai`` client asks for it by default: 32-bit floats in base 64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
