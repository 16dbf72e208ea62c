"""
The examples of machines on which several models are awake, with engines that really need memory.

The configurations and their scripts are those of ``examples/residency``; what they start instead of
vLLM refuses to start when the memory of its machine is not free.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import yaml
from twisted.internet.defer import Deferred

from e2e.program import BIN, Program, chat, free_port, in_thread, start, wait_until

EXAMPLES = Path("examples/residency")
EMBED, QWEN, GEMMA = "BAAI/bge-m3", "Qwen/Qwen3-8B", "google/gemma-3-12b-it"
MISTRAL, LLAMA = "mistralai/Mistral-7B-Instruct-v0.3", "meta-llama/Llama-3.1-8B-Instruct"
BIG, SMALL_A, SMALL_B = (
    "meta-llama/Llama-3.3-70B-Instruct-AWQ", "Qwen/Qwen3-4B", "google/gemma-3-4b-it",
)  # fmt: skip


class Machine:
    """
    A pretended machine, and llmux on it with one of the examples.

    :param directory: stands for its memory, and takes all that is written.
    :param programs: takes the processes.
    :param environment: of these.
    """

    def __init__(self, directory: Path, programs: list[Program], environment: dict[str, str]):
        self.directory = directory
        self._programs = programs
        self._allowed: dict[str, list[dict[str, float]]] = {}
        self.environment = {
            **environment,
            "VLLM": str(EXAMPLES.absolute() / "pretend.sh"),
            "PRETEND_MEMORY": str(directory),
            "LOAD_SECS": "0.1",
            "TOKENS_PER_SEC": "400",
            "KILL_AFTER": "3",
        }

    def serve(self, example: str) -> Program:
        """Serve an example as it is, but for its ports and for where it keeps its state."""
        document = yaml.safe_load((EXAMPLES / example).read_text())
        port = free_port()
        document |= {"port": port, "state_dir": str(self.directory / "state")}
        (self.directory / "capacity.json").write_text(json.dumps(document["resources"]))
        for name, model in document["models"].items():
            needs = model["needs"]
            places = needs if isinstance(needs, list) else [needs]
            self._allowed[name] = [*places, model.get("asleep_needs", {})]
            model["port"] = free_port()
            keeps = ",".join(f"{n}={a}" for n, a in model.get("asleep_needs", {}).items())
            model["wake"] = f"PRETEND_ASLEEP={keeps} {model['wake']}"
        config = self.directory / "config.yaml"
        config.write_text(yaml.safe_dump(document, sort_keys=False))
        return start(self._programs, config, port, self.environment, "--log-format", "json")

    def overcommitted(self) -> str:
        """Say what memory was promised twice."""
        log = self.directory / "overcommitted.log"
        return log.read_text() if log.exists() else ""

    def claims(self) -> dict[str, dict[str, float]]:
        """Say what each engine that runs has taken, by its model."""
        claims = json.loads((self.directory / "claims.json").read_text())
        return {claim["name"]: claim["holds"] for claim in claims.values()}

    def check(self) -> None:
        """See that each engine was told to take what the example says, and nothing was short."""
        for model, holds in self.claims().items():
            taken = {resource: amount for resource, amount in holds.items() if amount}
            assert taken in self._allowed[model], f"{model} takes {taken}"
        assert self.overcommitted() == ""

    def end_all(self) -> None:
        """End what the hooks have left running."""
        for pid_file in (self.directory / "state").rglob("vllm.pid"):
            with suppress(ProcessLookupError):
                os.killpg(int(pid_file.read_text()), signal.SIGKILL)


@pytest.fixture
def machine(
    tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> Iterator[Machine]:
    """Make a machine; what runs on it ends with the test."""
    made = Machine(tmp_path, programs, environment)
    yield made
    made.check()
    for program in programs:
        program.kill()
    made.end_all()
    assert made.overcommitted() == ""


def load(program: Program, *models: str, clients: int = 20, rounds: int = 3) -> None:
    """Let many clients ask for models in turn; every one of them has to be answered."""

    def ask(number: int) -> None:
        client = program.openai(timeout=120.0)
        for turn in range(rounds):
            model = models[(number + turn) % len(models)]
            assert chat(client, model).choices[0].message.content

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))


def switches(program: Program) -> float:
    """Say how many switches there were, to whatever model."""
    lines = program.get("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("llmux_switch_total{"))


def status(program: Program) -> dict[str, Any]:
    """Give the status document."""
    document: dict[str, Any] = json.loads(program.get("/llmux/status")[1])
    return document


def states(program: Program) -> dict[str, str]:
    """Say in which state every model is."""
    return {model["name"]: model["state"] for model in status(program)["models"]}


def slept(program: Program) -> list[str]:
    """Name every model that has gone to sleep, as often as it has."""
    return [event["model"] for event in program.events() if event["event"] == "model_slept"]


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_checked(example: str) -> None:
    """Every example is found good."""
    command = [str(BIN / "llmux"), "check", "--config", str(EXAMPLES / example)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest_twisted.ensureDeferred
async def test_two_gpus(machine: Machine) -> None:
    """Two models are awake on two GPUs and serve interleaved clients with no switch at all."""
    program = machine.serve("two-gpus.yaml")
    await in_thread(load, program, QWEN, GEMMA, clients=2, rounds=1)
    before = switches(program)
    assert before == 2
    await in_thread(load, program, QWEN, GEMMA)
    assert switches(program) == before
    placed = {m["name"]: m["placement"] for m in status(program)["models"] if m["placement"]}
    used = [name for placement in placed.values() for name, amount in placement.items() if amount]
    assert sorted(used) == ["gpu0", "gpu1"]
    await in_thread(load, program, QWEN, GEMMA, MISTRAL, rounds=2)
    assert machine.overcommitted() == ""


@pytest_twisted.ensureDeferred
async def test_pinned_embeddings(machine: Machine) -> None:
    """The embedding model stays while chat models switch around it under load."""
    program = machine.serve("pinned-embeddings.yaml")
    await in_thread(wait_until, lambda: states(program)[EMBED] == "awake")
    done = threading.Event()
    answered = 0

    def embed() -> None:
        nonlocal answered
        client = program.openai()
        while not done.is_set():
            began = time.monotonic()
            told = client.embeddings.create(model="text-embedding-3-small", input="x")
            assert told.data
            answered += 1
            assert time.monotonic() - began < 20
            time.sleep(0.01)

    running: Deferred[Any] = Deferred.fromCoroutine(in_thread(embed))
    await in_thread(load, program, QWEN, GEMMA)
    done.set()
    await running
    assert answered > 10
    assert EMBED not in slept(program)
    assert switches(program) > 3
    assert states(program)[EMBED] == "awake"


@pytest_twisted.ensureDeferred
async def test_sleep_levels(machine: Machine) -> None:
    """Who sleeps at level 1 keeps host memory, and is stopped when that is short."""
    program = machine.serve("sleep-levels.yaml")
    for model in (QWEN, GEMMA):
        await in_thread(load, program, model, clients=1, rounds=1)
    assert states(program)[QWEN] == "asleep"
    assert {r["name"]: r["used"] for r in status(program)["resources"]} == {"gpu0": 20, "ram": 80}
    await in_thread(load, program, MISTRAL, clients=1, rounds=1)
    assert sorted(states(program).values()) == ["asleep", "asleep", "awake", "stopped"]
    await in_thread(load, program, QWEN, GEMMA, MISTRAL, LLAMA, clients=8, rounds=4)
    held = json.loads((machine.directory / "claims.json").read_text())
    assert sum(claim["holds"].get("ram", 0) for claim in held.values()) <= 96


@pytest_twisted.ensureDeferred
async def test_one_over_two(machine: Machine) -> None:
    """Small models are awake together, and go for the big one, which gets its turn."""
    program = machine.serve("one-over-two.yaml")
    await in_thread(load, program, SMALL_A, SMALL_B, clients=4)
    assert states(program) == {BIG: "asleep", SMALL_A: "awake", SMALL_B: "awake"}
    await in_thread(load, program, SMALL_A, BIG, SMALL_B)
    assert set(slept(program)) >= {SMALL_A, SMALL_B}


@pytest_twisted.ensureDeferred
async def test_room_for_a_command(machine: Machine) -> None:
    """A command in the middle of a load gets its room, holds it, and gives it back."""
    program = machine.serve("two-gpus.yaml")
    await in_thread(load, program, QWEN, GEMMA, clients=2, rounds=1)
    mark = machine.directory / "running"
    command = [
        str(BIN / "llmux"), "run", "--admin", f"127.0.0.1:{program.port}", "--needs", "gpu0=24",
        "--", "sh", "-c", f"touch {mark}; sleep 2; rm {mark}",
    ]  # fmt: skip
    statuses: list[int] = []
    taken: list[float] = []

    def run_beside() -> None:
        done = subprocess.run(command, check=False, env=machine.environment)
        statuses.append(done.returncode)

    def look() -> None:
        """See what engines hold on the GPU while the command runs."""
        while beside.is_alive():
            claims = json.loads((machine.directory / "claims.json").read_text())
            held = sum(claim["holds"].get("gpu0", 0) for claim in claims.values())
            if mark.exists():
                taken.append(held)
            time.sleep(0.02)

    beside = threading.Thread(target=run_beside)
    looking = threading.Thread(target=look)
    beside.start()
    looking.start()
    await in_thread(load, program, QWEN, GEMMA, rounds=20)
    await in_thread(beside.join, 60)
    await in_thread(looking.join, 60)
    assert statuses == [0]
    assert len(taken) > 20
    assert set(taken) == {0}, "the room is the command's alone"
    assert status(program)["reservations"] == []
    await in_thread(load, program, QWEN, GEMMA, MISTRAL, clients=6)
    placed = [model["placement"] for model in status(program)["models"] if model["placement"]]
    assert len(placed) == 2, "it is given back"
