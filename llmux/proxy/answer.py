"""A backend's answer on its way down to the client, with back-pressure."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web._newclient import ResponseFailed
from twisted.web.http import NO_BODY_CODES, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from llmux.engine.chunks import IChunksConsumer
from llmux.engine.connection import IClientResponse
from llmux.errors import BackendBroke
from llmux.headers import for_client
from llmux.proxy.relay import Ending, Relay, cut, cut_behind
from llmux.proxy.stall import StalledClient
from llmux.proxy.watchdog import Watchdog
from llmux.tokens import Tally

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


async def begin_answer(relay: Relay, target: bytes, headers: Headers) -> Answer:
    """
    Send a request and wait for the head of its answer.

    Cancelling it aborts the connection to the backend.

    :param relay: of the request.
    :param target: path and query as the backend is to see them.
    :param headers: as the backend is to see them, but for the body's framing.
    :raises BackendError: if no head came.
    :raises LeaseRevoked: if the lease was revoked before.
    """
    return Answer(relay, await relay.first_byte(relay.send(target, headers)))


class Answer:
    """
    An answer whose head has come, and of which nothing has been sent to the client yet.

    :raises BackendBroke: if its head is no HTTP.
    :ivar status: its HTTP status.
    :ivar reason: its reason phrase.
    :ivar headers: as the client is to see them.
    :ivar tally: counts what is sent of it, if anything does.
    """

    tally: Tally | None = None

    def __init__(self, relay: Relay, response: IClientResponse) -> None:
        self.status: int = response.code
        self.reason: bytes = response.phrase
        if not 200 <= self.status <= 999 or _CONTROL.search(self.reason):
            raise BackendBroke(f"its status line says {self.status} {self.reason!r:.100}")
        self._relay = relay
        self._response = response
        length = None if response.length is UNKNOWN_LENGTH else response.length
        if self.status in NO_BODY_CODES or relay.request.method == b"HEAD":
            length = None  # where there is no body, the client parser's 0 says nothing
        self.headers = for_client(self._response.received, length)

    async def send(self) -> Ending:
        """
        Send it to the client: the head, unless something has been sent already, and the body.

        Cancelling it says that the client has left: the backend's connection is aborted, and it
        ends when that is closed.  An answer that the backend broke off is cut: the client does not
        see a clean end.
        """
        request = self._relay.request
        if not request.startedWriting:
            request.answer(self.status, self.reason, self.headers)
        whole = self._response.take_whole()
        if whole is not None:
            self._send_whole(whole)
            await self._relay.let_go(complete=True)
            return Ending.COMPLETE
        as_it_is = request.chunked and self.tally is None
        make_body = _ChunkedBodyRelay if as_it_is else _BodyRelay
        body = make_body(self._relay, self._response, self.tally)
        self._response.deliverBody(body)
        request.flush()  # nothing of the body has come along with the head
        ending = Ending.CLIENT
        with suppress(CancelledError):
            ending = await body.ended
        await self._relay.let_go(complete=ending is Ending.COMPLETE)
        if ending is Ending.STALLED:
            await cut(request)  # who takes nothing does not take an end
        elif ending is not Ending.COMPLETE and ending is not Ending.CLIENT:
            await cut_behind(request)
        return ending

    def _send_whole(self, body: bytes) -> None:
        """Send a body that has come along with the head: nobody has to be watched meanwhile."""
        now = self._relay.clock.seconds()
        self._relay.lease.heard_at = lambda: now
        if self.tally is not None:
            self.tally.feed(body)
        self._relay.request.write_whole(body)

    async def read(self, limit: int) -> bytes:
        """
        Read its body instead of sending it to anybody.

        :param limit: bytes; no more are read.
        :returns: what there was, complete or not.
        :raises LeaseRevoked: if the lease was revoked before all of it had come.
        """
        relay = self._relay
        body = _BodyReader(limit)
        watchdog = Watchdog(relay.clock, relay.settings.idle_timeout_secs, body.end)
        body.progressed = watchdog.feed
        relay.lease.heard_at = lambda: watchdog.fed_at
        relay.lease.on_revoked(lambda why: body.end())
        self._response.deliverBody(body)
        try:
            complete = await body.ended
        finally:
            watchdog.stop()
        if not complete:
            relay.check_lease()
        await relay.let_go(complete=complete)
        return bytes(body.collected[:limit])


@implementer(IPushProducer)
class _BodyRelay(Protocol):
    """
    Hands a body to the client as it comes, no faster than the client takes it.

    :param tally: counts it, if anything does.
    :ivar ended: becomes how the body ended.
    """

    def __init__(self, relay: Relay, response: IClientResponse, tally: Tally | None) -> None:
        self._response = response
        self._tally = tally
        self._request = relay.request
        watchdog = self._watchdog = Watchdog(
            relay.clock,
            relay.settings.idle_timeout_secs,
            lambda: self._end(Ending.TIMEOUT),
        )
        self._stall = StalledClient(
            relay.request,
            relay.clock,
            relay.settings.client_stall_secs,
            relay.leaving_since,
            lambda: self._end(Ending.STALLED),
        )
        self.ended: Deferred[Ending] = Deferred()
        relay.lease.heard_at = lambda: watchdog.fed_at
        relay.lease.on_revoked(lambda why: self._end(Ending(why.value)))

    def connectionMade(self) -> None:
        """See :meth:`IProtocol.connectionMade`."""
        self._request.registerProducer(self, True)  # type: ignore[no-untyped-call]  # Twisted's

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        self._watchdog.feed()
        if self._tally is not None:
            self._tally.feed(data)
        self._request.write(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        self._request.unregisterProducer()
        why = reason.value
        cut_off = isinstance(why, ResponseFailed) or (
            self._response.was_reset and isinstance(why, PotentialDataLoss)
        )
        self._end(Ending.BACKEND if cut_off else Ending.COMPLETE)

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`: the client does not keep up."""
        self._watchdog.pause()
        if not self.ended.called:
            self._stall.begin()
        self.transport.pauseProducing()  # type: ignore[union-attr]  # a body's transport can

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`: the client has taken all there was."""
        self._stall.end()
        if not self.ended.called:
            self._watchdog.resume()
        self.transport.resumeProducing()  # type: ignore[union-attr]  # a body's transport can

    def stopProducing(self) -> None:
        """See :meth:`IProducer.stopProducing`: the client has gone."""
        self.transport.stopProducing()  # type: ignore[union-attr]  # a body's transport can

    def _end(self, ending: Ending) -> None:
        self._watchdog.stop()
        self._stall.stop()
        if not self.ended.called:
            self.ended.callback(ending)


@implementer(IChunksConsumer)
class _ChunkedBodyRelay(_BodyRelay):
    """The same, for a client that gets chunks: it gets the backend's, if there are any."""

    def chunksReceived(self, data: bytes, size: int) -> None:
        """See :meth:`IChunksConsumer.chunksReceived`."""
        self._watchdog.feed()
        self._request.write_chunks(data, size)


class _BodyReader(Protocol):
    """
    Collects a body, up to a limit.

    :param limit: bytes.
    :ivar collected: what has come, and perhaps a little more than the limit.
    :ivar progressed: called for each piece.
    :ivar ended: becomes whether the whole body has come.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.collected = bytearray()
        self.progressed: Callable[[], object] = lambda: None
        self.ended: Deferred[bool] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """See :meth:`IProtocol.dataReceived`."""
        self.progressed()
        self.collected += data
        if len(self.collected) > self._limit:
            self.end()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's default
        """See :meth:`IProtocol.connectionLost`."""
        self.end(complete=reason.check(ResponseFailed) is None)

    def end(self, *, complete: bool = False) -> None:
        """Wait for no more."""
        if not self.ended.called:
            self.ended.callback(complete)
