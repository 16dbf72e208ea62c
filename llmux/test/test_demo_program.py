"""Tests of ``python -m llmux.demo``, and of the program that asks it for its health."""

import os
import signal
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess, IReactorTCP, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from llmux.demo.__main__ import main
from llmux.demo.backend import Backend, BackendResource
from llmux.demo.check import healthy
from llmux.demo.engine import Pace
from llmux.test.processes import ProcessTests

CHECKOUT = Path(__file__).parents[2]


class Program(ProcessProtocol):
    """
    The demo as a process.

    :ivar first_line: fires with the first line of its log.
    :ivar ended: fires with its exit status.
    """

    def __init__(self) -> None:
        self.first_line: Deferred[str] = Deferred()
        self.ended: Deferred[int] = Deferred()
        self._output = b""

    def outReceived(self, data: bytes) -> None:
        """Wait for the first line."""
        seen = b"\n" in self._output
        self._output += data
        if b"\n" in self._output and not seen:
            self.first_line.callback(self._output.partition(b"\n")[0].decode())

    def processEnded(self, reason: Failure) -> None:
        """Note how it ended."""
        if not self.first_line.called:
            self.first_line.errback(reason)
        assert isinstance(reason.value, ProcessDone | ProcessTerminated)
        status = reason.value.exitCode
        self.ended.callback(-1 if status is None else status)


class ProgramTests(ProcessTests):
    """The demo as a process, and as the other side of one."""

    def listen(self) -> int:
        """Have this process serve a backend that is healthy, and give its port."""
        from twisted.internet import reactor

        backend = Backend("m", IReactorTime(reactor), load_secs=0, pace=Pace(1))
        site: Any = Site(BackendResource(backend, lambda line: None))
        port = IReactorTCP(reactor).listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        return address.port

    async def test_life(self) -> None:
        """It tells where it listens, writes its number down, and ends with 0 when told to."""
        from twisted.internet import reactor

        pid_file = Path(self.mktemp()).absolute()
        program = Program()
        command = [sys.executable, "-m", "llmux.demo", "--model", "m", "--port", "0"]
        process = IReactorProcess(reactor).spawnProcess(
            program,
            sys.executable,
            [*command, "--pid-file", str(pid_file)],
            env=os.environ,
            path=str(CHECKOUT),
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(_end(program, process)))
        line = await program.first_line
        self.assertRegex(line, r"^m listens on http://127\.0\.0\.1:\d+$")
        self.assertEqual(int(pid_file.read_text()), process.pid)
        process.signalProcess(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertFalse(pid_file.exists())

    async def test_port_taken(self) -> None:
        """A port that is taken is one line on stderr, and exit status 1."""
        port = str(self.listen())
        command = ["-m", "llmux.demo", "--model", "n", "--port", port]
        out, err, status = await getProcessOutputAndValue(
            sys.executable, command, env=dict(os.environ), path=str(CHECKOUT)
        )
        self.assertEqual((out, status, err.count(b"\n")), (b"", 1, 1))
        self.assertIn(port.encode(), err)

    async def test_check(self) -> None:
        """The check exits with 0 when an address answers 200, with 1 when it does not."""
        url = f"http://127.0.0.1:{self.listen()}"
        for path, status in (("/health", 0), ("/nope", 1)):
            check = [str(CHECKOUT / "llmux/demo/check.py"), url + path]
            ended = await getProcessOutputAndValue(sys.executable, check)
            self.assertEqual(ended, (b"", b"", status))


class ArgumentTests(SynchronousTestCase):
    """The demo's command line."""

    def test_refused_settings(self) -> None:
        """A setting that makes no sense is refused, with its name."""
        for name, value in (
            ("--port", "70000"),
            ("--load-secs", "-1"),
            ("--tokens-per-sec", "0"),
            ("--slowdown", "-1"),
            ("--most", "0"),
        ):
            with redirect_stderr(StringIO()) as errors, self.assertRaises(SystemExit) as refused:
                main(["--model", "m", name, value])
            self.assertEqual(refused.exception.code, 2)
            self.assertIn(name, errors.getvalue())


class CheckTests(SynchronousTestCase):
    """:func:`llmux.demo.check.healthy` where nobody answers."""

    def test_nobody(self) -> None:
        """An address where nobody listens is not healthy."""
        self.assertFalse(healthy("http://127.0.0.1:9/health", 0.5))


async def _end(program: Program, process: Any) -> None:
    if process.pid is not None:
        process.signalProcess(signal.SIGKILL)
    await program.ended
