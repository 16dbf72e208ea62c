"""A house with two models that do not fit beside each other, llmux, and whatever goes wrong."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2e.conftest import CHECKOUT
from e2e.faults.client import Answer, Client
from e2e.program import Gate, Program, free_port, scratch_environment, wait_until

HOOK = str(CHECKOUT / "e2e/faults/hook.sh")
_CHANGING = ("wake", "sleep", "kill", "stop")


class House:
    """
    The models ``a`` and ``b``, with hooks of which each can be told to go wrong.

    :param directory: all that it has.
    :ivar config: what the configuration will say; see :meth:`write`.
    :ivar program: the llmux that runs, or has run last.
    :ivar go_on: lets engines send the rest of their answers.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.environment = {**scratch_environment(directory), "FAULTS_HOUSE": str(directory)}
        self.state = directory / "state"
        self.path = directory / "config.json"
        self.config: dict[str, Any] = {
            "port": self.port,
            "state_dir": str(self.state),
            "policy": {"settle_secs": 0},
            "hooks": {"alive_interval_secs": None, "wake_timeout_secs": 20},
            "models": {"a": self.model(), "b": self.model()},
        }
        self.programs: list[Program] = []
        self.go_on = Gate(directory / "go_on")
        (directory / "faults").mkdir()
        for name in ("calls", "asked"):
            (directory / name).touch()

    @staticmethod
    def model(**settings: Any) -> dict[str, Any]:
        """Configure a model."""
        return {"port": free_port(), "wake": HOOK, "sleep": HOOK, "alive": HOOK, **settings}

    def have(self, model: str, **settings: Any) -> None:
        """Set something for a model; ``None``: without it."""
        whole = {**self.config["models"][model], **settings}
        self.config["models"][model] = {k: v for k, v in whole.items() if v is not None}

    def write(self) -> None:
        """Write the configuration."""
        self.path.write_text(json.dumps(self.config))

    def launch(self, *prefix: str, **settings: Any) -> Program:
        """
        Start llmux with the configuration as it is now, and wait for nothing.

        :param prefix: what starts ``twistd`` in the place of the system.
        """
        self.write()
        words = ["twistd", "-n", "--pidfile=", "llmux", "--config", str(self.path)]
        words += ["--log-format", "json"]
        if prefix:
            words = [*prefix, str(Path(self.environment["PYTHON"]).parent / words[0]), *words[1:]]
        log = self.directory / f"log{len(self.programs)}"
        self.programs.append(
            Program(words, self.port, self.environment, log, cwd=self.directory, **settings)
        )
        return self.program

    def start(self, *prefix: str) -> Program:
        """Start llmux, and wait until it serves."""
        program = self.launch(*prefix)
        program.wait_until_it_serves()
        return program

    @property
    def program(self) -> Program:
        """The llmux that was started last."""
        return self.programs[-1]

    def kill(self) -> None:
        """Kill llmux, so that it can do nothing about it."""
        self.program.kill()

    def end(self) -> None:
        """Tell llmux to end; it has to do so in good order."""
        assert self.program.terminate() == 0, self.program.printed()

    def reload(self, event: str = "config_reloaded") -> dict[str, Any]:
        """Have the configuration that is written read again, and give what llmux says to that."""
        before = len(self.told(event))
        self.program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self.told(event)) > before)
        return self.told(event)[-1]

    def fault(self, model: str, hook: str, script: str) -> None:
        """Have a hook do something else first; if that exits, the hook does nothing else."""
        path = self.directory / "faults" / f"{model}.{hook}"
        new = path.with_suffix(".new")
        new.write_text(script)
        new.rename(path)

    def mend(self, model: str, hook: str) -> None:
        """Have a hook do what it is for again."""
        (self.directory / "faults" / f"{model}.{hook}").unlink()

    def gate(self, model: str, hook: str, then: str = "") -> Gate:
        """
        Have a hook wait at a gate.

        :param then: what it does when it has passed.
        """
        gate = Gate(self.directory / f"gate.{model}.{hook}")
        script = f"until [ -e '{gate.path}' ]; do sleep 0.02; done; {then}"
        self.fault(model, hook, script)
        return gate

    def send(self, model: str, **said: Any) -> Client:
        """Send a request, and do not wait for its answer."""
        return Client(self.port, model, **said)

    def stream(self, model: str) -> Client:
        """Have the beginning of an answer read, whose end comes with ``go_on``."""
        client = self.send(model, stream=True)
        client.begin()
        return client

    def ask(self, model: str) -> Answer:
        """Send a request and read its answer."""
        return self.send(model).answer()

    def serves(self, *models: str) -> None:
        """
        See the next request for each of some models served, without a restart.

        Whoever is asked to come again later does so.
        """
        for model in models:
            answers: list[Answer] = []

            def served(model: str = model, answers: list[Answer] = answers) -> bool:
                answers.append(self.ask(model))
                assert answers[-1].status == 200 or answers[-1].is_refusal(), answers
                if answers[-1].is_refusal():
                    time.sleep(0.1)  # less than Retry-After says: the test is in a hurry
                return answers[-1].status == 200

            wait_until(served)
            assert answers[-1].served_by == model
        assert not [event for event in self.events() if "traceback" in event]

    def waits(self, model: str, number: int = 1) -> None:
        """Wait until so many requests wait for a model."""
        wait_until(lambda: self.look(model)["waiters"]["count"] == number)

    def runs(self, call: str) -> None:
        """Wait until a hook has begun: ``wake a request``."""
        wait_until(lambda: call in self.calls(*_CHANGING, "alive", "freed"))

    def is_(self, model: str, state: str) -> None:
        """Wait until a model is in a state."""
        wait_until(lambda: self.look(model)["state"] == state)

    def rests(self) -> None:
        """Wait until nothing is switched and nobody waits."""

        def quiet() -> bool:
            now = self.status()
            waiting = any(model["waiters"]["count"] for model in now["models"])
            return now["switch"] is None and now["phase"] == "serving" and not waiting

        wait_until(quiet)

    def status(self) -> dict[str, Any]:
        """Give the status document."""
        document: dict[str, Any] = json.loads(self.program.get("/llmux/status")[1])
        return document

    def look(self, model: str) -> dict[str, Any]:
        """Give what the status document says about a model."""
        (found,) = (each for each in self.status()["models"] if each["name"] == model)
        assert isinstance(found, dict)
        return found

    def calls(self, *hooks: str) -> list[str]:
        """
        Say which hooks have run, in the order in which they began: ``wake a request``.

        :param hooks: which of them; without: those that change something.
        """
        lines = (self.directory / "calls").read_text().splitlines()
        return [line for line in lines if line.split()[0] in (hooks or _CHANGING)]

    def told(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Give the log's events of a kind, with such fields."""
        return [
            each
            for each in self.events()
            if each["event"] == event and all(each[key] == fields[key] for key in fields)
        ]

    def events(self) -> list[dict[str, Any]]:
        """Give all events of its log."""
        return self.program.events()

    def hows(self, model: str) -> list[str]:
        """Say how the requests for a model have ended, by the access log."""
        return [each["how"] for each in self.told("request_ended", model=model)]

    def asked(self) -> list[str]:
        """Say which models' engines have got requests, in order."""
        return (self.directory / "asked").read_text().splitlines()

    def engine(self, model: str) -> int:
        """Give the process of a model's engine."""
        return int((self.state / "models" / model / "engine.pid").read_text())

    def has_engine(self, model: str) -> bool:
        """Tell whether a model's engine runs."""
        with suppress(FileNotFoundError):
            return is_running(self.engine(model))
        return False

    def crash(self, model: str) -> None:
        """Kill a model's engine; its hooks know nothing of it."""
        pid = self.engine(model)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(pid))

    def hook(self) -> int:
        """Give the process of the hook that was begun last."""
        return int((self.directory / "hook").read_text())

    def close(self) -> None:
        """End all that runs: llmux, then hooks and engines, each by its number."""
        for program in self.programs:
            program.kill()
        while ours := self._processes():  # some may have started others meanwhile
            for pid in ours:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _processes(self) -> list[int]:
        """Find what the hooks of this house have started: it has their environment."""
        mark = f"FAULTS_HOUSE={self.directory}\0".encode()
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (each / "environ").read_bytes():
                    found.append(int(each.name))
        return found


def is_running(pid: int) -> bool:
    """Tell whether any thread of a process runs; a zombie does not, and has nothing open."""
    for each in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if each.read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False
