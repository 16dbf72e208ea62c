"""What an operator wants of a model, from the order to its answer."""

from __future__ import annotations

import enum

import attrs
from twisted.internet.defer import Deferred

from llmux.errors import LLMuxError
from llmux.lifecycle import Model


class OrderFailed(LLMuxError):
    """
    An order was not carried out; the message says why.

    :ivar tried: whether it was tried; else it cannot be done now.
    """

    def __init__(self, message: str, *, tried: bool) -> None:
        super().__init__(message)
        self.tried = tried


class Kind(enum.Enum):
    """What can be ordered."""

    WAKE = "wake"
    SLEEP = "sleep"
    KILL = "kill"
    """Its requests are cut, its hooks ended, and its ``kill`` runs, or its ``sleep``."""


@attrs.define(eq=False)
class Order:
    """
    One order.

    :ivar kind: see :class:`Kind`.
    :ivar model: whom it is about.
    :ivar given_at: when it was given, in the clock's seconds.
    :ivar done: becomes one sentence that says what was done, or fails with :class:`OrderFailed`.
    """

    kind: Kind
    model: Model
    given_at: float
    done: Deferred[str] = attrs.Factory(Deferred)

    @property
    def outcome(self) -> str:
        """Say what it leads to, as the beginning of a sentence."""
        states = {Kind.WAKE: "is awake", Kind.SLEEP: "is asleep", Kind.KILL: "was killed"}
        return f"{self.model.name} {states[self.kind]}"

    def fulfil(self, what: str) -> None:
        """Say what was done."""
        self.done.callback(what)

    def fail(self, why: str, *, tried: bool) -> None:
        """Say why it was not."""
        self.done.errback(OrderFailed(why, tried=tried))
