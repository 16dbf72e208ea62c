"""
What a restart must know: which models held what, which hooks ran, and what was learnt.

One JSON document, written as a whole each time.  It is not forced to the disk (no fsync): a process
that is killed loses nothing by that, and after a power cut nothing is awake anyway.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from llmux.budget import Placement
from llmux.events import Events
from llmux.hooks.contract import Hook, Leftover, ProcessId
from llmux.journalfile import JournalFile
from llmux.states import State

FILENAME = "journal.json"
VERSION = 1
"""The format; a file of a later one is not read."""

_MOST = 2**63  # larger whole numbers than the system has are none of ours


@attrs.frozen
class ModelRecord:
    """
    What is known of one model.

    :param state: the value of its :class:`~llmux.states.State`.
    :param asked: the number of its last request among all, over all restarts; 0: there was none.
    :param agreed: the text of the ``alive`` hook that has agreed at least once, if one has.
    :param config: its configuration as plain JSON values, for what has to be done with it if the
        file has it no longer; see :meth:`llmux.config.ModelConfig.as_json`.
    :param placement: where it is, or was last; see :meth:`llmux.budget.Placement.as_json`.
    :param pin: whether an operator wants it to stay, or to be able to go; ``None``: neither.
    :param kept: what it keeps if it is asleep, by resource.
    """

    state: str
    asked: int = 0
    agreed: str | None = None
    config: Mapping[str, object] = attrs.Factory(dict)
    placement: Mapping[str, object] | None = None
    pin: bool | None = None
    kept: Mapping[str, float] = attrs.Factory(dict)

    @property
    def takes_something(self) -> bool:
        """Whether it holds something that it can be made to give back."""
        if self.state == State.ASLEEP.value:
            keeps = self.kept or self.config.get("asleep_needs")
            return bool(keeps and self.config.get("stop"))
        return self.state != State.STOPPED.value


@attrs.frozen
class ReservationRecord:
    """
    What is known of a reservation that holds room.

    :param needs: by resource, how much.
    :param ttl: seconds for which it holds from its last renewal on.
    :param note: what its holder says it is for.
    """

    needs: Mapping[str, float]
    ttl: float
    note: str


@attrs.frozen
class Memory:
    """
    All that a journal holds.

    :param models: by name.
    :param hooks: those that were running.
    :param costs: what switches cost, see :meth:`llmux.costs.SwitchCosts.as_json`.
    :param policy: what the policy has learnt.
    :param reservations: by id, those that hold room.
    """

    models: Mapping[str, ModelRecord] = attrs.Factory(dict)
    hooks: tuple[Leftover, ...] = ()
    costs: Mapping[str, object] = attrs.Factory(dict)
    policy: Mapping[str, object] = attrs.Factory(dict)
    reservations: Mapping[str, ReservationRecord] = attrs.Factory(dict)


class Journal:
    """
    Keeps a :class:`Memory` in a file.

    A write that fails raises nothing, for requests can be served without a journal.  It is told
    once.

    :param directory: holds the file, which is its owner's alone.
    :param events: told of what goes wrong with it.
    """

    def __init__(self, directory: Path, events: Events) -> None:
        self._path = directory / FILENAME
        self._file = JournalFile(self._path)
        self._events = events
        self._models: Mapping[str, ModelRecord] = {}
        self._hooks: dict[tuple[str, Hook], Leftover] = {}
        self._costs: Mapping[str, object] = {}
        self._policy: Mapping[str, object] = {}
        self._reservations: Mapping[str, ReservationRecord] = {}
        self._written: bytes | None = None
        self._failing = False

    def read(self) -> Memory:
        """
        Take in what an earlier llmux has left.

        Its hooks count as running until :meth:`hook_ended` says otherwise.

        :returns: nothing known if there is no journal, or none that can be used; that one is moved
            aside.
        """
        try:
            content = self._file.read()
            memory = _decode(content)
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError) as error:
            self._set_aside(str(error))
            return Memory()
        self._models, self._costs, self._policy = memory.models, memory.costs, memory.policy
        self._reservations = memory.reservations
        self._hooks = {(hook.model, hook.hook): hook for hook in memory.hooks}
        self._written = content + b"\n"
        return memory

    def hook_began(self, leftover: Leftover) -> None:
        """Note a hook whose process is there and whose script has not begun yet."""
        self._hooks[leftover.model, leftover.hook] = leftover
        self._write()

    def hook_ended(self, model: str, hook: Hook, *, write: bool = True) -> None:
        """Note that nothing is left of a hook, at once or with what is written next."""
        self._hooks.pop((model, hook), None)
        if write:
            self._write()

    def save(
        self,
        models: Mapping[str, ModelRecord],
        costs: Mapping[str, object],
        policy: Mapping[str, object],
        reservations: Mapping[str, ReservationRecord] | None = None,
        *,
        write: bool = True,
    ) -> None:
        """
        Note all but the hooks, at once or with what is written next.

        :param models: by name, all that are to be remembered.
        :param costs: plain JSON values.
        :param policy: plain JSON values.
        :param reservations: by id, those that hold room.
        """
        self._models, self._costs, self._policy = dict(models), costs, policy
        self._reservations = dict(reservations or {})
        if write:
            self._write()

    def _write(self) -> None:
        content = _encode(
            Memory(
                self._models,
                tuple(self._hooks.values()),
                self._costs,
                self._policy,
                self._reservations,
            )
        )
        if content == self._written and not self._failing:
            return
        try:
            self._file.write(content)
        except OSError as error:
            if not self._failing:
                self._events.journal_failed(str(self._path), str(error))
            self._failing = True
            return
        self._written = content
        if self._failing:
            self._failing = False
            self._events.journal_written(str(self._path))

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_suffix(".json.broken")
        try:
            os.replace(self._path, aside)
        except OSError as error:
            kept = f"it could not be moved out of the way ({error})"
        else:
            kept = f"it is {aside.name} now"
        self._events.journal_unreadable(str(self._path), why, kept)


def _encode(memory: Memory) -> bytes:
    document = {
        "version": VERSION,
        "models": {name: _fields(record) for name, record in memory.models.items()},
        "hooks": [
            {
                "model": each.model,
                "hook": each.hook.value,
                "pid": each.process.pid,
                "started": each.process.started,
                "boot": each.process.boot,
                "deadline": each.deadline,
            }
            for each in memory.hooks
        ],
        "costs": memory.costs,
        "policy": memory.policy,
        "reservations": {id: _fields(each) for id, each in memory.reservations.items()},
    }
    # in ASCII, for scripts may hold bytes that are no UTF-8
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def _fields(record: ModelRecord | ReservationRecord) -> dict[str, object]:
    return attrs.asdict(record, recurse=False)  # what they hold is JSON as it is


def _decode(content: bytes) -> Memory:
    """
    Read a journal; keys that it does not know, it leaves out.

    :raises ValueError: if it is none, or one of a later format.
    """
    try:
        document = _mapping(json.loads(content))
        version = _integer(document["version"], 1)
        if version > VERSION:
            raise ValueError(f"its format {version} is that of a later llmux")
        hooks = document.get("hooks", [])
        if not isinstance(hooks, list):
            raise ValueError("its hooks are no list")
        return Memory(
            models={
                name: _record(_mapping(value))
                for name, value in _mapping(document.get("models", {})).items()
            },
            hooks=tuple(_leftover(_mapping(hook)) for hook in hooks),
            costs=_mapping(document.get("costs", {})),
            policy=_mapping(document.get("policy", {})),
            reservations={
                id: _reservation(_mapping(value))
                for id, value in _mapping(document.get("reservations", {})).items()
            },
        )
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _record(found: Mapping[str, object]) -> ModelRecord:
    agreed, placement, pin = (found.get(key) for key in ("agreed", "placement", "pin"))
    if pin is not None and not isinstance(pin, bool):
        raise ValueError(f"{_shown(pin)} is neither true nor false")
    return ModelRecord(
        state=_text(found["state"]),
        asked=_integer(found.get("asked", 0), 0),
        agreed=None if agreed is None else _text(agreed),
        config=_mapping(found.get("config", {})),
        placement=None if placement is None else _mapping(placement),
        pin=pin,
        kept=_amounts(found.get("kept", {})),
    )


def _reservation(found: Mapping[str, object]) -> ReservationRecord:
    return ReservationRecord(
        needs=_amounts(found["needs"]),
        ttl=_seconds(found["ttl"]),
        note=_text(found.get("note", "")),
    )


def _amounts(found: object) -> Mapping[str, float]:
    return Placement.from_json({"needs": found, "known": True}).needs


def _leftover(found: Mapping[str, object]) -> Leftover:
    return Leftover(
        model=_text(found["model"]),
        hook=Hook(found["hook"]),
        process=ProcessId(
            pid=_integer(found["pid"], 2),  # 0 and less are no process, and 1 is never a hook
            started=_integer(found["started"], 0),
            boot=_text(found["boot"]),
        ),
        deadline=_seconds(found["deadline"]),
    )


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"there is no object where one belongs, but {_shown(value)}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"there is no text where some belongs, but {_shown(value)}")
    return value


def _integer(value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _MOST:
        raise ValueError(f"{_shown(value)} is no whole number from {least} on")
    return value


def _seconds(value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:  # type: ignore[operator]  # it is a number
        raise ValueError(f"{_shown(value)} is no number of seconds")
    try:
        return float(value)  # type: ignore[arg-type]  # it is a number
    except OverflowError as error:
        raise ValueError("a number of seconds is too large") from error


def _shown(value: object) -> str:
    return repr(value)[:50]
