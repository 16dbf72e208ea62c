"""Real sockets for tests: backends and clients that say exactly the bytes they are told to."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from llmux.config import Backend, Config
from llmux.lease import Lease, Outcome, Revocation
from llmux.service import App, build_app
from llmux.states import State
from llmux.test.fakes import model_config

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase

WAIT = 10.0  # seconds after which a test gives up


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """Wait until something is so; it is a failure if it does not come about."""
    for _ in range(int(WAIT / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError(f"{what} did not come about")


def listen(factory: Any, port: int = 0) -> Any:
    """Listen on a port of loopback, or on any that is free."""
    return reactor.listenTCP(port, factory, interface="127.0.0.1")


def unaccepting(test: TestCase) -> Backend:
    """Give an address that neither accepts connections nor refuses them, while the test runs."""
    busy = socket.socket()
    test.addCleanup(busy.close)
    busy.bind(("127.0.0.1", 0))
    busy.listen(0)
    address = Backend("127.0.0.1", busy.getsockname()[1])
    for _ in range(4):  # more than the kernel queues for it
        waiting = socket.socket()
        test.addCleanup(waiting.close)
        waiting.setblocking(False)
        waiting.connect_ex(("127.0.0.1", address.port))
    return address


class Leases:
    """
    Remembers the leases of all requests that get as far as a backend.

    :param test: while it runs.
    :ivar given: every lease, in order.
    :ivar outcomes: what became of those that have been released, in order.
    """

    def __init__(self, test: TestCase) -> None:
        self.given: list[Lease] = []
        self.outcomes: list[Outcome] = []
        release, on_revoked = Lease.release, Lease.on_revoked

        def note_release(lease: Lease, outcome: Outcome = Outcome.COMPLETE) -> None:
            if lease.held:
                self.outcomes.append(outcome)
            release(lease, outcome)

        def note(lease: Lease, told: Callable[[Revocation], None]) -> None:
            if lease not in self.given:
                self.given.append(lease)
            on_revoked(lease, told)

        test.patch(Lease, "release", note_release)
        test.patch(Lease, "on_revoked", note)

    async def lease(self, number: int = 0) -> Lease:
        """Wait for a lease."""
        await until(lambda: len(self.given) > number, "a lease")
        return self.given[number]

    async def outcome(self) -> Outcome:
        """Wait for the last outcome that has not been asked for yet."""
        await until(lambda: self.outcomes, "a lease's end")
        return self.outcomes.pop()


class Wire(Protocol):
    """
    One end of a connection that keeps all that it receives.

    :ivar received: the bytes so far.
    :ivar lost: why the connection has ended, when it has.
    """

    transport: ITCPTransport

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default is a Failure
        """Remember why."""
        self.lost = reason

    def send(self, data: bytes) -> None:
        """Say some bytes."""
        self.transport.write(data)

    def close(self) -> None:
        """End the connection in order."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abortConnection()

    async def until(self, expected: bytes) -> bytes:
        """Wait until some bytes have come; give all that has."""
        await until(lambda: expected in self.received, repr(expected))
        return bytes(self.received)

    async def until_lost(self) -> bytes:
        """Wait until the connection has ended; give all that has come."""
        await until(lambda: self.lost is not None, "the connection's end")
        return bytes(self.received)


class RawBackend:
    """
    A backend that answers each request with what it is told to.

    :param test: what it lives for.
    :ivar answer: the bytes of the answer; ``None`` leaves it to the test.
    :ivar wires: its connections, in order.
    :ivar requests: the bytes of each request that it has taken for whole.
    """

    def __init__(self, test: TestCase) -> None:
        self.answer: bytes | None = http_answer(b"hello")
        self.wires: list[BackendWire] = []
        self.requests: list[bytes] = []
        self._factory = Factory.forProtocol(lambda: BackendWire(self))
        self._port = listen(self._factory)
        test.addCleanup(self.go_down)
        self.address = Backend("127.0.0.1", self._port.getHost().port)

    async def go_down(self) -> None:
        """Refuse connections from now on, and break off those that there are."""
        await maybeDeferred(self._port.stopListening)
        self._close()

    def come_up(self) -> None:
        """Take connections again, at the same address."""
        self._port = listen(self._factory, self.address.port)

    async def wire(self, number: int = 0) -> BackendWire:
        """Wait for a connection."""
        await until(lambda: len(self.wires) > number, "a connection to the backend")
        return self.wires[number]

    async def asked(self, number: int = 0) -> BackendWire:
        """Wait for a connection, and for a whole JSON body on it."""
        wire = await self.wire(number)
        await wire.until(b"}")
        return wire

    def _close(self) -> None:
        for wire in self.wires:
            if wire.lost is None:
                wire.abort()


class BackendWire(Wire):
    """One connection to a :class:`RawBackend`."""

    def __init__(self, backend: RawBackend) -> None:
        super().__init__()
        self._backend = backend

    def connectionMade(self) -> None:
        """Be found."""
        self._backend.wires.append(self)

    def dataReceived(self, data: bytes) -> None:
        """Answer when a request is whole."""
        super().dataReceived(data)
        while self._backend.answer and (whole := _first_request(bytes(self.received))) is not None:
            del self.received[: len(whole)]
            self._backend.requests.append(whole)
            self.send(self._backend.answer)


class Served:
    """
    A multiplexer on a real port, in front of raw backends.

    :param test: what it lives for; the HTTP stack is the one that it is for, if it is for one.
    :param models: by name, where each model's backend listens.
    :param general: what the configuration says beside its models.
    :param settings: of all models.
    """

    def __init__(
        self,
        test: TestCase,
        models: dict[str, Backend],
        general: Mapping[str, Any] | None = None,
        **settings: object,
    ) -> None:
        chosen = {"wake": "true", "sleep": "true", **settings}
        config = Config(
            models={
                name: model_config(name, backend=backend, **chosen)
                for name, backend in models.items()
            },
            state_dir=Path(test.mktemp()).absolute(),
            **(general or {}),
        )
        self.app: App = build_app(config, reactor, http=getattr(test, "http", None))
        self._port = listen(self.app.site)
        self.port: int = self._port.getHost().port
        self._clients: list[Wire] = []
        test.addCleanup(self._stop)

    async def client(self) -> Wire:
        """Connect."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        wire: Any = await endpoint.connect(Factory.forProtocol(Wire))
        self._clients.append(wire)
        return wire  # type: ignore[no-any-return]  # what the factory builds

    async def exchange(self, request: bytes) -> bytes:
        """Send a request on a connection of its own and give all that comes until it ends."""
        wire = await self.client()
        wire.send(request)
        return await wire.until_lost()

    def sample(self, name: str, **labels: str) -> float:
        """Give the value of a metric, 0 where there is none, as Prometheus would read it."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        for line in self.app.metrics.render().decode().splitlines():
            series, _, value = line.rpartition(" ")
            found, _, rest = series.partition("{")
            if found == name and set(rest.rstrip("}").split(",")) - {""} == wanted:
                return float(value)
        return 0.0

    def hooks_running(self) -> bool:
        """Tell whether a switch is under way."""
        moving = (State.WAKING, State.SLEEPING)
        return any(state in moving for state in self.app.switcher.states().values())

    async def _stop(self) -> None:
        self.app.switcher.stop()
        await until(lambda: not self.hooks_running())
        await self._port.stopListening()
        for wire in self._clients:
            if wire.lost is None:
                wire.abort()
        for client in self.app.clients.values():
            client.close_idle()
        await until(lambda: not any(self.app.switcher.in_flight(m) for m in self.app.config.models))
        for wire in self._clients:
            await wire.until_lost()
        await until(lambda: not self.app.site.connections, "the end of all connections")
        await deferLater(reactor, 0)


def unsent(wire: Wire) -> int:
    """Say how many bytes have been said that are not even in the kernel yet."""
    transport: Any = wire.transport
    if hasattr(transport, "unsent"):
        return int(transport.unsent)
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]  # Twisted's own book


async def until_steady(count: Callable[[], int]) -> int:
    """Wait until a number has not changed for a while; give it."""
    steady, before = 0, -1
    while steady < 20:
        await deferLater(reactor, 0.01)
        now = count()
        steady, before = (steady + 1 if now == before else 0), now
    return before


def http_answer(body: bytes, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Make an answer with a length."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), head, body)


def http_post(
    model: str | None = "a",
    target: bytes = b"/v1/chat/completions",
    head: bytes = b"Connection: close\r\n",
    body: bytes | None = None,
    method: bytes = b"POST",
) -> bytes:
    """Make a request with a JSON body that names a model."""
    if body is None:
        body = json.dumps({"model": model} if model is not None else {}).encode()
    return b"%s %s HTTP/1.1\r\nHost: llmux\r\n%sContent-Length: %d\r\n\r\n%s" % (
        method,
        target,
        head,
        len(body),
        body,
    )


def split(answer: bytes) -> tuple[bytes, dict[bytes, list[bytes]], bytes]:
    """Take an answer apart: status line, headers by lower-case name, the rest."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return status, headers, rest


def relayed(answer: bytes) -> tuple[bytes, dict[bytes, list[bytes]], bytes]:
    """
    Take an answer apart like :func:`split`, without the headers that llmux adds to each.

    The request must have asked for the connection to be closed.
    """
    status, headers, rest = split(answer)
    for ours in (b"x-request-id", b"server-timing"):
        assert headers.pop(ours), ours
    assert headers.pop(b"connection") == [b"close"], headers
    return status, headers, rest


def _first_request(received: bytes) -> bytes | None:
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    _, headers, _ = split(received)
    length = int(headers.get(b"content-length", [b"0"])[0])
    return head + separator + rest[:length] if len(rest) >= length else None
