"""The benchmark's instruments work; what they measure is nobody's business here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contenders import find_nginx, start_nginx
from bench.figures import QUICK, Bench, Figure, Wanted
from bench.helpers import Load, backend, compile_helpers, run_load
from bench.proxy import Proxy
from bench.report import Report
from bench.workers import DEATH
from e2e.conftest import CHECKOUT
from e2e.program import WAIT, wait_until

LEFT_OUT = ("nginx is not installed", "two workers are left out")

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: put cc on PATH")


@pytest.fixture
def straight(tmp_path: Path) -> Iterator[Proxy]:
    """Give the benchmark's backend, with nothing in between."""
    compile_helpers()
    with backend(tmp_path) as port:
        yield Proxy(port)


def run_bench(directory: Path, *options: str) -> subprocess.Popen[str]:
    """Start the benchmark, with little work to do."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench.run", "--quick", "--results", str(directory), *options],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def measure(directory: Path, case: str) -> dict[str, dict[str, float]]:
    """Run one case, which has to go well; give the medians of its figures by their keys."""
    bench = run_bench(directory, "--only", case)
    printed, said = bench.communicate(timeout=4 * WAIT)
    assert bench.returncode == 0, said + printed
    (results,) = [json.loads(path.read_text()) for path in directory.glob("*.json")]
    return {figure["key"]: figure["median"] for figure in results["figures"]}


def test_counting_events(tmp_path: Path, straight: Proxy) -> None:
    """The clients see each event of each stream, and connections that serve again after it."""
    path = "/stream?count=5&pace_ms=2"
    outcome = run_load(tmp_path, straight, path, clients=4, requests=3)
    assert outcome.failures == ""
    assert outcome.answers == 12
    assert outcome.count("events") == 60
    assert outcome.milliseconds("lag", "max") > 0


def test_counting_failures(tmp_path: Path, straight: Proxy) -> None:
    """The clients say which answers failed, and with which words."""
    outcome = run_load(tmp_path, straight, "/nowhere", clients=2, requests=3)
    assert outcome.with_status(404) == 6
    assert outcome.failures == "6 x 404 (there is no such path)"


def test_large_bodies(tmp_path: Path, straight: Proxy) -> None:
    """A body has the size that was asked for, and arrives whole."""
    size = 3_000_000
    with Load(tmp_path, straight, "/sink", "some/model", requests=1, body=size) as load:
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
    assert [note for note in results["notes"] if not note.startswith(LEFT_OUT)] == []
    for figure in results["figures"]:
        assert figure["title"] in printed
        assert figure["median"]["llmux"] > 0 or figure["added_to"]


def test_parts(tmp_path: Path, straight: Proxy) -> None:
    """The clients give their figures in between, and begin to count anew."""
    path = "/stream?count=1000&pace_ms=2"
    with Load(tmp_path, straight, path, clients=2, seconds=60) as load:
        load.wait_for("begun")
        wait_until(lambda: load.part().count("events") > 0)
        latest = load.stop()
    assert latest.failures == ""
    assert latest.figures["seconds"] < 60


def test_path_with_something_behind_it(tmp_path: Path, straight: Proxy) -> None:
    """The backend streams also to those who put something of their own behind its path."""
    outcome = run_load(tmp_path, straight, "/stream/count=3/pace_ms=2/chat/completions", requests=1)
    assert outcome.failures == ""
    assert outcome.count("events") == 3


def test_contenders(tmp_path: Path) -> None:
    """Whoever is named is compared, each in a column of its own and as multiples of nginx's."""
    names = "nginx,default+default,default+llhttp"
    bench = run_bench(tmp_path, "--only", "latency", "--contenders", names)
    printed, said = bench.communicate(timeout=4 * WAIT)
    assert bench.returncode == 0, said + printed
    (results,) = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    (median,) = [each["median"] for each in results["figures"] if each["key"] == "latency_p50"]
    assert median["default+default"] > 0
    assert median["default+llhttp"] > 0
    assert ("as multiples of nginx's" in printed) == ("nginx" in median)


def test_unknown_contender(tmp_path: Path) -> None:
    """A contender that there is not is refused with the names of those that there are."""
    bench = run_bench(tmp_path, "--contenders", "apache")
    _, said = bench.communicate(timeout=WAIT)
    assert bench.returncode == 2
    assert "'apache'; there are straight, nginx," in said


@pytest.mark.skipif(not shutil.which("wrk"), reason="no wrk: put it on PATH")
def test_access_log(tmp_path: Path) -> None:
    """What a small request costs is measured with the access log and without."""
    bench = run_bench(tmp_path, "--only", "small")
    printed, said = bench.communicate(timeout=4 * WAIT)
    assert bench.returncode == 0, said + printed
    assert re.search(r"^CPU of a small request  .* [\d,.]+  +-", printed, re.MULTILINE)
    assert re.search(r"^CPU of a small request, no access log  .* [\d,.]+  ", printed, re.MULTILINE)


def test_crowd(tmp_path: Path) -> None:
    """Beside many streams a small request is timed, and what a huge body does to their events."""
    medians = measure(tmp_path, "crowd")
    for key in ("crowd_event_cpu", "crowd_p50", "crowd_event_max"):
        assert medians[key]["llmux"] > 0
    assert medians["crowd_event_max"]["straight"] > 0


def test_switch(tmp_path: Path) -> None:
    """What a switch takes beside the starts of its hooks is in the table, and what is wanted."""
    medians = measure(tmp_path, "switch")
    switch, starts = medians["switch"]["llmux"], medians["switch_starts"]["llmux"]
    assert switch > 0
    assert starts > 0
    assert medians["switch_beside"]["llmux"] == pytest.approx(switch - starts)


@pytest.mark.skipif(not find_nginx(), reason="no nginx: put it on PATH")
def test_killing_a_worker(tmp_path: Path, straight: Proxy) -> None:
    """What is asked of two workers can be held: nginx's lose their own streams and no others."""
    bench = Bench(tmp_path, QUICK)
    with start_nginx(tmp_path, straight.port, files=1000, workers=2) as nginx:
        samples = DEATH.measure(bench, "nginx", nginx)
    assert samples["lost"] == 0
    assert samples["refused"] == 0
    assert 50 <= samples["split"] <= 100


def test_verdicts() -> None:
    """What is wanted is judged by medians, also as a multiple of something; rounds are shown."""
    cheap = Figure("cheap", "cheap", "us", Wanted(2, than="nginx"))
    dear = Figure("dear", "dear", "us", Wanted(1.5, of="cheap"))
    report = Report(quick=True, contenders=["nginx", "llmux"], figures=[cheap, dear], machine={})
    for nginx, llmux in ((10.0, 15.0), (10.0, 25.0), (10.0, 18.0)):
        report.add(cheap, "nginx", nginx)
        report.add(cheap, "llmux", llmux)
        report.add(dear, "llmux", 2 * llmux)
    lines = report.as_rst().splitlines()[-2:]
    assert lines == [
        "- cheap, as a multiple of nginx's: 1.80 (rounds: 1.50 to 2.50), at most 2 wanted: held",
        '- dear, as a multiple of "cheap": 2.00 (rounds: 2.00 to 2.00), at most 1.5 wanted: missed',
    ]


def test_choosing_whom_to_evict(tmp_path: Path) -> None:
    """What a choice costs llmux is in the table, also as a multiple of the smallest one's cost."""
    medians = measure(tmp_path, "eviction")
    assert medians["eviction_64"]["llmux"] > 0
    times = medians["eviction_64"]["llmux"] / medians["eviction_8"]["llmux"]
    assert medians["eviction_64_times"]["llmux"] == pytest.approx(times)
    assert medians["eviction_64"]["straight"] is None


def test_decisions(tmp_path: Path) -> None:
    """What a decision of each policy costs is in the table, however many wait."""
    medians = {key: median["llmux"] for key, median in measure(tmp_path, "decisions").items()}
    for waiters in (10, 1000, 10_000):
        assert medians[f"decision_fifo_{waiters}"] > 0
    times = medians["decision_fifo_10000"] / medians["decision_fifo_10"]
    assert medians["decision_fifo_10000_times"] == pytest.approx(times)


@pytest.mark.parametrize("load", ["small", "streams"])
def test_profile(load: str) -> None:
    """One command prints which functions of llmux take most time under a load."""
    command = [sys.executable, "-m", "bench.profiling", load, "--seconds", "1", "--top", "3"]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=4 * WAIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "due to restriction <3>" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.match(r"\d+ answers, \d+ events: ", last)
    assert not last.startswith("0 answers, 0 events")


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
