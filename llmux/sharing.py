"""Requests that any of several models can serve, whichever is awake first (``first_awake``)."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime

from llmux.backoff import BackOff
from llmux.waiting import WaitingRoom


class Member(Protocol):
    """A model, as far as it matters to those who would take any of several."""

    @property
    def removed(self) -> bool:
        """Whether the configuration has it no longer."""

    @property
    def admitting(self) -> bool:
        """Whether it is open to new requests."""

    @property
    def serves(self) -> bool:
        """Whether it is awake, or will be open again soon without having been woken."""

    @property
    def wake_backoff(self) -> BackOff:
        """After wakes that failed."""


_Member = TypeVar("_Member", bound=Member)


@attrs.define(eq=False)
class SharedRoom(Generic[_Member]):
    """
    Where they wait: in one room, before the doors of several models.

    Each waiter is one demand: it speaks for every model that could serve it until one of these is
    awake or on its way, and then for that one alone.

    :param name: what clients call these models together.
    :param room: who waits.
    :param clock: tells when a model may be tried again that could not be woken.
    :ivar members: the models, the one that is liked best first.
    :ivar on_their_way: those of them to which switches are under way, in the order of these.
    :ivar failed: those that were tried in vain for those who wait now.
    """

    name: str
    room: WaitingRoom
    _clock: IReactorTime
    members: tuple[_Member, ...] = ()
    on_their_way: list[_Member] = attrs.Factory(list)
    failed: set[_Member] = attrs.Factory(set)

    def counts_for(self, model: _Member) -> bool:
        """Tell whether anybody waits here who speaks for this model."""
        if not self.room or not self._could_serve(model):
            return False
        if self.coming is not None:
            return self.coming is model
        awake = [each for each in self.members if each.serves and each not in self.failed]
        return model in awake if awake else True

    @property
    def coming(self) -> _Member | None:
        """The one of them for which those wait who wait here, if any is on its way."""
        return next(iter(self.on_their_way), None)

    def rank(self, model: _Member) -> int:
        """Say how many of the models are liked better than this one."""
        return self.members.index(model)

    @property
    def hopeless(self) -> bool:
        """Whether no model is left that could be tried now."""
        return not any(self._could_serve(member) for member in self.members)

    def _could_serve(self, model: _Member) -> bool:
        if model.removed or model in self.failed:
            return False
        return model.admitting or self._clock.seconds() >= model.wake_backoff.until
