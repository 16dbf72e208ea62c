"""What the tests of :mod:`llmux.demo` are made of: real HTTP bytes on a fake transport."""

import json
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from llmux.demo.backend import Backend, BackendResource
from llmux.demo.engine import Pace


class Exchange:
    """
    One connection to a backend.

    :ivar transport: what the backend writes to.
    """

    def __init__(self, site: Any) -> None:
        self.transport = StringTransport()
        self._channel = site.buildProtocol(None)
        self._channel.makeConnection(self.transport)

    def send(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> None:
        """Send a request, and ask for the connection to be closed after it."""
        head = f"{method} {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n"
        if media_type:
            head += f"Content-Type: {media_type}\r\n"
        self._channel.dataReceived(
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
        )

    def leave(self) -> None:
        """Drop the connection."""
        self._channel.connectionLost(Failure(ConnectionDone()))

    @property
    def _received(self) -> tuple[bytes, bytes, bytes]:
        received: bytes = self.transport.value()
        return received.partition(b"\r\n\r\n")

    @property
    def head(self) -> str:
        """The answer's status line and headers, in small letters."""
        head, _blank, _body = self._received
        return head.decode("latin-1").lower()

    @property
    def status(self) -> int:
        """The answer's status, or 0 as long as there is none."""
        return int((self.head.split() or ["", "0"])[1])

    @property
    def json(self) -> Any:
        """The answer's body."""
        return json.loads(self._received[2])

    @property
    def events(self) -> list[str]:
        """The data of each event that has come, one chunk being one event."""
        chunks = self._received[2].decode().split("\r\n")[1::2]
        return [chunk.removeprefix("data: ").removesuffix("\n\n") for chunk in chunks if chunk]


class DemoTests(SynchronousTestCase):
    """What tests share of a backend that loads for 2 seconds and speaks 8 tokens a second."""

    def setUp(self) -> None:
        """Make a backend that has loaded."""
        self.clock = Clock()
        self.log: list[str] = []
        self.put(Backend("tiny-llama", self.clock, load_secs=2, pace=Pace(8)))
        self.clock.advance(2)

    def put(self, backend: Backend) -> None:
        """Put a backend behind the address."""
        self.backend = backend
        self.resource = BackendResource(backend, self.log.append)
        self.site = Site(self.resource, reactor=self.clock)

    def ask(self, method: str, path: str, body: object = None, media_type: str = "") -> Exchange:
        """Send a request, with a body of JSON or of the bytes given."""
        exchange = Exchange(self.site)
        sent = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        exchange.send(method, path, sent, media_type)
        return exchange

    def chat(self, **more: object) -> Exchange:
        """Ask for a chat completion."""
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Where is the sea?"},
            {"role": "assistant", "content": "There."},
        ]
        return self.ask("POST", "/v1/chat/completions", {"messages": messages, **more})

    def pass_tokens(self, tokens: int) -> None:
        """Let the time of some tokens pass; it has no rounding errors, being a power of 2."""
        self.clock.pump([0.125] * tokens)
