"""
What can go wrong, as a client or an operator is told of it.

Every expected failure is an :class:`LLMuxError`.  Those that end a client's request are
:class:`RequestError`: they carry the status and the message, and become JSON in exactly one place
(:mod:`llmux.web.answers`).  A message says what happened, to what, and what to do; it never carries
the output of a hook.
"""

from __future__ import annotations

import errno

import attrs

_SHOWN_NAME = 200  # characters of a client's own words that an error repeats

_REVOKED = {
    "drain_timeout": "Model {} was put to sleep while it was working on this request"
    " (drain_timeout_secs)",
    "backend_down": "Model {} went down while it was working on this request",
    "killed": "Model {} was killed by its operator while it was working on this request",
    "shutdown": "llmux was ended while model {} was working on this request (shutdown.grace_secs)",
}


class LLMuxError(Exception):
    """Anything that llmux foresees."""


@attrs.frozen
class Problem:
    """
    One complaint about a configuration file.

    :param line: the line it is about, counted from 1; ``None`` where no line can be named.
    :param path: the key path, such as ``models.llama.port``; empty for the whole file.
    :param value: the offending value as it is written in the file, if that helps.
    :param message: what is wrong and what to do.
    """

    line: int | None
    path: str
    value: str | None
    message: str

    def render(self, filename: str) -> str:
        """Say it in one line, the way compilers do: ``file:line: path: message``."""
        place = filename if self.line is None else f"{filename}:{self.line}"
        shown = "" if self.value is None else f" (it is {_shortened(self.value)!r})"
        return ": ".join(part for part in (place, self.path, self.message + shown) if part)


class ConfigError(LLMuxError):
    """
    A configuration that cannot be used.

    :param filename: the file, as the user named it.
    :param problems: every complaint, in the order of the file.
    """

    def __init__(self, filename: str, problems: list[Problem]) -> None:
        self.filename = filename
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        super().__init__("\n".join(problem.render(filename) for problem in self.problems))


class CannotListen(LLMuxError):
    """
    An address or a socket that clients or operators cannot be served on.

    :param where: the address or socket.
    :param why: what the system says, or what is wrong with it.
    :param advice: what to do instead.
    """

    def __init__(self, where: str, why: OSError | str, advice: str) -> None:
        said = why if isinstance(why, str) else (why.strerror or str(why))
        if isinstance(why, OSError) and why.errno == errno.EADDRINUSE:
            advice = f"end what has this address, or {advice}"
        super().__init__(f"cannot listen on {where}: {said}; {advice}")


class RequestError(LLMuxError):
    """
    A client's request ends here.

    :cvar status: the HTTP status.
    :cvar code: tells errors of one status apart, for programs; or ``None``.
    :ivar message: one line for the client.
    :ivar retry_after: whole seconds for a ``Retry-After`` header, or ``None``.
    """

    status = 500
    code: str | None = None

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class NoModel(RequestError):
    """The request does not say which model it is for."""

    status = 404

    def __init__(self) -> None:
        super().__init__("No model specified in request")


class BadEnvelope(RequestError):
    """It cannot be said which model the request is for; the message says why, and where."""

    status = 400


class BadClass(RequestError):
    """The request says in a way that makes no sense how much of a hurry it is in."""

    status = 400

    def __init__(self, right: str) -> None:
        super().__init__(f"X-LLMux-Class has to be {right}")


class SwitchError(RequestError):
    """The switcher cannot give a lease."""

    status = 503


class UnknownModel(SwitchError):
    """
    Nobody configured a model of this name.

    :ivar model: the name.
    """

    status = 404

    def __init__(self, model: str, hint: str = "") -> None:
        self.model = model
        super().__init__(f"Model not found: {_shortened(model)}{hint}")


class RequestTimedOut(SwitchError):
    """The request waited for its model as long as ``request_timeout_secs`` allows."""

    status = 504

    def __init__(self, retry_after: int) -> None:
        super().__init__("Request timed out waiting for model", retry_after)


class TooManyWaiting(SwitchError):
    """As many requests wait for the model as ``max_waiting`` allows."""

    status = 429

    def __init__(self, model: str, waiting: int, retry_after: int) -> None:
        super().__init__(
            f"Too many requests are waiting for model {model} ({waiting});"
            f" try again in {retry_after} s",
            retry_after,
        )


class ModelUnavailable(SwitchError):
    """The model cannot be woken now; trying again later makes sense."""


class NoRoom(ModelUnavailable):
    """The model does not fit beside what stays whoever waits."""

    code = "no_room"

    def __init__(self, model: str, staying: str) -> None:
        super().__init__(f"Model {_shortened(model)} does not fit beside what is {staying}")


class ShuttingDown(SwitchError):
    """llmux is ending and starts nothing new."""

    def __init__(self) -> None:
        super().__init__("llmux is shutting down", retry_after=5)


class LeaseRevoked(RequestError):
    """
    The model that was working on the request is wanted back, or is gone.

    :param model: its name.
    :param why: the value of a :class:`~llmux.lease.Revocation`.
    """

    status = 503

    def __init__(self, model: str, why: str) -> None:
        super().__init__(_REVOKED[why].format(model))
        self.code = why


class NoSocket(RequestError):
    """llmux itself has nothing left to connect with: files, memory or ports."""

    status = 503
    code = "no_socket"

    def __init__(self, why: str) -> None:
        super().__init__(f"llmux could not open a connection to the backend ({why})", 5)


class BodyLost(RequestError):
    """llmux could not read again what it has kept of the request: its disk, most likely."""

    code = "body_lost"

    def __init__(self, why: str) -> None:
        super().__init__(f"llmux could not read the request's body again ({why})")


class InternalError(RequestError):
    """A bug; the log has the traceback."""

    def __init__(self) -> None:
        super().__init__("Internal error; the server's log says more")


class BlockedPath(RequestError):
    """The request is for a path that the owner keeps to themselves."""

    status = 403

    def __init__(self) -> None:
        super().__init__("This path is blocked here (blocked_paths)")


class BackendError(RequestError):
    """The backend did not send the head of an answer."""

    status = 502

    def __init__(self, what: str) -> None:
        super().__init__(f"Backend error: {what}")


class BackendRefused(BackendError):
    """No connection could be made."""

    code = "backend_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"the connection was refused ({why})")


class BackendClosed(BackendError):
    """It closed the connection before it had sent anything; the request may have had its effect."""

    code = "backend_closed"

    def __init__(self, why: str) -> None:
        super().__init__(f"it closed the connection before answering ({why})")


class BackendBroke(BackendError):
    """It broke off, or sent what is not HTTP, in the midst of the head of its answer."""

    code = "backend_broke"

    def __init__(self, why: str) -> None:
        super().__init__(f"it broke while answering ({why})")


class BackendTimedOut(BackendError):
    """It took longer than it may to accept a connection, or to begin its answer."""

    status = 504
    code = "backend_timeout"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_NAME else text[:_SHOWN_NAME] + "..."
