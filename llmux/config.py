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
from typing import TypeVar

import attrs

from llmux.addresses import read_ip
from llmux.amounts import Amounts
from llmux.budget import ONE_SLOT
from llmux.controlpaths import DEFAULT_BLOCKED_PATHS
from llmux.document import read_document
from llmux.errors import ConfigError, Problem
from llmux.fitting import check_residency, fit, read_resources
from llmux.naming import OF_NAMES, backend_name, check_name, name, read_names
from llmux.policies import read_policy
from llmux.readers import (
    address,
    alternatives,
    amounts,
    blocked_path,
    boolean,
    count,
    directory,
    hook_script,
    local_port,
    one_of,
    optional_count,
    origin,
    priority,
    text,
    trace_file,
    url,
)
from llmux.schema import Section
from llmux.settings import (
    Address,
    Admin,
    Adoption,
    Backend,
    Limits,
    ModelConfig,
    ModelSettings,
    PolicyConfig,
    Shutdown,
)
from llmux.urgency import CLASSES, INTERACTIVE

__all__ = [
    "DEFAULT_BLOCKED_PATHS",
    "Address",
    "Admin",
    "Adoption",
    "Backend",
    "Config",
    "Limits",
    "ModelConfig",
    "ModelSettings",
    "PolicyConfig",
    "Shutdown",
]

_Settings = TypeVar("_Settings", ModelSettings, Limits, Shutdown)

_POLICY = PolicyConfig()
_LIMITS = Limits()
_SHUTDOWN = Shutdown()
_ADMIN = Admin()
_SETTINGS = {field.name: field.metadata["section"] for field in attrs.fields(ModelSettings)}
_OF_ONE_MODEL = (
    "wake", "sleep", "alive", "freed", "kill", "stop", "prepare", "adopt", "max_concurrency",
    "needs", "asleep_needs", "pinned", "wake_at_start", "aliases", "rewrite_model", "class",
    "priority",
)  # fmt: skip  # beside its address and settings
_OF_ALL_MODELS = {
    **{field.name: field.metadata["section"] for field in attrs.fields(Limits)},
    **{field.name: field.metadata["section"] for field in attrs.fields(Shutdown)},
    "forwarded": "",
    "trust_class_header": "",
    "blocked_paths": "",
    "origins": "cors",
    "listen": "admin",
}  # what cannot be said again in a model
_HOMES = {
    **_SETTINGS,
    **_OF_ALL_MODELS,
    **dict.fromkeys(("url", *_OF_ONE_MODEL), "models.<name>"),
    **dict.fromkeys(
        ("host", "port", "state_dir", "record", "workers", "resources", "idle_model", *OF_NAMES), ""
    ),
    "name": "policy",
    "options": "policy",
}  # the section that each key belongs into, for whoever looks for it in another one
_ADOPTIONS = tuple(adoption.value for adoption in Adoption)
_JSON_OR_YAML = (".yaml", ".yml")  # any other ending is JSON, as in llmux 2.4.0


@attrs.frozen(kw_only=True)
class Config:
    """
    A whole configuration.

    :param models: by name, in the order of the file; at least one.
    :param policy: see :class:`PolicyConfig`.
    :param limits: see :class:`Limits`.
    :param shutdown: see :class:`Shutdown`.
    :param admin: see :class:`Admin`.
    :param resources: what the models share, by name; empty: one slot, for one model at a time.
    :param idle_model: the model that is woken when nothing is asked of any, if one is.
    :param default_model: what requests ask for that name no model; ``None``: they are refused.
    :param first_awake: by name, the models of which any will do, the one that is liked best first.
    :param forwarded: whether backends are told in ``X-Forwarded-*`` who asks.
    :param trust_class_header: whether clients may say in ``X-LLMux-Class`` how much of a hurry a
        request is in.
    :param blocked_paths: what nobody may ask a backend for, and all below it.
    :param cors_origins: origins of web pages that may ask; ``*`` for all.
    :param host: the address to listen on.
    :param port: the TCP port to listen on.
    :param state_dir: where hooks' output and other state is kept; ``None``: nowhere yet, see
        :func:`llmux.statedir.state_directory`.
    :param record: the file that a trace of what is asked is written to; ``None``: none.
    :param workers: how many processes relay requests; 1: this one alone.
    :param path: the file it was read from, if it was.
    """

    models: Mapping[str, ModelConfig]
    policy: PolicyConfig = _POLICY
    limits: Limits = _LIMITS
    shutdown: Shutdown = _SHUTDOWN
    admin: Admin = _ADMIN
    resources: Amounts = attrs.Factory(dict)
    idle_model: str | None = None
    default_model: str | None = None
    first_awake: Mapping[str, tuple[str, ...]] = attrs.Factory(dict)
    forwarded: bool = False
    trust_class_header: bool = False
    blocked_paths: tuple[str, ...] = DEFAULT_BLOCKED_PATHS
    cors_origins: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 3000
    state_dir: Path | None = None
    record: Path | None = None
    workers: int = 1
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
    record = top.get("record", trace_file, None)
    workers = top.get("workers", count, 1)
    forwarded = top.get("forwarded", boolean, False)
    trust_class_header = top.get("trust_class_header", boolean, False)
    blocked_paths = top.items("blocked_paths", blocked_path, DEFAULT_BLOCKED_PATHS)
    names = ("policy", "hooks", "backend", "limits", "cors", "shutdown", "admin")
    sections = {name: top.section(name) for name in names}
    policy = read_policy(sections["policy"])
    limits = _read_settings(sections, _LIMITS)
    shutdown = _read_settings(sections, _SHUTDOWN)
    admin = _read_admin(sections["admin"])
    cors_origins = sections["cors"].items("origins", origin, ())
    general = _read_settings({**sections, "": top}, ModelSettings())
    for section in sections.values():
        section.no_more(_HOMES)
    resources = read_resources(top)
    models: dict[str, ModelConfig] = {}
    of_models = {each.name: each for each in top.sections("models", "models", _is_template)}
    for section in of_models.values():
        models[section.name] = _read_model(section, general, host, port, resources)
    models = fit(models, resources, lambda model, key, what: of_models[model].complain(key, what))
    naming = read_names(top, models, of_models)
    idle_model = top.get("idle_model", one_of(models), None)
    top.no_more(_HOMES)
    return Config(
        models=models,
        policy=policy,
        limits=limits,
        shutdown=shutdown,
        admin=admin,
        resources=resources or {},
        idle_model=idle_model,
        default_model=naming.default_model,
        first_awake=naming.first_awake,
        forwarded=forwarded,
        trust_class_header=trust_class_header,
        blocked_paths=blocked_paths,
        cors_origins=cors_origins,
        host=host,
        port=port,
        state_dir=state_dir,
        record=record,
        workers=workers,
        path=path,
    )


def _read_settings(sections: Mapping[str, Section], base: _Settings) -> _Settings:
    """
    Read all settings of a kind.

    :param sections: where each section's keys stand; a model has them all in itself.
    :param base: holds where nothing is said.
    """
    said = {}
    for field in attrs.fields(type(base)):
        section, reader = sections[field.metadata["section"]], field.metadata["reader"]
        said[field.name] = section.get(field.name, reader, getattr(base, field.name))
    return type(base)(**said)


def _read_admin(section: Section) -> Admin:
    if not section.has("listen"):
        return _ADMIN
    listen = section.get("listen", address, None)
    return Admin(off=True) if listen is None else Admin(listen=Address(*listen))


def _read_model(
    section: Section, general: ModelSettings, host: str, port: int, resources: Amounts | None
) -> ModelConfig:
    check_name(section)
    backend = _read_backend(section)
    if backend is not None and _is_self(backend, host, port):
        key = "url" if section.has("url") else "port"
        section.complain(
            key, f"this is llmux's own address ({host}:{port}); the model needs one of its own"
        )
    settings = _read_settings(dict.fromkeys(_SETTINGS.values(), section), general)
    model = ModelConfig(
        name=section.name,
        backend=backend or Backend("127.0.0.1", 1),  # complained about already
        wake=section.required("wake", hook_script, ""),
        sleep=section.required("sleep", hook_script, ""),
        alive=section.get("alive", hook_script, None),
        freed=section.get("freed", hook_script, None),
        kill=section.get("kill", hook_script, None),
        stop=section.get("stop", hook_script, None),
        prepare=section.get("prepare", hook_script, None),
        adopt=Adoption(section.get("adopt", one_of(_ADOPTIONS), Adoption.WAKE.value)),
        max_concurrency=section.get("max_concurrency", optional_count, None),
        needs=section.get("needs", alternatives, (ONE_SLOT if resources == {} else {},)),
        asleep_needs=section.get("asleep_needs", amounts, {}),
        pinned=section.get("pinned", boolean, False),
        aliases=section.items("aliases", name, (), some=True),
        rewrite_model=section.get("rewrite_model", backend_name, None),
        wake_at_start=section.get("wake_at_start", boolean, False),
        kind=section.get("class", one_of(CLASSES), INTERACTIVE),
        priority=section.get("priority", priority, 0),
        **attrs.asdict(settings),
    )
    check_residency(section, model, resources)
    section.no_more(_OF_ALL_MODELS)
    return model


def _is_template(section: Section) -> bool:
    """Tell a mapping that is only there to be merged into others from a model named ``x-...``."""
    if section.has("port") or section.has("url"):
        return False
    section.ignore(*_OF_ONE_MODEL, *_SETTINGS)
    section.no_more(_OF_ALL_MODELS)  # or a mistyped port would lose a model without a word
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
    address = read_ip(host)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address is not None and (address.is_loopback or address.is_unspecified)
