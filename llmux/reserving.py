"""Room for the rest of the GPU's users, for as long as they show that they need it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from llmux.amounts import Amounts, covers, shown, taken
from llmux.budget import SLOT
from llmux.conductor import Conductor
from llmux.events import Events
from llmux.journal import ReservationRecord
from llmux.outlook import Outlook
from llmux.reservation import Reservation, ReservationEnded, ReservationRefused

SHORTEST_TTL = 1.0
LONGEST_TTL = 86_400.0
"""Seconds between which a time to live is."""


class Reservations:
    """
    Takes reservations and renewals, and ends those that are not renewed.

    :param all: by id, those that there are; the agenda makes room for them in turn.
    :param outlook: says what fits.
    :param clock: tells the time.
    :param events: logs what becomes of them.
    :param conductor: has to look again when one comes or goes.
    :param remember: called when what a restart must know has changed.
    """

    def __init__(
        self,
        all: dict[str, Reservation],
        outlook: Outlook,
        clock: IReactorTime,
        events: Events,
        conductor: Conductor,
        remember: Callable[[], None],
    ) -> None:
        self._remember = remember
        self._all = all
        self._outlook = outlook
        self._clock = clock
        self._events = events
        self._conductor = conductor
        self._timer: IDelayedCall | None = None
        self.all: Mapping[str, Reservation] = MappingProxyType(all)

    def make(self, needs: Amounts | None, ttl: float, note: str = "") -> Reservation:
        """
        Ask for room: what is in its way is drained and put to sleep.

        :param needs: by resource, how much; ``None``: all that can be had beside what is pinned,
            and beside what models keep that sleep and cannot be stopped.
        :param ttl: seconds for which it holds from the moment when the room is free, and from each
            renewal.
        :param note: what it is for, for whoever looks.
        :returns: the reservation; its ``granted`` tells when it holds.
        :raises ReservationRefused: if it never can.
        """
        if self._conductor.stopped:
            raise ReservationRefused("llmux is shutting down")
        _check_ttl(ttl)
        needs = self._all_there_is() if needs is None else self._checked(needs)
        if not self._outlook.can_ever(needs):
            raise ReservationRefused(self._outlook.no_room("this"))
        reservation = Reservation(needs, ttl, note, self._clock.seconds())
        reservation.granted = Deferred(lambda _: self._withdraw(reservation))
        reservation.granted.addCallbacks(self._granted, self._in_vain, errbackArgs=(reservation,))
        self._all[reservation.id] = reservation
        self._events.reservation_asked(reservation.id, dict(needs), note)
        with self._conductor.paused():
            self._conductor.interrupt(
                "a reservation comes first", lambda switch: bool(switch.touches & taken(needs))
            )
        return reservation

    def renew(self, id: str, ttl: float | None = None) -> Reservation:
        """
        Let a reservation hold for its whole time again.

        :param ttl: another time to live from now on, in seconds.
        :raises KeyError: if there is none of this id any more.
        :raises ReservationRefused: if it cannot live so long.
        """
        reservation = self._all[id]
        if ttl is not None:
            _check_ttl(ttl)
        reservation.renew(self._clock.seconds(), ttl)
        self._set_timer()
        if ttl is not None:
            self._remember()
        return reservation

    def give_back(self, id: str) -> Reservation:
        """
        End a reservation.

        :raises KeyError: if there is none of this id any more.
        """
        reservation = self._all[id]
        self._end(reservation, "it was given back")
        return reservation

    def restore(self, id: str, needs: Amounts, ttl: float, note: str) -> None:
        """Let a reservation hold again that held when another llmux ended."""
        reservation = Reservation(dict(needs), ttl, note, self._clock.seconds(), id=id)
        reservation.granted.addErrback(lambda _: None)  # nobody waits for it
        self._all[id] = reservation
        reservation.hold(self._clock.seconds())
        self.adapt()
        self._set_timer()

    def adapt(self) -> None:
        """
        Take in that there may be other resources now.

        Who holds what the configuration knows no more holds, for all that anybody can tell, any of
        what there is.  Who waits for that waits in vain, but if it was for all that there was.
        """
        budget = self._outlook.budget
        for reservation in self._all.values():
            if not budget.knows(reservation.needs) and (
                reservation.held or SLOT in reservation.needs
            ):
                reservation.needs = dict(budget.capacity)

    def records(self) -> dict[str, ReservationRecord]:
        """Say of every reservation that holds room what a restart must know."""
        return {
            id: ReservationRecord(dict(each.needs), each.ttl, each.note)
            for id, each in self._all.items()
            if each.held
        }

    def stop(self) -> None:
        """End those that wait; those that hold are remembered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for reservation in [each for each in self._all.values() if not each.held]:
            del self._all[reservation.id]
            reservation.end("llmux is shutting down")

    def _all_there_is(self) -> Amounts:
        most = self._outlook.obtainable()
        needs = {name: most[name] for name in self._outlook.budget.capacity if most[name] > 0}
        if not needs:
            raise ReservationRefused(self._outlook.no_room("anything"))
        return needs

    def _checked(self, needs: Amounts) -> Amounts:
        capacity = self._outlook.budget.capacity
        if SLOT in capacity:
            raise ReservationRefused(
                "the configuration has no resources: say no needs, for all that there is",
                wrong=True,
            )
        for resource, amount in needs.items():
            if resource not in capacity:
                known = ", ".join(capacity)
                raise ReservationRefused(
                    f"there is no resource {resource}; there are: {known}", wrong=True
                )
            if not 0 <= amount < math.inf:
                raise ReservationRefused(
                    f"{resource}: an amount is a number, 0 or more", wrong=True
                )
            if not covers(capacity[resource], amount):
                raise ReservationRefused(
                    f"there is no room for {shown(amount)} of {resource}: all that there is, is"
                    f" {shown(capacity[resource])}"
                )
        if not any(amount > 0 for amount in needs.values()):
            raise ReservationRefused(
                "nothing is asked for: say how much of which resource", wrong=True
            )
        return dict(needs)

    def _granted(self, reservation: Reservation) -> Reservation:
        waited = self._clock.seconds() - reservation.asked_at
        self._events.reservation_held(reservation.id, waited)
        self._set_timer()
        self._remember()
        return reservation

    def _in_vain(self, failure: Failure, reservation: Reservation) -> Failure:
        """Log that nothing has come of one; who takes one back has that logged already."""
        if failure.check(ReservationEnded):
            self._events.reservation_ended(reservation.id, str(failure.value))
        return failure

    def _withdraw(self, reservation: Reservation) -> None:
        """Take back one whose asker has gone."""
        reservation.over = True
        if self._all.pop(reservation.id, None) is not None:
            self._events.reservation_ended(reservation.id, "nobody waits for it any more")
        self._conductor.consider()

    def _end(self, reservation: Reservation, why: str) -> None:
        del self._all[reservation.id]
        if reservation.held:  # else it is logged when its asker is told
            self._events.reservation_ended(reservation.id, why)
        reservation.end(why)
        self._set_timer()
        self._remember()
        self._conductor.consider()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ends = [each.expires_at for each in self._all.values() if each.expires_at is not None]
        if ends and not self._conductor.stopped:
            left = max(0.0, min(ends) - self._clock.seconds())
            self._timer = self._clock.callLater(left, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for reservation in tuple(self._all.values()):
            if reservation.expires_at is not None and reservation.expires_at <= now + 1e-6:
                self._end(reservation, "it was not renewed in time")
        self._set_timer()


def _check_ttl(ttl: float) -> None:
    if not SHORTEST_TTL <= ttl <= LONGEST_TTL:
        raise ReservationRefused(
            f"a time to live is a number of seconds from {SHORTEST_TTL:.0f} to {LONGEST_TTL:.0f}",
            wrong=True,
        )
