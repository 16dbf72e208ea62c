"""Tests of the demo's memory, and of how its engines sleep."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux.demo.bed import Bed
from llmux.demo.memory import Memory, NoRoom, read_amounts


def make_machine(test: SynchronousTestCase, **capacity: float) -> Path:
    """Make a machine."""
    directory = Path(test.mktemp())
    directory.mkdir()
    (directory / "capacity.json").write_text(json.dumps(capacity))
    return directory


def claim(directory: Path, owner: int, **holds: float) -> None:
    """Let another process hold something."""
    fields = Path(f"/proc/{owner}/stat").read_text().rpartition(")")[2].split()
    told = {str(owner): {"name": "other", "holds": holds, "started": fields[19]}}
    (directory / "claims.json").write_text(json.dumps(told))


class MemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a machine of which another process, which lives, holds most."""
        self.directory = make_machine(self, gpu0=24, ram=64)
        self.other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(self.other.wait)
        self.addCleanup(self.other.kill)
        claim(self.directory, self.other.pid, gpu0=20)
        self.memory = Memory(self.directory, "a")

    def overcommitted(self) -> list[str]:
        """Give what was told of memory that was promised twice."""
        log = self.directory / "overcommitted.log"
        return log.read_text().splitlines() if log.exists() else []

    def test_free(self) -> None:
        """What is free can be held; whoever holds more later holds it instead."""
        self.memory.hold({"gpu0": 4})
        self.memory.hold({"gpu0": 2, "ram": 64})
        self.assertEqual(self.overcommitted(), [])

    def test_not_free(self) -> None:
        """What is not free is refused, leaves all as it was, and is told of for good."""
        self.memory.hold({"gpu0": 4})
        error = self.assertRaises(NoRoom, self.memory.hold, {"gpu0": 5})
        self.assertEqual(str(error), "a wants 5 of gpu0, and 4 is free")
        self.assertRaises(NoRoom, self.memory.hold, {"gpu7": 1})
        (first, _) = self.overcommitted()
        self.assertIn("a wants 5 of gpu0, and 4 is free", first)
        claims = json.loads((self.directory / "claims.json").read_text())
        self.assertEqual(sorted(each["holds"]["gpu0"] for each in claims.values()), [4, 20])

    def test_ended(self) -> None:
        """What the dead have held is free."""
        self.assertRaises(NoRoom, self.memory.hold, {"gpu0": 24})
        self.other.kill()
        self.other.wait()
        self.memory.hold({"gpu0": 24})
        self.memory.let_go()
        self.assertEqual(json.loads((self.directory / "claims.json").read_text()), {})

    def test_amounts(self) -> None:
        """Amounts are written as on the command line."""
        self.assertEqual(read_amounts("gpu0=20,ram=2.5"), {"gpu0": 20.0, "ram": 2.5})
        self.assertEqual(read_amounts(""), {})
        for wrong in ("gpu0", "=3", "gpu0=x", "gpu0=-1", "gpu0=nan"):
            self.assertRaises(ValueError, read_amounts, wrong)

    def test_bed(self) -> None:
        """An engine keeps host memory at level 1 and nothing at level 2, and needs room to wake."""
        bed = Bed(self.memory, {"gpu0": 4}, {"ram": 40})
        bed.wake()
        for level, kept in ((1, {"ram": 40}), (2, {})):
            bed.sleep(level)
            claims = json.loads((self.directory / "claims.json").read_text())
            self.assertIn(kept, [each["holds"] for each in claims.values()])
            bed.wake()
        bed.sleep(1)
        claims = json.loads((self.directory / "claims.json").read_text())
        claims[str(self.other.pid)]["holds"]["gpu0"] = 24
        (self.directory / "claims.json").write_text(json.dumps(claims))
        self.assertRaises(NoRoom, bed.wake)
        self.assertTrue(bed.asleep)


class ProgramTests(TestCase):
    async def test_refuses_to_start(self) -> None:
        """A backend for which there is no memory does not start, and says why."""
        directory = make_machine(self, gpu0=24)
        arguments = ["-m", "llmux.demo", "--model", "a", "--port", "0", "--needs", "gpu0=25"]
        out, err, status = await getProcessOutputAndValue(
            sys.executable, [*arguments, "--memory", str(directory)]
        )
        self.assertEqual((out, status), (b"", 1))
        self.assertEqual(err, b"llmux.demo: a wants 25 of gpu0, and 24 is free\n")
