"""Where policies come from: those of llmux, and those that others have installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs
from txaio.tx import make_logger
from zope.interface import Attribute, Interface, implementer

from llmux.errors import LLMuxError
from llmux.policy.balanced import BalancedPolicy
from llmux.policy.contract import ISwitchPolicy
from llmux.policy.fifo import FifoPolicy
from llmux.policy.quantum import QuantumPolicy

_log = make_logger()


class ISwitchPolicyPlugin(Interface):
    """
    Makes policies of one kind.

    One that is an :class:`~twisted.plugin.IPlugin` too, in a module of the package
    ``twisted.plugins``, is found by its name.
    """

    name = Attribute("What ``policy.name`` calls it.")

    def make(options: Mapping[str, object]) -> ISwitchPolicy:
        """
        Make a policy that has learnt nothing yet; it is made to check the options, too.

        :param options: what stands in ``policy.options``: plain values, as JSON has them.
        :raises ValueError: if that makes no sense, with a sentence for whoever wrote it.
        """


class UnknownPolicy(LLMuxError):
    """
    Nobody offers a policy of that name.

    :param name: the name.
    :param known: the names that there are.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no policy {name!r}, but {', '.join(known)}")
        self.known = known


class UnusablePolicy(LLMuxError):
    """
    A policy cannot be made with these options.

    :param name: its name.
    :param why: what is wrong, in a sentence.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the policy {name} cannot be made: {why}")
        self.why = why


@implementer(ISwitchPolicyPlugin)
@attrs.frozen
class BuiltIn:
    """
    A policy of llmux's own.

    :param name: see :class:`ISwitchPolicyPlugin`.
    :param kind: makes it, given its options by their names.
    :param options: their names.
    """

    name: str
    kind: Callable[..., ISwitchPolicy]
    options: tuple[str, ...] = ()

    def make(self, options: Mapping[str, object]) -> ISwitchPolicy:
        """See :meth:`ISwitchPolicyPlugin.make`."""
        for option in options:
            if option not in self.options:
                known = f"one of: {', '.join(self.options)}" if self.options else "none"
                raise ValueError(f"{self.name} has no option {option!r}; use {known}")
        return self.kind(**options)


POLICIES: dict[str, ISwitchPolicyPlugin] = {
    "fifo": BuiltIn("fifo", FifoPolicy),
    "quantum": BuiltIn("quantum", QuantumPolicy, ("switch_costs",)),
    "balanced": BuiltIn("balanced", BalancedPolicy),
}
"""llmux's own policies, by the name that ``policy.name`` gives them."""


def policy_names() -> tuple[str, ...]:
    """Name all policies that there are, llmux's own first."""
    return tuple(dict.fromkeys((*POLICIES, *(name for name, _ in _installed()))))


def make_policy(name: str, options: Mapping[str, object]) -> ISwitchPolicy:
    """
    Make a policy that has learnt nothing yet.

    :param name: its name.
    :param options: see :meth:`ISwitchPolicyPlugin.make`.
    :raises UnknownPolicy: if nobody offers it.
    :raises UnusablePolicy: if it cannot be made with these options.
    """
    plugin = find_plugin(name)
    try:
        policy = plugin.make(dict(options))
    except ValueError as error:
        raise UnusablePolicy(name, str(error)) from error
    except Exception as error:  # it may be anybody's
        raise UnusablePolicy(name, f"it fails: {type(error).__name__}: {error}") from error
    if not ISwitchPolicy.providedBy(policy):
        raise UnusablePolicy(name, f"{policy!r} is made, which is no ISwitchPolicy")
    return policy


def find_plugin(name: str) -> ISwitchPolicyPlugin:
    """
    Find what makes policies of a name; who asks for one of llmux's own, has others' not looked at.

    :raises UnknownPolicy: if nobody offers it.
    """
    plugin = POLICIES.get(name) or dict(_installed()).get(name)
    if plugin is None:
        raise UnknownPolicy(name, policy_names())
    return plugin


def _installed() -> Iterator[tuple[str, ISwitchPolicyPlugin]]:
    """Give what others have installed, by name; Twisted logs what cannot be imported."""
    from twisted.plugin import getPlugins  # not for a command that only asks a running llmux

    for plugin in getPlugins(ISwitchPolicyPlugin):
        name = getattr(plugin, "name", None)
        if isinstance(name, str) and name:
            yield name, plugin
        else:
            _log.warn("the policy plugin {plugin!r} has no name, and is left out", plugin=plugin)
