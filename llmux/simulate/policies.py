"""The policies that a simulation can compare, by name."""

from __future__ import annotations

from collections.abc import Sequence

from llmux.errors import LLMuxError
from llmux.policy import POLICIES, ISwitchPolicy
from llmux.settings import PolicyConfig
from llmux.simulate import fifo240


class UnknownPolicy(LLMuxError):
    """
    Nobody offers a policy of that name.

    :param name: the name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no policy {name!r}, but {', '.join(names())}")


def names() -> tuple[str, ...]:
    """Name all policies that there are, those of simulations alone last."""
    return (*POLICIES, fifo240.NAME)


def check_names(wanted: Sequence[str]) -> tuple[str, ...]:
    """
    Give some names back if there are policies of all of them.

    :raises UnknownPolicy: else.
    """
    for name in wanted:
        if name not in names():
            raise UnknownPolicy(name)
    return tuple(wanted)


def make_policy(name: str, settings: PolicyConfig) -> ISwitchPolicy:
    """
    Make a policy that has learnt nothing yet.

    :param name: one of :func:`names`.
    :param settings: what the configuration says of policies, but for the name.
    :raises UnknownPolicy: if it is none of them.
    """
    if name == fifo240.NAME:
        return fifo240.Fifo240Policy()
    check_names([name])
    return POLICIES[name]()
