"""
What can be configured, as frozen values.

Each setting is declared once: with the section of the file that it stands in, its reader and its
default.  Those of :class:`ModelSettings` may be said again for one model, in the model itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import attrs

from llmux.amounts import Amounts
from llmux.budget import ONE_SLOT, Placement, anywhere
from llmux.readers import (
    Reader,
    boolean,
    count,
    deadline,
    optional_deadline,
    optional_seconds,
    seconds,
    size,
    writable_directory,
)
from llmux.urgency import INTERACTIVE, Urgency

_Value = TypeVar("_Value")

_ALIVE_INTERVAL_SECS: float | None = 15.0


def _setting(section: str, reader: Reader[_Value], default: _Value) -> _Value:
    """
    Declare a setting.

    :param section: the section it stands in; empty: the top of the file.
    :param reader: reads it.
    :param default: what it is where nothing is said.
    """
    made: _Value = attrs.field(default=default, metadata={"section": section, "reader": reader})
    return made


@attrs.frozen
class Backend:
    """
    Where a model's inference server listens.

    :param host: a name or an address; IPv6 without brackets.
    :param port: its TCP port.
    :param tls: whether it speaks HTTPS.
    """

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """``host:port``, as a ``Host`` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"


@attrs.frozen(kw_only=True)
class ModelSettings:
    """
    What can be said for all models, and again for one.  Durations are seconds.

    :param request_timeout_secs: how long a request may wait for it; ``None``: for ever.
    :param max_wait_secs: how long a request is to wait for it at most; policies that know of it do
        what they can.  ``None``: nothing is promised.
    :param drain_before_switch: whether requests in flight are waited for before it sleeps.
    :param drain_timeout_secs: how long they are waited for; then they are cut.  ``None``: for as
        long as they take.
    :param settle_secs: how long it is left alone after an answer of its was broken off, before it
        sleeps.
    :param min_active_secs: how long it stays awake at least.
    :param idle_sleep_secs: after how long without a request it is put to sleep; ``None``: never.
    :param wake_timeout_secs: the deadline of its ``wake``, and of ``alive`` agreeing after it.
    :param sleep_timeout_secs: the deadline of its ``sleep``, and of ``freed`` agreeing after it.
    :param alive_timeout_secs: the deadline of its ``alive``.
    :param prepare_timeout_secs: the deadline of its ``prepare``.
    :param alive_interval_secs: how often ``alive`` is asked while it is awake; ``None``: never.
    :param connect_timeout_secs: how long its backend may take to accept a connection.
    :param first_byte_timeout_secs: how long it may take to begin an answer; ``None``: for ever.
    :param idle_timeout_secs: how long it may send nothing in the midst of an answer; ``None``: for
        ever.
    :param reuse_secs: how long an idle connection to it is kept; 0: not at all.
    :param client_stall_secs: how long a client may take nothing while the model is wanted to go.
    :param tunnel_idle_secs: how long nothing may go through a tunnel to it.
    :param max_waiting: how many requests may wait for it.
    :param keepalive_secs: how often a client that waits for it is shown so; ``None``: never.
    """

    request_timeout_secs: float | None = _setting("policy", optional_seconds, None)
    max_wait_secs: float | None = _setting("policy", optional_deadline, None)
    drain_before_switch: bool = _setting("policy", boolean, True)
    drain_timeout_secs: float | None = _setting("policy", optional_deadline, None)
    settle_secs: float = _setting("policy", seconds, 1.0)
    min_active_secs: float = _setting("policy", seconds, 0.0)
    idle_sleep_secs: float | None = _setting("policy", optional_deadline, None)
    wake_timeout_secs: float = _setting("hooks", deadline, 600.0)
    sleep_timeout_secs: float = _setting("hooks", deadline, 120.0)
    alive_timeout_secs: float = _setting("hooks", deadline, 10.0)
    prepare_timeout_secs: float = _setting("hooks", deadline, 120.0)
    alive_interval_secs: float | None = _setting("hooks", optional_deadline, _ALIVE_INTERVAL_SECS)
    connect_timeout_secs: float = _setting("backend", deadline, 5.0)
    first_byte_timeout_secs: float | None = _setting("backend", optional_deadline, None)
    idle_timeout_secs: float | None = _setting("backend", optional_deadline, None)
    reuse_secs: float = _setting("backend", seconds, 2.0)
    client_stall_secs: float = _setting("limits", deadline, 120.0)
    tunnel_idle_secs: float = _setting("limits", deadline, 300.0)
    max_waiting: int = _setting("limits", count, 1000)
    keepalive_secs: float | None = _setting("", optional_deadline, None)


class Adoption(enum.Enum):
    """What a model has to do before its first request, if it is alive when llmux starts."""

    WAKE = "wake"
    """Its ``wake`` runs: an engine can be healthy and yet asleep."""
    ALIVE = "alive"
    """Nothing: its ``alive`` agrees only while it can serve."""


@attrs.frozen(kw_only=True)
class ModelConfig(ModelSettings):
    """
    One model.  What a file says for all models is worked in already.

    :param name: what clients call it; it may hold ``/``.
    :param backend: where its server listens.
    :param wake: shell script that makes it able to serve; see the hooks' documentation.
    :param sleep: shell script that frees its resources.
    :param alive: shell script that exits 0 while it is healthy, or ``None``.
    :param freed: shell script that exits 0 when what it held is free, or ``None``: when ``sleep``
        has ended.
    :param kill: shell script that ends it when ``sleep`` would not, or ``None``.
    :param stop: shell script that frees what it holds while it is asleep, or ``None``.
    :param prepare: shell script that gets it ready to be woken, or ``None``.
    :param adopt: what it takes for it to be awake, where ``alive`` agrees at the start of llmux.
    :param aliases: what clients may call it besides.
    :param rewrite_model: what its backend calls it; ``None``: by its name.
    :param max_concurrency: how many requests its backend gets at once; ``None``: all there are.
    :param needs: what it takes of the resources while it is not asleep, in each place where it can
        be, the one that is best first.
    :param asleep_needs: what it takes besides, and goes on taking while it is asleep.
    :param pinned: whether it stays where it is once it is awake, whoever waits.
    :param kind: the class of its requests, where they say nothing of it, and
    :param priority: their priority within that.
    :param wake_at_start: whether it is woken when llmux starts, if there is room.
    """

    name: str
    backend: Backend
    wake: str
    sleep: str
    alive: str | None = None
    freed: str | None = None
    kill: str | None = None
    stop: str | None = None
    prepare: str | None = None
    aliases: tuple[str, ...] = ()
    rewrite_model: str | None = None
    adopt: Adoption = Adoption.WAKE
    max_concurrency: int | None = None
    needs: tuple[Amounts, ...] = (ONE_SLOT,)
    asleep_needs: Amounts = attrs.Factory(dict)
    pinned: bool = False
    wake_at_start: bool = False
    kind: str = INTERACTIVE
    priority: int = 0

    @cached_property
    def urgency(self) -> Urgency:
        """How much of a hurry its requests are in, where they say nothing of it."""
        return Urgency(self.kind, self.priority)

    @cached_property
    def placements(self) -> tuple[Placement, ...]:
        """The places where it can be, the one that is best first."""
        return tuple(map(Placement, self.needs))

    @cached_property
    def anywhere(self) -> Placement:
        """Where it is, if nobody knows more than that it is somewhere."""
        return anywhere(self.needs)

    def as_json(self) -> dict[str, object]:
        """Give it as plain JSON values; :meth:`from_json` takes it back."""
        return dict(self._json)

    @cached_property
    def _json(self) -> dict[str, object]:
        return {**attrs.asdict(self), "adopt": self.adopt.value}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> ModelConfig:
        """
        Take back what :meth:`as_json` gave, perhaps that of another version.

        Keys that are not known any more are left out, and those that are new have their defaults.

        :raises ValueError: if it is anything else.
        """
        known = {field.name for field in attrs.fields(cls)}
        values: dict[str, Any] = {key: document[key] for key in document if key in known}
        try:
            values["backend"] = Backend(**values["backend"])
            values["adopt"] = Adoption(values.get("adopt", Adoption.WAKE.value))
            values["needs"] = tuple(values.get("needs", (ONE_SLOT,)))
            values["aliases"] = tuple(values.get("aliases", ()))
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no model: {error}") from error


@attrs.frozen(kw_only=True)
class PolicyConfig:
    """
    How it is decided who gets the GPU.

    :param name: one of :func:`llmux.policy.plugins.policy_names`.
    :param options: what the policy is made with, as plain JSON values.
    """

    name: str = "balanced"
    options: Mapping[str, object] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class Limits:
    """
    What clients may ask of llmux itself.

    :param max_body_bytes: how large the body of a request may be, in bytes.
    :param body_timeout_secs: how long nothing may come of a body, in seconds.
    :param spool_dir: where large bodies are kept meanwhile; ``None``: in the system's temporary
        directory.
    :param max_connections: how many clients may be connected at once.
    """

    max_body_bytes: int = _setting("limits", size, 256 * 1024 * 1024)
    body_timeout_secs: float = _setting("limits", deadline, 60.0)
    spool_dir: Path | None = _setting("limits", writable_directory, None)  # noqa: RUF009  # frozen
    max_connections: int = _setting("limits", count, 10_000)


@attrs.frozen(kw_only=True)
class Shutdown:
    """
    How llmux ends.

    :param grace_secs: how long requests in flight may go on, in seconds; then they are cut.
    :param sleep_models: whether models that are awake are put to sleep.
    """

    grace_secs: float = _setting("shutdown", seconds, 30.0)
    sleep_models: bool = _setting("shutdown", boolean, False)


@attrs.frozen
class Address:
    """
    Where to listen.

    :param host: an address or a name of this machine; empty where there is a path.
    :param port: a TCP port; 0 where there is a path.
    :param path: of a UNIX socket, or ``None``.
    """

    host: str
    port: int
    path: Path | None = None

    def __str__(self) -> str:
        """Write it as the configuration does."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen(kw_only=True)
class Admin:
    """
    Where the operator's face is.

    :param listen: an address of its own; ``None``: where the clients' is if that is loopback, else
        nowhere.
    :param off: whether it is nowhere, whatever the clients' address is.
    """

    listen: Address | None = None
    off: bool = False
