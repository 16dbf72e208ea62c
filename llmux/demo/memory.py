"""
The memory of a pretended machine, which backends share as real ones share their GPUs.

It is a directory: ``capacity.json`` says what there is, ``claims.json`` who holds what.  Whoever
asks for more than is free does not get it, and a line in ``overcommitted.log`` tells of it for
good: a multiplexer that promises memory twice is found out, however often it tries again.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

Amounts = Mapping[str, float]
_ROUNDING = 1e-9


class NoRoom(Exception):
    """There is not so much memory free; the message says how much there is."""


@define
class Memory:
    """
    A process's share of a machine.

    :param directory: stands for the machine.
    :param name: what the process is called in ``overcommitted.log``.
    """

    directory: Path
    name: str
    _owner: str = field(factory=lambda: str(os.getpid()), init=False)

    def hold(self, amounts: Amounts) -> None:
        """
        Hold so much from now on, instead of what was held.

        :raises NoRoom: if that is not free; then all is as before.
        """
        with self._claims() as claims:
            capacity = json.loads((self.directory / "capacity.json").read_text())
            others = [claim["holds"] for owner, claim in claims.items() if owner != self._owner]
            for resource, wanted in amounts.items():
                taken = sum(held.get(resource, 0.0) for held in others)
                free = capacity.get(resource, 0.0) - taken
                if wanted > free + _ROUNDING:
                    refusal = f"{self.name} wants {wanted:g} of {resource}, and {free:g} is free"
                    with (self.directory / "overcommitted.log").open("a") as log:
                        log.write(f"{refusal}: {json.dumps(claims)}\n")
                    raise NoRoom(refusal)
            claims[self._owner] = {
                "name": self.name,
                "holds": dict(amounts),
                "started": _started(os.getpid()),
            }

    def let_go(self) -> None:
        """Hold nothing any more."""
        with self._claims() as claims:
            claims.pop(self._owner, None)

    @contextmanager
    def _claims(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Give what the living hold, to be changed; nobody else looks or changes meanwhile."""
        path = self.directory / "claims.json"
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                found = json.loads(path.read_text())
            except FileNotFoundError:
                found = {}
            claims = {
                owner: claim
                for owner, claim in found.items()
                if _started(int(owner)) == claim["started"]
            }
            yield claims
            new = path.with_suffix(".new")
            new.write_text(json.dumps(claims))
            new.replace(path)


def read_amounts(text: str) -> dict[str, float]:
    """
    Read amounts as the command line has them: ``gpu0=20,ram=8``.

    :raises ValueError: if they are not written like that.
    """
    amounts = {}
    for each in filter(None, text.split(",")):
        resource, equals, amount = each.partition("=")
        if not equals or not resource or not float(amount) >= 0:
            raise ValueError(f"{each!r} is not like gpu0=20")
        amounts[resource] = float(amount)
    return amounts


def _started(pid: int) -> str | None:
    """Say when a process started (proc(5), field 22); ``None`` if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
