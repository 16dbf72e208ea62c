"""The section ``policy`` of a configuration, as far as it says which policy decides."""

from __future__ import annotations

from llmux.document import Listing, Mapping, Node, Scalar
from llmux.policy.contract import ISwitchPolicy
from llmux.policy.plugins import UnknownPolicy, UnusablePolicy, make_policy
from llmux.readers import Complaint, boolean, near_miss, number, text
from llmux.schema import Section
from llmux.settings import PolicyConfig

_DEFAULT = PolicyConfig()


def read_policy(section: Section) -> PolicyConfig:
    """Read which policy decides; one that cannot be made is complained about."""
    chosen = PolicyConfig(
        name=section.get("name", text, _DEFAULT.name),
        options=section.get("options", _plain_mapping, {}),
    )
    try:
        configured_policy(chosen)
    except UnknownPolicy as error:
        hint = near_miss(chosen.name, error.known)
        known = ", ".join(error.known)
        section.complain("name", f"no policy is called so{hint}; there are: {known}")
    except UnusablePolicy as error:
        section.complain("options" if section.has("options") else "name", error.why)
    return chosen


def configured_policy(chosen: PolicyConfig) -> ISwitchPolicy:
    """
    Make the policy that a configuration asks for; it has learnt nothing yet.

    :raises UnknownPolicy: if nobody offers it.
    :raises UnusablePolicy: if it cannot be made with its options.
    """
    return make_policy(chosen.name, chosen.options)


def _plain_mapping(node: Node) -> dict[str, object]:
    """Take keys with whatever values, of the types that YAML 1.2 and JSON give them."""
    if isinstance(node, Scalar) and node.is_null():
        return {}
    if not isinstance(node, Mapping):
        raise Complaint("this must be a mapping, with key: value lines")
    return {key: _plain_value(value) for key, value in node.entries.items()}


def _plain_value(node: Node) -> object:
    if isinstance(node, Mapping):
        return _plain_mapping(node)
    if isinstance(node, Listing):
        return [_plain_value(item) for item in node.items]
    if node.is_null():
        return None
    for reader in (boolean, number):
        try:
            return reader(node)
        except Complaint:
            pass
    return node.text
