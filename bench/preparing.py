"""
Measures what the hook ``prepare`` costs and saves: ``python -m bench.preparing``.

A model whose ``wake`` reads its weights from a file is asked for while another one still answers.
Once its ``prepare`` reads the file meanwhile, and once it has none.  Before each round the file is
dropped from the page cache.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from bench.playing import play
from bench.processes import BenchError
from bench.report import say
from bench.stage import Stage
from llmux.simulate.engine import EngineFigures
from llmux.simulate.trace import Row

_BUSY, _LOADED = "busy", "loaded"
_ENGINE = EngineFigures(prompt_rate=60_000.0, token_secs=0.005)
_SWITCH = 0.2  # seconds that the hooks linger besides
_ANSWER = 400  # tokens of the answer that is waited for: two seconds


class _PreparedStage(Stage):
    """One model's wake reads a file; so does its prepare, if it has one."""

    def __init__(self, directory: Path, weights: Path, *, prepared: bool) -> None:
        super().__init__(directory, (_BUSY, _LOADED), "fifo", _ENGINE, _SWITCH)
        self._weights = weights
        self._prepared = prepared

    def _config(self) -> dict[str, Any]:
        config = super()._config()
        hooks = config["models"][_LOADED]
        read = f"cat {self._weights} > /dev/null"
        hooks["wake"] = f"{read} && {hooks['wake']}"
        if self._prepared:
            hooks["prepare"] = read
        return config


def measure(directory: Path, weights: Path, rounds: int) -> dict[bool, dict[str, float]]:
    """
    Measure with and without.

    :returns: by whether there is a ``prepare``, means in seconds: of ``wake`` and ``prepare``, and
        of how long the request waits that is served after the switch.
    """
    found = {}
    for prepared in (False, True):
        with _PreparedStage(directory / f"{prepared}", weights, prepared=prepared) as stage:
            waits = [
                asyncio.run(_round(stage.port, lambda: _forget(weights))) for _ in range(rounds)
            ]
            times = stage.hook_times()
        found[prepared] = {
            "wake": mean(times["wake"][_LOADED].seconds),
            "prepare": mean(times["prepare"][_LOADED].seconds) if prepared else 0.0,
            "wait": mean(waits),
        }
    return found


async def _round(port: int, forget: Callable[[], None]) -> float:
    """Have one model answer, and meanwhile another one be asked for; say how long that waits."""
    await play(port, (Row(_BUSY, 1, 1, 0.0),))
    forget()
    trace = (Row(_BUSY, 1, _ANSWER, 0.0), Row(_LOADED, 1, 1, 0.3))
    _, loaded = await play(port, trace)
    return loaded.waited


def _forget(weights: Path) -> None:
    """Have the system forget a file's content, so that it has to be read from the disk."""
    with weights.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(words: list[str]) -> int:
    """
    Run it.

    :param words: the command line, without the program.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.preparing", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1500, help="of weights; default: 1500")
    parser.add_argument("--rounds", type=int, default=5, help="of each; default: 5")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="llmux-bench-") as name:
        weights = Path(name) / "weights"
        with weights.open("wb") as file:
            for _ in range(options.megabytes):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
        try:
            found = measure(Path(name), weights, options.rounds)
        except BenchError as error:
            say(str(error))
            return 1
    for prepared, means in found.items():
        told = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in means.items())
        print(f"{'with' if prepared else 'without'} prepare: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
