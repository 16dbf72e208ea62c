"""The operator's face: what llmux is doing, and orders to it, for whoever runs it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from txaio.tx import make_logger

from llmux.config import Limits
from llmux.errors import InternalError, RequestError
from llmux.events import Events
from llmux.operator import IOperator, OrderRefused
from llmux.server.request import CLIENT_LEFT, RelayRequest
from llmux.server.site import RelaySite
from llmux.server.tcp import has_gone
from llmux.web.answers import (
    answer,
    error_answer,
    identify,
    json_answer,
    log_own_answer,
    own_answer_ended,
    send,
)
from llmux.web.guard import Reach, check
from llmux.web.orders import METHODS, Asked, read_hook, read_path, read_recording
from llmux.web.paths import BlockedPaths
from llmux.web.reservations import Wish, read_renewal, read_wish

NO_FACE = OrderRefused(404, "The operator's face is not here (admin.listen)")
"""What is answered to clients who ask for it where it is not."""

_BELOW = BlockedPaths(("/llmux",))
_LONGEST_BODY = 1024  # bytes; {} needs two
_SAFE = (b"GET", b"HEAD")
_ORDERS = {
    (b"POST", "reservations"): "reserve",
    (b"DELETE", "reservation"): "release",
    (b"POST", "recording"): "record",
    (b"DELETE", "recording"): "stop_recording",
}  # what the log calls them
_HEARTBEAT = (b"POST", "reservation")


def is_operators(path: bytes) -> bool:
    """
    Tell whether a path is the operator's, in whatever way it is written.

    Those that only some servers would read so are, too: no backend gets them, and the face knows
    none of them.

    :param path: as it came.
    """
    return (b"%" in path or b"llmux" in path.lower()) and path in _BELOW


class AdminFace(Resource):
    """
    Answers ``/llmux/...``, and on a listener of its own ``/health``.

    It needs the requests of a :class:`RelaySite`.  An order stands once it has been given: a client
    that leaves does not take it back.  A reservation that has not been told to whoever asked for it
    does not stand.

    :param operator: does it.
    :param reach: who can connect to where this is served.
    :param clock: tells the time.
    :param events: logs what is asked.
    :param health: gives what ``/health`` says.
    """

    isLeaf = True  # noqa: N815  # Twisted's name
    _log = make_logger()

    def __init__(
        self,
        operator: IOperator,
        reach: Reach,
        clock: IReactorTime,
        events: Events,
        health: Callable[[], Mapping[str, object]],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._operator = operator
        self._reach = reach
        self._clock = clock
        self._events = events
        self._health = health

    def render(self, request: IRequest) -> int:
        """See :meth:`IResource.render`."""
        assert isinstance(request, RelayRequest)
        identify(request)
        log_own_answer(request, self._events, self._clock)
        request.responseHeaders.setRawHeaders(b"Cache-Control", [b"no-store"])
        request.responseHeaders.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
        Deferred.fromCoroutine(self._run(request)).addErrback(
            lambda failure: self._log.failure("the operator got no answer", failure=failure)
        )
        return NOT_DONE_YET

    def abandoned(self, request: RelayRequest) -> None:
        """Account for a request whose client has gone before all of it had come."""
        identify(request)
        own_answer_ended(request, self._events, self._clock, CLIENT_LEFT)

    async def _run(self, request: RelayRequest) -> None:
        try:
            body = await self._answer(request)
        except RequestError as error:
            body = error_answer(request, error)
        except CancelledError:  # its client has left, and with it what it asked for
            return
        except Exception:
            self._log.failure("a request of the operator's failed in a way that nobody foresaw")
            body = error_answer(request, InternalError())
        send(request, body)

    async def _answer(self, request: RelayRequest) -> bytes:
        if request.refusal is not None:
            raise request.refusal
        check(request.method, request.requestHeaders, self._reach)
        asked = read_path(request.path)
        allowed = METHODS[asked.verb]
        if request.method.decode("ascii") not in allowed:
            request.responseHeaders.setRawHeaders("Allow", [", ".join(allowed)])
            raise OrderRefused(405, f"This is asked for with {' or '.join(allowed)}")
        if request.method in _SAFE:
            return self._tell(asked, request)
        give = self._understand(asked, request)
        if (request.method, asked.verb) == _HEARTBEAT:  # it would fill the log
            return json_answer(request, await give())
        return json_answer(request, await self._order(asked, request, give))

    def _tell(self, asked: Asked, request: RelayRequest) -> bytes:
        operator = self._operator
        if asked.verb == "output":
            printed = operator.output(asked.name, read_hook(request.uri))
            return answer(request, "text/plain; charset=utf-8", printed.encode("utf-8", "replace"))
        told: dict[str, Callable[[], object]] = {
            "health": self._health,
            "status": operator.status,
            "timeline": operator.timeline,
            "recording": operator.recording,
            "reservations": lambda: {"reservations": operator.reservations()},
            "reservation": lambda: operator.reservation(asked.name),
        }
        return json_answer(request, told[asked.verb]())

    async def _order(
        self, asked: Asked, request: RelayRequest, give: Callable[[], Awaitable[object]]
    ) -> object:
        """Give an order, and say what was done."""
        began = self._clock.seconds()
        told = {
            "order": _ORDERS.get((request.method, asked.verb), asked.verb),
            "model": "" if asked.verb == "reservation" else asked.name,
            "request_id": request.request_id.decode("ascii"),
        }
        self._events.operator_asked(**told, client=request.client_host)
        status = InternalError.status
        try:
            done = await give()
            status = request.code
        except RequestError as error:
            status = error.status
            raise
        except CancelledError:
            status = CLIENT_LEFT
            raise
        finally:
            seconds = self._clock.seconds() - began
            self._events.operator_answered(**told, status=status, seconds=seconds)
        return done

    def _understand(self, asked: Asked, request: RelayRequest) -> Callable[[], Awaitable[object]]:
        """
        Find out what is ordered.

        :returns: what gives the order.
        :raises OrderRefused: if the request's body does not fit.
        """
        operator, name = self._operator, asked.name
        if asked.verb == "reservations":
            return partial(self._reserve, read_wish(request), request)
        if asked.verb == "reservation" and request.method == b"POST":
            ttl = read_renewal(request)
            return lambda: execute(operator.renew, name, ttl)
        if asked.verb == "recording" and request.method == b"POST":
            assert request.content is not None  # the request was not refused
            path = read_recording(request.content.read(_LONGEST_BODY))
            return lambda: execute(operator.record, path)
        _refuse_content(request)
        if asked.verb == "recording":
            return lambda: execute(operator.stop_recording)
        if asked.verb == "reservation":
            return lambda: execute(operator.release, name)
        if asked.verb == "reload":
            return operator.reload
        orders: dict[str, Callable[[str], Awaitable[str]]] = {
            "wake": operator.wake,
            "sleep": operator.sleep,
            "kill": operator.kill,
            "pin": operator.pin,
            "unpin": operator.unpin,
        }
        return partial(self._give, orders[asked.verb], name)

    async def _give(self, order: Callable[[str], Awaitable[str]], model: str) -> object:
        return {"done": await order(model)}

    async def _reserve(self, wish: Wish, request: RelayRequest) -> object:
        """Make a reservation; one whose asker goes before it is told is nobody's."""
        waiting = self._operator.reserve(wish.needs, wish.ttl, wish.note)
        request.notifyFinish().addErrback(lambda _: waiting.cancel())
        document = await waiting
        if request.channel is None or has_gone(request.channel.transport):
            with suppress(OrderRefused):  # it may have run out already
                self._operator.release(str(document["id"]))
            raise CancelledError
        request.setResponseCode(201)
        return document


def admin_site(
    face: AdminFace, reactor: Any, limits: Limits, refused: Callable[[], None]
) -> RelaySite:
    """
    Make what listens where only the operator's face is.

    :param face: answers all requests.
    :param reactor: tells the time.
    :param limits: of bodies and connections.
    :param refused: called for each connection that is one too many.
    """
    return RelaySite(
        face,
        reactor,
        limits,
        is_model=lambda name: False,
        refused=refused,
        abandoned=face.abandoned,
    )


def _refuse_content(request: RelayRequest) -> None:
    """Take no order that says more than its path: nobody would do what it says."""
    assert request.content is not None  # the request was not refused
    body = request.content.read(_LONGEST_BODY + 1)
    try:
        said = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        said = None
    if said != {} or len(body) > _LONGEST_BODY:
        raise OrderRefused(400, "The path says the whole order: its body is empty, or {}")
