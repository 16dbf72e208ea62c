"""The client of the operator's face, at a real one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux import ctl
from llmux.ctl import Command, NoFace, find_address, run
from llmux.errors import ConfigError
from llmux.operator import OrderRefused
from llmux.settings import Address
from llmux.test.desks import Desk
from llmux.test.fakes import FakeOperator
from llmux.test.loopback import RawBackend, http_answer, until
from llmux.test.statuses import a_model, a_status
from llmux.web.guard import Reach

Printed = tuple[int, str, str]


def start(address: Address, verb: str, model: str = "", as_json: bool = False) -> Deferred[Printed]:
    """Ask in a thread; give the exit status and what was printed as answer and as error."""
    out, err = StringIO(), StringIO()
    asking = deferToThread(run, Command(verb, model, as_json), address, out, err)
    return asking.addCallback(lambda status: (status, out.getvalue(), err.getvalue()))


class AskTests(TestCase):
    def setUp(self) -> None:
        """Serve the face."""
        self.desk = Desk(self)

    async def order(
        self,
        verb: str,
        model: str = "",
        *,
        finish: Callable[[FakeOperator], None],
        as_json: bool = False,
    ) -> Printed:
        """Give an order, and let it end."""
        answered = start(self.desk.address, verb, model, as_json)
        await until(lambda: self.desk.operator.orders, "the order")
        self.assertFalse(answered.called)
        finish(self.desk.operator)
        return await answered

    async def test_status(self) -> None:
        """The status is a table for people."""
        self.desk.operator.document = a_status(a_model("m\xfcller", "awake"))
        status, out, err = await start(self.desk.address, "status")
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(out.startswith("llmux 3.0.0, serving, up for 2 h (pid 4711)\n"), out)
        self.assertIn("m\xfcller  awake", out)

    async def test_status_as_json(self) -> None:
        """For programs it is the document as it came."""
        status, out, err = await start(self.desk.address, "status", as_json=True)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out), self.desk.operator.document)

    async def test_orders(self) -> None:
        """An order waits for as long as it takes, and says what was done."""
        for verb, name in (("wake", "a"), ("sleep", "big/m\xfcller:8b ?%")):
            printed = await self.order(
                verb, name, finish=lambda operator: operator.pending[0].callback("done it")
            )
            self.assertEqual(printed, (0, "done it\n", ""))
            self.assertEqual(self.desk.operator.orders, [f"{verb} {name}"])
            self.desk.operator.orders.clear()
            self.desk.operator.pending.clear()

    async def test_recording(self) -> None:
        """What is recorded is told in a sentence, and so is what became of an order about it."""
        address = self.desk.address
        self.assertEqual(await start(address, "recording"), (0, "nothing is recorded\n", ""))
        self.assertEqual((await start(address, "record", "x.csv"))[0], 0)
        self.assertEqual(self.desk.operator.recorded_to, "x.csv")
        self.assertEqual((await start(address, "stop_recording"))[0], 0)
        refused = (1, "", "llmux: This is no name\n")
        self.assertEqual(await start(address, "record", "/x.csv"), refused)
        orders = ["record x.csv", "stop_recording", "record /x.csv"]
        self.assertEqual(self.desk.operator.orders, orders)

    async def test_refused(self) -> None:
        """A refused order is status 1, with why on stderr."""
        refused = OrderRefused(409, "a is pinned")
        printed = await self.order("sleep", "a", finish=lambda operator:
                                   operator.pending[0].errback(refused))  # fmt: skip
        self.assertEqual(printed, (1, "", "llmux: a is pinned\n"))

    async def test_refused_as_json(self) -> None:
        """Programs get the error as it came, too."""
        refused = OrderRefused(503, "no")
        status, out, err = await self.order("wake", "a", as_json=True, finish=lambda operator:
                                            operator.pending[0].errback(refused))  # fmt: skip
        self.assertEqual((status, err), (1, "llmux: no\n"))
        self.assertEqual(json.loads(out), {"error": {"message": "no", "type": "llmux_error"}})

    async def test_reload(self) -> None:
        """What has changed is said in a line each."""
        told = {"changed": ["a", "b"], "added": ["c"], "removed": [], "needs_restart": ["port"]}
        printed = await self.order("reload", finish=lambda operator:
                                   operator.pending[0].callback(told))  # fmt: skip
        lines = "added: c\nchanged: a, b\nonly after a restart: port\n"
        self.assertEqual(printed, (0, lines, ""))

    async def test_reload_of_nothing(self) -> None:
        """If no model has changed, that is said."""
        told: dict[str, list[str]] = {"changed": [], "added": [], "removed": []}
        told["needs_restart"] = []
        printed = await self.order("reload", finish=lambda operator:
                                   operator.pending[0].callback(told))  # fmt: skip
        self.assertEqual(printed, (0, "no model has changed\n", ""))

    async def test_reload_of_a_bad_file(self) -> None:
        """All complaints about a bad configuration are said, a line each, as by check."""
        refused = OrderRefused(400, "c.yaml:1: this\nc.yaml:2: that")
        printed = await self.order("reload", finish=lambda operator:
                                   operator.pending[0].errback(refused))  # fmt: skip
        self.assertEqual(printed, (1, "", "c.yaml:1: this\nc.yaml:2: that\n"))

    async def test_llmux_that_ends(self) -> None:
        """An order whose llmux goes away is status 3, and it is said where to look."""
        answered = start(self.desk.address, "wake", "a")
        await until(lambda: self.desk.operator.orders, "the order")
        self.desk.cut()
        expected = (
            f"llmux on {self.desk.address} went away before it had answered;"
            " its log says what became of the order\n"
        )
        self.assertEqual(await answered, (3, "", expected))


class PlaceTests(TestCase):
    async def test_unix(self) -> None:
        """It can be asked over a UNIX socket."""
        path = Path(tempfile.mkdtemp(prefix="llmux-test-")) / "admin.sock"
        self.addCleanup(path.parent.rmdir)
        desk = Desk(self, Reach.SOCKET, path)
        status, out, _ = await start(desk.address, "status", as_json=True)
        self.assertEqual((status, json.loads(out)), (0, desk.operator.document))

    async def test_all_spellings_of_loopback(self) -> None:
        """Whatever the configuration calls this machine, the guard lets its command in."""
        desk = Desk(self)
        for host in ("localhost", "127.0.0.1", "127.1", "0.0.0.0"):
            address = Address(host, desk.address.port)
            status, _, err = await start(address, "status")
            self.assertEqual((status, err), (0, ""), host)

    async def test_nobody(self) -> None:
        """Where nobody answers is status 3, and a question."""
        printed = await start(Address("127.0.0.1", 1), "status")
        expected = "llmux does not answer on 127.0.0.1:1: Connection refused; is it running?\n"
        self.assertEqual(printed, (3, "", expected))
        printed = await start(Address("", 0, Path("/nowhere/s")), "status")
        expected = (
            "llmux does not answer on unix:/nowhere/s: No such file or directory; is it running?\n"
        )
        self.assertEqual(printed, (3, "", expected))

    async def test_others(self) -> None:
        """What answers and is no llmux is status 3, whatever it says."""
        backend = RawBackend(self)
        address = Address(backend.address.host, backend.address.port)
        for answer in (
            http_answer(b"hello"), http_answer(b"{}"), http_answer(b"[]"), http_answer(b"\xff"),
            http_answer(b'{"error": {"message": "x", "type": "other"}}', status=b"404 Not Found"),
            http_answer(b"<html>", status=b"404 Not Found"), http_answer(b"[" * 100_000),
        ):  # fmt: skip
            backend.answer = answer
            status, out, err = await start(address, "status")
            self.assertEqual((status, out), (3, ""), answer)
            self.assertIn("is no llmux, or one of another version", err)

    async def test_no_http(self) -> None:
        """So is what speaks another protocol."""
        backend = RawBackend(self)
        backend.answer = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"
        address = Address(backend.address.host, backend.address.port)
        status, _, err = await start(address, "status")
        self.assertEqual(
            (status, err), (3, f"llmux on {address} went away before it had answered\n")
        )

    async def test_silence(self) -> None:
        """A look ends when nothing comes; an order is waited for as long as it takes."""
        self.patch(ctl, "_CONNECT_SECS", 0.05)
        self.patch(ctl, "_STATUS_SECS", 0.05)
        backend = RawBackend(self)
        backend.answer = None
        address = Address(backend.address.host, backend.address.port)
        order = start(address, "wake", "a")
        wire = await backend.wire()
        await wire.until(b"wake")
        for _ in range(2):  # by the end of the second one the order would have ended, too
            printed = await start(address, "status")
            self.assertEqual(printed, (3, "", f"llmux on {address} says nothing for 0.05 s\n"))
        self.assertFalse(order.called)
        wire.send(http_answer(b'{"done": "a is awake"}'))
        self.assertEqual(await order, (0, "a is awake\n", ""))


class FindTests(SynchronousTestCase):
    def find(self, config: str, port: int | None = None) -> str:
        """Say where the llmux of a configuration is asked."""
        path = Path(self.mktemp())
        path.mkdir()
        file = path / "c.yaml"
        file.write_text(f"{config}\nmodels: {{a: {{port: 1, wake: w, sleep: s}}}}\n")
        return str(find_address(str(file), port))

    def test_clients_address(self) -> None:
        """On loopback it is asked where its clients are served, with the port it was given."""
        self.assertEqual(self.find(""), "127.0.0.1:3000")
        self.assertEqual(self.find("port: 4000"), "127.0.0.1:4000")
        self.assertEqual(self.find("port: 4000", port=5000), "127.0.0.1:5000")

    def test_own_address(self) -> None:
        """Otherwise it is asked where the configuration says."""
        self.assertEqual(self.find("admin: {listen: 'unix:/run/l.sock'}"), "unix:/run/l.sock")
        said = "host: 0.0.0.0\nadmin: {listen: '[::1]:3001'}"
        self.assertEqual(self.find(said), "[::1]:3001")

    def test_nowhere(self) -> None:
        """If it cannot be asked at all, it is said why, and what to do."""
        with self.assertRaisesRegex(NoFace, r"others reach 0\.0\.0\.0:3000.*127\.0\.0\.1:3001"):
            self.find("host: 0.0.0.0")
        with self.assertRaisesRegex(NoFace, "admin.listen: off"):
            self.find("admin: {listen: off}")

    def test_bad_file(self) -> None:
        """A file that cannot be used is complained about as ever."""
        with self.assertRaisesRegex(ConfigError, "unknown key"):
            self.find("prot: 1")


class PrintTests(TestCase):
    async def test_small_terminal(self) -> None:
        """What a terminal cannot show is written so that it can."""
        desk = Desk(self)
        desk.operator.document = a_status(a_model("m\xfcller"))
        raw = BytesIO()
        out = TextIOWrapper(raw, "ascii", write_through=True)
        status = await deferToThread(run, Command("status"), desk.address, out, StringIO())
        self.assertEqual(status, 0)
        self.assertIn(b"m\\xfcller  asleep", raw.getvalue())
