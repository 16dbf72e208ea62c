"""What a worker's clients ask and only the parent can answer: metrics, and what operators ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from txaio.tx import make_logger

from llmux.config import Backend
from llmux.errors import InternalError
from llmux.headers import for_backend, for_client
from llmux.proxy import RelayClient
from llmux.proxy.body import SpooledBody
from llmux.proxy.client import make_pool
from llmux.server.request import RelayRequest
from llmux.web.answers import error_answer, identify, send

_CONNECTING = 5  # seconds
_REUSE_SECS = 2.0


class ParentFace:
    """
    Passes requests on to the parent, and its answers back.

    The parent answers as if the client had asked it: it is told all that the client has said, and
    logs that it was asked.  A client that leaves leaves there, too.

    :param reactor: connects.
    :param path: the parent's socket.
    :param http: which HTTP stack reads its answers.
    :param before: called before the parent is asked, so that it knows what we know.
    """

    _log = make_logger()

    def __init__(self, reactor: Any, path: Path, before: Callable[[], object], http: str) -> None:
        self._before = before
        self._reactor = reactor
        endpoint = UNIXClientEndpoint(reactor, str(path), timeout=_CONNECTING)
        nowhere = Backend("127.0.0.1", 1)  # all that matters is the socket
        self._client = RelayClient(nowhere, make_pool(endpoint, reactor, _REUSE_SECS, http))

    def render(self, request: RelayRequest) -> None:
        """Have the parent answer a request."""
        identify(request)
        if request.refusal is not None:
            send(request, error_answer(request, request.refusal))
            return
        self._before()
        asking = Deferred.fromCoroutine(self._ask(request))
        request.notifyFinish().addErrback(lambda _: asking.cancel())
        asking.addErrback(self._complain, request)

    def close(self) -> None:
        """Keep no connection."""
        self._client.close_idle()

    async def _ask(self, request: RelayRequest) -> None:
        host = request.requestHeaders.getRawHeaders(b"host", [b""])[0]
        headers = for_backend(request.requestHeaders, host)
        headers.setRawHeaders(b"X-Request-Id", [request.request_id])
        body = SpooledBody.of(request, self._reactor)
        response = await self._client.request(request.method, request.uri, headers, body)
        answer: bytes = await response.content()
        request.setResponseCode(response.code, response.phrase)
        told: Headers = for_client(response.original.received, None)
        for name, values in told.getAllRawHeaders():
            request.responseHeaders.setRawHeaders(name, values)
        if request.method != b"HEAD":
            request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % len(answer)])
        send(request, answer)

    def _complain(self, failure: Failure, request: RelayRequest) -> None:
        if request.channel is None:  # the client has gone, and that was passed on
            return
        self._log.failure("the parent has not answered", failure=failure)
        send(request, error_answer(request, InternalError()))
