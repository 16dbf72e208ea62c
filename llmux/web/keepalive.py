"""A sign of life for clients that wait for their model: comments in a stream of events."""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.http_headers import Headers

from llmux.server.request import RelayRequest

MEDIA_TYPE = b"text/event-stream"

_PATHS = (b"/chat/completions", b"/completions", b"/responses", b"/messages", b"/completion")


def may_stream(request: RelayRequest, target: bytes, stream: bool) -> bool:
    """
    Tell whether an answer is going to be a stream of events, if all goes well.

    :param target: path and query as the backend sees them.
    :param stream: whether the request's body asks for one.
    """
    path = target.partition(b"?")[0].removeprefix(b"/v1")
    return stream and path in _PATHS and request.clientproto == b"HTTP/1.1"


class SignOfLife:
    """
    Sends the head of a stream of events when a request has waited for a while, and then a comment
    every so many seconds (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    :param request: the request that waits.
    :param clock: tells the time.
    :param interval: how long it waits before the head, and between two comments, in seconds.
    :param headers: of the answer.
    :param comment: gives the next comment, in one line.
    """

    def __init__(
        self,
        request: RelayRequest,
        clock: IReactorTime,
        interval: float,
        headers: Callable[[], Headers],
        comment: Callable[[], str],
    ) -> None:
        self._request = request
        self._clock = clock
        self._interval = interval
        self._headers = headers
        self._comment = comment
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to count."""
        self._timer = self._clock.callLater(self._interval, self._tick)

    def stop(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        if not self._request.startedWriting:
            self._request.answer(200, b"OK", self._headers())
        self._request.write(f": {self._comment()}\n\n".encode())
        self.start()


def is_event_stream(status: int, headers: Headers) -> bool:
    """Tell whether a backend's answer can go on where the sign of life has begun."""
    types = headers.getRawHeaders(b"content-type", [b""])
    encodings = headers.getRawHeaders(b"content-encoding", [b"identity"])
    return (
        200 <= status < 300
        and types[0].partition(b";")[0].strip().lower() == MEDIA_TYPE
        and [one.strip().lower() for one in encodings] == [b"identity"]
    )


def error_event(error: object) -> bytes:
    """
    Make the event that tells of an error where a status cannot any more.

    :param error: the object that an answer would have had for a body.
    """
    return b"data: %s\n\n" % json.dumps(error).encode("ascii")
