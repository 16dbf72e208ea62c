"""
What there is to share, and what a model takes of it.

Without resources in the configuration there is one *slot*, which every model needs: one model is
awake at a time, as in llmux 2.4.0.  Nothing else tells the two cases apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import attrs

from llmux.amounts import Amounts, highest, taken

SLOT = "slot"
"""The resource that there is one of where the configuration names none."""

ONE_SLOT: Amounts = {SLOT: 1.0}
"""What every model needs there."""


@attrs.frozen
class Placement:
    """
    Where a model is, or is to be.

    :param needs: what it takes there while it is not asleep.
    :param known: whether it is known to be there; else it may be in any of several places, and
        ``needs`` is the most that it takes in any of them.
    """

    needs: Amounts
    known: bool = True

    def as_json(self) -> dict[str, object]:
        """Give it as plain JSON values; :meth:`from_json` takes it back."""
        return {"needs": dict(self.needs), "known": self.known}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Placement:
        """
        Take back what :meth:`as_json` gave.

        :raises ValueError: if it is anything else.
        """
        needs, known = document.get("needs"), document.get("known")
        if not isinstance(needs, dict) or not isinstance(known, bool):
            raise ValueError("this is no placement")
        return cls({_name(name): _amount(amount) for name, amount in needs.items()}, known)

    @cached_property
    def resources(self) -> frozenset[str]:
        """The resources of which it takes something."""
        return taken(self.needs)


@attrs.frozen
class Budget:
    """
    What there is.

    :param capacity: by resource, all that the models share.
    """

    capacity: Amounts = attrs.field(factory=lambda: dict(ONE_SLOT))

    @classmethod
    def slots(cls, count: int = 1) -> Budget:
        """Make room for so many models, whichever they are."""
        return cls({SLOT: float(count)})

    @classmethod
    def of(cls, resources: Amounts) -> Budget:
        """Make it of what a configuration says; of nothing, it is one slot."""
        return cls(dict(resources)) if resources else cls()

    def knows(self, amounts: Amounts) -> bool:
        """Tell whether there is anything of all that some amounts are of."""
        return all(resource in self.capacity for resource in amounts)


def anywhere(alternatives: tuple[Amounts, ...]) -> Placement:
    """Say where a model is of which only that is known: in one of these places."""
    if len(alternatives) == 1:
        return Placement(alternatives[0])
    return Placement(highest(*alternatives), known=False)


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no resource")
    return value


def _amount(value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:  # type: ignore[operator]  # it is a number
        raise ValueError(f"{value!r} is no amount")
    return float(value)  # type: ignore[arg-type]  # it is a number
