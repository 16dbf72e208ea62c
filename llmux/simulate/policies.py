"""The policies that a simulation can compare, by name."""

from __future__ import annotations

from collections.abc import Sequence

from llmux.policy import POLICIES, ISwitchPolicy
from llmux.policy.plugins import UnknownPolicy, find_plugin
from llmux.policy.plugins import make_policy as make_real_policy
from llmux.settings import PolicyConfig
from llmux.simulate import clairvoyant, fifo240

_SIMULATED = (fifo240.NAME, clairvoyant.NAME)


def names() -> tuple[str, ...]:
    """Name those that any trace can be tried with: llmux's own, and that of llmux 2.4.0."""
    return (*POLICIES, fifo240.NAME)


def check_names(wanted: Sequence[str]) -> tuple[str, ...]:
    """
    Give some names back if there are policies of all of them.

    :raises UnknownPolicy: else.
    """
    for name in wanted:
        if name not in _SIMULATED:
            _known(name)
    return tuple(wanted)


def make_policy(name: str, settings: PolicyConfig) -> ISwitchPolicy:
    """
    Make a policy that has learnt nothing yet.

    :param name: one of :func:`names`, or of those that others have installed.
    :param settings: says with which options, if it is about this policy.
    :raises UnknownPolicy: if it is none of them.
    :raises UnusablePolicy: if it cannot be made with these options.
    """
    if name == fifo240.NAME:
        return fifo240.Fifo240Policy()
    _known(name)
    return make_real_policy(name, settings.options if settings.name == name else {})


def _known(name: str) -> None:
    try:
        find_plugin(name)
    except UnknownPolicy as error:
        raise UnknownPolicy(name, (*error.known, *_SIMULATED)) from None
