"""Tests of workers as their parent sees them: real ones, but for processes, sockets and time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.python.failure import Failure
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from llmux.clock import VirtualClock
from llmux.config import Config, Limits
from llmux.granting import CONFIRMING
from llmux.holder import IHolderLink
from llmux.metrics import Metrics
from llmux.recorder import Recorder
from llmux.test.switching import Bench
from llmux.workers.board import Board, make_board
from llmux.workers.crew import CUTTING, Crew
from llmux.workers.links import IParentLine, IWorkerLine, ToParent, ToWorker
from llmux.workers.local import IParentLink
from llmux.workers.member import EARLY, PAUSING, STARTING, WATCHING, Parent, Place
from llmux.workers.spawning import BOARD, Logs, Start, WorkerProcess
from llmux.workers.wire import Line
from llmux.workers.worker import Hall, Worker


@attrs.define(eq=False)
class Spawned:
    """
    A process that was started, as its parent's reactor has it.

    :ivar words: its command line.
    :ivar files: by number, what it inherits.
    :ivar environment: what it finds.
    """

    protocol: WorkerProcess
    words: list[str]
    files: dict[int, Any]
    environment: dict[str, str]
    pid: int
    worker: Worker | None = None
    pump: Any = None
    hangs: bool = False

    def signalProcess(self, name: str) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`IProcessTransport.signalProcess`."""
        assert name == "KILL"
        self.end(9)

    def end(self, signal: int | None = None) -> None:
        """Let it end."""
        reason = ProcessDone(0) if signal is None else ProcessTerminated(None, signal)
        self.pid = 0
        self.protocol.processEnded(Failure(reason))
        self.line.transport.loseConnection()
        self.pump.flush()

    @property
    def line(self) -> Any:
        """The worker's end."""
        assert self.worker is not None
        return self.worker._line


class Machine(VirtualClock):
    """
    Processes that are workers in this one.

    :ivar processes: those that were started, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Spawned] = []
        self.full = self.silent = False

    def spawnProcess(  # noqa: N802  # Twisted's name
        self,
        protocol: WorkerProcess,
        executable: str,
        args: list[str],
        env: dict[str, str],
        childFDs: dict[int, Any],  # noqa: N803  # Twisted's name
    ) -> None:
        """See :meth:`IReactorProcess.spawnProcess`."""
        if self.full:
            raise OSError("no room")
        spawned = Spawned(protocol, args, childFDs, env, 1000 + len(self.processes))
        self.processes.append(spawned)
        protocol.makeConnection(spawned)

    def adoptStreamConnection(self, number: int, family: int, factory: Any) -> None:  # noqa: N802
        """See :meth:`IReactorSocket.adoptStreamConnection`."""
        spawned = self.processes[-1]
        spawned.hangs = self.silent
        ours = factory.buildProtocol(None)

        def ended() -> None:
            if spawned.pid:
                spawned.end()

        theirs = Line(lambda: worker.lost())
        start = Start.from_words(spawned.words[3:])
        hall = Hall([], Board(spawned.files[BOARD], start.count), start.number)
        worker = spawned.worker = Worker(self, theirs, hall, ended)
        theirs.hear(IWorkerLine, worker)
        theirs.hear(IHolderLink, worker)
        make: Callable[[Line], Any] = lambda line: iosim.FakeTransport(line, False)  # noqa: E731
        spawned.pump = iosim.connect(ours, make(ours), theirs, make(theirs))

    def talk(self) -> None:
        """Let everybody hear what was said; who hangs hears nothing."""
        for _ in range(5):
            for each in self.processes:
                if not each.hangs and each.pid:
                    each.pump.flush()

    def advance(self, seconds: float) -> None:
        """See :meth:`VirtualClock.advance`; what is said meanwhile is heard."""
        while seconds > 0:
            super().advance(min(1.0, seconds))
            self.talk()
            seconds -= 1.0
        super().advance(0.0)
        self.talk()


class CrewTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have two workers that serve."""
        self.machine = Machine()
        self.bench = Bench()
        models = {name: model.config for name, model in self.bench.switcher.models.items()}
        self.config = Config(models=models, limits=Limits(max_connections=101), workers=2)
        self.metrics = Metrics(models)
        self.recorder = Recorder(self.machine, self.bench.events)
        self.crew = Crew(
            Parent(
                self.machine,
                self.bench.switcher,
                self.metrics,
                self.recorder,
                self.bench.events,
                lambda: self.config,
                dict(models),
            )
        )
        self.door = socket.socket()
        self.addCleanup(self.door.close)
        board, file = make_board(2)
        self.addCleanup(file.close)
        logs = Logs("text", "info")
        place = Place([self.door], Path("/nowhere/inner.sock"), True, logs, board, file)
        self.crew.start(place, 2)
        self.machine.talk()

    def worker(self, number: int) -> Any:
        """Give a worker, as it is inside: what is last in that place."""
        return self.machine.processes[number].worker

    def test_interfaces(self) -> None:
        """Both ends have the methods that can be called."""
        for interface, made in (
            (IHolderLink, ToWorker), (IParentLink, ToParent), (IParentLine, ToParent),
            (IWorkerLine, Worker),
        ):  # fmt: skip
            self.assertTrue(verifyClass(interface, made))

    def test_start(self) -> None:
        """Each worker has the line, the doors, and its share of the connections."""
        spawned = self.machine.processes[0]
        self.assertEqual(spawned.words[1:], ["-m", "llmux.workers", "text", "info", "1", "2", "5"])
        self.assertEqual((spawned.files[1], spawned.files[2]), (1, 2))
        self.assertEqual(spawned.files[BOARD + 1], self.door.fileno())
        self.assertEqual(self.worker(0)._front.house.config.limits.max_connections, 51)
        self.assertEqual(len(self.bench.events.named("worker_began")), 2)
        told = self.crew.as_json()
        self.assertEqual([each["pid"] for each in told], [1000, 1001])

    def test_leases(self) -> None:
        """A worker gets leases of its parent, and what it counts is counted there."""
        waiting = self.worker(0)._leases.acquire("a")
        self.machine.talk()
        self.bench.exit(0)
        self.machine.talk()
        lease = self.successResultOf(waiting)
        self.assertEqual(self.bench.switcher.in_flight("a"), 1)
        self.assertEqual(self.crew.as_json()[0]["in_flight"], 1)
        self.worker(0)._accounts.request_answered("a", 200, 0.25)
        lease.release()
        self.machine.advance(1)
        self.assertEqual(self.bench.switcher.in_flight("a"), 0)
        self.assertIn(b'llmux_requests_total{model="a",status="200"} 1.0', self.metrics.render())

    def test_refused(self) -> None:
        """A worker's request fails with what the parent says."""
        waiting = self.worker(1)._leases.acquire("nobody")
        self.machine.talk()
        self.assertEqual(self.failureResultOf(waiting).value.status, 404)

    def test_dies(self) -> None:
        """The place of a worker that dies is taken by another, at once; what it had comes back."""
        self.machine.advance(EARLY)
        self.worker(0)._leases.acquire("a")
        self.machine.talk()
        self.assertEqual(self.bench.switcher.waiting("a"), 1)
        self.machine.processes[0].end(9)
        self.assertEqual(self.bench.switcher.waiting("a"), 0)
        self.machine.advance(0)
        self.assertEqual(len(self.machine.processes), 3)
        (ended,) = self.bench.events.named("worker_ended")
        self.assertEqual((ended["how"], ended["again_secs"]), ("by signal 9", 0.0))
        self.assertIn(b"llmux_worker_restarts_total 1.0", self.metrics.render())

    def test_dies_early(self) -> None:
        """One that dies over and over is left alone for longer, but never for long."""
        for delay in (0.0, 4.0, PAUSING, PAUSING):
            self.machine.processes[-1 if delay else 0].end(11)
            ended = self.bench.events.named("worker_ended")[-1]
            self.assertEqual(ended["again_secs"], delay)
            self.machine.advance(delay)

    def test_cannot_be_started(self) -> None:
        """One that cannot be started is tried again."""
        self.machine.full = True
        self.machine.advance(EARLY)
        self.machine.processes[0].end(9)
        self.machine.advance(0)
        self.assertIn("no room", self.bench.events.named("worker_ended")[-1]["how"])
        self.machine.full = False
        self.machine.advance(60)
        self.assertEqual(len(self.bench.events.named("worker_began")), 3)

    def test_hangs(self) -> None:
        """One that does not answer is killed."""
        self.machine.processes[1].hangs = True
        self.machine.advance(2 * WATCHING)
        self.assertEqual(self.bench.events.named("worker_killed"), [])
        self.machine.advance(CONFIRMING)
        self.assertEqual(self.bench.events.named("worker_killed")[0]["worker"], 2)
        self.machine.advance(3 * WATCHING)
        self.assertEqual(len(self.bench.events.named("worker_killed")), 1)

    def test_parent_hangs(self) -> None:
        """No worker is killed because its parent has not listened for a while."""
        VirtualClock.advance(self.machine, 2 * WATCHING)
        self.machine.talk()
        self.machine.advance(3 * WATCHING)
        self.assertEqual(self.bench.events.named("worker_killed"), [])

    def test_never_begins(self) -> None:
        """One that is slow to start is left alone for long, and killed then."""
        self.machine.silent = True
        self.machine.advance(EARLY)
        self.machine.processes[0].end(9)
        self.machine.advance(STARTING - 1.0)
        self.assertEqual(self.bench.events.named("worker_killed"), [])
        self.machine.advance(WATCHING + CONFIRMING)
        (killed,) = self.bench.events.named("worker_killed")
        self.assertIn("not begun", killed["cause"])

    def test_reload(self) -> None:
        """Another configuration reaches all; one that cannot take it is started with it."""
        worker = self.worker(0)
        worker.configure = None
        self.config = attrs.evolve(self.config, default_model="a")
        self.crew.configure(self.config)
        self.machine.talk()
        self.flushLoggedErrors(TypeError)
        self.machine.advance(0)
        self.assertEqual(len(self.machine.processes), 3)
        for number in (1, 2):
            self.assertEqual(self.worker(number)._front.house.config.default_model, "a")

    def test_models(self) -> None:
        """What happens to models reaches all: settings, their end, their sleep; and recording."""
        changed = attrs.evolve(self.config.models["a"], settle_secs=77.0)
        self.crew.tell("set_model", changed)
        self.crew.tell("close_idle", "b")
        self.crew.tell("forget_model", "b")
        self.crew.tell("record", True)
        self.machine.talk()
        for number in (0, 1):
            worker = self.worker(number)
            self.assertEqual(worker._models.settings, {"a": changed})
            self.assertEqual(set(worker._leases.states()), {"a"})
            self.assertTrue(worker._accounts.on)

    def test_end(self) -> None:
        """In the end each worker goes when its clients have gone, and none comes in its place."""
        self.crew.end()
        emptied = self.crew.emptied()
        self.assertEqual(self.door.fileno(), -1)
        self.assertNoResult(emptied)
        self.machine.talk()
        self.successResultOf(emptied)
        self.successResultOf(Deferred.fromCoroutine(self.crew.close()))
        self.machine.advance(60)
        self.assertEqual(len(self.machine.processes), 2)

    def test_end_while_one_is_away(self) -> None:
        """Nobody waits for a worker that is about to be started again."""
        for _ in range(2):
            self.machine.processes[0].end(9)
        self.machine.advance(0)
        self.machine.processes[2].end(9)
        self.crew.end()
        self.machine.talk()
        self.successResultOf(self.crew.emptied())

    def test_cut(self) -> None:
        """When nobody waits any more all are cut off, and who hangs is killed."""
        self.machine.processes[1].hangs = True
        self.crew.end()
        closed = Deferred.fromCoroutine(self.crew.close())
        self.machine.talk()
        self.assertNoResult(closed)
        self.machine.advance(CUTTING)
        self.successResultOf(closed)

    def test_said(self) -> None:
        """What a worker says that is no event is logged as it is."""
        process = self.machine.processes[0].protocol
        process.childDataReceived(2, b"half a li")
        process.childDataReceived(2, b"ne\n")


class NobodyTests(SynchronousTestCase):
    def test_no_workers(self) -> None:
        """Where there are none, nothing is done."""
        bench = Bench()
        crew = Crew(
            Parent(
                bench.clock, bench.switcher, Metrics(()), Recorder(bench.clock, bench.events),
                bench.events, lambda: Config(models={}), {},
            )
        )  # fmt: skip
        crew.tell("record", True)
        self.successResultOf(Deferred.fromCoroutine(crew.close()))
        self.assertEqual((crew.as_json(), bench.clock.next_due()), ([], None))
