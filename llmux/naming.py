"""How a configuration says by which names clients may ask, and that no name means two things."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from llmux.document import Node
from llmux.readers import Complaint, near_miss, text
from llmux.schema import Section
from llmux.settings import ModelConfig

OF_NAMES = ("default_model", "first_awake")
"""Keys at the top of the file."""

_TAKEN = ("idle", "several")  # what metrics and hooks call no model, and many


@attrs.frozen
class Naming:
    """
    Names that stand for models, beside their own.

    :param default_model: what a request asks for that names no model; ``None``: it is refused.
    :param first_awake: by name, the models of which any will do, the one that is liked best first.
    """

    default_model: str | None
    first_awake: Mapping[str, tuple[str, ...]]


def check_name(section: Section) -> None:
    """Complain about a model's name if it cannot be one."""
    try:
        _check(section.name, "a model")
    except Complaint as complaint:
        section.complain(None, str(complaint))


def name(node: Node) -> str:
    """Take a name that clients may use."""
    word = text(node)
    _check(word, "this")
    return word


def backend_name(node: Node) -> str:
    """Take a name that a backend may use, who knows no metrics of ours."""
    word = text(node)
    _check_printable(word, "this")
    return word


def read_names(
    top: Section, models: Mapping[str, ModelConfig], sections: Mapping[str, Section]
) -> Naming:
    """
    Read what stands for models, and check that no name stands for two things.

    :param top: the whole file.
    :param models: by name.
    :param sections: theirs in the file, which aliases are complained about in.
    """
    owners = {model: model for model in models}
    for model, config in models.items():
        for alias in config.aliases:
            if alias in owners:
                owner = owners[alias]
                whose = "this model's own" if alias == model else f"a name of {owner} already"
                sections[model].complain("aliases", f"{alias} is {whose}; choose another one")
            else:
                owners[alias] = model
    shared = top.section("first_awake")
    first_awake = {each: _read_members(shared, each, owners) for each in shared.names()}
    default = top.get("default_model", name, None)
    everything = {*owners, *first_awake}
    if default is not None and default not in everything:
        top.complain("default_model", _nobody(default, everything))
    return Naming(default, first_awake)


def _read_members(shared: Section, each: str, owners: Mapping[str, str]) -> tuple[str, ...]:
    """
    Read what a name stands for of which any will do.

    :param owners: by name, whose it is already.
    """
    try:
        _check(each, "this")
        if each in owners:
            raise Complaint(f"this is a name of {owners[each]} already; choose another one")
    except Complaint as complaint:
        shared.complain(each, str(complaint))
    found: set[str] = set()

    def member(node: Node) -> str:
        word = text(node)
        model = owners.get(word)
        if model is None:
            raise Complaint(_nobody(word, owners))
        if model in found:
            raise Complaint(f"the model {model} is in this list already")
        found.add(model)
        return model

    return shared.items(each, member, (), some=True)


def _nobody(word: str, known: Collection[str]) -> str:
    hint = near_miss(word, known) or f"; there are: {', '.join(sorted(known))}"
    return f"there is no such model{hint}"


def _check(word: str, what: str) -> None:
    _check_printable(word, what)
    if word in _TAKEN:
        raise Complaint("this name stands for something else in metrics; choose another one")


def _check_printable(word: str, what: str) -> None:
    if not word or not word.isprintable():
        raise Complaint(f"{what} needs a name of printable characters")
