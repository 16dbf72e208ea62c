"""What all requests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime

from llmux.config import Config, ModelConfig
from llmux.events import Events
from llmux.leases import ILeases
from llmux.names import Names
from llmux.proxy import RelayClient
from llmux.web.cors import Cors
from llmux.web.paths import BlockedPaths


class Counts(Protocol):
    """The metrics of requests; see :class:`~llmux.metrics.Metrics`."""

    def request_answered(self, model: str, status: int, seconds: float) -> None:
        """Count a request as its answer begins."""

    def request_cut(self, model: str, reason: str) -> None:
        """Count an answer that ended before its end."""

    def backend_failed(self, model: str, reason: str) -> None:
        """Count a request that got no answer."""

    def connection_refused(self) -> None:
        """Count a connection that was not taken because there were too many."""

    def render(self) -> bytes:
        """Give all metrics, in Prometheus's format."""


class Records(Protocol):
    """Records requests; see :class:`~llmux.recorder.Recorder`."""

    @property
    def on(self) -> bool:
        """Whether it does."""

    def note(self, arrived: float, model: str, prompt: int, output: int, kind: str) -> None:
        """Record a request."""


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
    switcher: ILeases
    clock: IReactorTime
    metrics: Counts
    events: Events
    recorder: Records
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
