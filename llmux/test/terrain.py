"""Random machines for a :class:`~llmux.test.world.World`: what there is, and models that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import attrs

from llmux.amounts import Amounts
from llmux.budget import SLOT
from llmux.config import ModelConfig
from llmux.fitting import fit
from llmux.test.fakes import model_config

_Item = TypeVar("_Item")

COOL = 20.0
"""Seconds that a stays awake at least."""

TIMEOUT = 30.0
"""Seconds that a request for c may wait."""

DRAIN = 40.0
"""Seconds after which requests that hold up a switch are cut, at a and at d."""

IDLE = 25.0
"""Seconds without a request after which some go to sleep."""

CHARACTERS: Mapping[str, Mapping[str, object]] = {
    "a": {"min_active_secs": COOL, "alive": "alive a", "drain_timeout_secs": DRAIN},
    "b": {"drain_before_switch": False, "kill": "kill b"},
    "c": {"request_timeout_secs": TIMEOUT, "alive": "alive c", "settle_secs": 0.0},
    "d": {"freed": "freed d", "drain_timeout_secs": DRAIN, "alive_interval_secs": None},
    "e": {"max_wait_secs": 5.0},
    "f": {"alive": "alive f", "kill": "kill f"},
    "g": {"settle_secs": 0.0, "freed": "freed g", "max_wait_secs": 40.0},
    "h": {"alive": "alive h", "min_active_secs": COOL},
}
"""Models that differ in all that makes a difference; a configuration has some of them."""

NAMES = "".join(CHARACTERS)


class Choices(Protocol):
    """Chooses."""

    def choice(self, options: Sequence[_Item], /) -> _Item:
        """Choose one of some things."""


@attrs.frozen
class Terrain:
    """
    A machine and its models.

    :param capacity: by resource, what there is.
    :param settings: by model, its settings beside its character: all that could ever be configured.
    :param names: the models that the first configuration has.
    :param shared: by name, the models of which any will do.
    :param idle_model: the model that is woken when nothing is asked, if one is.
    """

    capacity: Amounts
    settings: Mapping[str, dict[str, Any]]
    names: str
    shared: Mapping[str, tuple[str, ...]] = attrs.Factory(dict)
    idle_model: str | None = None

    @property
    def one_slot(self) -> bool:
        """Whether no resources are configured."""
        return SLOT in self.capacity

    def config(self, name: str, **more: Any) -> ModelConfig:
        """Make the configuration of a model."""
        return model_config(name, **{**CHARACTERS[name], **self.settings[name], **more})

    def configs(self, names: str, **more: Any) -> dict[str, ModelConfig]:
        """Make the configuration of some models; what is pinned has its place."""
        models = {name: self.config(name, **more) for name in names}
        if self.one_slot:
            return models
        return fit(models, self.capacity, lambda *complaint: None)

    def sharing(self, names: str) -> dict[str, tuple[str, ...]]:
        """Say which models share requests, of those that are there."""
        left = {
            name: tuple(member for member in members if member in names)
            for name, members in self.shared.items()
        }
        return {name: members for name, members in left.items() if members}


def make_slots(choices: Choices) -> Terrain:
    """Make a machine of which the configuration says nothing: one slot, or two."""
    names = choices.choice(("abcd", "abc", "ab", "acd", "bcd"))
    settings = {name: _limits(choices) for name in NAMES}
    return Terrain({SLOT: choices.choice((1.0, 1.0, 1.0, 2.0))}, settings, names)


def make_machine(choices: Choices) -> Terrain:
    """Make a machine with one to three resources, and one to eight models that fit on it."""
    count = choices.choice((1, 2, 2, 3))
    names = NAMES[choices.choice((0, 0, 2, 4)) :][: choices.choice(range(1, 9))] or "ab"
    resources = ("gpu0", "gpu1", "ram")[:count]
    capacity = {resource: choices.choice((8.0, 10.0, 12.5, 24.0)) for resource in resources}
    settings: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        settings[name] = {**_limits(choices), **_residency(choices, capacity)}
        complaints: list[tuple[str, str, str]] = []
        models = {each: model_config(each, **settings[each]) for each in settings}
        fit(models, capacity, lambda *complaint, told=complaints: told.append(complaint))
        if complaints:  # a lighter one always fits beside what fits already
            settings[name].update(needs=({resources[0]: 0.0},), asleep_needs={}, pinned=False)
            settings[name].pop("stop", None)
    shared = {}
    if choices.choice((False, True)):
        shared["any"] = tuple(dict.fromkeys(choices.choice(names) for _ in range(3)))
    idle_model = choices.choice((None, None, names[0]))
    return Terrain(capacity, settings, names, shared, idle_model)


def change(terrain: Terrain, name: str, choices: Choices) -> bool:
    """
    Have a model take something else, awake and asleep, and perhaps be pinned.

    :returns: whether it does: not where others could not be woken beside it any more.
    """
    settings = terrain.settings[name]
    changed = {**settings, "asleep_needs": {}, "stop": None}
    changed.update(_residency(choices, terrain.capacity))
    complaints: list[tuple[str, str, str]] = []
    models = {each: model_config(each, **terrain.settings[each]) for each in terrain.settings}
    models[name] = model_config(name, **changed)
    fit(models, terrain.capacity, lambda *complaint: complaints.append(complaint))
    if not complaints:
        settings.update(changed)
    return not complaints


def _limits(choices: Choices) -> dict[str, Any]:
    return {
        "max_concurrency": choices.choice((None, None, 1, 2)),
        "max_waiting": choices.choice((1000, 3)),
        "prepare": choices.choice((None, "prepare")),
    }


def _residency(choices: Choices, capacity: Amounts) -> dict[str, Any]:
    resources = tuple(capacity)
    alternatives = []
    for _ in range(choices.choice((1, 1, 2, 3))):
        wanted = {choices.choice(resources) for _ in range(choices.choice((1, 1, 2)))}
        shares = (0.25, 0.4, 0.5, 0.75, 1.0)
        alternatives.append({r: capacity[r] * choices.choice(shares) for r in sorted(wanted)})
    residency: dict[str, Any] = {"needs": tuple(alternatives)}
    if choices.choice(range(3)) == 0:
        last = resources[-1]
        residency["asleep_needs"] = {last: capacity[last] * choices.choice((0.1, 0.25, 0.5))}
        if choices.choice((True, True, False)):
            residency["stop"] = "stop"
    residency["pinned"] = choices.choice(range(6)) == 0
    residency["wake_at_start"] = choices.choice(range(4)) == 0
    residency["idle_sleep_secs"] = choices.choice((None, None, None, IDLE))
    return residency
