"""
One client's request on its way through llmux and back.

::

    envelope (which model?) -> switcher.acquire -> relay -> lease.release
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from txaio.tx import make_logger

from llmux.config import Config
from llmux.errors import BackendError, BlockedPath, InternalError, NoModel, RequestError
from llmux.events import Events
from llmux.headers import for_backend
from llmux.lease import Lease
from llmux.metrics import Metrics
from llmux.proxy import RelayClient
from llmux.proxy.relay import Answer, Ending, Relay, cut
from llmux.proxy.tunnel import Tunnel, asks_for_tunnel, begin_tunnel
from llmux.server.request import CLIENT_LEFT, RelayRequest
from llmux.switcher import Switcher
from llmux.web.answers import error_answer, error_object
from llmux.web.cors import Cors
from llmux.web.keepalive import (
    MEDIA_TYPE,
    SignOfLife,
    error_event,
    is_event_stream,
    may_stream,
)
from llmux.web.paths import BlockedPaths

_LATER = (429, 503, 504)  # statuses after which trying again makes sense
_MOST_OF_AN_ERROR = 64 * 1024  # bytes of a backend's error that are read to be told as an event
_SHOWN_OF_AN_ERROR = 500  # characters of it, if it is no JSON


@attrs.frozen(kw_only=True)
class House:
    """
    What all exchanges share.

    :ivar config: see there.
    :ivar clients: by model, what sends to its backend.
    :ivar switcher: gives leases.
    :ivar clock: tells the time.
    :ivar metrics: counts requests.
    :ivar events: logs them.
    """

    config: Config
    clients: Mapping[str, RelayClient]
    switcher: Switcher
    clock: IReactorTime
    metrics: Metrics
    events: Events
    blocked: BlockedPaths = attrs.field(init=False)
    cors: Cors = attrs.field(init=False)

    @blocked.default
    def _blocked(self) -> BlockedPaths:
        return BlockedPaths(self.config.blocked_paths)

    @cors.default
    def _cors(self) -> Cors:
        return Cors(self.config.cors_origins)


class Exchange:
    """
    A request and its answer.

    :param house: what all share.
    :param request: the client's request, its body received.
    """

    _log = make_logger()

    def __init__(self, house: House, request: RelayRequest) -> None:
        self._house = house
        self._request = request
        self._model = ""
        self._status: int | None = None
        self._how = Ending.CLIENT.value
        self._waited = 0.0
        self._switching = 0.0
        self._first_byte: float | None = None

    async def run(self) -> bytes | None:
        """
        Answer the request.

        :returns: the whole body, or ``None`` if it has been sent already.
        """
        body: bytes | None = None
        try:
            body = await self._answer()
        except RequestError as error:
            body = await self._tell(error)
        except CancelledError:  # Klein's sign that the client has left
            if self._status is None:
                self._count(CLIENT_LEFT)
        except Exception:
            self._log.failure("a request failed in a way that nobody foresaw")
            if self._request.startedWriting:
                self._how = "error"
                await cut(self._request)
            else:
                body = await self._tell(InternalError())
        if body is None:
            self._log_end()
        else:
            self._request.notifyFinish().addBoth(lambda _: self._log_end())
        return body

    def abandon(self) -> None:
        """Account for the request: its client has gone before all of it had come."""
        self._count(CLIENT_LEFT)
        self._log_end()

    async def _answer(self) -> bytes | None:
        house, request = self._house, self._request
        if request.refusal is not None:
            raise request.refusal
        if house.cors.is_preflight(request.method, request.requestHeaders):
            house.cors.answer_preflight(request.requestHeaders, request.responseHeaders)
            return self._nothing_more(204)
        assert request.envelope is not None  # a request that was not refused has one
        target = request.envelope.target
        if request.uri in house.blocked or (target is not request.uri and target in house.blocked):
            raise BlockedPath
        if target == b"*":
            raise NoModel
        envelope = request.envelope.finish()
        self._model = envelope.model
        interval = self._keepalive_secs() if may_stream(request, target, envelope.stream) else None
        lease = await self._acquire(interval)
        try:
            await self._relay(target)
        finally:
            lease.release()
        return None

    async def _acquire(self, interval: float | None) -> Lease:
        """Wait for the model; show that we do, if it takes longer than so many seconds."""
        house, request = self._house, self._request
        asked = house.clock.seconds()
        waiting = house.switcher.acquire(self._model)
        sign = None
        if interval is not None and not waiting.called:
            sign = SignOfLife(
                request, house.clock, interval, self._stream_headers, lambda: self._place(waiting)
            )
            sign.start()
        try:
            lease = await waiting
            self._switching = lease.switching
        finally:
            if sign is not None:
                sign.stop()
            self._waited = house.clock.seconds() - asked
        return lease

    async def _relay(self, target: bytes) -> None:
        house, request = self._house, self._request
        answer = await self._begin(target)
        if request.startedWriting and not is_event_stream(answer.status, answer.headers):
            assert isinstance(answer, Answer)  # whoever asked for a tunnel had no sign of life
            await self._tell_answer(answer)
            return
        self._count(answer.status)
        self._dress(answer.headers)
        ending = await answer.send()
        self._how = ending.value
        if ending is not Ending.COMPLETE:
            house.metrics.request_cut(self._model, ending.value)

    async def _begin(self, target: bytes) -> Answer | Tunnel:
        house, request = self._house, self._request
        client = house.clients[self._model]
        relay = Relay(
            client,
            request,
            house.clock,
            house.config.models[self._model],
            lambda: house.switcher.leaving_since(self._model),
        )
        headers = self._headers(client)
        if asks_for_tunnel(request):
            return await begin_tunnel(relay, target, headers)
        return await relay.begin(target, headers)

    def _headers(self, client: RelayClient) -> Headers:
        """Choose the headers that the backend gets."""
        request = self._request
        received = request.requestHeaders
        headers = for_backend(received, client.host)
        headers.setRawHeaders(b"X-Request-Id", [request.request_id])
        if request.startedWriting:  # what comes goes into a stream of plain text
            headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        if self._house.config.forwarded:
            address = request.client_host.encode("ascii")
            before = headers.getRawHeaders(b"x-forwarded-for", [])
            headers.setRawHeaders(b"X-Forwarded-For", [b", ".join([*before, address])])
            if not headers.hasHeader(b"x-forwarded-proto"):
                headers.setRawHeaders(b"X-Forwarded-Proto", [b"http"])
            host = received.getRawHeaders(b"host")
            if host and not headers.hasHeader(b"x-forwarded-host"):
                headers.setRawHeaders(b"X-Forwarded-Host", host)
        return headers

    def _dress(self, headers: Headers) -> None:
        """Add to an answer's headers what the client is to learn from us."""
        request = self._request
        headers.setRawHeaders(b"X-Request-Id", [request.request_id])
        timing = f"queue;dur={self._waited * 1e3:.1f}, switch;dur={self._switching * 1e3:.1f}"
        headers.addRawHeader(b"Server-Timing", timing.encode("ascii"))
        self._house.cors.allow(request.requestHeaders, headers)

    def _stream_headers(self) -> Headers:
        headers = Headers({b"Content-Type": [MEDIA_TYPE], b"Cache-Control": [b"no-cache"]})
        headers.setRawHeaders(b"X-Request-Id", [self._request.request_id])
        self._house.cors.allow(self._request.requestHeaders, headers)
        return headers

    def _keepalive_secs(self) -> float | None:
        model = self._house.config.models.get(self._model)
        return None if model is None else model.keepalive_secs

    def _place(self, waiting: Deferred[Lease]) -> str:
        before = self._house.switcher.waiting_before(waiting)
        return f"waiting for {self._model}, {before or 0} before you"

    async def _tell(self, error: RequestError) -> bytes | None:
        """End the request with an error."""
        self._how = Ending.COMPLETE.value
        self._count(error.status)
        if isinstance(error, BackendError):
            self._house.metrics.backend_failed(self._model, error.code or "")
        if error.retry_after is None and error.status in _LATER and self._model:
            error.retry_after = self._house.switcher.estimate(self._model)
        if self._request.startedWriting:  # by a sign of life
            self._request.write(error_event(error_object(error)))
            return None
        self._dress(self._request.responseHeaders)
        return error_answer(self._request, error)

    async def _tell_answer(self, answer: Answer) -> None:
        """Tell a backend's answer that is no stream of events where one has begun."""
        body = await answer.read(_MOST_OF_AN_ERROR)
        self._how = Ending.COMPLETE.value
        self._count(answer.status if answer.status >= 300 else BackendError.status)
        self._request.write(error_event(_error_of(answer.status, body)))

    def _nothing_more(self, status: int) -> bytes:
        self._how = Ending.COMPLETE.value
        self._count(status)
        self._request.setResponseCode(status)
        return b""

    def _count(self, status: int) -> None:
        self._status = status
        seconds = self._house.clock.seconds() - self._request.arrived
        self._first_byte = None if status == CLIENT_LEFT else seconds
        self._house.metrics.request_answered(self._model, status, seconds)

    def _log_end(self) -> None:
        request = self._request
        self._house.events.request_ended(
            request_id=request.request_id.decode("ascii"),
            model=self._model,
            method=request.method.decode("ascii", "replace"),
            path=request.path.decode("ascii", "replace"),
            status=CLIENT_LEFT if self._status is None else self._status,
            how=self._how,
            bytes_in=request.body_length,
            bytes_out=request.bytes_sent,
            waited=self._waited,
            first_byte=self._first_byte,
            seconds=self._house.clock.seconds() - request.arrived,
        )


def _error_of(status: int, body: bytes) -> object:
    """Make an error object of a backend's answer; its own, if it has one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and "error" in document:
        return document
    shown = body.decode("utf-8", "replace")[:_SHOWN_OF_AN_ERROR]
    return error_object(BackendError(f"it answered {status}, and no stream of events: {shown}"))
