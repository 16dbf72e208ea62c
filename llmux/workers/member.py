"""One worker of several: its process, its line, and the next one when it dies."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from txaio.tx import make_logger

from llmux.backoff import BackOff
from llmux.config import Config, ModelConfig
from llmux.events import Events
from llmux.granting import CONFIRMING
from llmux.holder import Holder
from llmux.metrics import Metrics
from llmux.recorder import Recorder
from llmux.switcher import Switcher
from llmux.workers.accounts import METRICS, NOTE
from llmux.workers.board import Board
from llmux.workers.links import OF_WORKERS, Count, IParentLine, Opening, ToWorker
from llmux.workers.local import IParentLink
from llmux.workers.spawning import Logs, WorkerProcess, spawn
from llmux.workers.wire import Line

STARTING = 60.0
"""Seconds in which a worker has to begin to serve, however busy the machine is."""

WATCHING = 10.0
"""Seconds between two looks at workers; one that has not answered by the next is killed."""

PAUSING = 5.0
"""Seconds at most between a worker's end and the next start, however often it has died: a start
takes half a second of one core, and while none of the workers is there clients get no answer."""

EARLY = 10.0
"""Seconds that a worker has to last to be started again at once, however often it has died."""


@attrs.frozen
class Parent:
    """
    What workers are a part of.

    :param reactor: spawns them, and tells the time.
    :param switcher: gives them leases and grants.
    :param metrics: counts what they count, and
    :param recorder: records what they record.
    :param events: logs what becomes of them.
    :param config: gives what holds now, and
    :param settings: by name, what holds for requests that have been let through to a model.
    """

    reactor: Any
    switcher: Switcher
    metrics: Metrics
    recorder: Recorder
    events: Events
    config: Callable[[], Config]
    settings: dict[str, ModelConfig]


@attrs.frozen
class Place:
    """
    Where workers work.

    :param doors: the sockets at which clients are served.
    :param inner: our own socket, for what only we can answer.
    :param operators: whether the operator's face is where clients are served.
    :param logs: where their log goes.
    :param board: says how many connections each has, and
    :param board_file: is what they find it by.
    """

    doors: Sequence[socket.socket]
    inner: Path
    operators: bool
    logs: Logs
    board: Board
    board_file: Any

    def close(self) -> None:
        """Have nothing more to do with the board: nobody is left."""
        self.board.close()
        self.board_file.close()


class Member:
    """
    One worker: its process, or the next one.

    :param number: what it is called, from 1.
    :param parent: what it is a part of.
    :param place: where it works.
    :param ended: called when its process has ended and no other is to come.
    """

    _log = make_logger()

    def __init__(
        self, number: int, parent: Parent, place: Place, ended: Callable[[], None]
    ) -> None:
        self._number = number
        self._parent = parent
        self._place = place
        self._ended = ended
        self._backoff = BackOff(longest=PAUSING)
        self._restarts = 0
        self._process: WorkerProcess | None = None
        self._pid = 0
        self._line: Line | None = None
        self._holder: Holder | None = None
        self._began = 0.0
        self._cut = 0
        self._last = False
        self._unanswered = False
        self._again: IDelayedCall | None = None

    @property
    def runs(self) -> bool:
        """Whether it has a process."""
        return self._process is not None

    def start(self) -> None:
        """Start a process."""
        self._again = None
        self._began = self._parent.reactor.seconds()
        self._cut = 0
        self._unanswered = False
        process = WorkerProcess(self._has_ended)
        place = self._place
        try:
            ours = spawn(
                self._parent.reactor,
                process,
                place.doors,
                place.board_file.fileno(),
                place.logs,
                (self._number, self._parent.config().workers),
                os.environ,
            )
        except OSError as error:
            self._has_ended(f"before it began: {error}")
            return
        self._process, self._pid = process, process.pid or 0
        line = self._line = Line(lambda: self._lost(line), OF_WORKERS)
        factory = Factory.forProtocol(lambda: line)
        self._parent.reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        ours.close()
        opening = Opening(
            self._share(self._parent.config()),
            dict(self._parent.settings),
            place.inner,
            place.operators,
            self._parent.recorder.on,
        )
        begun = line.ask("begin", opening)
        begun.addCallbacks(self._serves, self._fails, (line,), {}, (line,))
        begun.addErrback(lambda bug: self._log.failure("a worker has not begun", failure=bug))

    def tell(self, method: str, *values: object) -> None:
        """Call one of its methods, if it is there."""
        if self._line is not None:
            self._line.say(method, *values)

    def configure(self, config: Config) -> Deferred[object]:
        """Have it answer by another configuration; fires when it does, or is being killed."""
        line = self._line
        if line is None:
            return succeed(None)
        return line.ask("configure", self._share(config)).addErrback(self._fails, line)

    def look(self) -> None:
        """See whether it lives."""
        if self._line is None:
            return
        if self._holder is None:
            if self._parent.reactor.seconds() - self._began >= STARTING:
                self.kill(f"it has not begun to serve within {STARTING:g} s")
            return
        if self._unanswered:
            # if it is we who have hung for a while, an answer that is there is heard first
            self._parent.reactor.callLater(CONFIRMING, self._confirm, self._line)
            return
        self._unanswered = True
        self._line.ask("ping").addCallbacks(self._answered, lambda _: None)

    def _confirm(self, line: Line) -> None:
        if self._unanswered and line is self._line:
            self.kill(f"it has not answered for {WATCHING:g} s")

    def end(self) -> None:
        """Have it end when its clients are served, and start no other."""
        self._last = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._holder is None:
            self.hang_up()
        else:
            self.tell("end")

    def hang_up(self) -> None:
        """Have it end at once, and start no other."""
        self._last = True
        if self._line is not None:
            transport: Any = self._line.transport
            transport.abortConnection()

    def kill(self, why: str) -> None:
        """End it by force."""
        if self._process is not None:
            self._parent.events.worker_killed(self._number, self._pid, why)
            self._process.kill()

    def as_json(self, now: float) -> dict[str, object]:
        """Tell about it."""
        holder = self._holder
        return {
            "worker": self._number,
            "pid": self._pid if self.runs else None,
            "since_secs": round(now - self._began, 3),
            "restarts": self._restarts,
            "in_flight": 0 if holder is None else holder.in_flight,
            "waiting": 0 if holder is None else holder.waiting,
        }

    # What it says beside what a holder says.

    def count(self, counts: list[Count]) -> None:
        """See :meth:`~llmux.workers.links.IParentLine.count`."""
        for method, values in counts:
            if method in METRICS:
                getattr(self._parent.metrics, method)(*values)
            elif method == NOTE:
                self._parent.recorder.note(*values)  # type: ignore[arg-type]  # a worker's own

    def _share(self, config: Config) -> Config:
        """Give a configuration as it is for one worker of several."""
        most = -(-config.limits.max_connections // config.workers)
        return attrs.evolve(config, limits=attrs.evolve(config.limits, max_connections=most))

    def _serves(self, _: object, line: Line) -> None:
        link = ToWorker(line, lambda: self.kill("it has not given a grant back in time"))
        self._holder = self._parent.switcher.share(link)
        line.hear(IParentLink, self._holder)
        line.hear(IParentLine, self)
        self._parent.events.worker_began(self._number, self._pid)

    def _fails(self, failure: Failure, line: Line) -> None:
        if line is self._line:
            self.kill(f"it cannot do what it is told: {failure.value}")

    def _answered(self, _: object) -> None:
        self._unanswered = False

    def _lost(self, line: Line) -> None:
        """Take in that nothing comes from it any more."""
        if line is not self._line:
            return
        self._line = None
        holder, self._holder = self._holder, None
        if holder is not None:
            self._cut = holder.in_flight
            holder.lost()
        if self._process is not None and not self._last:
            self._process.kill()

    def _pause(self, now: float) -> float:
        """Say how long to wait before the next start: not at all, unless it dies over and over."""
        if now - self._began >= EARLY:
            self._backoff.reset()
            return 0.0
        again = self._backoff.failures > 0
        self._backoff.fail(now)
        return self._backoff.left(now) if again else 0.0

    def _has_ended(self, how: str) -> None:
        self._process = None
        self._place.board.leave(self._number)
        if self._line is not None:
            self._lost(self._line)
        if self._last:
            self._parent.events.worker_ended(self._number, self._pid, how, self._cut, None)
            self._ended()
            return
        clock = self._parent.reactor
        delay = self._pause(clock.seconds())
        self._restarts += 1
        self._parent.metrics.worker_restarted()
        self._parent.events.worker_ended(self._number, self._pid, how, self._cut, delay)
        self._again = clock.callLater(delay, self.start)
