"""A worker: clients' requests on one side, the parent on the other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from txaio.tx import make_logger
from zope.interface import implementer

from llmux.config import Config, ModelConfig
from llmux.engine.choice import HTTP
from llmux.events import Events
from llmux.front import Front, build_front, build_models
from llmux.grant import News
from llmux.lease import Revocation
from llmux.listening import serve
from llmux.reload import Models, limit_connections
from llmux.workers.accounts import Accounts
from llmux.workers.board import Board
from llmux.workers.inner import ParentFace
from llmux.workers.links import IWorkerLine, Opening, Refusal, ToParent
from llmux.workers.local import LocalLeases
from llmux.workers.wire import Line

_NOTING = 1.0  # seconds between two looks at how many connections have ended
_AHEAD = 0.002  # seconds: longer would be felt by a client whom the others are too busy to take
_FULL = 0.25  # seconds: longer than a busy reactor's turn, and short for whoever is turned away


@attrs.frozen
class Hall:
    """
    Where a worker's clients come in.

    :param doors: the sockets to listen on.
    :param board: says how many connections each worker has.
    :param number: which worker it is.
    """

    doors: Sequence[socket.socket]
    board: Board
    number: int

    def patience(self, connections: int, most: int) -> float:
        """
        Say how many seconds the others have to take the next client, before this worker does.

        :param connections: how many this one has; the others are told, and
        :param most: how many each may have: this one would have to turn away a client for whom
            another has room, however busy that is.
        """
        self.board.note(self.number, connections)
        if connections >= most:
            return _FULL if self.board.least(default=most) < most else 0.0
        return _AHEAD if self.board.is_ahead(self.number) else 0.0


@implementer(IWorkerLine)
class Worker:
    """
    Serves clients for a parent, which calls its methods.

    :param reactor: serves them.
    :param line: leads to the parent.
    :param hall: where its clients come in.
    :param ended: called when it has come to its end.
    """

    _log = make_logger()

    def __init__(self, reactor: Any, line: Line, hall: Hall, ended: Callable[[], object]) -> None:
        self._reactor = reactor
        self._line = line
        self._hall = hall
        self._noting = LoopingCall(self._note)
        self._noting.clock = reactor
        self._ended = ended
        self._events = Events()
        self._parent = ToParent(line)
        self._accounts = Accounts(reactor, self._parent.count)
        self._ports: list[IListeningPort] = []

    def begin(self, opening: Opening) -> None:
        """See :meth:`IWorkerLine.begin`."""
        http = HTTP.made(os.environ)
        self._models: Models = build_models(opening.config, self._reactor, http)
        for model in opening.settings.values():
            self._models.configure(model)
        self._leases = LocalLeases(self._reactor, self._parent, self._models.settings, self._shared)
        self._accounts.on = opening.records
        self._front: Front = build_front(
            opening.config,
            self._reactor,
            self._models,
            self._leases,
            self._accounts,
            self._events,
            self._accounts,
            http,
        )
        self._face = ParentFace(self._reactor, opening.inner, self._flush, http)
        resource = self._front.resource
        resource.elsewhere = self._face
        resource.admin = self._face if opening.operators else None
        self._limit(opening.config)
        self._ports = list(
            serve(self._reactor, self._hall.doors, self._front.site, patience=self._patience)
        )

        self._noting.start(_NOTING).addErrback(
            lambda failure: self._log.failure("connections are not counted", failure=failure)
        )

    def configure(self, config: Config) -> None:
        """See :meth:`IWorkerLine.configure`."""
        self._front.house.configure(config)
        self._front.site.limit(config.limits)
        self._limit(config)

    def set_model(self, model: ModelConfig) -> None:
        """See :meth:`IWorkerLine.set_model`."""
        self._models.configure(model)

    def forget_model(self, name: str) -> None:
        """See :meth:`IWorkerLine.forget_model`."""
        self._models.forget(name)
        self._leases.forget(name)

    def close_idle(self, name: str) -> None:
        """See :meth:`IWorkerLine.close_idle`."""
        self._models.close_idle(name)

    def record(self, on: bool) -> None:
        """See :meth:`IWorkerLine.record`."""
        self._accounts.on = on

    def end(self) -> None:
        """See :meth:`IWorkerLine.end`."""
        for port in self._ports:
            maybeDeferred(port.stopListening).addErrback(
                lambda failure: self._log.failure("a port is not closed", failure=failure)
            )
        self._front.site.end()
        self._front.site.emptied().addCallback(lambda _: self._leave())

    def ping(self) -> None:
        """See :meth:`IWorkerLine.ping`."""

    def lost(self) -> None:
        """End at once: the parent has gone, or wants it so."""
        if self._noting.running:
            self._noting.stop()
            self._front.site.abort()
        self._ended()

    # What is said to a holder.

    def grant(self, model: str, places: int) -> None:
        """See :meth:`IHolderLink.grant`."""
        self._leases.grant(model, places)

    def recall(self, model: str) -> None:
        """See :meth:`IHolderLink.recall`."""
        self._leases.recall(model)

    def queued(self, number: int, before: int) -> None:
        """See :meth:`IHolderLink.queued`."""
        self._leases.queued(number, before)

    def lease(self, number: int, model: str, shared: str | None, switching: float) -> None:
        """Give a request its lease; see :meth:`IHolderLink.lease`."""
        self._leases.lease(number, model, shared, switching)

    def refuse(self, number: int, refusal: Refusal) -> None:
        """End a request that waits; see :meth:`IHolderLink.refuse`."""
        self._leases.refuse(number, refusal.unpacked())

    def want_back(self, number: int, why: Revocation) -> None:
        """See :meth:`IHolderLink.want_back`."""
        self._leases.want_back(number, why)

    def hear(self, news: Mapping[str, News]) -> None:
        """See :meth:`IHolderLink.hear`."""
        self._leases.hear(news)

    def _note(self) -> None:
        self._hall.board.note(self._hall.number, self._front.site.connections)

    def _patience(self) -> float:
        site = self._front.site
        return self._hall.patience(site.connections, site.max_connections)

    def _shared(self) -> Mapping[str, tuple[str, ...]]:
        return self._front.house.config.first_awake

    def _limit(self, config: Config) -> None:
        limit_connections(self._front.site, config.limits.max_connections, self._events)

    def _flush(self) -> None:
        self._accounts.flush()
        self._leases.flush()

    def _leave(self) -> None:
        self._flush()
        transport: Any = self._line.transport
        transport.loseConnection()  # behind what has been said
