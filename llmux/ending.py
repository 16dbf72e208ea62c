"""How llmux ends: nobody new, nobody forgotten, and then nothing left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.config import Shutdown
from llmux.events import Events
from llmux.switcher import Switcher
from llmux.systemd import Notifier

SENDING_SECS = 5.0
"""Seconds in which clients have to take what has been answered, when all else is over."""


class Clients(Protocol):
    """Where clients are connected; see :class:`~llmux.server.site.RelaySite`."""

    def end(self) -> None:
        """Close each connection as soon as its request has been answered; idle ones at once."""

    def emptied(self) -> Deferred[None]:
        """Give a Deferred that fires when no connection is open; it may be cancelled."""

    def abort(self) -> None:
        """Cut every connection."""


class Ending:
    """
    The end of one llmux.  Once begun it comes to its end by itself, or at once when it is cut.

    :param site: where clients are connected.
    :param switcher: ends the leases, and waits for hooks.
    :param notifier: tells systemd.
    :param events: logs it.
    :param clock: tells the time.
    :param settings: gives what is configured about it, when it begins.
    """

    _log = make_logger()

    def __init__(
        self,
        site: Clients,
        switcher: Switcher,
        notifier: Notifier,
        events: Events,
        clock: IReactorTime,
        settings: Callable[[], Shutdown],
    ) -> None:
        self._site = site
        self._switcher = switcher
        self._notifier = notifier
        self._events = events
        self._clock = clock
        self._settings = settings
        self._over: Deferred[None] | None = None
        self._cut = False

    @property
    def begun(self) -> bool:
        """Whether llmux is ending, or has ended."""
        return self._over is not None

    def begin(self, signal: str | None, ports: Iterable[IListeningPort]) -> Deferred[None]:
        """
        Begin to end.

        :param signal: what has told us to, if it was a signal.
        :param ports: where connections have been accepted until now.
        :returns: fires when nothing is left; does not fail.
        """
        over: Deferred[None] = Deferred()
        self._over = over
        began = self._clock.seconds()
        ended = Deferred.fromCoroutine(self._end(signal, ports))
        ended.addErrback(self._complain)
        ended.addCallback(lambda _: self._finish())
        over.addCallback(lambda _: self._events.stopped(self._clock.seconds() - began))
        if self._cut:
            self.cut()
        return over

    def cut(self) -> None:
        """Wait for nothing any more: cut what is in flight, and leave hooks to themselves."""
        self._cut = True
        if self.begun:
            self._switcher.cut()
            self._site.abort()
            self._finish()

    async def _end(self, signal: str | None, ports: Iterable[IListeningPort]) -> None:
        settings, switcher = self._settings(), self._switcher
        models = list(switcher.states())
        self._notifier.stopping()
        self._events.stopping(
            signal,
            settings.grace_secs,
            in_flight=sum(map(switcher.in_flight, models)),
            waiting=sum(map(switcher.waiting, [*models, *switcher.shared])),
        )
        # a socket that systemd has, too, keeps its queue: the next start takes from it
        closed = [maybeDeferred(port.stopListening) for port in ports]
        self._site.end()
        await switcher.close(settings.grace_secs, settings.sleep_models)
        await gatherResults(closed, consumeErrors=True)
        if not await self._sent():
            self._site.abort()

    async def _sent(self) -> bool:
        """Wait until all that has been answered is sent, but not for ever."""
        emptied: Deferred[Any] = self._site.emptied().addCallback(lambda _: True)
        emptied.addTimeout(SENDING_SECS, self._clock, lambda late, seconds: False)
        return bool(await emptied)

    def _complain(self, failure: Failure) -> None:
        self._log.failure("llmux could not end in order", failure=failure)

    def _finish(self) -> None:
        over = self._over
        if over is not None and not over.called:
            over.callback(None)
