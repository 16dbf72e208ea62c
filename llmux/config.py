"""
The configuration: what a file says, checked and frozen.

All complaints about a file are collected and raised in one go, each with its line, its key path,
the value and, for a mistyped key, the one that was probably meant.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from pathlib import Path

import attrs

from llmux.document import read_document
from llmux.errors import ConfigError, Problem
from llmux.policy import POLICIES
from llmux.schema import (
    Section,
    boolean,
    deadline,
    directory,
    hook_script,
    local_port,
    one_of,
    optional_seconds,
    seconds,
    text,
    url,
)

_TAKEN_NAMES = ("idle", "several")  # what metrics and hooks call no model, and many
_JSON_OR_YAML = (".yaml", ".yml")  # any other ending is JSON, as in llmux 2.4.0


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
    What can be said for all models, and again for one.

    :param request_timeout_secs: how long a request may wait for it; ``None``: for ever.
    :param drain_before_switch: whether requests in flight are waited for before it sleeps.
    :param min_active_secs: how long it stays awake at least.
    :param wake_timeout_secs: the deadline of its ``wake``.
    :param sleep_timeout_secs: the deadline of its ``sleep``.
    :param alive_timeout_secs: the deadline of its ``alive``.
    """

    request_timeout_secs: float | None = None
    drain_before_switch: bool = True
    min_active_secs: float = 0.0
    wake_timeout_secs: float = 600.0
    sleep_timeout_secs: float = 120.0
    alive_timeout_secs: float = 10.0


@attrs.frozen(kw_only=True)
class ModelConfig(ModelSettings):
    """
    One model.  What a file says for all models is worked in already.

    :param name: what clients call it; it may hold ``/``.
    :param backend: where its server listens.
    :param wake: shell script that makes it able to serve; see the hooks' documentation.
    :param sleep: shell script that frees its resources.
    :param alive: shell script that exits 0 while it is healthy, or ``None``.
    """

    name: str
    backend: Backend
    wake: str
    sleep: str
    alive: str | None = None


@attrs.frozen(kw_only=True)
class PolicyConfig:
    """
    How it is decided who gets the GPU.

    :param name: one of :data:`llmux.policy.POLICIES`.
    """

    name: str = "fifo"


@attrs.frozen(kw_only=True)
class Config:
    """
    A whole configuration.

    :param models: by name, in the order of the file; at least one.
    :param policy: see :class:`PolicyConfig`.
    :param host: the address to listen on.
    :param port: the TCP port to listen on.
    :param state_dir: where hooks' output and other state is kept; ``None``: nowhere yet, see
        :func:`llmux.statedir.state_directory`.
    :param path: the file it was read from, if it was.
    """

    models: Mapping[str, ModelConfig]
    policy: PolicyConfig = PolicyConfig()
    host: str = "127.0.0.1"
    port: int = 3000
    state_dir: Path | None = None
    path: Path | None = None

    @classmethod
    def from_file(
        cls, path: str | Path, *, host: str | None = None, port: int | None = None
    ) -> Config:
        """
        Read and check a file; ``.yaml`` and ``.yml`` are YAML, anything else is JSON.

        :param path: the file.
        :param host: wins over the file's ``host``.
        :param port: wins over the file's ``port``.
        :raises ConfigError: with all that is wrong.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            problem = Problem(None, "", None, f"cannot be read: {error.strerror}")
            raise ConfigError(str(path), [problem]) from error
        return cls.from_bytes(content, path=Path(path), host=host, port=port)

    @classmethod
    def from_bytes(
        cls, content: bytes, *, path: Path, host: str | None = None, port: int | None = None
    ) -> Config:
        """
        Check the content of a file that has been read.

        :param content: its bytes.
        :param path: where it came from; its ending says whether it is YAML.
        :param host: wins over the content's ``host``.
        :param port: wins over the content's ``port``.
        :raises ConfigError: with all that is wrong.
        """
        problems: list[Problem] = []
        is_json = path.suffix not in _JSON_OR_YAML
        root = read_document(str(path), content, is_json=is_json, problems=problems)
        config = _read_config(Section(root, "", problems), path, host, port)
        if problems:
            raise ConfigError(str(path), problems)
        return config


def _read_config(top: Section, path: Path, host: str | None, port: int | None) -> Config:
    host_of_file = top.get("host", text, "127.0.0.1")
    port_of_file = top.get("port", local_port, 3000)
    host = host_of_file if host is None else host
    port = port_of_file if port is None else port
    state_dir = top.get("state_dir", directory, None)
    policy = top.section("policy")
    hooks = top.section("hooks")
    general = _deadlines(hooks, _switching(policy, ModelSettings()))
    name = policy.get("name", one_of(POLICIES), "fifo")
    for section in (policy, hooks):
        section.no_more()
    models: dict[str, ModelConfig] = {}
    for section in top.sections("models", "models", _is_template):
        models[section.name] = _read_model(section, general, host, port)
    top.no_more()
    return Config(
        models=models,
        policy=PolicyConfig(name=name),
        host=host,
        port=port,
        state_dir=state_dir,
        path=path,
    )


def _read_model(section: Section, general: ModelSettings, host: str, port: int) -> ModelConfig:
    if not section.name or not section.name.isprintable():
        section.complain(None, "a model needs a name of printable characters")
    if section.name in _TAKEN_NAMES:
        section.complain(None, "this name stands for something else in metrics; choose another one")
    backend = _read_backend(section)
    if backend is not None and _is_self(backend, host, port):
        key = "url" if section.has("url") else "port"
        section.complain(
            key, f"this is llmux's own address ({host}:{port}); the model needs one of its own"
        )
    settings = _deadlines(section, _switching(section, general))
    model = ModelConfig(
        name=section.name,
        backend=backend or Backend("127.0.0.1", 1),  # complained about already
        wake=section.required("wake", hook_script, ""),
        sleep=section.required("sleep", hook_script, ""),
        alive=section.get("alive", hook_script, None),
        **attrs.asdict(settings),
    )
    section.no_more()
    return model


def _is_template(section: Section) -> bool:
    """Tell a mapping that is only there to be merged into others from a model named ``x-...``."""
    if section.has("port") or section.has("url"):
        return False
    section.ignore("wake", "sleep", "alive", *(field.name for field in attrs.fields(ModelSettings)))
    section.no_more()  # or a mistyped port would lose a model without a word
    return True


def _read_backend(section: Section) -> Backend | None:
    if section.has("port") == section.has("url"):
        both = section.has("port")
        section.complain(
            "url" if both else None,
            "a model has a port or a url, not both" if both else "a model needs a port or a url",
        )
        section.ignore("port", "url")
        return None
    if section.has("port"):
        port = section.get("port", local_port, None)
        return None if port is None else Backend("127.0.0.1", port)
    parts = section.get("url", url, None)
    return None if parts is None else Backend(*parts)


def _switching(section: Section, base: ModelSettings) -> ModelSettings:
    """Read the keys that stand under ``policy`` for all models, or in a model for itself."""
    return attrs.evolve(
        base,
        request_timeout_secs=section.get(
            "request_timeout_secs", optional_seconds, base.request_timeout_secs
        ),
        drain_before_switch=section.get("drain_before_switch", boolean, base.drain_before_switch),
        min_active_secs=section.get("min_active_secs", seconds, base.min_active_secs),
    )


def _deadlines(section: Section, base: ModelSettings) -> ModelSettings:
    """Read the keys that stand under ``hooks`` for all models, or in a model for itself."""
    return attrs.evolve(
        base,
        wake_timeout_secs=section.get("wake_timeout_secs", deadline, base.wake_timeout_secs),
        sleep_timeout_secs=section.get("sleep_timeout_secs", deadline, base.sleep_timeout_secs),
        alive_timeout_secs=section.get("alive_timeout_secs", deadline, base.alive_timeout_secs),
    )


def _is_self(backend: Backend, host: str, port: int) -> bool:
    """Tell whether requests for a backend would come back to llmux."""
    if backend.port != port:
        return False
    return backend.host == host.lower() or (_is_here(backend.host) and _is_here(host))


def _is_here(host: str) -> bool:
    """Tell whether this is a loopback address, or stands for this machine or all its addresses."""
    host = host.lower().rstrip(".")
    if host in ("", "localhost", "ip6-localhost", "ip6-loopback", socket.gethostname().lower()):
        return True
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address in any spelling that a connection could be made with."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1 and 0x7f000001, too
    except OSError:
        pass
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
