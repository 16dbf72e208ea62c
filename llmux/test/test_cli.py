"""The ``llmux`` command: its words, and as a process."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from llmux import cli, ctl
from llmux.cli import main
from llmux.settings import Address
from llmux.test.desks import Desk
from llmux.test.loopback import until
from llmux.test.processes import ProcessTests

CHECKOUT = Path(__file__).parents[2]
PROGRAM = "import sys; from llmux.cli import main; sys.exit(main())"


class Run(ProcessProtocol):
    """
    The command as a process.

    :param words: its arguments.
    :param shell: what a shell does first, if it is not to be started just so.
    :param terminal: whether it is started in a terminal of its own.
    :ivar printed: what it has printed so far, by descriptor.
    :ivar ended: fires with exit status, stdout and stderr.
    """

    def __init__(self, *words: str, shell: str = "", terminal: bool = False) -> None:
        self.ended: Deferred[tuple[int | None, str, str]] = Deferred()
        self.printed: dict[int, bytes] = {1: b"", 2: b""}
        arguments = [sys.executable, "-c", PROGRAM, *words]
        if shell:
            arguments = ["/bin/sh", "-c", f'{shell}; exec "$@"', "sh", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        spawner: Any = reactor
        self._process = spawner.spawnProcess(
            self, arguments[0], arguments, environment, usePTY=terminal
        )

    def childDataReceived(self, number: int, data: bytes) -> None:  # noqa: N802  # Twisted's name
        """Keep what it prints."""
        self.printed[number] += data

    def processEnded(self, reason: Failure) -> None:
        """Tell how it ended."""
        value: Any = reason.value
        out, err = self.printed[1].decode(), self.printed[2].decode()
        self.ended.callback((value.exitCode, out, err))

    async def until(self, word: bytes, number: int = 1) -> None:
        """Wait until it has printed something."""
        await until(lambda: word in self.printed[number], repr(word))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to it alone."""
        self._process.signalProcess(int(number))

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.signal(signal.SIGINT)

    def type(self, data: bytes) -> None:
        """Write to its stdin."""
        self._process.write(data)

    def end_input(self) -> None:
        """Let its stdin come to its end."""
        self._process.closeStdin()


class WordsTests(SynchronousTestCase):
    """What the command line means."""

    def setUp(self) -> None:
        """Do nothing that is asked for, and note it."""
        self.done: list[tuple[object, ...]] = []
        self.patch(cli, "run", lambda *what: self.done.append(("run", *what)))
        self.patch(cli, "check", lambda *what: self.done.append(("check", *what)))
        self.patch(cli, "ask", lambda *what: self.done.append(("ask", *what)))

    def test_flags_of_2_4_0(self) -> None:
        """The flags of llmux 2.4.0 mean what they always did."""
        main([])
        main(["-c", "x.json", "-p", "4000", "-v"])
        main(["--config", "x.json", "--port", "4000", "--verbose"])
        self.assertEqual(
            self.done,
            [("run", "config.yaml", None, False), *[("run", "x.json", 4000, True)] * 2],
        )

    def test_check(self) -> None:
        """The configuration may stand before the command, and behind it."""
        main(["-c", "x", "check"])
        main(["check", "-c", "x"])
        self.assertEqual(self.done, [("check", "x")] * 2)

    def test_asking(self) -> None:
        """A running llmux is asked by four words, of which two need a model."""
        main(["status"])
        main(["status", "--json", "-c", "x", "--admin", "[::1]:3001"])
        main(["-c", "x", "-p", "4000", "wake", "big/m:8b"])
        main(["sleep", "a", "--admin", "unix:/run/s"])
        main(["reload", "--json"])
        self.assertEqual(
            self.done,
            [
                ("ask", ctl.Command("status"), None, "config.yaml", None),
                ("ask", ctl.Command("status", as_json=True), Address("::1", 3001), "x", None),
                ("ask", ctl.Command("wake", "big/m:8b"), None, "x", 4000),
                ("ask", ctl.Command("sleep", "a"), Address("", 0, Path("/run/s")),
                 "config.yaml", None),
                ("ask", ctl.Command("reload", as_json=True), None, "config.yaml", None),
            ],
        )  # fmt: skip

    def test_record(self) -> None:
        """Recording is begun with a name, ended with --stop, and told of without either."""
        main(["record", "monday.csv"])
        main(["record", "--stop", "--json"])
        main(["record", "-c", "x"])
        self.assertEqual(
            self.done,
            [
                ("ask", ctl.Command("record", "monday.csv"), None, "config.yaml", None),
                ("ask", ctl.Command("stop_recording", as_json=True), None, "config.yaml", None),
                ("ask", ctl.Command("recording"), None, "x", None),
            ],
        )

    def test_usage(self) -> None:
        """What makes no sense is status 2, with how it would."""
        for words, told in (
            (["wake"], "MODEL"), (["sleep"], "MODEL"), (["status", "a"], "unrecognized"),
            (["wake", "a", "b"], "unrecognized"), (["kill", "a"], "invalid choice"),
            (["status", "--admin", "nowhere"], "host:port"),
            (["status", "--admin", "off"], "nobody"),
            (["-p", "0", "status"], "whole number"),
            (["record", "x.csv", "--stop"], "not allowed with"),
        ):  # fmt: skip
            with redirect_stderr(StringIO()) as err, self.assertRaises(SystemExit) as ended:
                main(words)
            self.assertEqual(ended.exception.code, 2, words)
            self.assertIn(told, err.getvalue())
        self.assertEqual(self.done, [])


class AskTests(SynchronousTestCase):
    """Whom a command asks."""

    def ask(self, *words: str) -> tuple[int, str]:
        """Give exit status and what is said on stderr."""
        with redirect_stderr(StringIO()) as err, redirect_stdout(StringIO()) as out:
            status = main(words)
        self.assertEqual(out.getvalue(), "")
        return status, err.getvalue()

    def write(self, text: str) -> str:
        """Write a configuration; give its path."""
        path = Path(self.mktemp()).with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\nmodels: {{a: {{port: 2, wake: w, sleep: s}}}}\n")
        return str(path)

    def test_address_of_the_file(self) -> None:
        """The configuration says who is asked; a port of the command line wins."""
        path = self.write("admin: {listen: 127.0.0.1:1}")
        expected = (3, "llmux does not answer on 127.0.0.1:1: Connection refused; is it running?\n")
        self.assertEqual(self.ask("status", "-c", path), expected)
        self.assertEqual(self.ask("-p", "1", "status", "-c", self.write("port: 3000")), expected)

    def test_admin_wins(self) -> None:
        """With --admin no file is read."""
        status, err = self.ask("status", "-c", "/nowhere.yaml", "--admin", "127.0.0.1:1")
        self.assertEqual(status, 3)
        self.assertNotIn("nowhere", err)

    def test_bad_file(self) -> None:
        """A file that cannot be used is complained about, and the way without one is said."""
        for path, told in (("/nowhere.yaml", "cannot be read"), (self.write("prot: 1"), "prot")):
            status, err = self.ask("wake", "a", "-c", path)
            self.assertEqual(status, 1)
            self.assertTrue(err.startswith(path), err)
            self.assertIn(told, err)
            self.assertIn("--admin", err)

    def test_face_that_is_off(self) -> None:
        """An llmux that cannot be asked is not, and it is said why."""
        status, err = self.ask("reload", "-c", self.write("host: 0.0.0.0"))
        self.assertEqual(status, 1)
        self.assertIn("admin.listen", err)


class ProgramTests(ProcessTests):
    async def test_status(self) -> None:
        """The command prints the status and ends with 0."""
        desk = Desk(self)
        run = Run("status", "--admin", str(desk.address))
        status, out, err = await run.ended
        self.assertEqual((status, err), (0, ""))
        self.assertIn("serving", out)

    async def test_interrupted_order(self) -> None:
        """Ctrl-C ends the command quietly, and leaves the order as it is."""
        desk = Desk(self)
        run = Run("wake", "a", "--admin", str(desk.address))
        await until(lambda: desk.operator.orders == ["wake a"], "the order")
        run.interrupt()
        expected = "llmux: the order stands; llmux status shows what becomes of it\n"
        self.assertEqual(await run.ended, (130, "", expected))
        self.assertFalse(desk.operator.pending[0].called)
        desk.operator.pending[0].callback("a is awake")
        self.assertEqual(desk.logged("operator_answered")[0]["status"], 200)
