"""What becomes of requests: those of clients, and those of operators."""

from __future__ import annotations

from time import time

from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from txaio.tx import get_global_log_level, make_logger

_QUIET = frozenset({"none", "critical", "error", "warn"})  # levels above info
_ENDED = (
    "{method} {path} for {model}: {status}, {how} after {duration_secs} s"
    " ({queue_secs} s waiting, {bytes_in} bytes in, {bytes_out} out, {request_id})"
)
_LONGEST = 200  # characters of a client's own words that a line repeats


class RequestEvents:
    """
    Events about requests.

    :ivar publish: takes what is written without a logger.
    """

    log = make_logger()
    publish: ILogObserver = globalLogPublisher

    def request_timeout(self, model: str, timeout: float) -> None:
        """Log that a request has waited as long as it may."""
        self.log.warn(
            "a request for {model} waited {timeout_secs} s, as long as it may",
            event="request_timeout",
            model=model,
            timeout_secs=timeout,
        )

    def max_wait_missed(self, model: str, late: int, longest: float, promise: float) -> None:
        """
        Log that requests had to wait for longer than was promised.

        :param late: how many, of those who were served now.
        :param longest: for how long one of them has waited, in seconds.
        """
        self.log.warn(
            "{late} requests for {model} waited longer than {max_wait_secs} s, up to"
            " {longest_secs} s",
            event="max_wait_missed",
            model=model,
            late=late,
            longest_secs=round(longest, 3),
            max_wait_secs=promise,
        )

    @property
    def tells_of_requests(self) -> bool:
        """Whether anybody hears of requests that have ended; else what is told need not be made."""
        return get_global_log_level() not in _QUIET

    def request_ended(
        self,
        *,
        request_id: str,
        model: str,
        method: str,
        path: str,
        status: int,
        how: str,
        bytes_in: int,
        bytes_out: int,
        waited: float,
        first_byte: float | None,
        seconds: float,
    ) -> None:
        """
        Log that a request has ended, at the level of ``info``: see :attr:`tells_of_requests`.

        There is one for each request, so what a logger would find out each time is written here.

        :param model: the name that the client gave.
        :param status: what the client got; 499 if it left before it got anything.  Where a sign of
            life had been sent first: what it would have got.
        :param how: ``complete``, or who broke it off: ``client``, ``backend``, ``timeout`` or
            ``stalled``, or why its lease was revoked; or ``error``: a bug.
        :param bytes_in: of the request's body.
        :param bytes_out: of the answer's body.
        :param waited: how long it waited for its model, in seconds.
        :param first_byte: from its arrival to the answer's head, in seconds, if there was one.
        :param seconds: from its arrival to its end.
        """
        self.publish(
            {
                "log_level": LogLevel.info,
                "log_namespace": __name__,
                "log_time": time(),
                "log_format": _ENDED,
                "event": "request_ended",
                "request_id": request_id,
                "model": _shown(model),
                "method": method,
                "path": _shown(path),
                "status": status,
                "how": how,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "queue_secs": round(waited, 3),
                "first_byte_secs": None if first_byte is None else round(first_byte, 3),
                "duration_secs": round(seconds, 3),
            }
        )

    def own_path_asked(
        self, *, request_id: str, method: str, path: str, status: int, seconds: float
    ) -> None:
        """Log that llmux has answered for itself; whoever watches it asks every few seconds."""
        self.log.debug(
            "{method} {path}: {status} after {duration_secs} s ({request_id})",
            event="own_path_asked",
            request_id=request_id,
            method=method,
            path=_shown(path),
            status=status,
            duration_secs=round(seconds, 3),
        )

    def operator_asked(self, *, order: str, model: str, client: str, request_id: str) -> None:
        """
        Log an order of an operator's.

        :param order: ``wake``, ``sleep``, ``kill``, ``pin``, ``unpin``, ``reload``, ``reserve``,
            ``release``, ``record`` or ``stop_recording``.
        :param model: the name that the operator gave; empty for the last five.
        :param client: the address that it came from; ``unix``: a UNIX socket.
        """
        self.log.info(
            f"an operator at {{client}} orders: {_order(model)} ({{request_id}})",
            event="operator_asked",
            order=order,
            model=_shown(model),
            client=client,
            request_id=request_id,
        )

    def operator_answered(
        self, *, order: str, model: str, status: int, seconds: float, request_id: str
    ) -> None:
        """Log what became of an order: 200 or 201, or the status of an error."""
        self.log.info(
            f"the order {_order(model)} ended with {{status}} after {{duration_secs}} s"
            " ({request_id})",
            event="operator_answered",
            order=order,
            model=_shown(model),
            status=status,
            duration_secs=round(seconds, 3),
            request_id=request_id,
        )


def _order(model: str) -> str:
    """Give the part of a sentence that says an order, with its model if it is about one."""
    return "{order} {model}" if model else "{order}"


def _shown(text: str) -> str:
    """Give a client's own words so that they can neither fill the log nor forge lines of it."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return text if text.isprintable() else repr(text)
