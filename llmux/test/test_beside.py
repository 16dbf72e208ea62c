"""Tests of :mod:`llmux.beside`: ``llmux run`` at a real face, with real commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from llmux import ctl
from llmux.operator import OrderRefused
from llmux.settings import Address
from llmux.test.desks import JSON, Desk, ask, order
from llmux.test.loopback import until
from llmux.web.guard import Reach
from llmux.web.reservations import read_wish

HELD = {"id": "5f", "needs": {"gpu0": 20.0}, "state": "held"}


class RunTests(TestCase):
    def setUp(self) -> None:
        """Serve the face."""
        self.desk = Desk(self)
        self.operator = self.desk.operator

    def program(self, *arguments: str) -> list[str]:
        """Make the command line that runs the ``llmux`` command, as at a terminal."""
        heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        run = f"import sys; from llmux.cli import main; sys.exit(main({list(arguments)!r}))"
        return [sys.executable, "-c", f"{heard}; {run}"]

    def start(
        self, *command: str, needs: str = "gpu0=20", ttl: str = "60", at: str = ""
    ) -> Deferred[tuple[bytes, bytes, int]]:
        """Start ``llmux run`` in a process of its own."""
        arguments = ["run", "--admin", at or str(self.desk.address), "--ttl", ttl]
        arguments += ["--needs", needs] if needs else []
        program, *rest = self.program(*arguments, *command)
        ended: Any = getProcessOutputAndValue(program, rest, env=os.environ)
        return ended  # type: ignore[no-any-return]  # Twisted's has no types

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        """Start it so that it can be sent signals."""
        arguments = ["run", "--admin", str(self.desk.address), "--needs", "gpu0=1", "--quiet"]
        program = self.program(*arguments, "--", *command)
        return subprocess.Popen(program, stdout=subprocess.PIPE)

    async def asked(self) -> None:
        """Wait until the room has been asked for."""
        await until(lambda: any(o.startswith("reserve") for o in self.operator.orders), "the order")

    def grant(self) -> None:
        """Let the room be free."""
        self.operator.held["5f"] = dict(HELD)
        self.operator.pending[0].callback(dict(HELD))

    async def test_command(self) -> None:
        """The command runs when there is room, knows its reservation, and gives it back."""
        ended = self.start("--", "sh", "-c", 'echo "in $LLMUX_RESERVATION"; exit 7')
        await self.asked()
        self.assertFalse(ended.called)
        self.grant()
        out, err, status = await ended
        self.assertEqual((out, status), (b"in 5f\n", 7))
        self.assertEqual(err, b"llmux: waiting for 20 gpu0\n")
        first, *_, last = self.operator.orders
        self.assertEqual(first, "reserve gpu0=20 for 60 s, sh", "arguments may be secret")
        self.assertEqual(last, "release 5f")

    async def test_everything(self) -> None:
        """Whoever does not say what is needed gets all that can be had."""
        ended = self.start("--", "true", needs="")
        await self.asked()
        self.assertEqual(self.operator.orders[0], "reserve everything for 60 s, true")
        self.grant()
        self.assertEqual((await ended)[2], 0)

    async def test_heartbeat(self) -> None:
        """While the command runs its reservation is renewed."""
        mark = Path(self.mktemp())
        ended = self.start(
            "--", "sh", "-c", f"until test -e {mark.absolute()}; do sleep 0.05; done", ttl="0.3"
        )
        await self.asked()
        self.grant()
        await until(lambda: self.operator.orders.count("renew 5f None") >= 2, "two renewals")
        mark.touch()
        self.assertEqual((await ended)[2], 0)

    async def test_lost(self) -> None:
        """A reservation that has run out is asked for again, and the command is left in peace."""
        mark = Path(self.mktemp())
        ended = self.start(
            "--", "sh", "-c", f"until test -e {mark.absolute()}; do sleep 0.05; done", ttl="0.3"
        )
        await self.asked()
        self.operator.pending[0].callback(dict(HELD))  # and nobody knows it any more
        await until(lambda: len(self.operator.pending) == 2, "another reservation")
        self.operator.held["6a"] = {**HELD, "id": "6a"}
        self.operator.pending[1].callback({**HELD, "id": "6a"})
        await until(lambda: "renew 6a None" in self.operator.orders, "its renewal")
        mark.touch()
        _, err, status = await ended
        self.assertEqual(status, 0)
        self.assertIn(b"was not held any more; it is asked for again", err)
        self.assertEqual(self.operator.orders[-1], "release 6a")

    async def test_refused(self) -> None:
        """If the room cannot be had the command does not run."""
        ended = self.start("--", "echo", "x")
        await self.asked()
        self.operator.pending[0].errback(OrderRefused(409, "there is no room"))
        out, err, status = await ended
        self.assertEqual((out, status), (b"", ctl.FAILED))
        self.assertIn(b"llmux: there is no room\n", err)

    async def test_no_command(self) -> None:
        """A command that is not there makes nobody go."""
        for command, expected in (("nonsense-xyz", 127), ("/etc/passwd", 126)):
            _, err, status = await self.start("--", command)
            self.assertEqual(status, expected)
            self.assertIn(command.encode(), err)
        self.assertEqual((await self.start())[2], 2)
        self.assertEqual(self.operator.orders, [])

    async def test_nobody(self) -> None:
        """Where nobody answers the command does not run, either."""
        out, err, status = await self.start("--", "echo", "x", at="127.0.0.1:1")
        self.assertEqual((out, status), (b"", ctl.NOBODY))
        self.assertIn(b"does not answer", err)

    async def test_signals(self) -> None:
        """A TERM is for the command, whose end is told as shells do; the room is given back."""
        script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
        process = self.spawn("sh", "-c", script)
        await self.asked()
        self.grant()
        assert process.stdout is not None
        line: Any = process.stdout.readline
        self.assertEqual(await deferToThread(line), b"ready\n")
        process.send_signal(signal.SIGINT)  # the terminal sends it to the command, too, if at all
        process.send_signal(signal.SIGTERM)
        status: Any = process.wait
        self.assertEqual(await deferToThread(status, 20), 9)
        process.stdout.close()
        self.assertEqual(self.operator.orders[-1], "release 5f")

    async def test_interrupted_while_it_waits(self) -> None:
        """Who stops waiting withdraws."""
        process = self.spawn("true")
        await self.asked()
        withdrawn = self.operator.pending[0]
        withdrawn.addErrback(lambda _: None)
        process.send_signal(signal.SIGINT)
        status: Any = process.wait
        self.assertEqual(await deferToThread(status, 20), ctl.INTERRUPTED)
        assert process.stdout is not None
        process.stdout.close()
        await until(lambda: withdrawn.called, "the withdrawal")


class FaceTests(TestCase):
    """Reservations over HTTP."""

    def setUp(self) -> None:
        """Serve the face."""
        self.desk = Desk(self)
        self.operator = self.desk.operator

    async def test_made(self) -> None:
        """A reservation is answered when it holds, with 201 and what there is to know of it."""
        body = b'{"needs": {"gpu0": 20, "ram": 1.5}, "note": "training"}'
        answered = await self.desk.carry_out(
            order(b"/llmux/reservations", body=body),
            lambda operator: operator.pending[0].callback(dict(HELD)),
        )
        self.assertEqual(answered, (201, HELD))
        self.assertEqual(self.operator.orders, ["reserve gpu0=20 ram=1.5 for 60 s, training"])

    async def test_client_that_leaves(self) -> None:
        """Who leaves before the answer withdraws."""
        request = order(b"/llmux/reservations", body=b'{"needs": {"gpu0": 20}}')
        wire = await self.desk.give(request)
        withdrawn = self.operator.pending[0]
        withdrawn.addErrback(lambda _: None)
        wire.abort()
        await until(lambda: withdrawn.called, "the withdrawal")
        (told,) = self.desk.logged("operator_answered")
        self.assertEqual((told["order"], told["status"]), ("reserve", 499))

    async def leave_and_grant(self, address: Address) -> None:
        """Close a client's socket, and let its reservation hold before the reactor has seen."""
        client = socket.socket(socket.AF_INET if address.path is None else socket.AF_UNIX)
        client.connect(str(address.path) if address.path else (address.host, address.port))
        client.sendall(order(b"/llmux/reservations", body=b'{"needs": {"gpu0": 20}}'))
        await until(lambda: self.operator.pending, "the order")
        client.close()
        self.operator.held["5f"] = dict(HELD)
        self.operator.pending[0].callback(dict(HELD))
        self.assertEqual((self.operator.orders[1:], self.operator.held), (["release 5f"], {}))
        await until(lambda: self.desk.logged("own_path_asked"), "the client's end")
        self.assertEqual(self.desk.logged("own_path_asked")[0]["status"], 499)

    async def test_client_that_leaves_in_the_moment_of_the_grant(self) -> None:
        """What is granted to nobody is given back at once, and not when its time is over."""
        await self.leave_and_grant(self.desk.address)

    async def test_the_same_over_a_unix_socket(self) -> None:
        """That is so over a UNIX socket, too."""
        path = Path(tempfile.mkdtemp(prefix="llmux-test-")) / "admin.sock"
        self.addCleanup(path.parent.rmdir)
        self.desk = Desk(self, Reach.SOCKET, path)
        self.operator = self.desk.operator
        await self.leave_and_grant(self.desk.address)

    async def test_told(self) -> None:
        """All are listed, and each can be looked at, renewed and ended."""
        self.operator.held["5f"] = dict(HELD)
        for path, expected in ((b"", {"reservations": [HELD]}), (b"/5f", HELD)):
            status, _, body = await self.desk.exchange(ask(b"/llmux/reservations" + path))
            self.assertEqual((status, json.loads(body)), (200, expected))
        for method, body in ((b"POST", b'{"ttl_secs": 30}'), (b"DELETE", b"")):
            status, _, _ = await self.desk.exchange(
                ask(b"/llmux/reservations/5f", method, JSON, body)
            )
            self.assertEqual(status, 200)
        self.assertEqual(self.operator.orders, ["renew 5f 30.0", "release 5f"])
        told = [event["order"] for event in self.desk.logged("operator_asked")]
        self.assertEqual(told, ["release"], "a heartbeat is no order")
        gone = ask(b"/llmux/reservations/5f", b"DELETE", JSON)
        self.assertEqual((await self.desk.refused(gone))[0], 404)

    async def test_bodies(self) -> None:
        """What cannot be understood is refused with what would be right."""
        for body, words in (
            (b"[]", "a JSON object, such as"),
            (b'{"needs": {}}', "needs: say how much of which resource"),
            (b'{"needs": null}', "needs: say how much of which resource"),
            (b'{"needs": {"gpu0": "20"}}', "needs.gpu0: an amount is a number"),
            (b'{"needs": {"gpu0": -1}}', "needs.gpu0"),
            (b'{"needs": {"gpu0": true}}', "needs.gpu0"),
            (b'{"needs": {"gpu0": 1}, "ttl": 3}', "unknown key 'ttl'; there are: needs, ttl_secs"),
            (b'{"needs": {"gpu0": 1}, "ttl_secs": "3"}', "ttl_secs: a number of seconds"),
            (b'{"needs": {"gpu0": 1}, "note": "a\\nb"}', "note: one line"),
            (b'{"needs": {"gpu0": 1e999}}', "needs.gpu0"),
            (b'{"needs": {"gpu0": 1, "gpu0": 2}}', "'gpu0' is there twice"),
        ):
            status, message = await self.desk.refused(order(b"/llmux/reservations", body=body))
            self.assertEqual(status, 400)
            self.assertIn(words, message)
        self.assertEqual(self.operator.orders, [])

    def test_no_time(self) -> None:
        """No time to live is not the same as none that is said."""
        for said, ttl in ((b"", 60.0), (b', "ttl_secs": 0', 0.0)):
            body = BytesIO(b'{"needs": {"gpu0": 1}%b}' % said)
            wish = read_wish(SimpleNamespace(content=body))  # type: ignore[arg-type]
            self.assertEqual(wish.ttl, ttl)

    async def test_guarded(self) -> None:
        """No web page reserves or releases anything."""
        body = b'{"needs": {"gpu0": 1}}'
        plain = ask(b"/llmux/reservations", b"POST", b"Content-Type: text/plain\r\n", body)
        self.assertEqual((await self.desk.refused(plain))[0], 415)
        plain = ask(b"/llmux/reservations/5f", b"DELETE")
        self.assertEqual((await self.desk.refused(plain))[0], 415)
        for method in (b"POST", b"DELETE"):
            head = JSON + b"Origin: http://evil.example\r\n"
            request = ask(b"/llmux/reservations/5f", method, head)
            self.assertEqual((await self.desk.refused(request))[0], 403)

    async def test_methods(self) -> None:
        """What is not asked for like this is told how it is."""
        for path, allowed in (
            (b"/llmux/reservations", b"GET, HEAD, POST"),
            (b"/llmux/reservations/5f", b"GET, HEAD, POST, DELETE"),
            (b"/llmux/models/a/pin", b"POST"),
        ):
            status, headers, _ = await self.desk.exchange(ask(path, b"PUT", JSON))
            self.assertEqual((status, headers[b"allow"]), (405, [allowed]))

    async def test_pins(self) -> None:
        """Pinning is an order like any other."""
        for verb in ("pin", "unpin"):
            answered = await self.desk.carry_out(
                order(f"/llmux/models/a/{verb}".encode()),
                lambda operator: operator.pending.pop().callback("done it"),
            )
            self.assertEqual(answered, (200, {"done": "done it"}))
        self.assertEqual(self.operator.orders, ["pin a", "unpin a"])

    async def test_command_line(self) -> None:
        """The command line lists them, ends one, and pins."""
        out, err = StringIO(), StringIO()
        self.operator.held["5f"] = {**HELD, "since_secs": 12.0, "note": "training"}

        def asked(verb: str, name: str = "") -> Deferred[int]:
            return deferToThread(ctl.run, ctl.Command(verb, name), self.desk.address, out, err)

        self.assertEqual(await asked("reservations"), 0)
        self.assertEqual(await asked("release", "5f"), 0)
        self.assertEqual(await asked("reservations"), 0)
        self.assertEqual(
            out.getvalue().splitlines(),
            [
                "RESERVATION  NEEDS    STATE  SINCE  NOTE",
                "5f           gpu0=20  held   12 s   training",
                "5f is given back",
                "nothing is reserved",
            ],
        )
        self.assertEqual(await asked("release", "5f"), 1)
        self.assertIn("no such reservation", err.getvalue().lower())
