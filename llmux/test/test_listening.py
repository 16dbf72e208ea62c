"""The sockets that llmux listens on: where, who reaches them, and what becomes of them."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux.config import Address, Admin, Config
from llmux.errors import CannotListen
from llmux.listening import (
    Doors,
    address_of,
    bind,
    bind_unix,
    is_listening,
    is_loopback,
    open_doors,
    open_inner_door,
    serve,
)
from llmux.test.fakes import model_config
from llmux.test.loopback import Served, Wire, until

CONFIG = Config(models={"a": model_config("a")}, host="127.0.0.1", port=0)


def short_path(test: SynchronousTestCase) -> Path:
    """Give a path that is short enough for a UNIX socket."""
    directory = Path(tempfile.mkdtemp(prefix="llmux"))
    test.addCleanup(directory.rmdir)
    path = directory / "s"
    test.addCleanup(path.unlink, missing_ok=True)
    return path


class DoorTests(SynchronousTestCase):
    def open(
        self,
        config: Config = CONFIG,
        inherited: tuple[tuple[str, socket.socket], ...] = (),
        chosen: bool = False,
    ) -> Doors:
        """Open doors that are closed with the test."""
        doors = open_doors(config, inherited, chosen=chosen)
        self.addCleanup(doors.close)
        return doors

    def socket(self, host: str = "127.0.0.1") -> socket.socket:
        """Make a socket that listens."""
        made = bind(host, 0)
        self.addCleanup(made.close)
        return made

    def test_configured(self) -> None:
        """Where nothing else is said, clients are served where the configuration says."""
        doors = self.open()
        self.assertEqual([each.getsockname()[0] for each in doors.clients], ["127.0.0.1"])
        self.assertEqual((list(doors.operators), doors.shared), ([], True))

    def test_inherited(self) -> None:
        """Sockets of whoever has started llmux win over the configuration; there may be several."""
        first, second = self.socket(), self.socket()
        doors = self.open(inherited=(("llmux.socket", first), ("llmux.socket", second)))
        self.assertEqual(list(doors.clients), [first, second])

    def test_chosen(self) -> None:
        """What the command line says wins over sockets that are handed over."""
        handed = self.socket()
        doors = self.open(inherited=(("x", handed),), chosen=True)
        self.assertNotIn(handed, doors.clients)
        self.assertEqual(handed.fileno(), -1)  # nobody would answer there

    def test_admin_socket(self) -> None:
        """A socket called admin is the operator's, and clients are served elsewhere."""
        admin = self.socket()
        doors = self.open(inherited=(("admin", admin),))
        self.assertEqual(list(doors.operators), [admin])
        self.assertEqual(len(doors.clients), 1)
        self.assertFalse(doors.shared)

    def test_shared(self) -> None:
        """The operator's face is where the clients are only if this machine alone reaches them."""
        self.assertFalse(self.open(inherited=(("x", self.socket("0.0.0.0")),)).shared)
        mixed = (("x", self.socket()), ("x", self.socket("0.0.0.0")))
        self.assertFalse(self.open(inherited=mixed).shared)
        off = attrs.evolve(CONFIG, admin=Admin(off=True))
        self.assertFalse(self.open(off).shared)

    def test_admin_listen(self) -> None:
        """admin.listen is a TCP address or a UNIX socket of the operator's own."""
        taken = self.socket()
        port = taken.getsockname()[1]
        taken.close()
        path = short_path(self)
        for address in (Address("127.0.0.1", port), Address("", 0, path)):
            doors = self.open(attrs.evolve(CONFIG, admin=Admin(listen=address)))
            (operators,) = doors.operators
            self.assertTrue(is_listening(operators))
            self.assertIn(str(address), address_of(operators))
            self.assertFalse(doors.shared)
        doors.close()
        self.assertFalse(path.exists())

    def test_taken(self) -> None:
        """An address that is taken is an error that names it and says what to do."""
        port = self.socket().getsockname()[1]
        config = attrs.evolve(CONFIG, port=port)
        error = self.assertRaises(CannotListen, open_doors, config)
        self.assertEqual(
            str(error), f"cannot listen on 127.0.0.1:{port}: Address already in use; end what has"
            " this address, or choose another one with --host and --port",
        )  # fmt: skip

    def test_admin_taken(self) -> None:
        """If the operator's address is taken, the clients' is given back."""
        handed = self.socket()
        address = Address("127.0.0.1", self.socket().getsockname()[1])
        config = attrs.evolve(CONFIG, admin=Admin(listen=address))
        error = self.assertRaises(CannotListen, open_doors, config, [("x", handed)])
        self.assertIn("choose another one in admin.listen", str(error))
        self.assertEqual(handed.fileno(), -1)

    def test_loopback(self) -> None:
        """Loopback is 127.0.0.0/8, ::1 and UNIX sockets; all addresses of the machine are not."""
        addresses = {"127.0.0.1": True, "127.3.2.1": True, "0.0.0.0": False}
        if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
            addresses |= {"::1": True, "::": False}
        for address, expected in addresses.items():
            self.assertIs(is_loopback(self.socket(address)), expected, address)


class UnixTests(TestCase):
    def take(self, path: Path) -> socket.socket:
        """Take a UNIX socket."""
        taken = bind_unix(path)
        self.addCleanup(taken.close)
        return taken

    def test_mode(self) -> None:
        """Nobody but our own user can connect, whatever the umask is."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        path = short_path(self)
        self.take(path)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.umask(0), 0)

    def test_stale(self) -> None:
        """A socket file that nobody listens on any more is replaced."""
        path = short_path(self)
        self.take(path).close()
        self.assertTrue(path.is_socket())
        self.assertTrue(is_listening(self.take(path)))

    def test_taken(self) -> None:
        """A UNIX socket that somebody listens on is left to them, and so is any other file."""
        path = short_path(self)
        first = self.take(path)
        self.assertRaises(OSError, bind_unix, path)
        first.close()
        path.unlink()
        path.write_text("precious")
        self.assertRaises(OSError, bind_unix, path)
        self.assertEqual(path.read_text(), "precious")

    async def test_served(self) -> None:
        """A UNIX socket serves requests, keeps its mode, and outlives us for who has it, too."""
        path = short_path(self)
        ours = self.take(path)
        theirs = ours.dup()  # as systemd has it
        self.addCleanup(theirs.close)
        site = Served(self, {}).app.site
        (port,) = serve(reactor, [ours], site)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        wire = await UNIXClientEndpoint(reactor, str(path)).connect(Factory.forProtocol(Wire))
        assert isinstance(wire, Wire)
        wire.send(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        self.assertIn(b'"status": "ok"', (await wire.until_lost()).replace(b'":"', b'": "'))
        await maybeDeferred(port.stopListening)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # it waits in the queue for whoever comes next

    def test_no_socket(self) -> None:
        """A file or a datagram socket is nothing that connections can be accepted on."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            self.assertFalse(is_listening(datagrams))
        with socket.socket() as idle:
            self.assertFalse(is_listening(idle))


class InnerDoorTests(SynchronousTestCase):
    def test_path(self) -> None:
        """The inner door is in the state directory, or elsewhere if that is too far away."""
        short = Path(tempfile.mkdtemp(prefix="llmux"))
        self.addCleanup(shutil.rmtree, short)
        long = Path(self.mktemp() + "x" * 100)
        for directory in (short, long, short):  # a file that was left behind is replaced
            directory.mkdir(parents=True, exist_ok=True)
            door, path = open_inner_door(directory)
            self.addCleanup(door.close)
            self.assertEqual(path.parent == directory, directory is short)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.addCleanup(path.unlink, missing_ok=True)


class ModestTests(TestCase):
    """Ports that other processes have, too."""

    async def test_one_at_a_time(self) -> None:
        """Such a port takes one connection at a time, however many there are."""
        taken: list[int] = []
        ahead: list[int] = []

        class Taking(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> None:
                taken.append(port.numberAccepts)

        listening = bind("127.0.0.1", 0)
        address = listening.getsockname()
        port: Any
        (port,) = serve(reactor, [listening], Taking(), patience=lambda: 0.002 if ahead else 0)
        clients = [socket.create_connection(address) for _ in range(30)]
        await until(lambda: len(taken) == 30)
        self.assertEqual(set(taken), {1})
        ahead.append(1)  # from now on others are let go first; but nobody else is there
        clients += [socket.create_connection(address) for _ in range(3)]
        await until(lambda: len(taken) == 33)
        port.doRead()
        await maybeDeferred(port.stopListening)
        self.assertEqual(len(taken), 33)
        for client in clients:
            client.close()

    async def test_each_anew(self) -> None:
        """Whoever let others go first for one connection, which they took, does so for the next."""
        asked: list[int] = []
        taken: list[int] = []

        class Taking(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> None:
                taken.append(len(asked))

        def patience() -> float:
            asked.append(1)
            if len(asked) == 1:
                other.accept()[0].close()
            return 0.002

        listening = bind("127.0.0.1", 0)
        address = listening.getsockname()
        other = listening.dup()
        port: Any
        (port,) = serve(reactor, [listening], Taking(), patience=patience)
        first = socket.create_connection(address)
        await until(lambda: bool(asked) and port._yielding is None)
        second = socket.create_connection(address)
        await until(lambda: bool(taken))
        await maybeDeferred(port.stopListening)
        self.assertEqual(taken, [2])
        for each in (first, second, other):
            each.close()
