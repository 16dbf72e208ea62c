"""What requests are sent to, and what can be seen of it from outside."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench.processes import children, cpu_seconds

SMALL_ANSWER = "/small"
PACE = 20  # milliseconds from event to event, if whoever relays them can follow
STREAM = f"/stream?count=1000000&pace_ms={PACE}"
SHORT_STREAM = f"/stream?count=4&pace_ms={PACE}"

_CHAT = "/v1/chat/completions"


@attrs.frozen
class Gate:
    """
    Holds the wake hook of the model ``held`` until it is opened.

    :param gate: the file for which the hook waits.
    :param stamp: the file in which it notes when it ended.
    """

    gate: Path
    stamp: Path

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Have wakes wait until it is opened, or until the block ends."""
        self.gate.unlink(missing_ok=True)
        self.stamp.unlink(missing_ok=True)
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let the wake go on."""
        self.gate.touch()

    def opened_ns(self) -> int:
        """Give the monotonic time at which the hook ended."""
        return int(self.stamp.read_text())


@attrs.frozen
class Proxy:
    """
    What requests can be sent to.

    :param pid: the process that relays; ``None`` if there is none in between.
    :param gate: of the model ``held``; llmux alone has one.
    :param workers: whether its child processes relay, too.
    :param models: for one that knows no path but the chat's: the model behind which the backend
        does what it does for a path.
    :param pace: milliseconds from event to event of ``STREAM``.
    """

    port: int
    pid: int | None = None
    gate: Gate | None = None
    workers: bool = False
    models: Mapping[str, str] = attrs.Factory(dict)
    pace: int = PACE

    def way(self, path: str, model: str) -> tuple[str, str]:
        """Give the path and the model that a request has to name."""
        return (_CHAT, self.models[path]) if self.models else (path, model)

    @property
    def relays(self) -> list[int]:
        """The processes that relay now."""
        if self.pid is None:
            return []
        return [self.pid, *children(self.pid)] if self.workers else [self.pid]

    def cpu_seconds(self) -> float:
        """Give the processor time that they have used, together."""
        return sum(map(cpu_seconds, self.relays))

    def waiting(self, model: str) -> int:
        """Ask llmux how many requests wait for a model."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f'llmux_request_queue_depth{{model="{model}"}}'):
                    return int(float(line.split()[-1]))
        return 0
