"""The lives of llmux: started, ended or killed, started again; what it says, and what it costs."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from bench.fleet import Fleet
from bench.processes import BenchError, Process, rss, wait_until

ENDING = 100.0  # seconds that llmux may take to end: its grace and the deadlines of two hooks


@attrs.frozen
class Sample:
    """
    What a process costs at one moment.

    :param at: seconds since the soak began.
    :param files: how many files it has open.
    :param bytes: the memory that it has in RAM.
    """

    at: float
    files: int
    bytes: int


@attrs.define
class Life:
    """One process of llmux."""

    process: Process
    began: float
    samples: list[Sample] = attrs.Factory(list)


class Llmux:
    """
    llmux, over and over again.

    :param fleet: its models.
    :ivar lives: all its processes so far.
    :ivar up: whether it is meant to listen.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.lives: list[Life] = []
        self.up = False
        self._began = time.monotonic()

    @property
    def life(self) -> Life:
        """The last process."""
        return self.lives[-1]

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def start(self, wait: bool = True) -> None:
        """
        Start it.

        :param wait: whether to return only when it listens.
        :raises BenchError: if it has ended instead.
        """
        command = ["twistd", "-n", "--pidfile=", "llmux", "--config", str(self.fleet.config)]
        process = Process(
            [*command, "--log-format", "json"],
            self.fleet.log,
            environment=self.fleet.environment,
            cwd=self.fleet.directory,
        )
        self.lives.append(Life(process, self.now))
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        """Return when it listens."""

        def listens() -> bool:
            self.life.process.check()
            try:
                return self.get("/health", timeout=5)[0] == 200
            except OSError:
                return False

        wait_until(listens, "llmux listens")
        self.up = True

    def end(self, number: signal.Signals) -> int:
        """End it with a signal; give its exit status."""
        self.up = False
        return self.life.process.end_with(number, ENDING)

    def sample(self) -> None:
        """Note down what it costs now."""
        pid = self.life.process.pid
        try:
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            self.life.samples.append(Sample(self.now, files, rss(pid)))
        except (OSError, BenchError):  # it is being killed
            return

    def get(self, path: str, timeout: float = 10.0) -> tuple[int, str]:
        """GET a path; give status and body."""
        return self._ask(urllib.request.Request(self._url(path)), timeout)

    def post(self, path: str, timeout: float = 200.0) -> tuple[int, str]:
        """Give an order; give status and body."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url(path), b"{}", headers, method="POST")
        return self._ask(request, timeout)

    def status(self) -> dict[str, Any] | None:
        """Ask what it is doing; ``None`` if it does not answer, because it is not there."""
        try:
            status, body = self.get("/llmux/status")
        except OSError:
            return None
        document: dict[str, Any] = json.loads(body)
        return document if status == 200 else None

    def gauges(self) -> dict[str, float]:
        """Give all of its gauges that are not 0: of requests that wait and that are in flight."""
        names = ("llmux_request_queue_depth", "llmux_model_in_flight")
        found = {}
        for line in self.get("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith(names) and float(value):
                found[name] = float(value)
        return found

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.fleet.port}{path}"

    def _ask(self, request: urllib.request.Request, timeout: float) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def at_rest(status: dict[str, Any]) -> bool:
    """Say whether nothing is under way: no switch, no order, no hook that changes something."""
    return status["phase"] == "serving" and status["switch"] is None and not status["orders"]


def states(status: dict[str, Any]) -> dict[str, str]:
    """Give the state of each model."""
    return {model["name"]: model["state"] for model in status["models"]}


def read_log(path: Path) -> tuple[dict[str, int], list[str]]:
    """
    Count the events of a log.

    :returns: how many there are of each; and all that nobody foresaw.
    """
    counts: Counter[str] = Counter()
    bugs = []
    with path.open(errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                counts["(no JSON)"] += 1  # cut by SIGKILL, or said by Python before the log is open
                continue
            counts[event["event"]] += 1
            if "traceback" in event or event["level"] == "critical":
                bugs.append(line.strip()[:3000])
    return dict(sorted(counts.items())), bugs
