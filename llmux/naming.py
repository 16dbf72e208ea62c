"""How a configuration says by which names clients may ask, and that no name means two things."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llmux.document import Listing, Node
from llmux.document import Mapping as MappingNode
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
    """Take a name that clients, or a backend, may use."""
    word = text(node)
    _check(word, "this")
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
    known = {model: (model,) for model in models}
    for model, config in models.items():
        for alias in config.aliases:
            if alias in known:
                owner = known[alias][0]
                whose = "this model's own" if alias == model else f"a name of {owner} already"
                sections[model].complain("aliases", f"{alias} is {whose}; choose another one")
            else:
                known[alias] = (model,)
    shared = top.get("first_awake", _first_awake, {})
    first_awake = {}
    for each, members in shared.items():
        if each in known:
            top.complain("first_awake", f"{each} is a name of {known[each][0]} already")
            continue
        unknown = [member for member in members if member not in known]
        for member in unknown:
            top.complain("first_awake", f"{each}: no model {member}{near_miss(member, known)}")
        if not unknown:
            first_awake[each] = tuple(dict.fromkeys(known[member][0] for member in members))
    default = top.get("default_model", name, None)
    everything = {*known, *shared}
    if default is not None and default not in everything:
        hint = near_miss(default, everything) or f"; there are: {', '.join(sorted(everything))}"
        top.complain("default_model", f"there is no such model{hint}")
    return Naming(default, first_awake)


def _first_awake(node: Node) -> dict[str, tuple[str, ...]]:
    if not isinstance(node, MappingNode):
        raise Complaint("this must be a mapping from names to lists of models: fast: [a, b]")
    found = {}
    for each, members in node.entries.items():
        _check(each, "a name")
        if not isinstance(members, Listing) or not members.items:
            raise Complaint(f"{each}: this must be a list of models, such as [a, b]")
        found[each] = tuple(map(name, members.items))
    return found


def _check(word: str, what: str) -> None:
    if not word or not word.isprintable():
        raise Complaint(f"{what} needs a name of printable characters")
    if word in _TAKEN:
        raise Complaint("this name stands for something else in metrics; choose another one")
