"""Paths that are kept from clients, in whatever way they are written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

_NO_PATH_BEHIND = re.compile(rb"[?#\x00]")
_LONGEST_KEPT, _MOST_KEPT = 200, 500  # bytes of a target, targets: of which is known what they are
_MOST_DECODING = 8  # times; no server decodes a path more than twice


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
        self._longest = max(map(len, self._blocked), default=0)
        self._known: dict[bytes, bool] = {}

    def __contains__(self, target: bytes) -> bool:
        """Tell whether a target (path and query) is one of them or below one."""
        known = self._known.get(target)
        if known is None:
            known = self._is_blocked(target)
            if len(target) <= _LONGEST_KEPT:  # nearly all that is ever asked for is a few paths
                if len(self._known) >= _MOST_KEPT:
                    self._known.clear()
                self._known[target] = known
        return known

    def _is_blocked(self, target: bytes) -> bool:
        segments = _segments(target.partition(b"?")[0])
        lengths = range(1, min(len(segments), self._longest) + 1)
        return any(segments[:length] in self._blocked for length in lengths)


def _segments(path: bytes) -> tuple[bytes, ...]:
    """Take a path apart; what has been encoded more often than any server would undo is left so."""
    for _ in range(_MOST_DECODING):
        decoded = unquote_to_bytes(path)
        if decoded == path:
            break
        path = decoded
    path = _NO_PATH_BEHIND.split(path, maxsplit=1)[0]
    segments: list[bytes] = []
    for segment in path.replace(b"\\", b"/").lower().split(b"/"):
        name = segment.partition(b";")[0]
        if name == b"..":
            del segments[-1:]
        elif name not in (b"", b"."):
            segments.append(name)
    return tuple(segments)
