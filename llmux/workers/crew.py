"""The workers of one llmux: started, told, watched, and started again when they die."""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall
from txaio.tx import make_logger

from llmux.config import Config
from llmux.workers.member import WATCHING, Member, Parent, Place

CUTTING = 2.0
"""Seconds in which workers have to end that have been told that nobody waits for them any more."""


class Crew:
    """
    All workers.

    It stands where otherwise the site of the clients does: :meth:`end`, :meth:`emptied` and
    :meth:`abort` are those of :class:`~llmux.server.site.RelaySite`.

    :param parent: what they are a part of.
    :ivar members: the workers; none until :meth:`start`.
    """

    _log = make_logger()

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self.members: list[Member] = []
        self.ending = False
        self._watching = LoopingCall(self._watch)
        self._watching.clock = parent.reactor
        self._emptied: list[Deferred[None]] = []
        self._places: list[Place] = []

    def start(self, place: Place, count: int) -> None:
        """Start so many workers; each has its share of the connections."""
        self._places = [place]
        self.members = [
            Member(number, self._parent, place, self._ended) for number in range(1, count + 1)
        ]
        for member in self.members:
            member.start()
        self._watching.start(WATCHING, now=False).addErrback(
            lambda failure: self._log.failure("workers are not watched", failure=failure)
        )

    def tell(self, method: str, *values: object) -> None:
        """Call a method of all workers: see :class:`~llmux.workers.links.IWorkerLine`."""
        for member in self.members:
            member.tell(method, *values)

    def configure(self, config: Config) -> Deferred[None]:
        """
        Have all answer by another configuration; who cannot is started again with it.

        :returns: fires when nobody answers by the one before any more.
        """
        taken = DeferredList([member.configure(config) for member in self.members])
        return taken.addCallback(lambda _: None)

    def as_json(self) -> list[dict[str, object]]:
        """Tell about all."""
        now = self._parent.reactor.seconds()
        return [member.as_json(now) for member in self.members]

    def end(self) -> None:
        """Take no further clients, and have each worker end when those that it has are served."""
        self.ending = True
        for place in self._places:
            for each in place.doors:
                each.close()
        for member in self.members:
            member.end()
        self._ended()

    def emptied(self) -> Deferred[None]:
        """Give a Deferred that fires when all have ended; it may be cancelled."""
        if not any(member.runs for member in self.members):
            return succeed(None)
        emptied: Deferred[None] = Deferred(self._emptied.remove)
        self._emptied.append(emptied)
        return emptied

    def abort(self) -> None:
        """Have all cut their clients and end."""
        for member in self.members:
            member.hang_up()

    async def close(self) -> None:
        """See that none is left."""
        if not self.members:
            return
        if self._watching.running:
            self._watching.stop()
        self.abort()
        killing = self._parent.reactor.callLater(CUTTING, self._kill)
        await self.emptied()
        if killing.active():
            killing.cancel()
        for place in self._places:
            place.close()

    def _kill(self) -> None:
        for member in self.members:
            member.kill("it does not end")

    def _watch(self) -> None:
        for member in self.members:
            member.look()

    def _ended(self) -> None:
        if self.ending and not any(member.runs for member in self.members):
            emptied, self._emptied = self._emptied, []
            for each in emptied:
                each.callback(None)
