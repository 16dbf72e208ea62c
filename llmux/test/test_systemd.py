"""What systemd is told, and what it hands over."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import llmux
from llmux.clock import VirtualClock
from llmux.listening import bind
from llmux.systemd import Notifier, take_sockets
from llmux.test.processes import ProcessTests


class NotifierTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Listen as systemd does."""
        self.clock = VirtualClock()
        directory = Path(tempfile.mkdtemp(prefix="llmux"))
        self.addCleanup(directory.rmdir)
        self.address = str(directory / "notify")
        self.listen(self.address)
        self.addCleanup(os.unlink, self.address)

    def listen(self, address: str) -> None:
        """Listen somewhere."""
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(address)
        self.systemd.setblocking(False)

    def heard(self) -> list[str]:
        """Give what has been said since the last time."""
        messages = []
        while True:
            try:
                messages.append(self.systemd.recv(4096).decode())
            except BlockingIOError:
                return messages

    def make(self, **environ: str) -> Notifier:
        """Make a notifier in an environment."""
        notifier = Notifier.from_environment(self.clock, environ)
        self.assertEqual(environ, {})  # hooks do not inherit any of it
        self.addCleanup(notifier.stop)
        return notifier

    def test_states(self) -> None:
        """The service manager is told of the start, of a reload with its time, and of the end."""
        notifier = self.make(NOTIFY_SOCKET=self.address)
        notifier.ready()
        self.assertEqual(self.heard(), ["READY=1"])
        notifier.reloading()
        (message,) = self.heard()
        first, second = message.splitlines()
        self.assertEqual(first, "RELOADING=1")
        self.assertTrue(second.removeprefix("MONOTONIC_USEC=").isdecimal(), second)

    def test_abstract(self) -> None:
        """A socket without a file is found by its name, too."""
        name = f"llmux-test-{os.getpid()}"
        self.listen(f"\0{name}")
        self.make(NOTIFY_SOCKET=f"@{name}").ready()
        self.assertEqual(self.heard(), ["READY=1"])

    def test_watchdog(self) -> None:
        """With a watchdog systemd hears a sign of life twice a period, from the start on."""
        notifier = self.make(NOTIFY_SOCKET=self.address, WATCHDOG_USEC="10000000")
        self.clock.advance(30)
        self.assertEqual(self.heard(), [])
        notifier.ready()
        self.assertEqual(self.heard(), ["READY=1", "WATCHDOG=1"])
        self.clock.advance(10)
        self.assertEqual(self.heard(), ["WATCHDOG=1"] * 2)
        notifier.ready()  # after a reload
        self.clock.advance(5)
        self.assertEqual(self.heard(), ["READY=1", "WATCHDOG=1"])
        notifier.stop()
        self.clock.advance(60)
        self.assertEqual(self.heard(), [])

    def test_whose_watchdog(self) -> None:
        """A watchdog over another process, as over the one a daemon was before, hears nothing."""
        for pid, expected in ((os.getpid(), ["READY=1", "WATCHDOG=1"]), (1, ["READY=1"])):
            self.make(
                NOTIFY_SOCKET=self.address, WATCHDOG_USEC="10000000", WATCHDOG_PID=str(pid)
            ).ready()
            self.assertEqual(self.heard(), expected)

    def test_more_time(self) -> None:
        """While llmux ends, systemd is asked for more time now and then, until it has ended."""
        notifier = self.make(NOTIFY_SOCKET=self.address)
        notifier.stopping()
        self.assertEqual(self.heard(), ["STOPPING=1", "EXTEND_TIMEOUT_USEC=30000000"])
        self.clock.advance(10)
        self.assertEqual(self.heard(), ["EXTEND_TIMEOUT_USEC=30000000"] * 2)
        notifier.stop()
        self.clock.advance(10)
        self.assertEqual(self.heard(), [])

    def test_nobody_to_tell(self) -> None:
        """Without systemd nothing is said, and nothing is left to be done."""
        notifier = self.make()
        for say in (notifier.ready, notifier.reloading, notifier.stopping, notifier.stop):
            say()
        self.assertIsNone(self.clock.next_due())

    def test_nobody_listens(self) -> None:
        """If systemd cannot be told, the log says so once, and llmux goes on."""
        warnings: list[str] = []
        notifier = Notifier(self.clock, "/nowhere/notify")
        notifier._log = type("Log", (), {"warn": lambda _, text, **words: warnings.append(text)})()
        notifier.ready()
        notifier.stopping()
        notifier.stop()
        self.assertEqual(len(warnings), 1)


#: What a process finds that was started with some sockets from number 3 on.
LOOK = """\
import os
import twisted.internet.endpoints  # takes them away, without a word
from llmux.errors import CannotListen
from llmux.systemd import initial_environment, take_sockets
try:
    found = take_sockets(os.environ, initial_environment())
except CannotListen as error:
    print(error)
else:
    print([(name, each.fileno(), each.get_inheritable()) for name, each in found])
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


class Looking(ProcessProtocol):
    """
    A process that looks what it has been handed.

    :ivar printed: becomes what it prints.
    """

    def __init__(self) -> None:
        self.printed: Deferred[str] = Deferred()
        self._output = b""

    def outReceived(self, data: bytes) -> None:
        """Keep it."""
        self._output += data

    errReceived = outReceived  # noqa: N815  # Twisted's name

    def processEnded(self, reason: Failure) -> None:
        """Hand on what it printed."""
        self.printed.callback(self._output.decode())


class SocketTests(ProcessTests):
    async def look(self, *files: int, pid: int = 0, **environ: str) -> str:
        """Start a process with some files from number 3 on, and give what it prints."""
        looking = Looking()
        reactor.spawnProcess(
            looking,
            "/bin/sh",
            ["sh", "-c", f'LISTEN_PID=$(($$ + {pid})) exec "$0" -c "$1"', sys.executable, LOOK],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(llmux.__file__).parents[1]),
                "LISTEN_FDS": str(len(files)),
                **environ,
            },
            childFDs={0: "w", 1: "r", 2: "r"} | dict(enumerate(files, 3)),
        )
        return await looking.printed

    def sockets(self, number: int) -> list[int]:
        """Make some sockets that listen."""
        made = [bind("127.0.0.1", 0) for _ in range(number)]
        for each in made:
            self.addCleanup(each.close)
        return [each.fileno() for each in made]

    async def test_sockets(self) -> None:
        """All sockets are taken, each by its name, also names that come twice; hooks get none."""
        printed = await self.look(*self.sockets(3), LISTEN_FDNAMES="web:admin:web")
        self.assertEqual(
            printed, "[('web', 3, False), ('admin', 4, False), ('web', 5, False)]\n[]\n"
        )

    async def test_without_names(self) -> None:
        """Sockets without names are taken, too."""
        self.assertEqual(await self.look(*self.sockets(1)), "[('', 3, False)]\n[]\n")

    async def test_for_somebody_else(self) -> None:
        """Sockets that were meant for another process are left alone."""
        self.assertEqual(await self.look(*self.sockets(1), pid=1), "[]\n[]\n")

    async def test_no_listening_sockets(self) -> None:
        """A file that cannot be listened on is an error that names it."""
        with open(os.devnull, "rb") as nothing, socket.socket() as idle:
            for file, why in ((nothing, "Socket operation on non-socket"), (idle, "no listening")):
                printed = await self.look(file.fileno())
                self.assertIn("cannot listen on file 3 from systemd: ", printed)
                self.assertIn(why, printed)

    def test_nothing(self) -> None:
        """Without anything in the environment there are no sockets."""
        for environ in (
            {},
            {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
            {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"},
        ):
            self.assertEqual(take_sockets(environ), [])
