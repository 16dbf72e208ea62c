"""The operator's face on a real listener, in front of an operator that does what the test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import LogEvent

from llmux.config import Limits
from llmux.settings import Address
from llmux.test.fakes import FakeOperator
from llmux.test.loopback import Wire, listen, split, until
from llmux.test.test_events import record
from llmux.web.admin import AdminFace, admin_site
from llmux.web.guard import Reach

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase

JSON = b"Content-Type: application/json\r\n"


def ask(target: bytes, method: bytes = b"GET", head: bytes = b"", body: bytes = b"") -> bytes:
    """Make a request to the operator's face."""
    if body:
        head += b"Content-Length: %d\r\n" % len(body)
    return b"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n%s" % (
        method,
        target,
        head,
        body,
    )


def order(target: bytes, head: bytes = JSON, body: bytes = b"") -> bytes:
    """Make an order."""
    return ask(target, b"POST", head, body)


class Desk:
    """
    The operator's face, served alone.

    :param test: what it lives for.
    :param reach: who can connect, as it is told.
    :param socket: the path of a UNIX socket to serve it on, instead of loopback.
    :ivar operator: gets the orders.
    :ivar events: what was logged.
    :ivar address: where it is.
    """

    def __init__(
        self, test: TestCase, reach: Reach = Reach.LOOPBACK, socket: Path | None = None
    ) -> None:
        self._channels: list[Any] = []
        self.operator = FakeOperator({("a", "wake"): "loading\nr\xe4ady\n"})
        events, self._seen = record()
        self.face = AdminFace(self.operator, reach, _reactor(), events, lambda: {"status": "ok"})
        self.site = admin_site(self.face, reactor, Limits(), refused=lambda: None)
        build = self.site.buildProtocol

        def remember(address: Any) -> Any:
            self._channels.append(build(address))
            return self._channels[-1]

        self.site.buildProtocol = remember  # type: ignore[method-assign,assignment]  # what cut() needs
        if socket is None:
            self._port = listen(self.site)
            self.address = Address("127.0.0.1", self._port.getHost().port)
        else:
            self._port = _reactor().listenUNIX(str(socket), self.site)
            self.address = Address("", 0, socket)
        self._wires: list[Wire] = []
        test.addCleanup(self._stop)

    async def wire(self) -> Wire:
        """Connect."""
        endpoint: Any
        if self.address.path is None:
            endpoint = TCP4ClientEndpoint(reactor, self.address.host, self.address.port)
        else:
            endpoint = UNIXClientEndpoint(reactor, str(self.address.path))
        wire: Wire = await endpoint.connect(Factory.forProtocol(Wire))
        self._wires.append(wire)
        return wire

    async def exchange(self, request: bytes) -> tuple[int, dict[bytes, list[bytes]], bytes]:
        """Give status, headers and body of the answer to a request."""
        wire = await self.wire()
        wire.send(request)
        status, headers, body = split(await wire.until_lost())
        return int(status.split()[1]), headers, body

    async def give(self, request: bytes) -> Wire:
        """Send an order, and wait until the operator has it."""
        before = len(self.operator.orders)
        wire = await self.wire()
        wire.send(request)
        await until(lambda: len(self.operator.orders) > before, "the order")
        return wire

    async def carry_out(
        self, request: bytes, finish: Callable[[FakeOperator], None]
    ) -> tuple[int, Any]:
        """Give an order, let it end, and give status and JSON of the answer."""
        wire = await self.give(request)
        finish(self.operator)
        status, _, body = split(await wire.until_lost())
        return int(status.split()[1]), json.loads(body)

    async def refused(self, request: bytes) -> tuple[int, str]:
        """Give status and message of an error, which has to be one of llmux's and no more."""
        status, headers, body = await self.exchange(request)
        (kind,) = headers[b"content-type"]
        error = json.loads(body)["error"]
        assert kind == b"application/json", kind
        assert error == {"message": error["message"], "type": "llmux_error"}, error
        assert not any(name.startswith(b"access-control") for name in headers), headers
        return status, error["message"]

    def logged(self, name: str) -> list[LogEvent]:
        """Give the log events of a name."""
        return [event for event in self._seen if event.get("event") == name]

    def cut(self) -> None:
        """Break all connections off, as if the process had been killed."""
        for channel in self._channels:
            channel.transport.abortConnection()

    async def _stop(self) -> None:
        await self._port.stopListening()
        for wire in self._wires:
            if wire.lost is None:
                wire.abort()
            await wire.until_lost()
        await until(lambda: not self.site.connections, "the end of all connections")


def _reactor() -> Any:
    return reactor
