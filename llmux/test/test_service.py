"""What starts and ends with the program."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path

import attrs
import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from txaio.tx import make_logger

import llmux
from llmux.config import Config
from llmux.errors import ConfigError
from llmux.hooks.output import LONGEST, OutputFile
from llmux.listening import Doors, address_of, bind, bind_unix
from llmux.service import build_app
from llmux.serving import LLMuxService
from llmux.statedir import model_directory
from llmux.systemd import Notifier
from llmux.tap import _hand_over
from llmux.test.fakes import model_config
from llmux.test.processes import ProcessTests
from llmux.test.statuses import faults


class ServiceTests(ProcessTests):
    def make(self, **settings: object) -> LLMuxService:
        """Make a service for one model, on any free port."""
        state = Path(self.mktemp()).absolute()
        config = Config(models={"a": model_config("a", **settings)}, state_dir=state)
        self.app = build_app(config, reactor)
        listening = bind("127.0.0.1", 0)
        self.port: int = listening.getsockname()[1]
        return LLMuxService(self.app, reactor, Doors([listening], shared=True))

    def connects(self) -> bool:
        """Tell whether somebody listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def test_listens_for_as_long_as_it_runs(self) -> None:
        """The port is taken from the beginning and free after the end."""
        service = self.make()
        self.assertTrue(self.connects())
        service.startService()
        self.assertTrue(self.connects())
        await service.stopService()
        self.assertFalse(self.connects())

    async def test_several_sockets(self) -> None:
        """Clients are served on every socket, operators on their own; the log names each."""
        self.make()
        sockets = [bind("127.0.0.1", 0) for _ in range(3)]
        urls = [address_of(each) for each in sockets]
        seen: list[LogEvent] = []
        self.app.events.log = make_logger(observer=seen.append)
        doors = Doors(sockets[:2], sockets[2:])
        service = LLMuxService(self.app, reactor, doors)
        service.startService()
        told = [(event["event"], event["url"]) for event in seen if "url" in event]
        names = ("listening", "listening", "operators_listening")
        self.assertEqual(told, list(zip(names, urls, strict=True)))
        answers = [await self.get(f"{url}/llmux/status") for url in urls]
        await service.stopService()
        self.assertEqual([b'"uptime_secs"' in each for each in answers], [False, False, True])

    async def test_operators_where_clients_are(self) -> None:
        """Where only this machine's programs can ask, operators are heard at the same address."""
        service = self.make()
        service.startService()
        answer = await self.get(f"http://127.0.0.1:{self.port}/llmux/status")
        await service.stopService()
        self.assertEqual(faults(json.loads(answer)), [])

    async def test_names_that_operators_may_use(self) -> None:
        """Another name than this machine's own is refused where only this machine can ask."""
        told = []
        for host in ("127.0.0.1", "0.0.0.0"):
            self.make()
            listening = bind(host, 0)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/llmux/status"
            service = LLMuxService(self.app, reactor, Doors([bind("127.0.0.1", 0)], [listening]))
            service.startService()
            told.append(b"(Host)" in await self.get(url, Host="rebound.example"))
            await service.stopService()
        self.assertEqual(told, [True, False])

    async def get(self, url: str, **headers: str) -> bytes:
        """GET a URL."""
        answer = await treq.get(
            url,
            headers=Headers({name: [value] for name, value in headers.items()}),
            persistent=False,
        )
        body: bytes = await answer.content()
        return body

    async def test_tells_systemd(self) -> None:
        """The service manager hears when llmux can be asked, reads its file again, and ends."""
        path = Path(tempfile.mkdtemp(prefix="llmux")) / "notify"
        self.addCleanup(path.parent.rmdir)
        systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        systemd.bind(bytes(path))
        self.addCleanup(path.unlink)
        self.addCleanup(systemd.close)
        self.make()
        notifier = Notifier(reactor, str(path))
        service = LLMuxService(self.app, reactor, Doors([bind("127.0.0.1", 0)]), notifier)

        def heard() -> str:
            return systemd.recv(1000, socket.MSG_DONTWAIT).decode().splitlines()[0]

        service.startService()
        self.assertEqual(heard(), "READY=1")
        service.reload()  # which is refused: there is no file
        self.assertEqual([heard(), heard()], ["RELOADING=1", "READY=1"])
        stopped = service.stopService()
        self.assertEqual(heard(), "STOPPING=1")
        await stopped
        self.assertTrue(heard().startswith("EXTEND_TIMEOUT_USEC="))
        service.reload()  # too late
        self.assertRaises(BlockingIOError, heard)

    async def test_own_socket_file(self) -> None:
        """The file of a UNIX socket that llmux has made goes with it."""
        path = Path(tempfile.mkdtemp(prefix="llmux")) / "admin"
        self.addCleanup(path.parent.rmdir)
        self.make()
        doors = Doors([bind("127.0.0.1", 0)], [bind_unix(path)], own_paths=[path])
        service = LLMuxService(self.app, reactor, doors)
        service.startService()
        self.assertTrue(path.exists())
        await service.stopService()
        self.assertFalse(path.exists())

    async def test_cut(self) -> None:
        """A service that is cut while it ends waits for no hook, and leaves it running."""
        gate = Path(self.mktemp()).absolute()
        service = self.make(wake=f"until test -e {gate}; do sleep 0.05; done")
        service.startService()
        switcher = self.app.switcher
        waiting = switcher.acquire("a")
        closed: list[Deferred[None]] = []
        close = switcher.close

        async def close_and_tell(grace: float, sleep_models: bool) -> None:
            closing = Deferred.fromCoroutine(close(grace, sleep_models))
            closed.append(closing)
            await closing

        switcher.close = close_and_tell  # type: ignore[method-assign]  # to see it
        stopped = service.stopService()
        self.failureResultOf(waiting)
        service.cut()
        await stopped
        self.assertEqual(switcher.states()["a"].value, "waking")
        gate.touch()
        await closed[0]
        self.assertEqual(switcher.states()["a"].value, "awake")

    async def test_records_for_as_long_as_it_runs(self) -> None:
        """What the configuration says is recorded from the start to the end."""
        service = self.make()
        trace = Path(self.mktemp()).absolute()
        self.app.house.configure(attrs.evolve(self.app.config, record=trace))
        self.assertFalse(trace.exists())
        service.startService()
        self.assertEqual(self.app.operator.recording()["path"], str(trace))
        self.assertTrue(trace.exists())
        await service.stopService()
        self.assertFalse(self.app.recorder.on)

    async def test_operators_record(self) -> None:
        """Operators record to a folder of the state directory."""
        self.make()
        told = self.app.operator.record("monday.csv")
        self.assertEqual(told["path"], str(self.app.state_dir / "traces" / "monday.csv"))
        self.assertIsNone(self.app.operator.stop_recording()["path"])

    async def test_stopped_before_it_started(self) -> None:
        """A service that never ran gives its port back, too."""
        await self.make().stopService()
        self.assertFalse(self.connects())

    async def test_stop_refuses_who_waits(self) -> None:
        """When the service ends, who waits for a model is refused and not forgotten."""
        gate = Path(self.mktemp()).absolute()
        service = self.make(wake=f"until test -e {gate}; do sleep 0.05; done")
        service.startService()
        waiting = self.app.switcher.acquire("a")
        stopped = service.stopService()
        failure = self.failureResultOf(waiting)
        self.assertEqual(failure.getErrorMessage(), "llmux is shutting down")
        self.assertNoResult(stopped)  # the hook is waited for
        gate.touch()
        await stopped
        self.assertEqual(self.app.switcher.states()["a"].value, "awake")

    async def test_connections_to_a_model_that_sleeps(self) -> None:
        """Idle connections to a model are closed when it is put to sleep, and no others."""
        models = {
            name: model_config(name, wake=": wake", sleep=": sleep", max_concurrency=1)
            for name in ("a", "b")
        }
        state = Path(self.mktemp()).absolute()
        app = build_app(Config(models=models, state_dir=state), reactor)
        closed: list[str] = []
        for name, client in app.clients.items():
            client.close_idle = partial(closed.append, name)  # type: ignore[method-assign]  # to see it
        for name in models:
            self.assertEqual(closed, [])
            (await app.switcher.acquire(name)).release()
        self.assertEqual(closed, ["a"])

    async def test_long_outputs_are_cut(self) -> None:
        """What a server prints while no hook runs is cut."""
        service = self.make()
        output = OutputFile(model_directory(self.app.state_dir, "a"))
        output.path.write_bytes(b"x" * (LONGEST + 1))
        service.startService()
        self.assertLess(output.size(), LONGEST)
        await service.stopService()


class StartTests(SynchronousTestCase):
    def test_state_directory_that_cannot_be_made(self) -> None:
        """A state directory that cannot be used is an error before anything starts."""
        taken = Path(self.mktemp())
        taken.touch()
        config = Config(models={"a": model_config("a")}, state_dir=taken)
        self.assertRaises(ConfigError, build_app, config, reactor)

    def test_port_that_is_taken(self) -> None:
        """Nobody can take a port that is in use."""
        first = bind("127.0.0.1", 0)
        self.addCleanup(first.close)
        self.assertRaises(OSError, bind, "127.0.0.1", first.getsockname()[1])

    def test_state_goes_to_whom_twistd_becomes(self) -> None:
        """With --uid and --gid the state directory belongs to whom the hooks will run as."""
        directory = Path(self.mktemp())
        directory.mkdir()
        _hand_over([directory], {"uid": 65534, "gid": None})
        self.assertEqual(directory.stat().st_uid, 65534)
        _hand_over([directory], {"uid": None, "gid": 65534})
        self.assertEqual(directory.stat().st_gid, 65534)

    if os.geteuid() != 0:
        test_state_goes_to_whom_twistd_becomes.skip = "only root may give files away"  # type: ignore[attr-defined]  # trial's


class InterpreterTests(ProcessTests):
    async def run_python(self, program: str) -> str:
        """Run a program in an interpreter of its own and give what it prints."""
        here = {**os.environ, "PYTHONPATH": str(Path(llmux.__file__).parents[1])}
        output, error, status = await getProcessOutputAndValue(
            sys.executable, ["-c", program], env=here
        )
        self.assertEqual(status, 0, error.decode())
        printed: str = output.decode()
        return printed

    async def test_import_chooses_no_reactor(self) -> None:
        """Importing llmux, its configuration or its command leaves the choice of the reactor."""
        program = (
            "import sys, llmux, llmux.cli\n"
            "llmux.Config\n"
            "print('twisted.internet.reactor' in sys.modules)\n"
        )
        self.assertEqual(await self.run_python(program), "False\n")

    async def test_every_public_name(self) -> None:
        """Every name that is promised can be imported."""
        program = "import llmux; print(all(getattr(llmux, name) for name in llmux.__all__))"
        self.assertEqual(await self.run_python(program), "True\n")

    def options(self) -> str:
        """Begin a program that makes twistd's service of its options."""
        config = Path(self.mktemp()).absolute().with_suffix(".yaml")
        config.write_text(
            f"state_dir: {config.parent}/state\n"
            "models: {a: {port: 1, wake: 'true', sleep: 'true'}}\n"
        )
        return (
            "import os, sys, time\n"
            "from llmux.tap import Options, makeService\n"
            "options = Options()\n"
            f"options.parseOptions(['--config', {str(config)!r}, '--port', '0'])\n"
        )

    async def test_time_is_monotonic(self) -> None:
        """Twistd's reactor measures with a clock that nobody can set."""
        program = (
            "makeService(options)\n"
            "from twisted.internet import reactor\n"
            "print(reactor.seconds is time.monotonic)\n"
        )
        self.assertEqual(await self.run_python(self.options() + program), "True\n")

    async def test_unknown_choice(self) -> None:
        """A way to read HTTP that is not known ends the program with one line, and status 1."""
        program = (
            "os.environ['LLMUX_HTTP'] = 'quick'\n"
            "sys.stderr = sys.stdout\n"
            "try: makeService(options)\n"
            "except SystemExit as end: print(end.code)\n"
        )
        self.assertEqual(
            await self.run_python(self.options() + program),
            "llmux: LLMUX_HTTP=quick: must be default or llhttp\n1\n",
        )
