"""
Balanced regret: leave a model when staying would cost others as much as leaving costs its own.

Whoever waits adds the square of the wait to what is suffered: one that waits for a minute weighs as
much as four that wait for half a minute.  A model is left for another one when

- those who wait for the other have suffered as much as those will who come while it is away, as
  often as they came before, and as far as they did come when it was left in the past;
- and it does not pay to stay a little longer: closing a model that is still answering is what costs
  most, and what comes meanwhile is served beside that nearly for nothing.

Whatever these say, whoever has waited for three tours is served next.  A tour is the time that it
takes to serve everybody once who is waited for, and to be back.

Where this comes from: polling with switch-over times (Hofri and Ross 1987), index rules for it
(Duenyas and Van Oyen 1995), and servers that answer many at once (Vlasiou and Yechiali 2007).  With
these a busy period grows like e to the power of how many are in flight; to serve until a queue is
empty would have the others starve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
from zope.interface import implementer

from llmux.policy.arrivals import ArrivalRates
from llmux.policy.contenders import Contender, contenders, drain_secs
from llmux.policy.contract import ISwitchPolicy, Phase, PolicyContext, PolicyDecision
from llmux.policy.departures import Departures
from llmux.policy.prices import Prices
from llmux.policy.promises import next_turn, whose_turn
from llmux.policy.tours import ShortestTours
from llmux.states import State

_SOONEST = 0.25
"""Seconds after which it is asked again at the earliest, where nothing happens before."""

_CAUTION = 1.5
"""By how much what staying saves has to be more than what it costs."""

_BATCH_STAYS = 3.0
"""For so many times what a switch costs a model stays that serves only batch requests."""


@attrs.frozen
class _Leap:
    """
    What it would be like to go to a contender.

    :param contender: to whom.
    :param drain: how long those that would have to go still answer, in seconds.
    :param hooks: how long the hooks of the switch take, in seconds.
    :param answer: how long an answer takes there, in seconds.
    :param back: how long the hooks of the way back take, in seconds.
    """

    contender: Contender
    drain: float
    hooks: float
    answer: float
    back: float

    @classmethod
    def to(cls, contender: Contender, prices: Prices) -> _Leap:
        """Reckon it."""
        name, victims = contender.name, contender.victims
        return cls(
            contender,
            drain=drain_secs(contender, prices),
            hooks=prices.switch(victims, name),
            answer=prices.answer(name),
            back=max((prices.switch((name,), victim) for victim in victims), default=0.0),
        )

    @property
    def lead(self) -> float:
        """In how many seconds those are served who wait there."""
        return self.drain + self.hooks

    @property
    def away(self) -> float:
        """For how many seconds those are away that have to go, if it is left again at once."""
        return self.lead + self.answer + self.back

    @property
    def weight(self) -> float:
        """What those have suffered who wait there, when they are served: square seconds."""
        return self.contender.weight(self.lead)

    def regret(self, rate: float) -> float:
        """
        Say what those suffer who come while somebody who has to go is away: square seconds.

        They come one after the other, and the last of them hardly wait.  To be careful it is taken
        to be away for half of that time; what turns out to be more is learnt from departures.

        :param rate: how many come in a second.
        """
        return rate * (self.away / 2) ** 3 / 3

    @property
    def index(self) -> float:
        """What they have suffered, for each second that it takes to serve them."""
        return self.weight / max(self.hooks + self.answer, 1e-6)


@implementer(ISwitchPolicy)
class BalancedPolicy:
    """Switches when it costs those who wait more not to."""

    def __init__(self) -> None:
        self._rates = ArrivalRates()
        self._departures = Departures()
        self._tours = ShortestTours()
        self._finished: dict[str, float] = {}

    def decide(self, context: PolicyContext) -> PolicyDecision:
        """Stay, go, or go on."""
        self._rates.look(context)
        self._departures.settle(context.now)
        self._departures.forget(context.models.keys())
        self._finished = {name: at for name, at in self._finished.items() if name in context.models}
        waiting = self._tours.bound(contenders(context), context)
        if context.phase is Phase.SETTLED:
            return self._settled(waiting, context)
        target = next((each for each in waiting if each.name == context.target), None)
        if target is None:
            return self._settled(waiting, context)
        late = whose_turn(waiting, context)
        if late is not None:
            return self._go(_Leap.to(late, Prices(context.costs)), context, forced=True)
        if context.phase is Phase.DRAINING:
            admit = _is_worth_admitting(target, waiting, context)
            ask_at = next_turn(waiting, context)
            return PolicyDecision(target=target.name, admit=admit, ask_at=ask_at)
        leaps = [_Leap.to(each, Prices(context.costs)) for each in waiting]
        return self._go(max(leaps, key=lambda leap: leap.index), context)

    def _settled(self, waiting: list[Contender], context: PolicyContext) -> PolicyDecision:
        for name, model in context.models.items():
            if model.state is State.AWAKE:
                self._departures.stays(name)
        late = whose_turn(waiting, context)
        prices = Prices(context.costs)
        if late is not None:
            return self._go(_Leap.to(late, prices), context, forced=True)
        leaps = sorted(
            (_Leap.to(each, prices) for each in waiting), key=lambda leap: leap.index, reverse=True
        )
        due = next_turn(waiting, context)
        times = [] if due is None else [due]
        left: set[frozenset[str]] = set()
        for leap in leaps:
            victims = frozenset(leap.contender.victims)
            if any(victims & each for each in left):
                continue  # or whoever comes before would have to wait for the same places again
            left.add(victims)
            later = self._stay_until(leap, waiting, context)
            if later is None:
                return self._go(leap, context)
            times.append(later)
        prepare = leaps[0].contender.name if leaps else None
        return PolicyDecision(ask_at=min(times, default=None), prepare=prepare)

    def _stay_until(
        self, leap: _Leap, waiting: list[Contender], context: PolicyContext
    ) -> float | None:
        """
        Say when to look again whether to go, or ``None``: now.

        :returns: seconds of the context's time.
        """
        contender, now = leap.contender, context.now
        if not contender.victims:
            return None
        idle = contender.leases == 0
        if contender.is_batch and idle:
            return None
        if contender.serves_batch and not (idle or contender.is_batch):
            since = max(victim.awake_since for victim in contender.victims.values())
            leave_at = since + _BATCH_STAYS * leap.hooks
            return None if now >= leave_at else leave_at
        rates = {name: self._rates.rate(name) for name in contender.victims}
        regret = sum(
            self._departures.factor(name, contender.victims[name].leases == 0) * leap.regret(rate)
            for name, rate in rates.items()
        )
        soon = now + max(_SOONEST, leap.away / 20)
        if leap.weight < regret:
            if not idle:
                return soon
            leave_at = self._resting_since(contender) + leap.hooks / 2
            return None if now >= leave_at else min(leave_at, soon)
        if idle or not self._is_nearly_idle(leap, waiting, rates, Prices(context.costs)):
            return None
        return soon

    def _is_nearly_idle(
        self,
        leap: _Leap,
        waiting: list[Contender],
        rates: Mapping[str, float],
        prices: Prices,
    ) -> bool:
        """
        Tell whether those that have to go will be idle by themselves so soon that it pays to wait.

        :param rates: by name, how often they are asked for, in requests a second.
        """
        away = leap.drain + leap.back
        away += sum(
            prices.switch(each.victims, each.name) + prices.answer(each.name) for each in waiting
        )
        open_secs = max(
            prices.open(name, victim.leases, rates[name])
            for name, victim in leap.contender.victims.items()
        )
        longer = sum(each.count for each in waiting) * (open_secs - leap.drain)
        return longer < sum(rates.values()) * open_secs * away / _CAUTION

    def _resting_since(self, contender: Contender) -> float:
        """Say since when those that have to go have nothing to do, if they have nothing."""
        return max(
            max(victim.awake_since, self._finished.get(name, victim.awake_since))
            for name, victim in contender.victims.items()
        )

    def _go(self, leap: _Leap, context: PolicyContext, *, forced: bool = False) -> PolicyDecision:
        for name, victim in leap.contender.victims.items():
            expected = leap.regret(self._rates.rate(name))
            idle = victim.leases == 0
            if context.phase is Phase.SETTLED:
                self._departures.leaves(name, idle, context.now, leap.away, expected)
        return PolicyDecision(target=leap.contender.name, forced=forced)

    def arrived(self, model: str, now: float) -> None:
        """Learn how often it is asked for, and how many come while it is away."""
        self._rates.arrived(model, now)
        self._departures.arrived(model, now)

    def completed(self, model: str, now: float, seconds: float) -> None:
        """Remember when it last was of use."""
        self._finished[model] = now

    def left(self, model: str, now: float) -> None:
        """Take in that somebody does not wait any more."""
        self._rates.left(model, now)

    def switched(self, target: str, evicted: tuple[str, ...], now: float, success: bool) -> None:
        """Take in that those are served who have waited."""
        if success:
            self._rates.opened(target, now)

    def as_json(self) -> dict[str, object]:
        """Give how often models are asked for, and what leaving them has cost."""
        return {"arrivals": self._rates.as_json(), "departures": self._departures.as_json()}

    def learn(self, learnt: Mapping[str, object]) -> None:
        """
        Take back what :meth:`as_json` gave.

        :raises ValueError: if it is anything else; then nothing is taken.
        """
        rates, departures = ArrivalRates(), Departures()
        arrivals = learnt.get("arrivals", {})
        if not isinstance(arrivals, Mapping):
            raise ValueError(f"arrivals: {arrivals!r} is no object")
        rates.learn(arrivals)
        departures.learn(learnt.get("departures", []))
        self._rates, self._departures = rates, departures


def _is_worth_admitting(
    target: Contender, waiting: list[Contender], context: PolicyContext
) -> bool:
    """
    Tell whether a request that comes for those that are being drained had better be served now.

    Of n answers, of which each ends at any time as likely as at any other, one more ends last with
    the chance of 1 / (n + 1), and then by the length of an answer later than the others.  So much
    longer everybody waits; against that, the one who comes does not wait until they are back.
    What serves only batch requests takes no more of these while anybody interactive waits.
    """
    if target.serves_batch and not all(each.is_batch for each in waiting):
        return False
    prices = Prices(context.costs)
    longer = max(
        (
            prices.answer(name) / (victim.leases + 1)
            for name, victim in target.victims.items()
            if victim.leases
        ),
        default=math.inf,
    )
    count = sum(each.count for each in waiting)
    return _CAUTION * count * longer <= _Leap.to(target, prices).away
