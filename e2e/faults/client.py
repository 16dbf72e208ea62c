"""A client that sends now and reads when a test wants it to."""

from __future__ import annotations

import http.client
import json
from typing import Any

import attrs
import pytest

from e2e.program import WAIT


@attrs.frozen
class Answer:
    """
    What a client got.

    :param status: the HTTP status.
    :param retry_after: what the header says, in seconds; ``None`` without one.
    :param body: all of it.
    """

    status: int
    retry_after: int | None
    body: str

    @property
    def served_by(self) -> str:
        """Name the model that has answered."""
        return str(json.loads(self.body)["served_by"])

    @property
    def message(self) -> str:
        """Give what llmux says, if it is an error of its."""
        return str(json.loads(self.body)["error"]["message"])

    def is_refusal(self) -> bool:
        """Tell whether it asks to come again: a 503 with ``Retry-After``."""
        return self.status == 503 and self.retry_after is not None


class Client:
    """
    A client with a connection of its own, which has sent a request.

    :param port: where llmux listens.
    :param model: whom it asks.
    :param said: more of the request's body; see ``engine.py``.
    """

    def __init__(self, port: int, model: str, **said: Any) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
        self.ask(model, **said)

    def ask(self, model: str, **said: Any) -> None:
        """Send a request, on the same connection if there was one before."""
        self._response: http.client.HTTPResponse | None = None
        body = json.dumps({"model": model, **said})
        self._connection.request("POST", "/v1/chat/completions", body)

    def begin(self) -> None:
        """Read the beginning of a stream."""
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.read(6) == b"first "

    def answer(self) -> Answer:
        """Read all of the answer, or the rest of it."""
        response = self._response or self._connection.getresponse()
        retry_after = response.headers["Retry-After"]
        return Answer(
            response.status,
            None if retry_after is None else int(retry_after),
            response.read().decode(),
        )

    def is_served(self, model: str) -> None:
        """Read an answer, which has to be one of a model's."""
        answer = self.answer()
        assert answer.status == 200, answer
        assert answer.served_by == model

    def comes_to_its_end(self) -> None:
        """Read the end of a stream that has begun."""
        assert self.answer().body == "last"

    def is_cut(self) -> None:
        """See the answer broken off, visibly: without its end."""
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            self.answer()

    def leave(self) -> None:
        """Leave, whatever comes."""
        self._connection.close()
        if self._response is not None:
            self._response.close()
