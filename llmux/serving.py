"""Serves an app: from the first connection to the end of the last one."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.ending import Ending
from llmux.errors import ConfigError
from llmux.listening import Doors, address_of, is_loopback, open_inner_door, serve
from llmux.reload import limit_connections
from llmux.service import App
from llmux.systemd import Notifier
from llmux.web.admin import admin_site
from llmux.web.guard import Reach
from llmux.workers.board import make_board
from llmux.workers.member import Place
from llmux.workers.spawning import Logs

_LOGS = Logs()
_CUT_INTERVAL = 5.0  # seconds between two looks at how long the hooks' output has grown


class LLMuxService(Service):
    """
    Serves an app for as long as it runs.

    :param app: what to serve.
    :param reactor: accepts the connections, and is stopped by :meth:`end`.
    :param doors: the sockets to listen on; closed when the service ends.
    :param notifier: tells systemd; by default nobody is told.
    :param logs: where the log of workers goes, if there are any.
    """

    name = "llmux"
    _log = make_logger()

    def __init__(
        self,
        app: App,
        reactor: Any,
        doors: Doors,
        notifier: Notifier | None = None,
        logs: Logs = _LOGS,
    ) -> None:
        self._logs = logs
        self._app = app
        self._reactor = reactor
        self._doors = doors
        self._notifier = notifier or Notifier(reactor)
        self._ports: list[IListeningPort] = []
        self._operators_ports: list[IListeningPort] = []
        self._ending = Ending(
            app.crew if app.config.workers > 1 else app.site,
            app.switcher,
            self._notifier,
            app.events,
            reactor,
            lambda: app.config.shutdown,
        )
        self._signal: str | None = None
        self._own = ExitStack()
        self._cutting = LoopingCall(app.hooks.cut_outputs)
        self._cutting.clock = reactor

    def startService(self) -> None:
        """
        Accept connections from now on, and find out what became of the models meanwhile.

        Requests that come before that is known wait for it.
        """
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        app, doors = self._app, self._doors
        limit_connections(app.site, app.config.limits.max_connections, app.events)
        models = list(app.config.models)
        for each in doors.clients:
            app.events.listening(address_of(each), models)
        if doors.shared:
            app.resource.admin = app.make_face(_reach(*doors.clients))
        if app.config.workers > 1:
            self._start_workers()
        else:
            self._ports = list(serve(self._reactor, doors.clients, app.site))
        for each in doors.operators:
            app.events.operators_listening(address_of(each))
            face = app.make_face(_reach(each))
            site = admin_site(
                face, self._reactor, app.config.limits, app.metrics.connection_refused
            )
            self._operators_ports += serve(self._reactor, [each], site)
        self._cutting.start(_CUT_INTERVAL).addErrback(self._complain)
        app.start().addErrback(self._complain)
        self._reactor.callWhenRunning(self._notifier.ready)

    def _start_workers(self) -> None:
        """Have others accept clients, who pass on to us what only we can answer."""
        app, doors = self._app, self._doors
        inner, path = open_inner_door(app.state_dir)
        if path.parent != app.state_dir:  # its path would have been too long there
            self._own.callback(path.parent.rmdir)
        self._own.callback(path.unlink, missing_ok=True)
        self._operators_ports += serve(self._reactor, [inner], app.site)
        count = app.config.workers
        place = Place(doors.clients, path, doors.shared, self._logs, *make_board(count))
        app.crew.start(place, count)

    def reload(self) -> None:
        """Read the configuration again; what has come of it is in the log."""
        if not self._ending.begun:
            Deferred.fromCoroutine(self._reload()).addErrback(self._complain)

    async def _reload(self) -> None:
        self._notifier.reloading()
        try:
            await self._app.reload()
        except ConfigError:
            pass  # it has been logged, and nothing has changed
        finally:
            self._notifier.ready()

    def end(self, signal: str) -> None:
        """
        End the program in order; :meth:`stopService` does it, which the reactor waits for.

        :param signal: what has told us to.
        """
        self._signal = signal
        with suppress(ReactorNotRunning):  # something else has stopped it already
            self._reactor.stop()

    def cut(self) -> None:
        """End at once, if the service is ending: answers are cut, hooks left to themselves."""
        self._ending.cut()

    async def _end(self) -> None:
        await self._ending.begin(self._signal, self._ports)
        await self._app.crew.close()
        for port in self._operators_ports:  # an operator may watch until now
            await maybeDeferred(port.stopListening)
        for client in self._app.clients.values():
            client.close_idle()
        if self._cutting.running:
            self._cutting.stop()
        self._notifier.stop()
        self._doors.close()
        self._own.close()
        self._app.recorder.stop()
        self._app.keeper.finish()
        self._app.lock.release()

    def stopService(self) -> Deferred[None]:
        """
        Accept nothing more, refuse those who wait, and let what is in flight come to its end.

        :returns: fires when that has happened.
        """
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's
        return Deferred.fromCoroutine(self._end())

    def _complain(self, failure: Failure) -> None:
        self._log.failure("a part of llmux has stopped working", failure=failure)


def _reach(*listening: socket.socket) -> Reach:
    """Say who can connect to some sockets."""
    if all(each.family == socket.AF_UNIX for each in listening):
        return Reach.SOCKET
    return Reach.LOOPBACK if all(map(is_loopback, listening)) else Reach.NETWORK
