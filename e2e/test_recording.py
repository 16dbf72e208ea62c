"""Recording real requests as a trace: what it says of them, and what it does not."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from e2e.program import BIN, WAIT, Backends, Program, chat, chat_at_length, wait_until

FIRST, SECOND = Backends.models


def rows(trace: Path) -> list[dict[str, str]]:
    """Give the rows of a trace, in the order in which requests came."""
    with trace.open(newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: float(row["arrived_at"]))


def sizes(row: dict[str, str]) -> tuple[int, int]:
    """Give how much was asked and answered."""
    return int(row["prompt_tokens"]), int(row["output_tokens"])


def record(program: Program, environment: dict[str, str], *words: str) -> str:
    """Say ``llmux record`` to a program; give what it prints."""
    where = f"127.0.0.1:{program.port}"
    return run("record", *words, "--admin", where, environment=environment)


def run(*words: str, environment: dict[str, str]) -> str:
    """Run ``llmux``; give what it prints, which has to be no error."""
    done = subprocess.run(
        [str(BIN / "llmux"), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_requests(
    serve: Callable[..., Program], tmp_path: Path, environment: dict[str, str]
) -> None:
    """Documents and streams, whole and broken off: a row each, without contents; it is replayed."""
    trace = tmp_path / "trace.csv"
    program = serve(record=str(trace))
    client = program.openai()
    answer = chat(client, FIRST)
    streamed = list(chat(client, SECOND, stream=True, stream_options={"include_usage": True}))
    plain = [event for event in chat(client, SECOND, stream=True) if event.choices]
    broken_off = chat_at_length(client, SECOND)
    assert next(broken_off).choices
    broken_off.close()
    wait_until(lambda: len(rows(trace)) == 4)
    with pytest.raises(openai.NotFoundError):
        chat(client, "nobody")
    first, second, third, fourth = rows(trace)
    assert [row["model"] for row in (first, second, third, fourth)] == [FIRST, *[SECOND] * 3]
    assert sizes(first) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    usage = streamed[-1].usage
    assert sizes(second) == (usage.prompt_tokens, usage.completion_tokens)
    assert sizes(third)[1] == len(plain)
    assert sizes(third)[0] > 0
    assert 1 <= sizes(fourth)[1] < 2000
    written = trace.read_text()
    assert "switching" not in written
    assert trace.stat().st_mode & 0o777 == 0o600
    program.terminate()
    (ended,) = (event for event in program.events() if event["event"] == "recording_ended")
    assert (ended["rows"], ended["lost"]) == (4, 0)
    asked = ("--config", str(tmp_path / "config.json"), "--policy", "fifo", "--json")
    replayed = run("simulate", "--trace", str(trace), *asked, environment=environment)
    (figures,) = json.loads(replayed)["policies"]
    assert figures["requests"] == 4


def test_upload(serve: Callable[..., Program], backends: Backends, tmp_path: Path) -> None:
    """An uploaded recording counts by its size."""
    if backends.kind != "demo":
        pytest.skip("the GGUF model of the tests takes no sound")
    trace = tmp_path / "trace.csv"
    client = serve(record=str(trace)).openai()
    client.audio.transcriptions.create(model=FIRST, file=("speech.wav", bytes(512 * 1000)))
    wait_until(lambda: len(rows(trace)) == 1)
    (row,) = rows(trace)
    assert row["model"] == FIRST
    assert 1000 <= sizes(row)[0] <= 1010


def test_order(
    serve: Callable[..., Program], backends: Backends, environment: dict[str, str]
) -> None:
    """`llmux record` switches it on and off, and says how far it is."""
    program = serve()
    client = program.openai()
    assert record(program, environment) == "nothing is recorded\n"
    trace = backends.state / "traces" / "monday.csv"
    begun = record(program, environment, "monday.csv")
    assert begun.startswith(f"recording to {trace} since ")
    assert begun.endswith("; requests recorded: 0\n")
    chat(client, FIRST)
    wait_until(lambda: len(rows(trace)) == 1)
    assert record(program, environment).endswith("; requests recorded: 1\n")
    assert "any more; requests recorded: 1\n" in record(program, environment, "--stop")
    chat(client, FIRST)
    assert len(rows(trace)) == 1


def test_unwritable(serve: Callable[..., Program], tmp_path: Path) -> None:
    """Requests are served though they cannot be recorded, and that is said once."""
    program = serve(record=str(tmp_path / "missing" / "trace.csv"))
    client = program.openai()
    for _ in range(2):
        assert chat(client, FIRST).choices
    program.terminate()
    failed = [event for event in program.events() if event["event"] == "recording_failed"]
    assert [event["error"] for event in failed] == ["No such file or directory"]
    (ended,) = (event for event in program.events() if event["event"] == "recording_ended")
    assert ended["lost"] == 2
