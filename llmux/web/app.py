"""The routes."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import unquote_to_bytes

from klein import Klein, KleinRenderable
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import NOT_DONE_YET
from txaio.tx import make_logger

from llmux._version import __version__
from llmux.leases import ILeases
from llmux.metrics import CONTENT_TYPE
from llmux.server.request import CLIENT_LEFT, RelayRequest
from llmux.states import State
from llmux.web.admin import NO_FACE, is_operators
from llmux.web.answers import (
    answer,
    error_answer,
    identify,
    json_answer,
    log_own_answer,
    own_answer_ended,
    send,
)
from llmux.web.exchange import Exchange
from llmux.web.house import House

_METRICS = [b"metrics"]
_ONE_MODEL = b"/v1/models/"


class Face(Protocol):
    """Answers requests past Klein."""

    def render(self, request: RelayRequest) -> object:
        """Answer one, sooner or later."""


class Web:
    """
    Klein's routes to what llmux answers for itself.

    :param house: what they are made of.
    """

    app = Klein()

    def __init__(self, house: House) -> None:
        self._house = house

    @app.route("/v1/models")
    def list_models(self, request: RelayRequest) -> bytes:
        """Answer all names that clients may use, as OpenAI's API lists models."""
        data = [_model_object(name) for name in self._house.names.listed]
        return json_answer(request, {"object": "list", "data": data})

    @app.route("/v1/models/")
    def tell_model(self, request: RelayRequest) -> bytes:
        """Answer one model, as the list has it."""
        name = unquote_to_bytes(request.path.removeprefix(_ONE_MODEL)).decode("utf-8", "replace")
        if name not in self._house.names:
            return error_answer(request, self._house.names.unknown(name))
        return json_answer(request, _model_object(name))

    @app.route("/metrics")
    def give_metrics(self, request: RelayRequest) -> bytes:
        """Answer the metrics, for Prometheus."""
        return answer(request, CONTENT_TYPE, self._house.metrics.render())

    @app.route("/health")
    def tell_health(self, request: RelayRequest) -> bytes:
        """Answer that the process serves, whatever the models do."""
        return json_answer(request, health(self._house.switcher))


class FrontDoor(KleinResource):
    """
    Sends requests for llmux's own few paths to the right one of Klein's routes, and relays all
    else.

    Klein would decode every path, refuse what is not UTF-8 and redirect where a slash is doubled;
    the relay passes targets on as they came.

    What is the operator's goes past Klein, which would take an order back when its client leaves,
    and never to a backend, which may be another llmux.

    :param house: what the routes are made of.
    :param admin: the operator's face, if it is where clients are served; may be set later.
    :ivar elsewhere: answers what can be known in another process alone, if so: the metrics.
    """

    _log = make_logger()
    _OWN = frozenset({b"/v1/models", b"/metrics", b"/health"})

    def __init__(self, house: House, admin: Face | None = None) -> None:
        # Klein's app, bound to this object: two apps in one process do not share it
        super().__init__(Web(house).app)
        self._house = house
        self.admin = admin
        self.elsewhere: Face | None = None

    def render(self, request: IRequest) -> KleinRenderable:
        """See :meth:`IResource.render`."""
        assert isinstance(request, RelayRequest)
        if is_operators(request.path):
            self._render_operators(request)
            return NOT_DONE_YET  # type: ignore[return-value]  # Klein returns it, too
        route = self._route(request)
        if self.elsewhere is not None and route == _METRICS:
            self.elsewhere.render(request)
            return NOT_DONE_YET  # type: ignore[return-value]  # Klein returns it, too
        identify(request)
        self._house.cors.allow(request.requestHeaders, request.responseHeaders)
        if route is None:
            self._relay(request)
            return NOT_DONE_YET  # type: ignore[return-value]  # Klein returns it, too
        log_own_answer(request, self._house.events, self._house.clock)
        request.postpath = route.copy()  # Klein takes from it
        return super().render(request)

    def abandoned(self, request: RelayRequest) -> None:
        """Account for a request whose client has gone before all of it had come."""
        identify(request)
        if is_operators(request.path):
            own_answer_ended(request, self._house.events, self._house.clock, CLIENT_LEFT)
        else:
            Exchange(self._house, request).abandon()

    def _relay(self, request: RelayRequest) -> None:
        """
        Relay a request to the model that it is for, and end it as Klein would.

        To find out its route, and to be told that the client has left, costs Klein more than all
        the rest of a small request.
        """
        relayed = Deferred.fromCoroutine(self._exchange(request))
        request.when_lost = relayed.cancel
        relayed.addErrback(self._failed, request)

    async def _exchange(self, request: RelayRequest) -> None:
        send(request, await Exchange(self._house, request).run())

    def _failed(self, failure: Failure, request: RelayRequest) -> None:
        """See to it that what nobody foresaw is logged, and has an end for the client, too."""
        if request.channel is not None:
            request.processingFailed(failure)  # type: ignore[no-untyped-call]  # Twisted's
        elif not failure.check(CancelledError):
            self._log.failure("a request failed when its client had gone", failure=failure)

    def _render_operators(self, request: RelayRequest) -> None:
        if self.admin is not None:
            self.admin.render(request)
            return
        identify(request)
        log_own_answer(request, self._house.events, self._house.clock)
        send(request, error_answer(request, request.refusal or NO_FACE))

    def _route(self, request: RelayRequest) -> list[bytes] | None:
        """Choose a route, which Klein sees instead of the path; ``None``: it is to be relayed."""
        if request.refusal is None and request.method in (b"GET", b"HEAD"):
            path: bytes = request.path
            if path in self._OWN:
                return path.split(b"/")[1:]
            if request.path.startswith(_ONE_MODEL):
                return _ONE_MODEL.split(b"/")[1:]
        return None


def health(switcher: ILeases) -> dict[str, object]:
    """Make what ``/health`` says: the process serves, whatever the models do."""
    states = switcher.states()
    awake = sorted(name for name, state in states.items() if state is State.AWAKE)
    return {"status": "ok", "version": __version__, "awake": awake}


def _model_object(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "llmux"}
