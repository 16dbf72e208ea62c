"""
How much of a hurry a request is in: its class, and a priority within that.

Among those who wait for places at the same model, a request counts as if it had come later, or
earlier, than it has: those in less of a hurry let others pass for so long and no longer.  That is
ageing without a timer: how two requests stand to each other is settled when they come.
"""

from __future__ import annotations

import re

import attrs

INTERACTIVE = "interactive"
"""The class of every request that is not said to be of another."""

BATCH = "batch"
"""The class of requests that nobody sits and waits for."""

CLASSES = (INTERACTIVE, BATCH)
"""All classes."""

HIGHEST_PRIORITY = 9
"""Priorities go from minus this to this."""

BATCH_SECS = 600.0
"""For so long a batch request lets interactive ones of the same priority pass."""

PRIORITY_SECS = 30.0
"""For so long a request lets others of its class pass, for each step that their priority is higher.

All steps together are less than :data:`BATCH_SECS`: the class comes before the priority.
"""

_HEADER = re.compile(rb"[ \t]*([a-z]+)[ \t]*(?:;[ \t]*priority=(-?[0-9]{1,3}))?[ \t]*", re.I)


@attrs.frozen
class Urgency:
    """
    How much of a hurry a request is in.

    :param kind: its class, one of :data:`CLASSES`.
    :param priority: within it, from -9 to 9; higher goes first.
    """

    kind: str = INTERACTIVE
    priority: int = 0

    @classmethod
    def from_header(cls, value: bytes) -> Urgency:
        """
        Read what a client says: a class, and perhaps a priority: ``batch;priority=2``.

        That is an item of a structured field with one parameter (RFC 9651).

        :raises ValueError: if it is anything else; the message says what would be right.
        """
        match = _HEADER.fullmatch(value)
        kind = match[1].decode("ascii").lower() if match is not None else ""
        priority = int(match[2] or 0) if match is not None else 0
        if kind not in CLASSES or abs(priority) > HIGHEST_PRIORITY:
            raise ValueError(
                f"{' or '.join(CLASSES)}, perhaps with a priority from {-HIGHEST_PRIORITY} to"
                f" {HIGHEST_PRIORITY}: batch;priority=2"
            )
        return cls(kind, priority)

    def __str__(self) -> str:
        """Write it as :meth:`from_header` reads it."""
        return f"{self.kind};priority={self.priority}" if self.priority else self.kind

    @property
    def delay(self) -> float:
        """How much later it counts as having come than it has, in seconds."""
        return (BATCH_SECS if self.kind == BATCH else 0.0) - self.priority * PRIORITY_SECS


ORDINARY = Urgency()
"""What holds where nothing is said."""
