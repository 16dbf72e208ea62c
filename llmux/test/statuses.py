"""The status document: one to try things with, and its shape, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBER = (int, float)
NONE = type(None)
HOOK = {
    "result": str,
    "how": str,
    "exit_code": (int, NONE),
    "duration_secs": NUMBER,
    "ended_secs_ago": (*NUMBER, NONE),
    "reason": str,
    "last_lines": [str],
}
MODEL = {
    "name": str,
    "backend": str,
    "state": str,
    "since_secs": NUMBER,
    "pinned": bool,
    "placement": ({"?": NUMBER}, NONE),
    "holds": {"?": NUMBER},
    "leases": int,
    "waiters": {"count": int, "oldest_secs": (*NUMBER, NONE), "ages_secs": [NUMBER]},
    "back_off": {"wake_secs": NUMBER, "sleep_secs": NUMBER, "failures": int},
    "health": {"alive": str, "failures": int, "asked_secs_ago": (*NUMBER, NONE)},
    "hooks": {"?": HOOK},
    "costs": {
        "sleep_secs": (*NUMBER, NONE),
        "wake_secs": (*NUMBER, NONE),
        "lease_secs": (*NUMBER, NONE),
    },
    "removed": bool,
}
SWITCH = {
    "from": [str],
    "to": (str, NONE),
    "stops": [str],
    "reservation": (str, NONE),
    "phase": str,
    "since_secs": NUMBER,
    "phase_since_secs": NUMBER,
    "reason": str,
    "why": str,
    "leases": int,
}
RESERVATION = {
    "id": str,
    "needs": {"?": NUMBER},
    "note": str,
    "ttl_secs": NUMBER,
    "state": str,
    "since_secs": NUMBER,
    "expires_in_secs": (*NUMBER, NONE),
}
STATUS = {
    "version": str,
    "pid": int,
    "now": str,
    "uptime_secs": NUMBER,
    "config": {"path": (str, NONE), "loaded_at": str, "modified": bool},
    "phase": str,
    "models": [MODEL],
    "first_awake": [
        {
            "name": str,
            "models": [str],
            "coming": (str, NONE),
            "waiters": {"count": int, "oldest_secs": (*NUMBER, NONE), "ages_secs": [NUMBER]},
        }
    ],
    "resources": [{"name": str, "capacity": NUMBER, "used": NUMBER}],
    "switch": SWITCH,  # or null
    "switches": [SWITCH],
    "reservations": [RESERVATION],
    "orders": [{"order": str, "model": str, "waiting_secs": NUMBER}],
    "costs": {"pairs": [{"from": str, "to": str, "secs": NUMBER}]},
    "workers": [
        {
            "worker": int,
            "pid": (int, NONE),
            "since_secs": NUMBER,
            "restarts": int,
            "in_flight": int,
            "waiting": int,
        }
    ],
}
"""
The types of every field.  A mapping says all keys, ``?`` standing for any that are strings; one
item stands for all of a list.
"""


def faults(document: object, shape: Any = STATUS, path: str = "") -> list[str]:
    """Say where a document does not have a shape; nothing if it has."""
    if path == "switch" and document is None:
        return []
    if isinstance(shape, dict):
        return _faults_of_mapping(document, shape, path)
    if isinstance(shape, list):
        if not isinstance(document, list):
            return [f"{path} is no list"]
        return [
            fault
            for place, item in enumerate(document)
            for fault in faults(item, shape[0], f"{path}[{place}]")
        ]
    allowed = shape if isinstance(shape, tuple) else (shape,)
    if isinstance(document, dict) and isinstance(allowed[0], dict):
        return faults(document, allowed[0], path)
    return [] if type(document) in allowed else [f"{path} is {document!r}"]


def _faults_of_mapping(document: object, shape: Mapping[str, Any], path: str) -> list[str]:
    if not isinstance(document, dict):
        return [f"{path} is no object"]
    expected = dict.fromkeys(document, shape["?"]) if "?" in shape else shape
    found = [f"{path}.{key} is missing".lstrip(".") for key in expected if key not in document]
    found += [f"{path}.{key} is unknown".lstrip(".") for key in document if key not in expected]
    for key in expected.keys() & document.keys():
        found += faults(document[key], expected[key], f"{path}.{key}".lstrip("."))
    return found


def a_hook(**changes: object) -> dict[str, object]:
    """Make what is told of a hook that has succeeded."""
    return {
        "result": "success",
        "how": "exited with status 0",
        "exit_code": 0,
        "duration_secs": 12.34,
        "ended_secs_ago": 95.0,
        "reason": "request",
        "last_lines": ["loading", "ready"],
        **changes,
    }


def a_model(name: str, state: str = "asleep", **changes: object) -> dict[str, object]:
    """Make what is told of a model."""
    return {
        "name": name,
        "backend": "http://127.0.0.1:8001",
        "state": state,
        "since_secs": 83.0,
        "pinned": False,
        "placement": None,
        "holds": {},
        "leases": 0,
        "waiters": {"count": 0, "oldest_secs": None, "ages_secs": []},
        "back_off": {"wake_secs": 0, "sleep_secs": 0, "failures": 0},
        "health": {"alive": "none", "failures": 0, "asked_secs_ago": None},
        "hooks": {},
        "costs": {"sleep_secs": None, "wake_secs": None, "lease_secs": None},
        "removed": False,
        **changes,
    }


def a_status(*models: dict[str, object], **changes: object) -> dict[str, object]:
    """Make a whole document, of one model that is awake unless others are given."""
    return {
        "version": "3.0.0",
        "pid": 4711,
        "now": "2026-11-21T02:09:04+00:00",
        "uptime_secs": 7500.0,
        "config": {
            "path": "/etc/llmux/config.yaml",
            "loaded_at": "2026-11-21T00:04:04+00:00",
            "modified": False,
        },
        "phase": "serving",
        "models": list(models) or [a_model("a", "awake", leases=2, hooks={"wake": a_hook()})],
        "first_awake": [],
        "resources": [],
        "switch": None,
        "switches": [],
        "reservations": [],
        "orders": [],
        "costs": {"pairs": []},
        "workers": [],
        **changes,
    }


def a_switch(**changes: object) -> dict[str, object]:
    """Make what is told of a switch that drains."""
    return {
        "from": ["a"],
        "to": "b",
        "stops": [],
        "reservation": None,
        "phase": "draining",
        "since_secs": 3.25,
        "phase_since_secs": 3.25,
        "reason": "request",
        "why": "requests wait for b",
        "leases": 2,
        **changes,
    }
