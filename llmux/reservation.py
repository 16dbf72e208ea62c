"""Room for somebody who is no model: from the asking to its end."""

from __future__ import annotations

import secrets

import attrs
from twisted.internet.defer import Deferred

from llmux.amounts import Amounts
from llmux.errors import LLMuxError


class ReservationRefused(LLMuxError):
    """
    A reservation cannot be: the message says why.

    :ivar wrong: whether what was asked for makes no sense; else there is no room for it.
    """

    def __init__(self, message: str, *, wrong: bool = False) -> None:
        super().__init__(message)
        self.wrong = wrong


class ReservationEnded(LLMuxError):
    """A reservation has ended before it held anything: the message says why."""


@attrs.define(eq=False)
class Reservation:
    """
    Room that somebody who is no model holds, or waits for.

    :ivar needs: by resource, how much.
    :ivar ttl: seconds for which it holds from its last renewal on.
    :ivar note: what its holder says it is for.
    :ivar asked_at: when it was asked for, in the clock's seconds.
    :ivar id: what it is called.
    :ivar held_since: since when it holds; ``None`` while it waits.
    :ivar expires_at: when it ends if it is not renewed; ``None`` while it waits.
    :ivar over: whether it has ended.
    :ivar granted: becomes the reservation when there is room, or fails with
        :class:`ReservationEnded`.  Cancelling it withdraws the reservation.
    """

    needs: Amounts
    ttl: float
    note: str
    asked_at: float
    granted: Deferred[Reservation] = attrs.Factory(Deferred)
    id: str = attrs.Factory(lambda: secrets.token_hex(8))
    held_since: float | None = None
    expires_at: float | None = None
    over: bool = False

    @property
    def held(self) -> bool:
        """Whether it holds room."""
        return self.held_since is not None and not self.over

    def hold(self, now: float) -> None:
        """Let it hold from now on, and tell whoever waits for that."""
        self.held_since = now
        self.expires_at = now + self.ttl
        if not self.granted.called:
            self.granted.callback(self)

    def renew(self, now: float, ttl: float | None) -> None:
        """Let it hold for its whole time again; only one that holds already can run out."""
        self.ttl = self.ttl if ttl is None else ttl
        if self.held:
            self.expires_at = now + self.ttl

    def end(self, why: str) -> None:
        """Let it be over; whoever still waits for it is told that nothing will come of it."""
        self.over = True
        if not self.granted.called:
            self.granted.errback(ReservationEnded(why))
