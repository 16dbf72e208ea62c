"""The operator's face: what llmux is doing, and orders to it, for whoever runs it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from txaio.tx import make_logger

from llmux.config import Limits
from llmux.errors import InternalError, RequestError
from llmux.events import Events
from llmux.hooks.contract import Hook
from llmux.operator import IOperator, OrderRefused
from llmux.server.request import CLIENT_LEFT, RelayRequest
from llmux.server.site import RelaySite
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
from llmux.web.paths import BlockedPaths

NO_FACE = OrderRefused(404, "The operator's face is not here (admin.listen)")
"""What is answered to clients who ask for it where it is not."""

_MODELS = b"/llmux/models/"
_BELOW = BlockedPaths(("/llmux",))
_READ = ("GET", "HEAD")
_METHODS = {
    **dict.fromkeys(("health", "status", "output"), _READ),
    **dict.fromkeys(("wake", "sleep", "kill", "reload"), ("POST",)),
}
_OF_A_MODEL = ("output", "wake", "sleep", "kill")
_OF_ALL = {b"/health": "health", b"/llmux/status": "status", b"/llmux/reload": "reload"}
_HOOKS = tuple(hook.value for hook in Hook)
_LONGEST_BODY = 1024  # bytes; {} needs two


def is_operators(path: bytes) -> bool:
    """
    Tell whether a path is the operator's, in whatever way it is written.

    Those that only some servers would read so are, too: no backend gets them, and the face knows
    none of them.

    :param path: as it came.
    """
    return (b"%" in path or b"llmux" in path.lower()) and path in _BELOW


@attrs.frozen
class Asked:
    """
    What a path asks for.

    :param verb: one of the keys of the table of methods.
    :param model: whose; empty: of all.
    """

    verb: str
    model: str = ""


def read_path(path: bytes) -> Asked:
    """
    Read a path: ``/llmux/models/NAME/VERB``, where the name may be encoded or hold slashes.

    :param path: as it came.
    :raises OrderRefused: if there is nothing there.
    """
    if path in _OF_ALL:
        return Asked(_OF_ALL[path])
    name, _, last = path.removeprefix(_MODELS).rpartition(b"/")
    verb = last.decode("ascii")
    if not path.startswith(_MODELS) or not name or verb not in _OF_A_MODEL:
        raise OrderRefused(
            404,
            "There is nothing here; the operator's paths are /llmux/status, /llmux/reload, and"
            " below /llmux/models/NAME: output, wake, sleep, kill",
        )
    return Asked(verb, unquote_to_bytes(name).decode("utf-8", "replace"))


class AdminFace(Resource):
    """
    Answers ``/llmux/...``, and on a listener of its own ``/health``.

    It needs the requests of a :class:`RelaySite`.  An order stands once it has been given: a client
    that leaves does not take it back.

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
        except Exception:
            self._log.failure("a request of the operator's failed in a way that nobody foresaw")
            body = error_answer(request, InternalError())
        send(request, body)

    async def _answer(self, request: RelayRequest) -> bytes:
        if request.refusal is not None:
            raise request.refusal
        check(request.method, request.requestHeaders, self._reach)
        asked = read_path(request.path)
        allowed = _METHODS[asked.verb]
        if request.method.decode("ascii") not in allowed:
            request.responseHeaders.setRawHeaders("Allow", [", ".join(allowed)])
            raise OrderRefused(405, f"This is asked for with {' or '.join(allowed)}")
        if asked.verb == "health":
            return json_answer(request, self._health())
        if asked.verb == "status":
            return json_answer(request, self._operator.status())
        if asked.verb == "output":
            printed = self._operator.output(asked.model, _read_hook(request.uri))
            return answer(request, "text/plain; charset=utf-8", printed.encode("utf-8", "replace"))
        _refuse_content(request)
        return json_answer(request, await self._order(asked, request))

    async def _order(self, asked: Asked, request: RelayRequest) -> object:
        """Give an order, and say what was done."""
        began = self._clock.seconds()
        told = {
            "order": asked.verb,
            "model": asked.model,
            "request_id": request.request_id.decode("ascii"),
        }
        self._events.operator_asked(**told, client=request.client_host)
        status = InternalError.status
        try:
            done = await self._give(asked)
            status = 200
        except RequestError as error:
            status = error.status
            raise
        finally:
            seconds = self._clock.seconds() - began
            self._events.operator_answered(**told, status=status, seconds=seconds)
        return done

    async def _give(self, asked: Asked) -> object:
        operator = self._operator
        if asked.verb == "reload":
            return await operator.reload()
        orders: dict[str, Callable[[str], Awaitable[str]]] = {
            "wake": operator.wake,
            "sleep": operator.sleep,
            "kill": operator.kill,
        }
        return {"done": await orders[asked.verb](asked.model)}


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


def _read_hook(target: bytes) -> str:
    """Say which hook's output is asked for."""
    query = target.partition(b"?")[2].decode("ascii")
    hooks = parse_qs(query, keep_blank_values=True).get("hook", [])
    if len(hooks) != 1:
        raise OrderRefused(400, f"Say which hook's: ?hook= and one of {', '.join(_HOOKS)}")
    if hooks[0] not in _HOOKS:
        raise OrderRefused(404, f"There is no such hook; it is one of {', '.join(_HOOKS)}")
    return hooks[0]


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
