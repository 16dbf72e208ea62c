"""What is said of reservations over HTTP: the bodies that ask for them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import attrs

from llmux.operator import OrderRefused
from llmux.server.request import RelayRequest

DEFAULT_TTL = 60.0
"""Seconds for which a reservation holds if its asker does not say."""

_LONGEST_BODY = 64 * 1024  # bytes
_LONGEST_NOTE = 200  # characters
_HINT = 'such as {"needs": {"gpu0": 20}, "ttl_secs": 60, "note": "training"}'


@attrs.frozen
class Wish:
    """
    What somebody wants to reserve.

    :param needs: by resource, how much; ``None``: all that can be had.
    :param ttl: seconds for which it holds from each renewal.
    :param note: what it is for.
    """

    needs: Mapping[str, float] | None
    ttl: float
    note: str


def read_wish(request: RelayRequest) -> Wish:
    """
    Read what is to be reserved.

    :raises OrderRefused: if it cannot be understood.
    """
    said = _read(request, ("needs", "ttl_secs", "note"))
    note = said.get("note", "")
    if not isinstance(note, str) or len(note) > _LONGEST_NOTE or not (note.isprintable()):
        raise _wrong(f"note: one line of text, of at most {_LONGEST_NOTE} characters")
    ttl = _read_ttl(said)
    needs = _read_needs(said["needs"]) if "needs" in said else None
    return Wish(needs, DEFAULT_TTL if ttl is None else ttl, note)


def read_renewal(request: RelayRequest) -> float | None:
    """
    Read for how long a reservation is to hold from now on.

    :returns: seconds; ``None``: for as long as it did.
    :raises OrderRefused: if that cannot be understood.
    """
    return _read_ttl(_read(request, ("ttl_secs",)))


def _read_needs(needs: object) -> Mapping[str, float]:
    if not isinstance(needs, dict) or not needs:
        raise _wrong(f"needs: say how much of which resource, {_HINT}")
    for resource, amount in needs.items():
        if not _is_number(amount) or amount < 0:
            raise _wrong(f"needs.{resource}: an amount is a number, 0 or more")
    return {name: float(needs[name]) for name in needs}


def _read_ttl(said: Mapping[str, object]) -> float | None:
    ttl = said.get("ttl_secs")
    if ttl is None:
        return None
    if not _is_number(ttl):
        raise _wrong("ttl_secs: a number of seconds")
    return float(ttl)  # type: ignore[arg-type]  # it is a number


def _read(request: RelayRequest, known: tuple[str, ...]) -> Mapping[str, object]:
    assert request.content is not None  # the request was not refused
    body = request.content.read(_LONGEST_BODY + 1)
    try:
        said = json.loads(body, object_pairs_hook=_once) if body else {}
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or len(body) > _LONGEST_BODY:
        raise _wrong(f"the body is a JSON object, {_HINT}")
    for key in said:
        if key not in known:
            raise _wrong(f"unknown key {key[:50]!r}; there are: {', '.join(known)}")
    return said


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of which every key is said once: nobody knows which of two would count."""
    said: dict[str, object] = {}
    for key, value in pairs:
        if key in said:
            raise _wrong(f"the key {key[:50]!r} is there twice")
        said[key] = value
    return said


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and not math.isnan(value)


def _wrong(what: str) -> OrderRefused:
    return OrderRefused(400, f"This cannot be reserved: {what}")
