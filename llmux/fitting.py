"""
What the models of a configuration share, and whether they fit.

Each of them has to be able to be awake at some time.  That is so if it fits beside all that nobody
can make go: what is pinned, and what other models go on taking while they are asleep and have no
``stop`` hook for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from llmux.amounts import Amounts, add, fits, minus, shown, taken
from llmux.readers import amounts, near_miss
from llmux.schema import Section
from llmux.settings import ModelConfig

_MOST_TRIES = 10_000  # of placing what is pinned, one model after the other

Complain = Callable[[str, str, str], None]
"""Takes a complaint: the model's name, the key, and what is wrong."""


def read_resources(top: Section) -> Amounts | None:
    """
    Read what the models share from the top of the file.

    :returns: nothing if nothing is there; ``None`` if it cannot be read, which is complained about.
    """
    resources: Amounts | None = top.get("resources", amounts, None)
    if resources is None:
        return None if top.has("resources") else {}
    if not resources:
        top.complain("resources", "no resources: name one at least, such as gpu0: 24")
        return None
    by_variable: dict[str, str] = {}
    for resource, variable in variables(resources).items():
        other = by_variable.setdefault(variable, resource)
        if other != resource:
            top.complain("resources", f"{other} and {resource} would both be {variable} for hooks")
    return resources


def check_residency(section: Section, model: ModelConfig, resources: Amounts | None) -> None:
    """Complain about what says nothing, or two things at once."""
    for key in ("needs", "asleep_needs") if resources == {} else ():
        if section.has(key):
            section.complain(
                key, "there are no resources: say at the top of the file what there is"
            )
    if resources and not section.has("needs"):
        section.complain(None, "needs is missing: what it takes of the resources; nothing is {}")
    if model.stop is not None and not model.asleep_needs:
        section.complain("stop", "this would never run: say by asleep_needs what it frees")
    if model.pinned and section.has("idle_sleep_secs") and model.idle_sleep_secs is not None:
        section.complain("pinned", "it cannot stay and sleep when idle: remove idle_sleep_secs")


def fit(
    models: Mapping[str, ModelConfig], resources: Amounts | None, complain: Complain
) -> dict[str, ModelConfig]:
    """
    Check that every model fits.

    :param models: by name.
    :param resources: what there is; empty: one slot; ``None``: nobody knows.  Then nothing can be
        checked.
    :param complain: takes what is wrong.
    :returns: the models; one that is pinned keeps, of several places, the first beside which all
        others fit, for it will never leave it.
    """
    if not resources:
        return dict(models)
    sound = [_fits_alone(model, resources, complain) for model in models.values()]
    if not all(sound):
        return dict(models)
    pinned = [model for model in models.values() if model.pinned]
    movable = {name: model for name, model in models.items() if not model.pinned}
    for placed in _ways(pinned, movable, resources, iter(range(_MOST_TRIES))):
        return {name: placed[name] for name in models}
    at_first = {model.name: attrs.evolve(model, needs=model.needs[:1]) for model in pinned}
    for name in _misfits({**models, **at_first}, resources):
        complain(name, "needs", _why_not(models[name], models.values(), resources))
    return dict(models)


def variables(resources: Iterable[str]) -> dict[str, str]:
    """Give the environment variable in which hooks find how much of each resource they have."""
    return {
        resource: "LLMUX_RESOURCE_" + "".join(c if c.isalnum() else "_" for c in resource.upper())
        for resource in resources
    }


def _ways(
    pinned: Sequence[ModelConfig],
    placed: Mapping[str, ModelConfig],
    resources: Amounts,
    tries: Iterator[int],
) -> Iterator[Mapping[str, ModelConfig]]:
    """
    Give every way of placing what is pinned beside which all models fit, the best first.

    :param placed: the models that are not pinned, and those that are and have their place.
    :param tries: comes to its end when no more is to be tried.
    """
    if next(tries, None) is None or any(_misfits(placed, resources)):
        return  # what does not fit now will not fit beside more
    if not pinned:
        yield placed
        return
    first, *rest = pinned
    for needs in first.needs:
        with_it = {**placed, first.name: attrs.evolve(first, needs=(needs,))}
        yield from _ways(rest, with_it, resources, tries)


def _fits_alone(model: ModelConfig, resources: Amounts, complain: Complain) -> bool:
    sound = True
    for key, vectors in (("needs", model.needs), ("asleep_needs", (model.asleep_needs,))):
        for resource in dict.fromkeys(itertools.chain(*vectors)):
            if resource not in resources:
                hint = near_miss(resource, resources) or f"; there are: {', '.join(resources)}"
                complain(model.name, key, f"there is no {resource} in resources{hint}")
                sound = False
    for needs in model.needs if sound else ():
        whole = add(needs, model.asleep_needs)
        for resource, amount in whole.items():
            if not fits({resource: amount}, resources):
                complain(
                    model.name,
                    "needs",
                    f"this can never fit: it takes {shown(amount)} of {resource}, and there is"
                    f" {shown(resources[resource])}",
                )
                sound = False
    return sound


def _misfits(models: Mapping[str, ModelConfig], resources: Amounts) -> Iterator[str]:
    """Give the models that can never be awake, pinned ones being in the first of their places."""
    lasting = {name: _lasting(model) for name, model in models.items()}
    free = minus(resources, add(*lasting.values()))
    for name, model in models.items():
        room = add(free, lasting[name])
        if not any(fits(add(needs, model.asleep_needs), room) for needs in model.needs):
            yield name


def _lasting(model: ModelConfig) -> Amounts:
    """Say what nobody can make a model give back."""
    if model.pinned:
        return add(model.needs[0], model.asleep_needs)
    return model.asleep_needs if model.stop is None else {}


def _why_not(model: ModelConfig, models: Iterable[ModelConfig], resources: Amounts) -> str:
    others = [other for other in models if other.name != model.name]
    held = add(*map(_lasting, others))
    pinned = [other.name for other in others if other.pinned]
    sleepers = [o.name for o in others if not o.pinned and o.stop is None and taken(o.asleep_needs)]
    reasons = [
        f"{what} {', '.join(names)}"
        for what, names in (("pinned:", pinned), ("asleep, and without a stop hook:", sleepers))
        if names
    ]
    amounts = ", ".join(
        f"{shown(amount)} of {shown(resources[name])} {name}" for name, amount in held.items()
    )
    return (
        f"this does not fit beside what stays whoever waits ({'; '.join(reasons)}), which can take"
        f" {amounts}: pin less, or give sleepers a stop hook"
    )
