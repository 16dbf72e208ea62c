"""
Who fits beside whom.

Today's only resource is the *slot*: one model is awake at a time, as in llmux 2.4.0.  The switcher
asks nothing else, so a budget of several resources takes this one's place without it noticing.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Budget:
    """
    So many models may hold their resources at once.

    :param slots: how many; at least one.
    """

    slots: int = attrs.field(default=1, validator=attrs.validators.ge(1))

    def fits(self, holding: int) -> bool:
        """Tell whether so many models may hold at once."""
        return holding <= self.slots

    def must_go(self, target: str | None, holding: Sequence[str]) -> tuple[str, ...]:
        """
        Say who has to leave before a model can be woken.

        :param target: the model to wake; ``None``: what is held has to fit, no more.
        :param holding: the models that hold something now, the one that is cheapest to lose first.
        :returns: those that must go, never more than needed; empty where there is room.
        """
        others = [model for model in holding if model != target]
        surplus = len(others) + (target is not None) - self.slots
        return tuple(others[: max(0, surplus)])
