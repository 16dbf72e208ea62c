"""What whoever relays requests needs to know of who gives leases, be that here or elsewhere."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface

from llmux.lease import Lease
from llmux.states import State
from llmux.urgency import Urgency


class ILeases(Interface):
    """Gives leases, and says how things stand."""

    def acquire(name: str, urgency: Urgency | None = None) -> Deferred[Lease]:
        """
        Ask for the right to send one request to a model.

        :param name: the name that the client gave.
        :param urgency: how much of a hurry it is in; ``None``: as the configuration says.
        :returns: becomes the lease, or fails with a :class:`~llmux.errors.SwitchError`; cancelling
            it takes the request back.
        """

    def acquire_again(lease: Lease) -> Deferred[Lease]:
        """
        Give a lease back of which nobody at the backend took anything, and ask for another one.

        :param lease: is released by this.
        :returns: as :meth:`acquire`; the request waits at its old place.
        """

    def waiting_before(lease: Deferred[Lease]) -> int | None:
        """
        Say how many wait for the same model before a request.

        :param lease: what :meth:`acquire` returned.
        :returns: ``None`` if it does not wait any more, or if that is not known.
        """

    def leaving_since(name: str) -> float | None:
        """
        Say since when a model's leases are wanted back, in the clock's seconds.

        :returns: ``None`` while nobody minds how long they are held.
        """

    def estimate(name: str) -> int:
        """Guess in how many seconds a request for a model would be served that comes now."""

    def states() -> dict[str, State]:
        """Say in which state every model is."""
