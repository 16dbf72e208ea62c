"""Paths that are kept from clients, in whatever way they are written."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes


class BlockedPaths:
    """
    Paths that nobody may ask a backend for, and all that is below them.

    Servers differ in how they read a path, so all their readings are tried at once: what is encoded
    with percent signs, once or many times, doubled slashes, ``.`` and ``..``, backslashes,
    parameters after a semicolon, upper case.  That refuses a few paths that no server would take
    for the blocked one, and lets none through that one would.

    :param paths: such as ``/sleep``.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._blocked = {_segments(path.encode()) for path in paths}

    def __contains__(self, target: bytes) -> bool:
        """Tell whether a target (path and query) is one of them or below one."""
        path = target.partition(b"?")[0]
        segments = _segments(path)
        return any(segments[:end] in self._blocked for end in range(len(segments) + 1))


def _segments(path: bytes) -> tuple[bytes, ...]:
    decoded = unquote_to_bytes(path)
    while decoded != path:
        path, decoded = decoded, unquote_to_bytes(decoded)
    segments: list[bytes] = []
    for segment in path.replace(b"\\", b"/").lower().split(b"/"):
        name = segment.partition(b";")[0]
        if name == b"..":
            del segments[-1:]
        elif name not in (b"", b"."):
            segments.append(name)
    return tuple(segments)
