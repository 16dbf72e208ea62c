"""Connections that speak another protocol after an upgrade: bytes both ways, to the end."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from llmux.engine.connection import Switched
from llmux.headers import for_client, tokens
from llmux.proxy.answer import Answer
from llmux.proxy.relay import Ending, Relay, cut
from llmux.proxy.stall import StalledClient
from llmux.proxy.watchdog import Watchdog
from llmux.server.request import RelayRequest
from llmux.tokens import Tally

LAST_WORDS_SECS = 2.0
"""Seconds that a backend has to take what a client said before it left a tunnel."""

PROTOCOL = b"websocket"
"""The only protocol that is tunnelled."""

_OVER = (Ending.COMPLETE, Ending.CLIENT, Ending.BACKEND)
"""
After these the client still gets what was said.  That includes a backend that breaks off: over TLS
many do, in place of a good end, and WebSockets have an end of their own that is seen to be missing.
"""


def asks_for_tunnel(request: RelayRequest) -> bool:
    """Tell whether a request asks for a protocol that is tunnelled (RFC 6455, 4.1)."""
    return (
        request.method == b"GET"
        and tokens(request.requestHeaders, b"upgrade") == {PROTOCOL}
        and b"upgrade" in tokens(request.requestHeaders, b"connection")
        and request.clientproto == b"HTTP/1.1"
        and not request.body_length
    )


async def begin_tunnel(relay: Relay, target: bytes, headers: Headers) -> Answer | Tunnel:
    """
    Ask the backend for the protocol that the client asks for.

    :param relay: of the request.
    :param target: path and query as the backend is to see them.
    :param headers: as the backend is to see them; what is needed for the switch is added.
    :returns: what the backend made of it; nothing has been sent to the client yet.
    :raises BackendError: if no head came.
    :raises LeaseRevoked: if the lease was revoked before.
    """
    headers.setRawHeaders(b"Connection", [b"Upgrade"])
    headers.setRawHeaders(b"Upgrade", [PROTOCOL])
    answer = await relay.first_byte(relay.upgrade(target, headers))
    if isinstance(answer, Switched):
        return Tunnel(relay, answer)
    return Answer(relay, answer)


@implementer(IPushProducer)
@attrs.frozen(eq=False)
class _ClientSide:
    """What the client says, as far as the backend takes it."""

    channel: Any

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""
        self.channel.stop_reading()

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""
        self.channel.read_on()

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`: the tunnel ends the client's connection itself."""


@implementer(IPushProducer)
class Tunnel:
    """
    A switched connection to a backend, of which the client does not know yet.

    :ivar status: 101.
    :ivar reason: its reason phrase.
    :ivar headers: as the client is to see them.
    :ivar tally: of an answer; what goes through a tunnel is no answer.
    """

    status = 101
    tally: Tally | None = None

    def __init__(self, relay: Relay, switched: Switched) -> None:
        self.reason = switched.reason
        self.headers = for_client(switched.headers, None)
        self.headers.setRawHeaders(b"Connection", [b"Upgrade"])
        chosen = switched.headers.getRawHeaders(b"Upgrade", [PROTOCOL])
        self.headers.setRawHeaders(b"Upgrade", chosen)
        self._relay = relay
        self._request = relay.request
        self._backend: Any = switched.connection.transport
        self._switched = switched
        self._ended: Deferred[Ending] = Deferred()
        self._watchdog: Watchdog | None = None
        self._stall = StalledClient(
            relay.request,
            relay.clock,
            relay.settings.client_stall_secs,
            relay.leaving_since,
            lambda: self._give_up(Ending.STALLED),
        )

    async def send(self) -> Ending:
        """
        Tell the client, and hand on what either side says until one of them closes.

        Cancelling it says that the client has left: what it said last is still sent to the backend,
        and it ends when that connection is closed.
        """
        request, backend = self._request, self._backend
        request.switch_protocols(self.reason, self.headers)
        watchdog = self._watchdog = Watchdog(
            self._relay.clock,
            self._relay.settings.tunnel_idle_secs,
            lambda: self._give_up(Ending.TIMEOUT),
        )
        lease, connection = self._relay.lease, self._switched.connection
        lease.heard_at = lambda: watchdog.fed_at
        request.registerProducer(self, True)  # type: ignore[no-untyped-call]  # Twisted's
        backend.registerProducer(_ClientSide(request.channel), True)
        connection.tunnel(self._from_backend, self._backend_closed)
        request.channel.tunnel(self._from_client)
        backend.resumeProducing()
        lease.on_revoked(lambda why: self._give_up(Ending(why.value)))
        last_words: IDelayedCall | None = None
        try:
            ending = await self._ended
        except CancelledError:
            ending = Ending.CLIENT
            backend.unregisterProducer()
            connection.hang_up()
            last_words = self._relay.clock.callLater(LAST_WORDS_SECS, backend.abortConnection)
        finally:
            watchdog.stop()
            self._stall.stop()
        await connection.closing.wait()
        await self._relay.let_go(complete=ending is Ending.COMPLETE)
        if last_words is not None and last_words.active():
            last_words.cancel()
        if ending not in _OVER:
            await cut(request)
        return ending

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`: the client does not keep up."""
        self._stall.begin()
        self._backend.pauseProducing()

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`: the client has taken all there was."""
        self._stall.end()
        self._backend.resumeProducing()

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`: the client has gone."""
        self._backend.stopProducing()

    def _from_client(self, data: bytes) -> None:
        if self._watchdog is not None:
            self._watchdog.put_off()
        self._request.body_length += len(data)
        self._backend.write(data)

    def _from_backend(self, data: bytes) -> None:
        if self._watchdog is not None:
            self._watchdog.feed()
        if data and self._request.channel is not None:
            self._request.bytes_sent += len(data)
            self._request.channel.write(data)

    def _backend_closed(self, reason: Failure) -> None:
        self._request.unregisterProducer()
        self._end(Ending.COMPLETE if reason.check(ConnectionDone) else Ending.BACKEND)

    def _give_up(self, ending: Ending) -> None:
        self._end(ending)
        self._switched.connection.break_off()

    def _end(self, ending: Ending) -> None:
        if not self._ended.called:
            self._ended.callback(ending)
