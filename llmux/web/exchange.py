"""
One client's request on its way through llmux and back.

::

    envelope (which model?) -> switcher.acquire -> relay -> lease.release
                                   ^                 |
                                   +-- acquire_again, once: there was no backend, and the request
                                       is still whole
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers
from txaio.tx import make_logger

from llmux.engine.names import add, put
from llmux.envelope import Envelope, ModelValue, Patch
from llmux.errors import (
    BackendError,
    BackendRefused,
    BadClass,
    BlockedPath,
    InternalError,
    LeaseRevoked,
    NoModel,
    RequestError,
    UnknownModel,
)
from llmux.headers import for_backend
from llmux.lease import Lease, Outcome, Revocation
from llmux.proxy import RelayClient
from llmux.proxy.answer import Answer, begin_answer
from llmux.proxy.relay import Ending, Relay, cut
from llmux.proxy.tunnel import Tunnel, asks_for_tunnel, begin_tunnel
from llmux.server.request import CLIENT_LEFT, RelayRequest
from llmux.tokens import Tally
from llmux.urgency import Urgency
from llmux.web.answers import error_answer, error_object, error_of
from llmux.web.house import House
from llmux.web.keepalive import (
    MEDIA_TYPE,
    SignOfLife,
    error_event,
    is_event_stream,
    may_stream,
)
from llmux.web.recording import measure, record

_DIGESTS = (b"content-md5", b"content-digest", b"repr-digest", b"digest")
"""Headers that are not true of a body any more in which the model is called otherwise."""

_LATER = (429, 503, 504)  # statuses after which trying again makes sense
_MOST_OF_AN_ERROR = 64 * 1024  # bytes of a backend's error that are read to be told as an event


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
        self._tally: Tally | None = None
        self._urgency: Urgency | None = None

    async def run(self) -> bytes | None:
        """
        Answer the request.

        :returns: the whole body, or ``None`` if it has been sent already.
        """
        body: bytes | None = None
        try:
            body = await self._answer()
        except RequestError as error:
            error.__traceback__ = None  # its frames hold what holds the error
            body = await self._tell(error)
        except CancelledError:  # the client has left
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
        try:
            envelope = request.envelope.finish(nameless=house.names.has_default)
        except UnknownModel as error:  # in front of the path
            raise house.names.unknown(error.model) from None
        self._model = envelope.model
        self._model = house.names.resolve(envelope.model)
        interval = self._keepalive_secs() if may_stream(request, target, envelope.stream) else None
        self._urgency = self._said_urgency()
        waiting = house.switcher.acquire(self._model, self._urgency)
        lease = _given(waiting) or await self._wait(waiting, interval)
        again = await self._serve(target, envelope, lease)
        if again is not None:
            await self._serve(target, envelope, await self._wait(again, interval), last=True)
        return None

    async def _serve(
        self, target: bytes, envelope: Envelope, lease: Lease, *, last: bool = False
    ) -> Deferred[Lease] | None:
        """
        Have the request answered by the backend of the model that has got it.

        :param target: path and query as the client wrote them, and
        :param envelope: what it says of its model: both may say it in another way at the backend.
        :param last: whether the request ends here, whatever comes.
        :returns: what becomes another lease, if there is no backend and the request is still whole.
        """
        house = self._house
        self._model = model = lease.model
        target, patch = self._renamed(target, envelope.value)
        relay = Relay(
            house.clients[model],
            self._request,
            lease,
            house.clock,
            house.models[model],
            lambda: house.switcher.leaving_since(model),
            patch,
        )
        try:
            await self._relay(relay, target)
        except (BackendRefused, LeaseRevoked) as error:
            if isinstance(error, BackendRefused):
                relay.outcome = Outcome.REFUSED
            if last or relay.sent or lease.revoked not in (None, Revocation.BACKEND_DOWN):
                raise
            relay.client.close_idle()  # whoever listens there next is another one
            return house.switcher.acquire_again(lease)
        finally:
            await relay.let_go()
            lease.release(relay.outcome)
        return None

    def _renamed(self, target: bytes, value: ModelValue | None) -> tuple[bytes, Patch | None]:
        """Have the request call its model as its backend does; nothing else of it is touched."""
        model = self._house.models[self._model]
        name = None if value is None else self._house.names.at_backend(value.said, model)
        if value is None or name is None:
            return target, None
        patches = value.replaced(name)
        if not value.in_target:
            return target, patches[0]
        for patch in reversed(patches):  # so that the offsets of those before it stay right
            target = patch.apply(target)
        return target, None

    def _said_urgency(self) -> Urgency | None:
        """Say how much of a hurry the client says that it is in, where that counts."""
        if not self._house.config.trust_class_header:
            return None
        said = self._request.requestHeaders.getRawHeaders(b"x-llmux-class", [])
        try:
            return Urgency.from_header(b",".join(said)) if said else None
        except ValueError as error:
            raise BadClass(str(error)) from None

    async def _wait(self, waiting: Deferred[Lease], interval: float | None) -> Lease:
        """Wait for the model; show that we do, if it takes longer than so many seconds."""
        house, request = self._house, self._request
        asked = house.clock.seconds()
        sign = None
        if interval is not None and not waiting.called:
            sign = SignOfLife(
                request, house.clock, interval, self._stream_headers, lambda: self._place(waiting)
            )
            sign.start()
        try:
            lease = await waiting
        finally:
            if sign is not None:
                sign.stop()
            waited = house.clock.seconds() - asked
            self._waited += waited
        self._switching += min(waited, lease.switching)  # the second time there may have been none
        return lease

    async def _relay(self, relay: Relay, target: bytes) -> None:
        house, request = self._house, self._request
        headers = self._headers(relay.client)
        if relay.patch is not None:
            for digest in _DIGESTS:
                headers.removeHeader(digest)
        answer: Answer | Tunnel
        if asks_for_tunnel(request):
            answer = await begin_tunnel(relay, target, headers)
        else:
            answer = await begin_answer(relay, target, headers)
        if request.startedWriting and not is_event_stream(answer.status, answer.headers):
            assert isinstance(answer, Answer)  # whoever asked for a tunnel had no sign of life
            await self._tell_answer(answer)
            return
        self._count(answer.status)
        self._dress(answer.headers)
        answer.tally = self._tally = measure(house, answer.status, answer.headers)
        ending = await answer.send()
        self._how = ending.value
        if ending is not Ending.COMPLETE:
            house.metrics.request_cut(self._model, ending.value)

    def _headers(self, client: RelayClient) -> Headers:
        """Choose the headers that the backend gets."""
        request = self._request
        received = request.requestHeaders
        headers = for_backend(received, client.host)
        put(headers, b"X-Request-Id", request.request_id)
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
        put(headers, b"X-Request-Id", request.request_id)
        timing = b"queue;dur=%.1f, switch;dur=%.1f" % (self._waited * 1e3, self._switching * 1e3)
        add(headers, b"Server-Timing", timing)
        self._house.cors.allow(request.requestHeaders, headers)

    def _stream_headers(self) -> Headers:
        headers = Headers({b"Content-Type": [MEDIA_TYPE], b"Cache-Control": [b"no-cache"]})
        headers.setRawHeaders(b"X-Request-Id", [self._request.request_id])
        self._house.cors.allow(self._request.requestHeaders, headers)
        return headers

    def _keepalive_secs(self) -> float | None:
        models = self._house.config.models
        known = (models.get(name) for name in self._house.names.models(self._model))
        intervals = (model.keepalive_secs for model in known if model is not None)
        return min((secs for secs in intervals if secs is not None), default=None)

    def _place(self, waiting: Deferred[Lease]) -> str:
        before = self._house.switcher.waiting_before(waiting)
        return f"waiting for {self._model}, {before or 0} before you"

    async def _tell(self, error: RequestError) -> bytes | None:
        """End the request with an error; who has left meanwhile is not told anything."""
        if self._request.channel is None:
            self._count(CLIENT_LEFT)
            return None
        revoked = isinstance(error, LeaseRevoked)
        self._how = error.code or "" if revoked else Ending.COMPLETE.value
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
        if self._request.channel is None:
            raise CancelledError  # which is not noticed while a connection is being closed
        self._how = Ending.COMPLETE.value
        self._count(answer.status if answer.status >= 300 else BackendError.status)
        self._request.write(error_event(error_of(answer.status, body)))

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
        record(self._house, request, self._model, self._tally, self._urgency)
        if not self._house.events.tells_of_requests:
            return
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


def _given(waiting: Deferred[Lease]) -> Lease | None:
    """Give the lease that has been got at once, as nearly all are, without waiting for it."""
    lease = waiting.result if waiting.called else None
    return lease if isinstance(lease, Lease) else None
