"""Both ends of the line between a worker and its parent: what can be said, and how it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
from zope.interface import Interface, implementer

from llmux.config import Config, ModelConfig
from llmux.errors import RequestError, SwitchError
from llmux.grant import News
from llmux.holder import Began, Ended, Happened, Heard, IHolderLink
from llmux.lease import Lease, Outcome, Revocation
from llmux.urgency import Urgency
from llmux.workers.local import IParentLink
from llmux.workers.wire import Line

Count = tuple[str, tuple[object, ...]]
"""A method of the metrics, or of the recorder, and what it is called with."""

OF_WORKERS = (Urgency, Began, Ended, Heard, Outcome)
"""The classes of what a worker says; all else that it says is plain."""


@attrs.frozen
class Opening:
    """
    What a worker has to know before it can begin.

    :param config: what holds now; its limits are the worker's share.
    :param settings: by name, what holds for requests that have been let through to a model.
    :param inner: the parent's socket for what it answers itself.
    :param operators: whether the operator's face is where clients are served.
    :param records: whether requests are recorded.
    """

    config: Config
    settings: Mapping[str, ModelConfig]
    inner: Path
    operators: bool
    records: bool


class IWorkerLine(Interface):
    """What the parent says to a worker, beside what it says to a holder."""

    def begin(opening: Opening) -> None:
        """Serve clients from now on."""

    def configure(config: Config) -> None:
        """Answer by another configuration."""

    def set_model(model: ModelConfig) -> None:
        """Do everything by another configuration of a model, which may be a new one."""

    def forget_model(name: str) -> None:
        """Have nothing more to do with a model."""

    def close_idle(name: str) -> None:
        """Close the connections to a model's backend on which nothing is under way."""

    def record(on: bool) -> None:
        """Tell how much is asked and answered, or do not."""

    def end() -> None:
        """Take no further clients, answer those that there are, and end."""

    def ping() -> None:
        """Show that it lives."""


class IParentLine(Interface):
    """What a worker says to its parent, beside what a holder says."""

    def count(counts: list[Count]) -> None:
        """Count what has happened, and record it."""


@attrs.frozen
class Refusal:
    """
    An error on its way to the worker whose request it ends.

    :param status: see :class:`~llmux.errors.RequestError`, and
    :param code: there, and
    :param message: there, and
    :param retry_after: there.
    """

    status: int
    code: str | None
    message: str
    retry_after: int | None

    @classmethod
    def of(cls, error: RequestError) -> Refusal:
        """Pack an error up."""
        return cls(error.status, error.code, error.message, error.retry_after)

    def unpacked(self) -> RequestError:
        """Make an error that says the same."""
        error = SwitchError(self.message, self.retry_after)
        error.status, error.code = self.status, self.code
        return error


@implementer(IHolderLink)
@attrs.frozen
class ToWorker:
    """
    The parent's end, as the switcher uses it.

    :param line: leads to the worker.
    :param killed: called when it is to be ended.
    """

    _line: Line
    _killed: Callable[[], None]

    def grant(self, model: str, places: int) -> None:
        """See :meth:`IHolderLink.grant`."""
        self._line.say("grant", model, places)

    def recall(self, model: str) -> None:
        """See :meth:`IHolderLink.recall`."""
        self._line.say("recall", model)

    def queued(self, number: int, before: int) -> None:
        """See :meth:`IHolderLink.queued`."""
        self._line.say("queued", number, before)

    def lease(self, number: int, lease: Lease) -> None:
        """See :meth:`IHolderLink.lease`."""
        self._line.say("lease", number, lease.model, lease.shared, lease.switching)

    def refuse(self, number: int, error: RequestError) -> None:
        """See :meth:`IHolderLink.refuse`."""
        self._line.say("refuse", number, Refusal.of(error))

    def want_back(self, number: int, why: Revocation) -> None:
        """See :meth:`IHolderLink.want_back`."""
        self._line.say("want_back", number, why)

    def hear(self, news: Mapping[str, News]) -> None:
        """See :meth:`IHolderLink.hear`."""
        self._line.say("hear", dict(news))

    def end(self) -> None:
        """See :meth:`IHolderLink.end`."""
        self._killed()


@implementer(IParentLink, IParentLine)
@attrs.frozen
class ToParent:
    """
    A worker's end.

    :param line: leads to the parent.
    """

    _line: Line

    def wait(self, number: int, name: str, urgency: Urgency | None) -> None:
        """See :meth:`IParentLink.wait`."""
        self._line.say("wait", number, name, urgency)

    def wait_again(self, number: int, before: int) -> None:
        """See :meth:`IParentLink.wait_again`."""
        self._line.say("wait_again", number, before)

    def leave(self, number: int) -> None:
        """See :meth:`IParentLink.leave`."""
        self._line.say("leave", number)

    def before(self, number: int) -> None:
        """See :meth:`IParentLink.before`."""
        self._line.say("before", number)

    def report(self, events: list[Happened]) -> None:
        """See :meth:`IParentLink.report`."""
        self._line.say("report", events)

    def returned(self, model: str) -> None:
        """See :meth:`IParentLink.returned`."""
        self._line.say("returned", model)

    def count(self, counts: list[Count]) -> None:
        """See :meth:`IParentLine.count`."""
        self._line.say("count", counts)
