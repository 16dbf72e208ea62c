"""What all requests share."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from twisted.internet.interfaces import IReactorTime

from llmux.config import Config, ModelConfig
from llmux.events import Events
from llmux.metrics import Metrics
from llmux.names import Names
from llmux.proxy import RelayClient
from llmux.recorder import Recorder
from llmux.switcher import Switcher
from llmux.web.cors import Cors
from llmux.web.paths import BlockedPaths


@attrs.define(kw_only=True)
class House:
    """
    What all exchanges share; each looks at it again for each thing that it does.

    :ivar config: what holds now; :meth:`configure` brings another one.
    :ivar models: by name, what holds for requests that have been let through to a model; one that
        is not in the configuration any more stays here until the last of them has ended.
    :ivar clients: by model, what sends to its backend.
    :ivar switcher: gives leases.
    :ivar clock: tells the time.
    :ivar metrics: counts requests.
    :ivar events: logs them.
    :ivar recorder: records how much is asked and answered.
    :ivar names: what clients' names stand for.
    """

    config: Config
    models: Mapping[str, ModelConfig]
    clients: Mapping[str, RelayClient]
    switcher: Switcher
    clock: IReactorTime
    metrics: Metrics
    events: Events
    recorder: Recorder
    blocked: BlockedPaths = attrs.field(init=False)
    cors: Cors = attrs.field(init=False)
    names: Names = attrs.field(init=False)

    def configure(self, config: Config) -> None:
        """Answer by another configuration from now on."""
        self.config = config
        self.blocked = self._blocked()
        self.cors = self._cors()
        self.names = self._names()

    @blocked.default
    def _blocked(self) -> BlockedPaths:
        return BlockedPaths(self.config.blocked_paths)

    @cors.default
    def _cors(self) -> Cors:
        return Cors(self.config.cors_origins)

    @names.default
    def _names(self) -> Names:
        return Names(self.config)
