"""``llmux run`` in a terminal, under a shell, and between signals."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from llmux.test.desks import Desk
from llmux.test.loopback import until
from llmux.test.processes import ProcessTests
from llmux.test.test_cli import Run

HELD = {"id": "5f", "needs": {"gpu0": 20.0}, "state": "held"}
LISTENER = """
import signal, sys
heard = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
print("ready", flush=True)
while True:
    number = signal.sigwait(heard)
    print(number.name, flush=True)
    if number == signal.SIGUSR1:
        sys.exit(5)
"""


class WrappingTests(ProcessTests):
    """To whoever starts it, it is as if the command had been started itself."""

    def setUp(self) -> Any:
        """Serve the face."""
        self.desk = Desk(self)
        self.operator = self.desk.operator
        return super().setUp()

    async def start(self, *command: str, **how: Any) -> Run:
        """Start a command, and let the room for it be free."""
        options = ("--needs", "gpu0=20", "--note", "test", "--quiet")
        run = Run("run", "--admin", str(self.desk.address), *options, "--", *command, **how)
        await until(lambda: self.operator.pending, "the order")
        self.operator.held["5f"] = dict(HELD)
        self.operator.pending.pop().callback(dict(HELD))
        return run

    def assert_given_back(self) -> None:
        """Check that nothing is held any more, and that it was llmux run who has seen to that."""
        self.assertEqual((self.operator.orders[-1], self.operator.held), ("release 5f", {}))

    async def test_passed_on(self) -> None:
        """TERM, HUP and USR1 are for the command, each time; it decides when it ends."""
        run = await self.start(sys.executable, "-ISc", LISTENER)
        await run.until(b"ready\n")
        for count, number in enumerate((signal.SIGTERM, signal.SIGHUP, signal.SIGTERM), 2):
            run.signal(number)
            await until(lambda count=count: run.printed[1].count(b"\n") == count, "the signal")  # type: ignore[misc]  # mypy#15459
        run.signal(signal.SIGUSR1)
        told = "ready\nSIGTERM\nSIGHUP\nSIGTERM\nSIGUSR1\n"
        self.assertEqual(await run.ended, (5, told, ""))
        self.assert_given_back()

    async def test_terminal(self) -> None:
        """What a terminal sends reaches the command once; the room is held until that has ended."""
        run = await self.start(sys.executable, "-ISc", LISTENER, terminal=True)
        await run.until(b"ready")
        for key, name in ((b"\x03", b"SIGINT"), (b"\x1c", b"SIGQUIT")):
            run.type(key)
            await run.until(name)
        self.assertEqual(list(self.operator.held), ["5f"])
        run.signal(signal.SIGUSR1)
        code, out, _ = await run.ended
        self.assertEqual((code, out.count("SIGINT"), out.count("SIGQUIT")), (5, 1, 1))
        self.assert_given_back()

    async def test_interrupts_at_the_end(self) -> None:
        """However often Ctrl-C is pressed while the room is given back, that is done."""
        release = self.operator.release

        def release_slowly(id: str) -> dict[str, object]:
            for _ in range(3):
                run.interrupt()
            return release(id)

        self.operator.release = release_slowly  # type: ignore[method-assign]  # what is waited for
        run = await self.start("true")
        self.assertEqual(await run.ended, (0, "", ""))
        self.assert_given_back()

    async def test_nohup(self) -> None:
        """What is ignored when it starts is ignored by the command, too."""
        program = (
            "import signal; print(*(signal.getsignal(n).name for n in (signal.SIGHUP,"
            " signal.SIGINT))); input()"
        )
        run = await self.start(sys.executable, "-ISc", program, shell="trap '' HUP INT")
        await run.until(b"\n")
        run.signal(signal.SIGHUP)
        run.type(b"\n")
        self.assertEqual(await run.ended, (0, "SIG_IGN SIG_IGN\n", ""))

    async def test_open_files(self) -> None:
        """What a shell has opened for the command gets through to it."""
        path = Path(self.mktemp())
        path.write_text("third")
        run = await self.start("sh", "-c", "cat <&3", shell=f"exec 3<{path}")
        self.assertEqual(await run.ended, (0, "third", ""))

    async def test_broken(self) -> None:
        """If it turns out late that it cannot be run, the status is a shell's, and room is free."""
        for first, status in (("#!/no/such/interpreter\n", 127), ("\x7fELF", 126)):
            script = Path(self.mktemp()).absolute()
            script.write_text(first)
            script.chmod(0o755)
            code, out, err = await (await self.start(str(script))).ended
            self.assertEqual((code, out), (status, ""))
            self.assertIn("cannot be run", err)
            self.assert_given_back()
