"""The paths of the operator's face, and what each asks for."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, unquote_to_bytes

import attrs

from llmux.hooks.contract import Hook
from llmux.operator import OrderRefused

_MODELS = b"/llmux/models/"
_RESERVATIONS = b"/llmux/reservations/"
_READ = ("GET", "HEAD")
METHODS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("health", "status", "timeline", "output"), _READ),
    **dict.fromkeys(("wake", "sleep", "kill", "pin", "unpin", "reload"), ("POST",)),
    "recording": (*_READ, "POST", "DELETE"),
    "reservations": (*_READ, "POST"),
    "reservation": (*_READ, "POST", "DELETE"),
}
"""By what is asked for, the methods that ask for it."""

_OF_A_MODEL = ("output", "wake", "sleep", "kill", "pin", "unpin")
_OF_ALL = {
    b"/health": "health",
    b"/llmux/status": "status",
    b"/llmux/timeline": "timeline",
    b"/llmux/reload": "reload",
    b"/llmux/recording": "recording",
    b"/llmux/reservations": "reservations",
}
_HOOKS = tuple(hook.value for hook in Hook)


@attrs.frozen
class Asked:
    """
    What a path asks for.

    :param verb: one of the keys of :data:`METHODS`.
    :param name: of which model, or reservation; empty: of all.
    """

    verb: str
    name: str = ""


def read_path(path: bytes) -> Asked:
    """
    Read a path: ``/llmux/models/NAME/VERB``, where the name may be encoded or hold slashes.

    :param path: as it came.
    :raises OrderRefused: if there is nothing there.
    """
    if path in _OF_ALL:
        return Asked(_OF_ALL[path])
    reservation = path.removeprefix(_RESERVATIONS)
    if path.startswith(_RESERVATIONS) and reservation and b"/" not in reservation:
        return Asked("reservation", unquote_to_bytes(reservation).decode("utf-8", "replace"))
    name, _, last = path.removeprefix(_MODELS).rpartition(b"/")
    verb = last.decode("ascii")
    if not path.startswith(_MODELS) or not name or verb not in _OF_A_MODEL:
        raise OrderRefused(
            404,
            "There is nothing here; the operator's paths are /llmux/status, /llmux/timeline,"
            " /llmux/reload, /llmux/recording, /llmux/reservations, and"
            f" below /llmux/models/NAME: {', '.join(_OF_A_MODEL)}",
        )
    return Asked(verb, unquote_to_bytes(name).decode("utf-8", "replace"))


def read_hook(target: bytes) -> str:
    """
    Say which hook's output is asked for.

    :raises OrderRefused: if that is not said.
    """
    query = target.partition(b"?")[2].decode("ascii")
    hooks = parse_qs(query, keep_blank_values=True).get("hook", [])
    if len(hooks) != 1:
        raise OrderRefused(400, f"Say which hook's: ?hook= and one of {', '.join(_HOOKS)}")
    if hooks[0] not in _HOOKS:
        raise OrderRefused(404, f"There is no such hook; it is one of {', '.join(_HOOKS)}")
    return hooks[0]


def read_recording(body: bytes) -> str:
    """
    Say where an order to record wants it.

    :param body: the order's.
    :raises OrderRefused: if that is not said.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or list(said) != ["path"] or not isinstance(said["path"], str):
        raise OrderRefused(400, 'Say the name of a file to record to: {"path": "monday.csv"}')
    name: str = said["path"]
    return name
