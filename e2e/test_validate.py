"""Real waits are set beside simulated ones; how near they are is a calm machine's business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import CHECKOUT
from e2e.program import WAIT

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="no curl for the hooks")


def validate(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bench.validate", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=4 * WAIT,
        check=False,
    )


def test_a_short_piece(tmp_path: Path) -> None:
    """Each request of a piece is answered, and simulated with what was measured."""
    out, rst = tmp_path / "out.json", tmp_path / "table.inc"
    done = validate(
        "--seeds", "1", "--minutes", "0.5", "--out", str(out), "--rst", str(rst),
        "--keep", str(tmp_path / "kept"),
    )  # fmt: skip
    assert out.exists(), done.stderr + done.stdout
    assert done.stdout == rst.read_text()
    document = json.loads(out.read_text())
    assert done.returncode == (not all(each["within"] for each in document["policies"].values()))
    assert document["engine"]["prompt_rate"] > 0
    policies = [each["policy"] for each in document["comparisons"]]
    assert policies == ["fifo", "balanced"]
    for comparison in document["comparisons"]:
        assert comparison["requests"] > 0
        assert comparison["real"]["wait"]["max"] > 0
        assert comparison["simulated"]["mean_wait"] > 0
        assert sum(hook["runs"] for hook in comparison["hooks"]["wake"].values()) > 0


def test_no_such_policy() -> None:
    """A policy that llmux does not have is refused before anything is started."""
    done = validate("--policy", "fifo-2.4.0")
    assert done.returncode == 2
    assert "'fifo-2.4.0' is none of fifo" in done.stderr
