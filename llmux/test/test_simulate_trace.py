"""Tests of :mod:`llmux.simulate.trace`."""

from __future__ import annotations

import gzip
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.simulate.trace import (
    Row,
    Trace,
    TraceError,
    from_beginning,
    read_trace,
    thin,
    write_trace,
)
from llmux.urgency import CLASSES, Urgency

NAMES = st.text("abc/:,\"' é", min_size=1).map(str.strip).filter(bool)
TOKENS = st.integers(0, 10**6)
URGENCIES = st.builds(Urgency, st.sampled_from(CLASSES), st.integers(-9, 9))
MILLISECONDS = st.integers(0, 10**7).map(lambda count: count / 1000)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Make any trace."""
    rows = []
    begun: set[str] = set()
    for _ in range(draw(st.integers(0, 8))):
        session = draw(st.sampled_from(["", "x", "y"]))
        later = session in begun
        rows.append(
            Row(
                model=draw(NAMES),
                prompt_tokens=draw(TOKENS),
                output_tokens=draw(TOKENS),
                arrived_at=None if later else draw(MILLISECONDS),
                session=session,
                think_secs=draw(MILLISECONDS) if later else 0.0,
                urgency=draw(st.none() | URGENCIES),
            )
        )
        begun |= {session} - {""}
    return tuple(rows)


class TraceTests(SynchronousTestCase):
    """Traces as files."""

    def path(self, name: str = "trace.csv") -> Path:
        """Give a path where nothing is yet."""
        path = Path(self.mktemp()) / name
        path.parent.mkdir(parents=True)
        return path

    def write(self, text: str) -> Path:
        """Write a file; give its path."""
        path = self.path()
        path.write_text(text)
        return path

    def complaint(self, *lines: str, header: str = "arrived_at,model,prompt_tokens") -> str:
        """Read a file that is wrong; give what is said of it, but for its path."""
        path = self.write("\n".join([f"{header},output_tokens", *lines, ""]))
        error = self.assertRaises(TraceError, read_trace, path)
        return str(error).replace(str(path), "trace")

    @given(traces(), st.booleans())
    def test_round_trip(self, trace: Trace, compressed: bool) -> None:
        """What was written is read again."""
        path = self.path("trace.csv.gz" if compressed else "trace.csv")
        write_trace(path, trace)
        self.assertEqual(read_trace(path), trace)

    def test_compressed(self) -> None:
        """A file whose name ends with .gz is compressed."""
        path = self.path("trace.csv.gz")
        write_trace(path, [Row("a", 1, 2, 3.0)])
        header, row, _ = gzip.decompress(path.read_bytes()).decode().split("\n")
        self.assertEqual(row, "3.000,a,1,2,,,")
        self.assertTrue(header.startswith("arrived_at,model,prompt_tokens,output_tokens"))

    def test_least(self) -> None:
        """Four columns are enough, in any order; empty lines count for nothing."""
        path = self.write("model,output_tokens,prompt_tokens,arrived_at\n\na,1,2,0.5\n")
        self.assertEqual(read_trace(path), (Row("a", 2, 1, 0.5),))

    def test_too_much(self) -> None:
        """Sizes and times with which nobody could calculate are told, however long they are."""
        for word in ("9" * 13, "9" * 400, "9" * 5000):
            self.assertIn("line 2: prompt_tokens: 99", self.complaint(f"0,a,{word},1"))
        for word in ("1e300", "1e400", "9" * 400):
            self.assertIn("is no number of seconds", self.complaint(f"{word},a,1,1"))

    def test_spreadsheet(self) -> None:
        """A byte order mark before the first line and CRLF behind each count for nothing."""
        path = self.write("\ufeffarrived_at,model,prompt_tokens,output_tokens\r\n0.5,a,2,1\r\n")
        self.assertEqual(read_trace(path), (Row("a", 2, 1, 0.5),))

    def test_one_behind_the_other(self) -> None:
        """Files may be put together with their lines of column names."""
        text = "arrived_at,model,prompt_tokens,output_tokens\n{},a,1,2\n"
        path = self.write(text.format(5) + text.format(3))
        self.assertEqual(read_trace(path), (Row("a", 1, 2, 5.0), Row("a", 1, 2, 3.0)))

    def test_from_beginning(self) -> None:
        """The first request that comes is the beginning, wherever it stands."""
        later = Row("a", 1, 2, session="s", think_secs=1.0)
        trace = (Row("a", 1, 2, 1_000_005.5, "s"), later, Row("b", 3, 4, 1_000_003.0))
        moved = (Row("a", 1, 2, 2.5, "s"), later, Row("b", 3, 4, 0.0))
        self.assertEqual(from_beginning(trace), moved)
        self.assertEqual(from_beginning(moved), moved)
        self.assertEqual(from_beginning(()), ())

    def test_wrong_columns(self) -> None:
        """A column that is missing, unknown or there twice is an error."""
        self.assertIn("trace, line 1: there is no column prompt_tokens",
                      self.complaint(header="arrived_at,model"))  # fmt: skip
        self.assertIn("line 1: 'colour' is none of the columns",
                      self.complaint(header="arrived_at,model,prompt_tokens,colour"))  # fmt: skip
        self.assertIn("line 1: there are two columns model",
                      self.complaint(header="arrived_at,model,prompt_tokens,model"))  # fmt: skip

    def test_wrong_values(self) -> None:
        """A value that makes no sense is told with its line."""
        for line, told in (
            ("soon,a,1,2", "arrived_at: 'soon' is no number of seconds"),
            ("-1,a,1,2", "arrived_at: '-1' is no number of seconds"),
            ("inf,a,1,2", "arrived_at: 'inf' is no number of seconds"),
            ("nan,a,1,2", "arrived_at: 'nan' is no number of seconds"),
            ("1,,1,2", "model is empty"),
            ("1,a,x,2", "prompt_tokens: 'x' is no number of tokens"),
            ("1,a,1,2.5", "output_tokens: '2.5' is no number of tokens"),
            ("1,a,1", "there are 3 values for 4 columns"),
            (",a,1,2", "arrived_at is empty, but the request has to come at some time"),
        ):
            self.assertEqual(self.complaint("0,a,1,1", line), f"trace, line 3: {told}")

    def test_wrong_class(self) -> None:
        """A class that there is not is told with its line."""
        told = self.complaint("0,a,1,urgent,2", header="arrived_at,model,prompt_tokens,class")
        self.assertIn("line 2: class: 'urgent' is not interactive or batch", told)

    def test_wrong_sessions(self) -> None:
        """Of a session the first request has a time, and no later one."""
        header = "arrived_at,session,model,prompt_tokens"
        told = self.complaint(",x,a,1,2", header=header)
        self.assertIn("line 2: arrived_at is empty, but the first request of session x", told)
        told = self.complaint("1,x,a,1,2", "2,x,a,1,2", header=header)
        self.assertIn("line 3: session x began at line 2", told)

    def test_no_trace(self) -> None:
        """What cannot be read is told with its path."""
        path = self.path()
        error = self.assertRaises(TraceError, read_trace, path)
        self.assertEqual(str(error), f"{path}: cannot be read: No such file or directory")
        path = self.path("trace.gz")
        path.write_bytes(b"plain")
        self.assertIn("cannot be read", str(self.assertRaises(TraceError, read_trace, path)))
        whole = gzip.compress(b"arrived_at,model,prompt_tokens,output_tokens\n1,a,2,3\n" * 9)
        for spoilt in (whole[:30], whole[:20] + b"\xff\xff\xff" + whole[23:]):  # cut, damaged
            path.write_bytes(spoilt)
            self.assertIn("cannot be read", str(self.assertRaises(TraceError, read_trace, path)))
        path = self.path()
        path.write_bytes(b"\xff\xfe")
        self.assertIn("is no CSV", str(self.assertRaises(TraceError, read_trace, path)))


class ThinTests(SynchronousTestCase):
    """Leaving out requests by chance."""

    TRACE = tuple(Row("a", 1, 1, float(at)) for at in range(1000))

    @given(traces(), st.floats(0, 1), st.integers())
    def test_sessions(self, trace: Trace, probability: float, seed: int) -> None:
        """What is kept is in its order, and of a session it is all or nothing."""
        kept = thin(trace, probability, seed)
        self.assertEqual(kept, tuple(row for row in trace if any(row is each for each in kept)))
        for session in ("x", "y"):
            rows = [row for row in trace if row.session == session]
            self.assertIn([row for row in kept if row.session == session], [[], rows])

    def test_probability(self) -> None:
        """About so many are kept as the probability says."""
        self.assertEqual(thin(self.TRACE, 1.0, 7), self.TRACE)
        self.assertEqual(thin(self.TRACE, 0.0, 7), ())
        self.assertTrue(200 < len(thin(self.TRACE, 0.25, 7)) < 300)

    def test_seed(self) -> None:
        """The same seed keeps the same requests, another one others."""
        self.assertEqual(thin(self.TRACE, 0.5, 7), thin(self.TRACE, 0.5, 7))
        self.assertNotEqual(thin(self.TRACE, 0.5, 7), thin(self.TRACE, 0.5, 8))
