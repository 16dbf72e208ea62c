"""What an operator can ask of a running llmux, whichever way the asking comes."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from zope.interface import Interface

from llmux.errors import RequestError


class OrderRefused(RequestError):
    """
    What an operator asked for is not done, or did not work.

    :param status: 404: no such model or hook; 409: it cannot be done now, and the message says why;
        503: it was tried and failed; 400: the new configuration cannot be used.
    :param message: for the operator; each complaint about a configuration is a line of it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class IOperator(Interface):
    """
    Tells what llmux is doing, and does what an operator wants.

    An order stands once it has been given: nobody cancels these Deferreds, also when whoever gave
    it has gone; but for that of :meth:`reserve`.
    """

    def status() -> dict[str, object]:
        """Tell everything, as JSON can hold it; the page about operating has every field."""

    def wake(model: str) -> Deferred[str]:
        """
        Have a model awake.

        :returns: one sentence that says what was done; fails with :class:`OrderRefused`.
        """

    def sleep(model: str) -> Deferred[str]:
        """
        Have a model asleep, once its requests in flight have ended.

        :returns: one sentence that says what was done; fails with :class:`OrderRefused`.
        """

    def kill(model: str) -> Deferred[str]:
        """
        End a model by its ``kill`` hook, whatever it is doing.

        :returns: one sentence that says what was done; fails with :class:`OrderRefused`.
        """

    def pin(model: str) -> Deferred[str]:
        """
        Have a model stay once it is awake, whoever waits.

        :returns: one sentence that says what was done; fails with :class:`OrderRefused`.
        """

    def unpin(model: str) -> Deferred[str]:
        """
        Let a model go again for others.

        :returns: one sentence that says what was done; fails with :class:`OrderRefused`.
        """

    def reservations() -> list[dict[str, object]]:
        """Tell which reservations hold room, or wait for it, as the status document has them."""

    def reservation(id: str) -> dict[str, object]:
        """
        Tell about one reservation.

        :raises OrderRefused: if there is none of this id any more; status 404.
        """

    def reserve(
        needs: Mapping[str, float] | None, ttl: float, note: str
    ) -> Deferred[dict[str, object]]:
        """
        Reserve room for somebody who is no model.

        :param needs: by resource, how much; ``None``: all that can be had.
        :param ttl: seconds for which it holds from the moment when the room is free, and from each
            renewal.
        :param note: what it is for.
        :returns: what is told about it, when it holds; fails with :class:`OrderRefused`.
            Cancelling it withdraws the reservation.
        """

    def renew(id: str, ttl: float | None) -> dict[str, object]:
        """
        Let a reservation hold for its whole time again.

        :param ttl: another time to live from now on, in seconds.
        :returns: what is told about it.
        :raises OrderRefused: if there is none of this id any more (404), or it cannot be (400).
        """

    def release(id: str) -> dict[str, object]:
        """
        End a reservation.

        :returns: what was told about it last.
        :raises OrderRefused: if there is none of this id any more; status 404.
        """

    def reload() -> Deferred[dict[str, object]]:
        """
        Read the configuration again; a bad one changes nothing.

        :returns: names of models below ``changed``, ``added`` and ``removed``, and key paths below
            ``needs_restart``; fails with :class:`OrderRefused`, status 400.
        """

    def timeline() -> dict[str, object]:
        """Tell what models did over the last hours; see :meth:`llmux.timeline.Timeline.as_json`."""

    def recording() -> dict[str, object]:
        """
        Tell what is recorded of requests.

        :returns: ``path``, which is ``None`` while nothing is; ``since``, when that began, or the
            last one did; ``rows``, how many requests; ``lost``, how many could not be.
        """

    def record(path: str) -> dict[str, object]:
        """
        Record requests from now on.

        :param path: a file name; or the path that the configuration says, and no other one.
        :returns: as :meth:`recording` does.
        :raises OrderRefused: if nothing may (400) or can (409) be written there.
        """

    def stop_recording() -> dict[str, object]:
        """
        Record no more.

        :returns: as :meth:`recording` does.
        """

    def output(model: str, hook: str) -> str:
        """
        Give the last 64 KiB of what a hook of a model has printed.

        :raises OrderRefused: if there is no such model, or it has no such hook; status 404.
        """
