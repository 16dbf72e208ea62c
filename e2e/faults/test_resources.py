"""What llmux itself can run out of: room on disks, file descriptors."""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.faults.house import House
from e2e.program import wait_until


class Disk:
    """
    A disk with little room.

    :param path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1024))

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a disk with little room, where that is allowed."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid():
        pytest.skip("only root can mount a small disk")
    words = [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_spool_is_full(disk: Disk, house: House) -> None:
    """A large body for which there is no room gets a 507; small ones are served as ever."""
    house.config["limits"] = {"spool_dir": str(disk.path)}
    house.start()
    house.serves("a")
    answer = house.send("a", text="x" * 3_000_000).answer()
    assert answer.status == 507, answer
    assert house.asked() == ["a"]
    assert house.program.event(event="request_ended", status=507)["how"] == "complete"
    house.serves("a", "b")
    house.config["limits"] = {}
    house.write()
    house.reload()
    house.send("b", text="x" * 3_000_000).is_served("b")


def test_journal_cannot_be_written(disk: Disk, house: House) -> None:
    """It is told once, and llmux serves on; it is told when there is room again."""
    house.config["state_dir"] = str(disk.path)
    house.state = disk.path
    (house.directory / "models").mkdir()
    (disk.path / "models").symlink_to(house.directory / "models")
    house.start()
    house.serves("a")
    disk.fill()
    house.serves("b", "a")
    (failed,) = house.told("journal_failed")
    assert "No space left on device" in failed["error"]
    assert not house.told("journal_written")
    house.serves("b")
    assert len(house.told("journal_failed")) == 1
    house.kill()  # what it knows is old: a is awake
    house.start()
    house.serves("a")
    assert not house.has_engine("b")
    disk.free()
    house.serves("b")
    wait_until(lambda: house.told("journal_written"))
    house.kill()
    house.start()
    house.serves("b", "a")


def test_hooks_have_no_room(disk: Disk, house: House) -> None:
    """Hooks that find no room fail, and say so; their model is served when there is some."""
    house.config["state_dir"] = str(disk.path)
    house.state = disk.path
    house.start()
    house.serves("a")
    disk.fill()
    house.fault("b", "wake", "head -c 100000 /dev/zero >large")
    answer = house.ask("b")
    assert answer.is_refusal(), answer
    assert house.told("hook_failed", hook="wake", model="b")
    disk.free()
    house.serves("b", "a")


@pytest.fixture
def exhaust(house: House) -> Callable[..., Callable[[], None]]:
    """Let llmux open no further file, or so many, from its call on; what that gives undoes it."""

    def exhaust(spare: int = 0) -> Callable[[], None]:
        pid = house.program.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = _open_files(pid)
        free = [number for number in range(len(taken) + spare + 1) if number not in taken]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[spare], before[1]))

        def undo() -> None:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

        return undo

    return exhaust


def test_no_files_for_connections(exhaust: Callable[..., Callable[[], None]], house: House) -> None:
    """New clients are turned away, and not left hanging; those that are connected go on."""
    house.start()
    stream = house.stream("a")
    undo = exhaust()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        house.send("a").answer()
    house.go_on.open()
    stream.comes_to_its_end()
    undo()
    house.serves("a", "b")


def test_no_files_for_backends(exhaust: Callable[..., Callable[[], None]], house: House) -> None:
    """A request for which no connection can be made gets 503, and why; no model is blamed."""
    house.have("a", reuse_secs=0)
    house.start()
    client = house.send("a")
    client.is_served("a")
    undo = exhaust()
    client.ask("a")
    answer = client.answer()
    assert answer.is_refusal(), answer
    assert "could not open a connection" in answer.message
    undo()
    client.ask("a")
    client.is_served("a")
    assert house.calls() == ["wake a request"]
    house.serves("b", "a")


@pytest.mark.parametrize("source", ["a", "idle"])
def test_no_files_for_hooks(
    source: str, exhaust: Callable[..., Callable[[], None]], house: House
) -> None:
    """A switch whose hooks cannot be started does not happen: 503, and the log says why."""
    house.start()
    client = house.send("a" if source == "a" else "unknown")
    assert client.answer().status == (200 if source == "a" else 404)
    before = house.calls()
    undo = exhaust()
    client.ask("b")
    assert client.answer().is_refusal()
    failed = house.told("hook_failed", hook="sleep" if source == "a" else "wake")
    assert "too many files open" in failed[0]["how"]
    undo()
    assert house.calls() == before
    house.serves("a", "b", "a")


def test_few_files_for_hooks(exhaust: Callable[..., Callable[[], None]], house: House) -> None:
    """However few files can be opened, a switch succeeds or is refused; the next one succeeds."""
    house.start()
    client = house.send("a")
    client.is_served("a")
    for spare in range(1, 7):
        house.serves("a")
        undo = exhaust(spare)
        client.ask("b")
        answer = client.answer()
        undo()
        assert answer.status == 200 or answer.is_refusal(), (spare, answer)
    house.serves("b", "a")


def test_no_files_for_health(exhaust: Callable[..., Callable[[], None]], house: House) -> None:
    """An alive that cannot be started says nothing about its model: nobody is cut."""
    house.have("a", alive_interval_secs=0.1)
    house.start()
    house.serves("a")
    stream = house.stream("a")
    undo = exhaust()

    def failures() -> int:
        failed = house.told("hook_failed", hook="alive")
        return sum("could not be run" in each["how"] for each in failed)

    wait_until(lambda: failures() > 5)
    undo()
    house.go_on.open()
    stream.comes_to_its_end()
    assert not house.told("model_down")
    assert house.calls() == ["wake a request"]
    house.serves("a", "b")


def test_few_files_from_the_start(house: House) -> None:
    """With a low limit fewer clients are let in, and llmux says so; the next one is served."""
    house.start("/bin/sh", "-c", 'ulimit -n 134; exec "$@"', "sh")
    (limited,) = house.told("connections_limited")
    assert (limited["allowed"], limited["open_files"]) == (2, 134)
    streams = [house.stream("a") for _ in range(2)]
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        house.send("a").answer()
    house.go_on.open()
    for stream in streams:
        stream.comes_to_its_end()
        stream.leave()
    wait_until(lambda: _is_let_in(house))
    house.serves("b", "a")


def _open_files(pid: int) -> set[int]:
    """Give the open files of a process, when what it was about to close is closed."""
    seen: list[set[int]] = []
    while len(seen) < 5 or any(seen[-1] != each for each in seen[-5:]):
        seen.append({int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()})
        time.sleep(0.02)
    return seen[-1]


def _is_let_in(house: House) -> bool:
    try:
        return house.program.get("/health")[0] == 200
    except (OSError, http.client.HTTPException):
        return False
