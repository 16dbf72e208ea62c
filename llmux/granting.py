"""
Who may give leases of open models without asking: grants, and how they come back.

A grant is only out while its model is open to everybody: awake, with nobody who waits for one of
its places.  Before anything else happens to the model all its grants are recalled, and whoever has
to wait for its leases waits for its grants first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from llmux.grant import UNLIMITED, Grant, Holder, News
from llmux.lifecycle import Model
from llmux.states import State

ANSWERING = 5.0
"""Seconds in which a holder has to give a grant back; else it hangs, and is ended."""

CONFIRMING = 1.0
"""The last of them: if it is we who have hung, an answer that is there is heard before they end."""


class Granting:
    """
    Gives grants, and recalls them.

    :param models: all of them by name.
    :param clock: tells the time.
    :param estimate: guesses in how many seconds a request for a model would be served.
    :ivar holders: those that there are.
    """

    def __init__(
        self, models: Mapping[str, Model], clock: IReactorTime, estimate: Callable[[str], int]
    ) -> None:
        self._models = models
        self._clock = clock
        self._estimate = estimate
        self.holders: list[Holder] = []
        self._ended = False
        self._granted: set[Model] = set()
        self._told: dict[str, object] = {}

    def join(self, holder: Holder) -> None:
        """Have one more holder."""
        self.holders.append(holder)
        self._told = {}  # it does not know anything yet

    def offer(self, holder: Holder, model: Model) -> None:
        """
        Have a holder that was asked for a model give its leases without asking.

        Where there are few places each has its share of them; the rest go one by one to whoever
        asks.
        """
        if self._ended or holder in model.grants or not _is_open(model):
            return
        places, most = UNLIMITED, model.config.max_concurrency
        if most is not None:
            places = min(most // len(self.holders), model.free_places)
        if places > 0:
            model.grants[holder] = Grant(places)
            self._granted.add(model)
            holder.grant(model.name, places)

    def review(self) -> None:
        """Recall what must not be out any more, and tell what has changed."""
        for model in tuple(self._granted):
            if not _is_open(model):
                self._recall(model)
        if self.holders:
            self._tell()

    def end(self) -> None:
        """Recall everything, and give nothing more."""
        self._ended = True
        for model in tuple(self._granted):
            self._recall(model)

    def returned(self, holder: Holder, model: Model) -> None:
        """Take a grant back: all leases that were given by it are known."""
        grant = model.grants.pop(holder, None)
        if grant is not None and grant.recalled is not None:
            grant.recalled.cancel()
        if not model.grants:
            self._granted.discard(model)

    def gone(self, holder: Holder) -> None:
        """
        Take everything back from a holder that is not there any more.

        It may have given leases that nobody has heard of, whose requests have been broken off.
        """
        self.holders.remove(holder)
        now = self._clock.seconds()
        for model in [each for each in self._granted if holder in each.grants]:
            self.returned(holder, model)
            model.idle_since = now
            model.settles_at = max(model.settles_at, now + model.config.settle_secs)

    def _recall(self, model: Model) -> None:
        for holder, grant in tuple(model.grants.items()):
            if grant.recalled is None:
                grant.recalled = self._clock.callLater(
                    ANSWERING - CONFIRMING, self._confirm, holder, grant
                )
                holder.recall(model.name)

    def _confirm(self, holder: Holder, grant: Grant) -> None:
        grant.recalled = self._clock.callLater(CONFIRMING, self._give_up, holder, grant)

    def _give_up(self, holder: Holder, grant: Grant) -> None:
        grant.recalled = self._clock.callLater(ANSWERING, self._give_up, holder, grant)
        holder.give_up()

    def _tell(self) -> None:
        so = {name: (each.state, each.wanted_back_since) for name, each in self._models.items()}
        if so == self._told:
            return
        changed = [name for name, told in so.items() if self._told.get(name) != told]
        self._told = dict(so)
        news = {name: News(*so[name], self._estimate(name)) for name in changed}
        for holder in tuple(self.holders):
            holder.hear(news)


def _is_open(model: Model) -> bool:
    """
    Tell whether everybody who comes is served at once, and nothing is to be decided.

    A model that is being drained is not, also if a policy has it take new requests meanwhile: then
    each of these is a decision.
    """
    return model.state is State.AWAKE and model.admitting and not model.wanted
