"""What stands before the clients: how their requests are answered, whoever gives the leases."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs

from llmux.config import Config, ModelConfig
from llmux.events import Events
from llmux.leases import ILeases
from llmux.proxy import RelayClient
from llmux.proxy.client import make_endpoint, make_pool
from llmux.reload import Models
from llmux.server.site import RelaySite
from llmux.web.app import FrontDoor
from llmux.web.house import Counts, House, Records


@attrs.frozen
class Front:
    """
    What clients see.

    :param house: what all exchanges share.
    :param resource: answers their requests.
    :param site: the same, as a factory to listen with.
    """

    house: House
    resource: FrontDoor
    site: RelaySite


def build_front(
    config: Config,
    reactor: Any,
    models: Models,
    leases: ILeases,
    metrics: Counts,
    events: Events,
    recorder: Records,
    http: str,
) -> Front:
    """
    Build what answers clients; it listens nowhere yet.

    :param config: says how.
    :param reactor: tells the time.
    :param models: what each model's requests are done with.
    :param leases: gives leases.
    :param metrics: counts.
    :param events: logs.
    :param recorder: records how much is asked and answered.
    :param http: which HTTP stack reads requests, by its name in :data:`llmux.engine.choice.HTTP`.
    """
    house = House(
        config=config,
        models=models.settings,
        clients=models.clients,
        switcher=leases,
        clock=reactor,
        metrics=metrics,
        events=events,
        recorder=recorder,
    )
    resource = FrontDoor(house)
    site = RelaySite(
        resource,
        reactor,
        config.limits,
        is_model=lambda name: name in house.names,
        refused=metrics.connection_refused,
        abandoned=resource.abandoned,
        http=http,
    )
    return Front(house, resource, site)


def build_models(config: Config, reactor: Any, http: str) -> Models:
    """
    Build what each model's requests are done with.

    :param reactor: connects to backends.
    :param http: which HTTP stack reads answers; see :func:`build_front`.
    """
    return Models(config.models, partial(_make_client, reactor, http))


def _make_client(reactor: Any, http: str, model: ModelConfig) -> RelayClient:
    endpoint = make_endpoint(reactor, model.backend, model.connect_timeout_secs)
    pool = make_pool(endpoint, reactor, model.reuse_secs, http)
    return RelayClient(model.backend, pool)
