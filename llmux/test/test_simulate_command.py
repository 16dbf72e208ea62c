"""Tests of ``llmux simulate``."""

from __future__ import annotations

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.cli import main
from llmux.policy import POLICIES
from llmux.simulate.command import NoEngine, read_engines
from llmux.simulate.engine import EngineFigures
from llmux.simulate.trace import Row, write_trace
from llmux.tracefile import TraceFile

TRACE = tuple(Row("ab"[at // 20 % 2], 600, 50, float(at)) for at in range(200))


class CommandTests(SynchronousTestCase):
    """What is printed."""

    def setUp(self) -> None:
        """Write a trace."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.trace = str(self.directory / "trace.csv.gz")
        write_trace(self.trace, TRACE)

    def write(self, name: str, text: str) -> str:
        """Write another file; give its path."""
        (self.directory / name).write_text(text)
        return str(self.directory / name)

    def simulate(self, *words: str, status: int = 0, before: tuple[str, ...] = ()) -> str:
        """
        Give what is printed to stdout, or to stderr if there is to be an error.

        :param before: words before the command.
        """
        command = [*before, "simulate", "--trace", self.trace, *words]
        with redirect_stderr(StringIO()) as err, redirect_stdout(StringIO()) as out:
            self.assertEqual(main(command), status)
        self.assertEqual((out if status else err).getvalue(), "")
        return (err if status else out).getvalue()

    def first(self, *words: str) -> dict[str, object]:
        """Give the figures of fifo."""
        document = json.loads(self.simulate("--json", "--policy", "fifo", *words))
        (figures,) = document["policies"]
        assert isinstance(figures, dict)
        return figures

    def test_table(self) -> None:
        """All policies that there are stand below each other."""
        lines = self.simulate().splitlines()
        self.assertEqual([line.split()[0] for line in lines],
                         ["policy", *POLICIES, "fifo-2.4.0"])  # fmt: skip

    def test_policies(self) -> None:
        """Policies are compared in the order in which they are named."""
        document = json.loads(self.simulate("--json", "--policy", "fifo-2.4.0,fifo"))
        names = [figures["policy"] for figures in document["policies"]]
        self.assertEqual(names, ["fifo-2.4.0", "fifo"])

    def test_recorded(self) -> None:
        """A trace that llmux has recorded is taken as it is: any order, and the time of day."""
        expected = self.first()
        recorded = TraceFile(self.directory / "recorded.csv")
        for row in reversed(TRACE):
            assert row.arrived_at is not None
            sizes = (row.prompt_tokens, row.output_tokens)
            recorded.append(f"{1.8e9 + row.arrived_at:.3f}", row.model, *sizes, "", "", "")
        self.trace = str(recorded.path)
        self.assertEqual(self.first(), expected)

    def test_cost(self) -> None:
        """A switch takes ten seconds, or what is said."""
        self.assertEqual(self.first(), self.first("--cost", "10"))
        cheap, dear = self.first("--cost", "1"), self.first("--cost", "30")
        self.assertTrue(cheap["switch_secs"] < dear["switch_secs"])  # type: ignore[operator]  # numbers

    def test_costs(self) -> None:
        """What was measured is read from a file."""
        costs = self.write("costs.json", '{"pair": [["a", "b", 30], ["b", "a", 30]]}')
        self.assertEqual(self.first("--costs", costs), self.first("--cost", "30"))

    def test_keep(self) -> None:
        """Part of the requests is enough; the seed says which."""
        some = self.first("--keep", "1/4")
        self.assertTrue(20 < some["requests"] < 80)  # type: ignore[operator]  # a number
        self.assertEqual(some, self.first("--keep", "0.25", "--seed", "0"))
        self.assertNotEqual(some, self.first("--keep", "0.25", "--seed", "1"))

    def test_engine(self) -> None:
        """Engines are what is said of them."""
        self.assertEqual(self.first(), self.first("--engine", "6000,0.02,0.02,32"))
        slow = self.first("--engine", "a=6000,1,0.02,32")
        self.assertNotEqual(slow, self.first())
        self.assertEqual(slow["requests"], 200)

    def test_config(self) -> None:
        """A configuration says what the models share; its path may stand before the command."""
        text = "resources: {gpu: 2}\nmodels:\n"
        text += "".join(f"  {name}: {{port: 1, wake: w, sleep: s, needs: {{gpu: 1}}}}\n"
                        for name in "ab")  # fmt: skip
        path = self.write("config.yaml", text)
        self.assertEqual(self.first("--config", path)["switches"], 2)
        self.assertIn("fifo", self.simulate(before=("-c", path)))

    def test_wrong(self) -> None:
        """What makes no sense is told in a line, without a traceback."""
        empty = self.write("empty.csv", "arrived_at,model,prompt_tokens,output_tokens\n")
        config = self.write("config.yaml", "models: {c: {port: 1, wake: w, sleep: s}}")
        for words, told in (
            (["--policy", "best"], "there is no policy 'best'"),
            (["--engine", "1,2"], "--engine 1,2: it takes"),
            (["--engine", "c=1,2,3,4"], "no model is called c"),
            (["--costs", "/nonexistent"], "cannot be read"),
            (["--trace", empty], "no request is left"),
            (["--trace", "/nonexistent"], "cannot be read"),
            (["--config", "/nonexistent.yaml"], "cannot be read"),
            (["--config", config], "Model not found: a"),
        ):
            self.assertIn(told, self.simulate(*words, status=1))

    def test_usage(self) -> None:
        """Numbers that are none are told by status 2."""
        for words in (["--cost", "0"], ["--cost", "x"], ["--keep", "2"], ["--keep", "1/0"],
                      ["--seed", "x"]):  # fmt: skip
            with redirect_stderr(StringIO()), self.assertRaises(SystemExit) as ended:
                main(["simulate", "--trace", self.trace, *words])
            self.assertEqual(ended.exception.code, 2, words)


class EnginesTests(SynchronousTestCase):
    """What is said of engines."""

    def test_engines(self) -> None:
        """A model's name stands before what is said of its engine, whatever is in it."""
        general, special = read_engines(["1000,0.1,0,4", "a/b=c=2000,0.2,1,8"])
        self.assertEqual(general, EngineFigures(1000.0, 0.1, 0.0, 4))
        self.assertEqual(special, {"a/b=c": EngineFigures(2000.0, 0.2, 1.0, 8)})

    def test_nonsense(self) -> None:
        """Four numbers are needed, and an engine that can serve."""
        for word in ("", "1", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,1,1,1", "1,1,1,1.5", "a=1"):
            self.assertRaises(NoEngine, read_engines, [word])
