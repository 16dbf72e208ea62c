"""The benchmark's instruments work; what they measure is nobody's business here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.helpers import Load, backend, compile_helpers, run_load
from e2e.conftest import CHECKOUT
from e2e.program import WAIT, wait_until

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: put cc on PATH")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Give the port of the benchmark's backend."""
    compile_helpers()
    with backend(tmp_path) as found:
        yield found


def run_bench(directory: Path, *options: str) -> subprocess.Popen[str]:
    """Start the benchmark, with little work to do."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench.run", "--quick", "--results", str(directory), *options],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_counting_events(tmp_path: Path, port: int) -> None:
    """The clients see each event of each stream, and connections that serve again after it."""
    path = "/stream?count=5&pace_ms=2"
    outcome = run_load(tmp_path, port, path, clients=4, requests=3)
    assert outcome.failures == ""
    assert outcome.answers == 12
    assert outcome.count("events") == 60
    assert outcome.milliseconds("lag", "max") > 0


def test_counting_failures(tmp_path: Path, port: int) -> None:
    """The clients say which answers failed, and with which words."""
    outcome = run_load(tmp_path, port, "/nowhere", clients=2, requests=3)
    assert outcome.with_status(404) == 6
    assert outcome.failures == "6 x 404 (there is no such path)"


def test_large_bodies(tmp_path: Path, port: int) -> None:
    """A body has the size that was asked for, and arrives whole."""
    size = 3_000_000
    with Load(tmp_path, port, "/sink", "some/model", requests=1, body=size) as load:
        outcome = load.outcome()
    assert outcome.failures == ""
    answer = json.dumps({"bytes": size}) + "\n"
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n"
    assert outcome.count("bytes") == len(head + answer) - 1  # it puts no blank behind the colon


def test_table(tmp_path: Path) -> None:
    """One case alone prints its table with a value for llmux, and leaves them as JSON too."""
    table = tmp_path / "table.inc"
    bench = run_bench(tmp_path, "--only", "streams", "--rst", str(table))
    printed, said = bench.communicate(timeout=4 * WAIT)
    assert bench.returncode == 0, said + printed
    assert printed == table.read_text()
    (results,) = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert results["notes"] in ([], ["nginx is not installed, so it is not in the table"])
    for figure in results["figures"]:
        assert figure["title"] in printed
        assert figure["median"]["llmux"] > 0 or figure["added_to"]


def test_choosing_whom_to_evict(tmp_path: Path) -> None:
    """What a choice costs llmux is in the table, also as a multiple of the smallest one's cost."""
    bench = run_bench(tmp_path, "--only", "eviction")
    printed, said = bench.communicate(timeout=4 * WAIT)
    assert bench.returncode == 0, said + printed
    (results,) = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    medians = {figure["key"]: figure["median"] for figure in results["figures"]}
    assert medians["eviction_64"]["llmux"] > 0
    times = medians["eviction_64"]["llmux"] / medians["eviction_8"]["llmux"]
    assert medians["eviction_64_times"]["llmux"] == pytest.approx(times)
    assert medians["eviction_64"]["straight"] is None


def test_decisions(tmp_path: Path) -> None:
    """What a decision of each policy costs is in the table, however many wait."""
    bench = run_bench(tmp_path, "--only", "decisions")
    printed, said = bench.communicate(timeout=4 * WAIT)
    assert bench.returncode == 0, said + printed
    (results,) = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    medians = {figure["key"]: figure["median"]["llmux"] for figure in results["figures"]}
    for waiters in (10, 1000, 10_000):
        assert medians[f"decision_fifo_{waiters}"] > 0
    times = medians["decision_fifo_10000"] / medians["decision_fifo_10"]
    assert medians["decision_fifo_10000_times"] == pytest.approx(times)


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C ends the benchmark and every process that it has started."""
    bench = run_bench(tmp_path, "--only", "latency")
    children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
    try:
        wait_until(lambda: len(children.read_text().split()) >= 3)  # backend, llmux, clients
        started = children.read_text().split()
        bench.send_signal(signal.SIGINT)
        bench.communicate(timeout=WAIT)
    finally:
        bench.kill()
    assert bench.returncode != 0
    assert [pid for pid in started if os.path.exists(f"/proc/{pid}")] == []
