"""Another configuration, while llmux runs: what of it counts, and from when on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred

from llmux.budget import Budget
from llmux.config import Config, ModelConfig
from llmux.descriptors import raise_limit, room_for_clients
from llmux.errors import ConfigError, Problem
from llmux.events import Events
from llmux.hooks.runner import HookRunner
from llmux.metrics import Metrics
from llmux.policies import configured_policy
from llmux.proxy import RelayClient
from llmux.recorder import Recorder
from llmux.server.site import RelaySite
from llmux.switcher import Switcher
from llmux.web.house import House

_UNTIL_RESTART = {
    "host": "host",
    "port": "port",
    "state_dir": "state_dir",
    "workers": "workers",
    "admin": "admin.listen",
}  # what counts only when llmux starts: the field, and the key in the file


@attrs.frozen
class Reloaded:
    """
    What another configuration has changed.

    :param changed: the models of which something is different.
    :param added: the models that there were not.
    :param removed: the models that there are no more.
    :param needs_restart: the keys in which it differs from what holds until the next start.
    """

    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    needs_restart: tuple[str, ...]


class Models:
    """
    What each model's requests are done with: its settings, its client.

    The switcher says when another configuration of a model counts, and when a model has gone: with
    some, its requests have to come to an end first.

    :param models: the configured models by name.
    :param make_client: makes what sends to a model's backend.
    :ivar settings: by name, what counts now.
    :ivar clients: by name, what sends to its backend.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        make_client: Callable[[ModelConfig], RelayClient],
    ) -> None:
        self._make_client = make_client
        self.settings = dict(models)
        self.clients = {name: make_client(model) for name, model in models.items()}

    def configure(self, model: ModelConfig) -> None:
        """Do everything by a model's configuration from now on; it may be a new model."""
        before = self.settings.get(model.name)
        self.settings[model.name] = model
        if before is None or _connection(before) != _connection(model):
            self._close(model.name)
            self.clients[model.name] = self._make_client(model)

    def forget(self, name: str) -> None:
        """Have nothing more to do with a model; nothing of it is under way any more."""
        self._close(name)
        self.clients.pop(name, None)
        self.settings.pop(name, None)

    def close_idle(self, name: str) -> None:
        """Close the connections to a model's backend on which nothing is under way."""
        self.clients[name].close_idle()

    def _close(self, name: str) -> None:
        client = self.clients.get(name)
        if client is not None:
            client.close_idle()


def _connection(model: ModelConfig) -> object:
    """Give what a client is made of."""
    return model.backend, model.connect_timeout_secs, model.reuse_secs


class Reload:
    """
    Has another configuration count.

    :param read: reads it again, as it was read for the start; ``None``: there is no file.
    :param house: what all exchanges share.
    :param site: takes the connections.
    :param switcher: knows the models, and asks the policy.
    :param hooks: runs the models' scripts.
    :param metrics: counts for the models.
    :param events: logs what has come of it.
    :param recorder: records where the configuration says.
    :param taken: called with each configuration when it begins to count; fires when it does so
        wherever clients are answered.
    """

    def __init__(
        self,
        read: Callable[[], Config] | None,
        house: House,
        site: RelaySite,
        switcher: Switcher,
        hooks: HookRunner,
        metrics: Metrics,
        events: Events,
        recorder: Recorder,
        taken: Callable[[Config], Deferred[None]],
    ) -> None:
        self._taken = taken
        self._recorder = recorder
        self._hooks = hooks
        self._read = read
        self._house = house
        self._site = site
        self._switcher = switcher
        self._metrics = metrics
        self._events = events

    async def again(self) -> Reloaded:
        """
        Read the configuration again and have it count; either all of it or nothing.

        :raises ConfigError: with all that is wrong; it is in the log, too.
        """
        path = str(self._house.config.path or "")
        try:
            if self._read is None:
                problem = Problem(
                    None, "", None, "this program has not read its configuration from a file"
                )
                raise ConfigError(path or "llmux", [problem])
            config = self._read()
        except ConfigError as error:
            self._events.config_rejected(path, str(error).splitlines())
            raise
        done = await self.apply(config)
        self._events.config_reloaded(
            path=path,
            changed=list(done.changed),
            added=list(done.added),
            removed=list(done.removed),
            needs_restart=list(done.needs_restart),
        )
        return done

    async def apply(self, config: Config) -> Reloaded:
        """Have a configuration count that has been checked, when it is known what is awake."""
        await self._switcher.started()
        before = self._house.config
        policy = None if config.policy == before.policy else configured_policy(config.policy)
        lasting = {field: getattr(before, field) for field in _UNTIL_RESTART}
        needs_restart = [
            key for field, key in _UNTIL_RESTART.items() if getattr(config, field) != lasting[field]
        ]
        config = attrs.evolve(config, **lasting, path=before.path)
        self._metrics.know((*config.models, *config.first_awake))
        self._house.configure(config)
        self._site.limit(config.limits)
        await self._taken(config)
        most = config.limits.max_connections
        if most != before.limits.max_connections and not limit_connections(
            self._site, most, self._events
        ):
            needs_restart.append("limits.max_connections")
        if policy is not None:
            learnt = self._switcher.policy.as_json()
            self._switcher.use_policy(policy)
            if config.policy.name == before.policy.name:
                self._switcher.policy.learn(learnt)
        if config.record != before.record:
            self._recorder.follow(config.record)
        self._hooks.configure_resources(config.resources)
        changes = await self._switcher.reconfigure(
            config.models, Budget.of(config.resources), config.first_awake, config.idle_model
        )
        return Reloaded(
            changed=changes.changed,
            added=changes.added,
            removed=changes.removed,
            needs_restart=tuple(needs_restart),
        )


def limit_connections(site: RelaySite, wanted: int, events: Events) -> bool:
    """
    Take no more clients than files may be open for; they would fail in odd places.

    :returns: whether all that are wanted can be taken.
    """
    open_files = raise_limit(wanted)
    allowed = room_for_clients(open_files)
    site.max_connections = min(wanted, allowed)
    if wanted > allowed:
        events.connections_limited(wanted, allowed, open_files)
    return wanted <= allowed
