"""Puts it all together: the only place where the parts are made and handed to one another."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.web.resource import IResource
from txaio.tx import make_logger

from llmux.budget import Budget
from llmux.config import Backend, Config, ModelConfig
from llmux.costs import SwitchCosts
from llmux.descriptors import raise_limit, room_for_clients
from llmux.events import Events
from llmux.hooks.runner import HookRunner
from llmux.metrics import Metrics
from llmux.policy import POLICIES
from llmux.proxy import RelayClient
from llmux.proxy.client import make_endpoint
from llmux.proxy.pool import ConnectionPool
from llmux.server.site import RelaySite
from llmux.statedir import state_directory
from llmux.switcher import Switcher
from llmux.web.app import FrontDoor
from llmux.web.exchange import House

_CUT_INTERVAL = 5.0  # seconds between two looks at how long the hooks' output has grown
_BACKLOG = 1024  # connections that the kernel may hold while the reactor is busy


@attrs.frozen
class App:
    """
    One multiplexer, ready to be served.

    :ivar config: what it was built from.
    :ivar state_dir: where its state is kept.
    :ivar switcher: gives leases; for programs that embed llmux without HTTP.
    :ivar metrics: in a registry of its own.
    :ivar events: what it logs.
    :ivar clients: by model, what sends to its backend.
    :ivar hooks: runs the models' scripts.
    :ivar resource: answers HTTP requests; it needs the requests of a
        :class:`~llmux.server.site.RelaySite`.
    :ivar site: the same, as a factory to listen with.
    """

    config: Config
    state_dir: Path
    switcher: Switcher
    metrics: Metrics
    events: Events
    clients: Mapping[str, RelayClient]
    hooks: HookRunner
    resource: IResource
    site: RelaySite


def build_app(config: Config, reactor: Any, registry: CollectorRegistry | None = None) -> App:
    """
    Build a multiplexer.  It listens nowhere and has started nothing yet.

    :param config: what to build.
    :param reactor: spawns, connects and tells the time, which should be monotonic:
        :func:`llmux.clock.make_monotonic`.
    :param registry: where the metrics are kept, instead of a registry of their own.
    :raises ConfigError: if the state directory cannot be used.
    """
    metrics = Metrics(config.models, registry)
    events = Events()
    state_dir = state_directory(config.state_dir, config.path)
    hooks = HookRunner(reactor, reactor, config.models, state_dir)
    clients = {name: _client(model, reactor) for name, model in config.models.items()}
    switcher = Switcher(
        models=config.models,
        hooks=hooks,
        policy=POLICIES[config.policy.name](),
        clock=reactor,
        budget=Budget(),
        metrics=metrics,
        events=events,
        costs=SwitchCosts(),
        before_sleep=lambda name: clients[name].close_idle(),
    )
    resource = FrontDoor(
        House(
            config=config,
            clients=clients,
            switcher=switcher,
            clock=reactor,
            metrics=metrics,
            events=events,
        )
    )
    return App(
        config=config,
        state_dir=state_dir,
        switcher=switcher,
        metrics=metrics,
        events=events,
        clients=clients,
        hooks=hooks,
        resource=resource,
        site=RelaySite(
            resource,
            reactor,
            config.limits,
            is_model=config.models.__contains__,
            refused=metrics.connection_refused,
            abandoned=resource.abandoned,
        ),
    )


def _client(model: ModelConfig, reactor: Any) -> RelayClient:
    endpoint = make_endpoint(reactor, model.backend, model.connect_timeout_secs)
    return RelayClient(model.backend, ConnectionPool(endpoint, reactor, model.reuse_secs))


def bind(host: str, port: int) -> socket.socket:
    """
    Take an address, before anything else is done: a port that is taken is an error at once.

    :param host: an address or a name of this machine; ``""`` or ``0.0.0.0`` for all interfaces.
    :returns: a listening socket.
    :raises OSError: if the address cannot be had.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


class LLMuxService(Service):
    """
    Serves an app on a socket for as long as it runs.

    :param app: what to serve.
    :param reactor: accepts the connections.
    :param listening: the socket of :func:`bind`; closed when the service ends.
    """

    name = "llmux"
    _log = make_logger()

    def __init__(self, app: App, reactor: Any, listening: socket.socket) -> None:
        self._app = app
        self._reactor = reactor
        self._listening = listening
        self._port: IListeningPort | None = None
        self._cutting = LoopingCall(app.hooks.cut_outputs)
        self._cutting.clock = reactor

    def startService(self) -> None:
        """Accept connections from now on."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self._limit_connections()
        self._port = self._reactor.adoptStreamPort(
            self._listening.fileno(), self._listening.family, self._app.site
        )
        host, port = self._listening.getsockname()[:2]
        self._listening.close()
        url = Backend(host, port).url
        self._app.events.listening(url, list(self._app.config.models))
        self._cutting.start(_CUT_INTERVAL).addErrback(
            lambda failure: self._log.failure("hooks' output is not cut any more", failure=failure)
        )

    def _limit_connections(self) -> None:
        """Take no more clients than files may be open for; they would fail in odd places."""
        site = self._app.site
        open_files = raise_limit(site.max_connections)
        allowed = room_for_clients(open_files)
        if site.max_connections > allowed:
            self._app.events.connections_limited(site.max_connections, allowed, open_files)
            site.max_connections = allowed

    def stopService(self) -> Deferred[None]:
        """Accept nothing more, and refuse those who wait."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's
        if self._cutting.running:
            self._cutting.stop()
        self._app.switcher.stop()
        for client in self._app.clients.values():
            client.close_idle()
        self._listening.close()
        port, self._port = self._port, None
        stopped = None if port is None else port.stopListening()
        return succeed(None) if stopped is None else stopped
