"""One request at its backend, from the connecting to the head of its answer."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.interfaces import IReactorTime
from twisted.web._newclient import (
    RequestGenerationFailed,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers

from llmux.config import ModelSettings
from llmux.engine.connection import IClientConnection, IClientResponse, Switched
from llmux.envelope import Patch
from llmux.errors import (
    BackendBroke,
    BackendClosed,
    BackendRefused,
    BackendTimedOut,
    BodyLost,
    LeaseRevoked,
    NoSocket,
)
from llmux.lease import Lease, Outcome, Revocation
from llmux.proxy.body import SpooledBody
from llmux.proxy.client import RelayClient
from llmux.proxy.watchdog import Watchdog
from llmux.server.request import RelayRequest

_Head = TypeVar("_Head")
_BROKEN = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)
_NOT_ANSWERED = (RequestTransmissionFailed, ResponseNeverReceived)


class Ending(enum.Enum):
    """How an answer ended after its head had been sent."""

    COMPLETE = "complete"
    CLIENT = "client"
    """The client left."""
    BACKEND = "backend"
    """The backend broke off."""
    TIMEOUT = "timeout"
    """The backend sent nothing for too long, or nothing went through a tunnel."""
    STALLED = "stalled"
    """The client took nothing for too long, while its model was wanted to go."""
    DRAIN_TIMEOUT = Revocation.DRAIN_TIMEOUT.value
    BACKEND_DOWN = Revocation.BACKEND_DOWN.value
    KILLED = Revocation.KILLED.value
    SHUTDOWN = Revocation.SHUTDOWN.value


@attrs.define(eq=False)
class Relay:
    """
    Relays a client's request to a backend, whose model must be awake.

    Whoever made it must :meth:`let_go` before the lease is released, however it went.

    :param client: sends to the backend.
    :param request: the client's request, its body received.
    :param lease: the right to do so; when it is revoked the request ends.
    :param clock: tells the time.
    :param settings: how long the backend and the client may take.
    :param leaving_since: tells since when the model is wanted to go, in the clock's seconds;
        ``None`` while it may stay.
    :param patch: bytes of its body that the backend gets instead of others, if so.
    :ivar sent: whether any of the request has been handed to a connection: the backend may know of
        it.
    :ivar outcome: what has become of the request at its backend; right once it was let go.
    """

    client: RelayClient
    request: RelayRequest
    lease: Lease
    clock: IReactorTime
    settings: ModelSettings
    leaving_since: Callable[[], float | None]
    patch: Patch | None = None
    sent: bool = attrs.field(default=False, init=False)
    outcome: Outcome = attrs.field(default=Outcome.FAILED, init=False)
    _connection: IClientConnection | None = attrs.field(default=None, init=False)
    _body: SpooledBody | None = attrs.field(default=None, init=False)

    def send(self, target: bytes, headers: Headers) -> Deferred[IClientResponse]:
        """
        Send the request.

        :param target: path and query as the backend is to see them.
        :param headers: as the backend is to see them, but for the body's framing.
        :raises LeaseRevoked: if the lease has been revoked.
        """
        self.check_lease()
        self._body = SpooledBody.of(self.request, self.clock, self.patch)
        method = self.request.method
        return self.client.send(method, target, headers, self._body, self._handing_over)

    def upgrade(self, target: bytes, headers: Headers) -> Deferred[Switched | IClientResponse]:
        """Send the request, which asks for another protocol; see :meth:`send`."""
        self.check_lease()
        return self.client.upgrade(target, headers, self._handing_over)

    def _handing_over(self, connection: IClientConnection) -> None:
        self._connection, self.sent = connection, True
        self.outcome = Outcome.ABORTED  # unless more becomes of it

    async def first_byte(self, answered: Deferred[_Head]) -> _Head:
        """
        Wait for the head of an answer, as long as it may take, and while the lease is ours.

        Cancelling it says that the client has left.

        :param answered: becomes it; the time counts from when the backend last took any of what it
            is sent.
        :raises BackendError: if no head came.
        :raises LeaseRevoked: if the lease was revoked before.
        """
        limit = self.settings.first_byte_timeout_secs
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            answered.cancel()

        watchdog = None
        if limit is not None:
            watchdog = Watchdog(self.clock, limit, expire)
            if self._body is not None:
                self._body.progressed = watchdog.feed
        self.lease.on_revoked(lambda why: answered.cancel())
        try:
            return await answered
        except Exception as error:
            if expired:
                raise BackendTimedOut(f"it has not begun to answer within {limit:g} s") from error
            self.check_lease(error)
            raise backend_error(error, self.settings.connect_timeout_secs) from error
        finally:
            if watchdog is not None:
                watchdog.stop()

    def check_lease(self, error: Exception | None = None) -> None:
        """
        Check that the request need not end because its lease is wanted back.

        :param error: how that was noticed.
        :raises LeaseRevoked: if it is.
        """
        why = self.lease.revoked
        if why is not None:
            raise LeaseRevoked(self.lease.model, why.value) from error

    async def let_go(self, *, complete: bool = False) -> None:
        """
        Be done with the backend.

        The connection is broken off, unless both ways have come to their end, and waited for until
        it is closed; cancelling does not end that.

        :param complete: whether all of the answer has come.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if complete:
            self.outcome = Outcome.COMPLETE
        elif connection.failed:
            self.outcome = Outcome.FAILED
        if self._body is not None and not self._body.complete:
            self._body.stopProducing()  # answered before it was read: nobody will read the rest
        elif complete:
            return
        connection.break_off()
        await connection.closing.wait()


def backend_error(error: Exception, connect_timeout: float) -> Exception:
    """
    Tell in our words why no head came, or give back what is none of the backend's doing.

    :param error: what the HTTP client raised.
    :param connect_timeout: seconds that it was given to accept a connection.
    """
    if isinstance(error, ConnectingCancelledError):  # of an endpoint, and no CancelledError
        return CancelledError()
    if isinstance(error, TimeoutError):
        return BackendTimedOut(f"it has not accepted a connection within {connect_timeout:g} s")
    if isinstance(error, ConnectBindError):
        return NoSocket(str(error))
    if isinstance(error, ConnectError | DNSLookupError):
        return BackendRefused(str(error))
    if isinstance(error, RequestNotSent):
        return BackendRefused("it closed it before anything could be sent")
    if not isinstance(error, _BROKEN):
        return error
    reasons = [reason.value for reason in error.reasons]
    if any(isinstance(reason, CancelledError) for reason in reasons):
        return CancelledError()  # Twisted wraps it as if the backend had failed
    if isinstance(error, RequestGenerationFailed):
        return BodyLost(str(reasons[0]))
    if isinstance(error, _NOT_ANSWERED):
        return BackendClosed(str(reasons[0]))
    return BackendBroke(str(reasons[0]))


async def cut(request: RelayRequest) -> None:
    """Close a client's connection at once, so that its answer does not look complete."""
    if request.channel is None:  # it has gone by itself
        return
    gone = request.notifyFinish()
    gone.addErrback(lambda _: None)  # the loss of the connection is what is waited for
    transport: Any = request.transport
    transport.abortConnection()
    await gone


async def cut_behind(request: RelayRequest) -> None:
    """Close a client's connection behind what has been relayed: the answer looks cut short."""
    if not request.end_short():
        await cut(request)
