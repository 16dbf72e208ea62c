"""Soak and crashes work; that llmux survives hours of them is seen when they run for hours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from e2e.conftest import CHECKOUT
from e2e.program import WAIT, hear_interrupts, wait_until


def run(directory: Path, program: str, *options: str) -> subprocess.Popen[str]:
    """Start one of them, with its scratch directory in a known place."""
    told = ["--keep", str(directory / "kept"), "--results", str(directory), *options]
    return subprocess.Popen(
        [sys.executable, "-m", f"bench.{program}", *told],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )


def report(directory: Path, running: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for its end, at which nothing may be left, and give its report."""
    printed, said = running.communicate(timeout=6 * WAIT)
    assert running.returncode == 0, said + printed
    assert left(directory) == []
    (results,) = directory.glob("*.json")
    document: dict[str, Any] = json.loads(results.read_text())
    assert document["found"] == []
    return document


def left(directory: Path) -> list[str]:
    """Give the processes that were started for a run and are still there."""
    mark = f"FLEET={directory / 'kept'}".encode()
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_moment_of_soak(tmp_path: Path) -> None:
    """A few faults are made, requests are answered all the same, and each model is there again."""
    soaking = run(tmp_path, "soak", "--minutes", "0.07", "--no-llama", "--clients", "6")
    document = report(tmp_path, soaking)
    assert document["faults"]
    assert document["outcomes"]["answered"] > 0
    assert len(document["recovered_after_secs"]) == 4


def test_a_few_crashes(tmp_path: Path) -> None:
    """However often it is killed, llmux serves every model again."""
    document = report(tmp_path, run(tmp_path, "crashes", "--times", "2"))
    assert document["kills"] == 2
    assert document["outcomes"]["answered"] > 0


def test_interrupted_crashes(tmp_path: Path) -> None:
    """Ctrl-C ends all that was started, llmux and backends."""
    crashing = run(tmp_path, "crashes", "--times", "100")
    try:
        wait_until(lambda: len(left(tmp_path)) >= 2)  # llmux, and a hook or a backend
        crashing.send_signal(signal.SIGINT)
        crashing.communicate(timeout=WAIT)
    finally:
        if crashing.poll() is None:
            os.kill(crashing.pid, signal.SIGKILL)
    assert crashing.returncode != 0
    assert left(tmp_path) == []
