"""
The routes, and the way of a request through llmux.

::

    route -> envelope (which model?) -> switcher.acquire -> relay -> lease.release
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from klein import Klein, KleinRenderable
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from txaio.tx import make_logger

from llmux._version import __version__
from llmux.envelope import EnvelopeReader
from llmux.errors import InternalError, RequestError, UnreadableBody
from llmux.events import Events
from llmux.metrics import CONTENT_TYPE, Metrics
from llmux.proxy import Relay, RelayClient
from llmux.proxy.relay import Ending, cut
from llmux.states import State
from llmux.switcher import Switcher
from llmux.web.answers import answer, error_answer, json_answer

_CLIENT_LEFT = 499  # nginx's status for a client that left before there was an answer


@attrs.define
class _Account:
    """What is known of a request when it has ended."""

    model: str = ""
    status: int = _CLIENT_LEFT
    how: str = Ending.CLIENT.value
    waited: float = 0.0


class Web:
    """
    Klein's routes over the switcher and the relay.

    :param clients: by model, what sends to its backend.
    :param switcher: gives leases.
    :param clock: tells the time.
    :param metrics: counts requests.
    :param events: logs them.
    """

    app = Klein()
    _log = make_logger()

    def __init__(
        self,
        clients: Mapping[str, RelayClient],
        switcher: Switcher,
        clock: IReactorTime,
        metrics: Metrics,
        events: Events,
    ) -> None:
        self._clients = clients
        self._switcher = switcher
        self._clock = clock
        self._metrics = metrics
        self._events = events

    @app.route("/v1/models", methods=["GET"])
    def list_models(self, request: Request) -> bytes:
        """Answer the configured models, as OpenAI's API lists them."""
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "llmux"}
            for name in sorted(self._clients)
        ]
        return json_answer(request, {"object": "list", "data": data})

    @app.route("/metrics", methods=["GET"])
    def give_metrics(self, request: Request) -> bytes:
        """Answer the metrics, for Prometheus."""
        return answer(request, CONTENT_TYPE, self._metrics.render())

    @app.route("/health", methods=["GET"])
    def tell_health(self, request: Request) -> bytes:
        """Answer that the process serves, whatever the models do."""
        states = self._switcher.states()
        awake = sorted(name for name, state in states.items() if state is State.AWAKE)
        return json_answer(request, {"status": "ok", "version": __version__, "awake": awake})

    @app.route("/", branch=True)
    async def relay(self, request: Request) -> bytes | None:
        """Relay anything else to the model that its body names."""
        began = self._clock.seconds()
        account = _Account()
        try:
            await self._forward(request, account, began)
        except RequestError as error:
            return self._end_with(request, account, error, began)
        except CancelledError:  # Klein's sign that the client has left
            if not request.startedWriting:
                self._count(account, _CLIENT_LEFT, began)
        except Exception:
            self._log.failure("a request failed in a way that nobody foresaw")
            if request.startedWriting:
                account.how = "error"
                await cut(request)
                return None
            return self._end_with(request, account, InternalError(), began)
        finally:
            self._events.request_ended(
                account.model,
                request.method.decode("ascii", "replace"),
                request.path.decode("ascii", "replace"),
                account.status,
                account.how,
                account.waited,
                self._clock.seconds() - began,
            )
        return None

    async def _forward(self, request: Request, account: _Account, began: float) -> None:
        media_type = request.getHeader(b"content-type")
        reader = EnvelopeReader(request.uri, media_type, self._clients.__contains__)
        reader.feed(_received(request))
        account.model = reader.finish().model
        try:
            lease = await self._switcher.acquire(account.model)
        finally:
            account.waited = self._clock.seconds() - began
        try:
            relayed = await Relay(self._clients[account.model], request).begin()
            self._count(account, relayed.status, began)
            ending = await relayed.end()
            account.how = ending.value
            if ending is not Ending.COMPLETE:
                self._metrics.request_cut(account.model, ending.value)
        finally:
            lease.release()

    def _end_with(
        self, request: Request, account: _Account, error: RequestError, began: float
    ) -> bytes:
        account.how = Ending.COMPLETE.value
        self._count(account, error.status, began)
        return error_answer(request, error)

    def _count(self, account: _Account, status: int, began: float) -> None:
        account.status = status
        self._metrics.request_answered(account.model, status, self._clock.seconds() - began)


def _received(request: Request) -> bytes:
    assert request.content is not None
    try:
        content: bytes = request.content.read()
    except (OSError, ValueError) as error:
        raise UnreadableBody from error
    return content


class FrontDoor(KleinResource):
    """
    Sends requests for llmux's own few paths, and all else, to the right one of Klein's routes.

    Klein would decode every path, refuse what is not UTF-8 and redirect where a slash is doubled;
    the relay passes targets on as they came, so for it they are all ``/``.

    :param web: the routes.
    """

    _OWN = frozenset({b"/v1/models", b"/metrics", b"/health"})

    def __init__(self, web: Web) -> None:
        # Klein's app, bound to this object: two apps in one process do not share it
        super().__init__(web.app)

    def render(self, request: IRequest) -> KleinRenderable:
        """See :meth:`IResource.render`."""
        assert isinstance(request, Request)
        own = request.path in self._OWN and request.method in (b"GET", b"HEAD")
        request.postpath = request.path.split(b"/")[1:] if own else [b""]
        return super().render(request)
