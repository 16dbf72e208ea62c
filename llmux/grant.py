"""The right of somebody else to give leases of an open model, without asking."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall

from llmux.lease import Lease
from llmux.states import State

UNLIMITED = sys.maxsize
"""The places of a grant for a model without ``max_concurrency``."""


@attrs.frozen
class News:
    """
    What holders are told of a model.

    :param state: its state.
    :param leaving_since: since when its leases are wanted back, in the clock's seconds.
    :param estimate: in how many seconds a request that comes now would be served, as a guess.
    """

    state: State
    leaving_since: float | None
    estimate: int


class Holder(Protocol):
    """Whoever can be given grants, as far as it matters to those who give them."""

    def grant(self, model: str, places: int) -> None:
        """Give leases of a model from now on, so many at a time."""

    def recall(self, model: str) -> None:
        """Give no more of them, and say so; what was given stays."""

    def hear(self, news: Mapping[str, News]) -> None:
        """Be told how things stand, by model."""

    def give_up(self) -> None:
        """Be ended: no answer has come in time."""


@attrs.define(eq=False)
class Grant:
    """
    What one holder may do with one model.

    :ivar places: how many leases it may have given at the same time.
    :ivar leases: those of them that are known and held.
    :ivar recalled: what runs while its end is waited for, once it is wanted back.
    """

    places: int
    leases: set[Lease] = attrs.Factory(set)
    recalled: IDelayedCall | None = None

    @property
    def unused(self) -> int:
        """How many leases may have been given by it, or may be, that nobody knows of yet."""
        return max(0, self.places - len(self.leases))
