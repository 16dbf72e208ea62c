"""Does what operators want: behind the operator's face, and for programs that embed llmux."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from llmux._version import __version__
from llmux.config import Config
from llmux.errors import ConfigError
from llmux.hooks.contract import Hook
from llmux.hooks.runner import HookRunner
from llmux.names import Names
from llmux.operator import IOperator, OrderRefused
from llmux.orders import Kind, OrderFailed
from llmux.recordings import Recordings
from llmux.reload import Reloaded
from llmux.reservation import Reservation, ReservationEnded, ReservationRefused
from llmux.status import Status
from llmux.switcher import Switcher


@implementer(IOperator)
class Operator:
    """
    Carries out orders.

    :param switcher: switches models.
    :param hooks: has what hooks have printed.
    :param config: gives what holds now.
    :param reload: reads the configuration again.
    :param clock: tells the time.
    :param recordings: are made of requests.
    :param workers: tells about the processes that relay requests, if they are others than this one.
    """

    def __init__(
        self,
        switcher: Switcher,
        hooks: HookRunner,
        config: Callable[[], Config],
        reload: Callable[[], Deferred[Reloaded]],
        clock: IReactorTime,
        recordings: Recordings,
        workers: Callable[[], list[dict[str, object]]],
    ) -> None:
        self._workers = workers
        self._switcher = switcher
        self._hooks = hooks
        self._config = config
        self._reload = reload
        self._clock = clock
        self._recordings = recordings
        self._began = clock.seconds()
        self._loaded_at = datetime.now(UTC)
        self._file = self._look_at_file()

    def status(self) -> dict[str, object]:
        """See :meth:`IOperator.status`."""
        now = self._clock.seconds()
        path = self._config().path
        told = Status(self._switcher, now)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "now": datetime.now(UTC).isoformat(timespec="seconds"),
            "uptime_secs": round(now - self._began, 3),
            "config": {
                "path": None if path is None else str(path),
                "loaded_at": self._loaded_at.isoformat(timespec="seconds"),
                "modified": self._look_at_file() != self._file,
            },
            "phase": self._switcher.phase,
            "models": told.models(),
            "first_awake": told.shared(),
            "resources": told.resources(),
            "switch": told.switch(),
            "switches": told.switches(),
            "reservations": told.reservations(),
            "orders": told.orders(),
            "costs": {"pairs": told.pairs()},
            "workers": self._workers(),
        }

    def wake(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.wake`."""
        return self._order(Kind.WAKE, model)

    def sleep(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.sleep`."""
        return self._order(Kind.SLEEP, model)

    def kill(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.kill`."""
        return self._order(Kind.KILL, model)

    def pin(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.pin`."""
        return self._pin(model, pinned=True)

    def unpin(self, model: str) -> Deferred[str]:
        """See :meth:`IOperator.unpin`."""
        return self._pin(model, pinned=False)

    def reservations(self) -> list[dict[str, object]]:
        """See :meth:`IOperator.reservations`."""
        return self._told().reservations()

    def reservation(self, id: str) -> dict[str, object]:
        """See :meth:`IOperator.reservation`."""
        return self._told().reservation(self._find(id))

    def reserve(
        self, needs: Mapping[str, float] | None, ttl: float, note: str
    ) -> Deferred[dict[str, object]]:
        """See :meth:`IOperator.reserve`."""
        return Deferred.fromCoroutine(self._reserved(needs, ttl, note))

    def renew(self, id: str, ttl: float | None) -> dict[str, object]:
        """See :meth:`IOperator.renew`."""
        self._find(id)
        try:
            return self._told().reservation(self._switcher.reservations.renew(id, ttl))
        except ReservationRefused as refused:
            raise OrderRefused(400, str(refused)) from refused

    def release(self, id: str) -> dict[str, object]:
        """See :meth:`IOperator.release`."""
        told = self._told().reservation(self._find(id))
        self._switcher.reservations.give_back(id)
        return told

    def reload(self) -> Deferred[dict[str, object]]:
        """See :meth:`IOperator.reload`."""
        return Deferred.fromCoroutine(self._reloaded())

    def timeline(self) -> dict[str, object]:
        """See :meth:`IOperator.timeline`."""
        return self._switcher.timeline.as_json()

    def recording(self) -> dict[str, object]:
        """See :meth:`IOperator.recording`."""
        return self._recordings.told()

    def record(self, path: str) -> dict[str, object]:
        """See :meth:`IOperator.record`."""
        return self._recordings.begin(path, self._config().record)

    def stop_recording(self) -> dict[str, object]:
        """See :meth:`IOperator.stop_recording`."""
        return self._recordings.end()

    def output(self, model: str, hook: str) -> str:
        """See :meth:`IOperator.output`."""
        model = self._named(model)
        if not self._hooks.has(model, Hook(hook)):
            raise OrderRefused(404, f"{model} has no {hook} hook")
        return self._hooks.output(model, Hook(hook))

    def config_loaded(self) -> None:
        """Note that the file was read just now."""
        self._loaded_at = datetime.now(UTC)
        self._file = self._look_at_file()

    async def _reloaded(self) -> dict[str, object]:
        try:
            done = await self._reload()
        except ConfigError as error:
            raise OrderRefused(400, str(error)) from error
        return {
            "changed": list(done.changed),
            "added": list(done.added),
            "removed": list(done.removed),
            "needs_restart": list(done.needs_restart),
        }

    def _told(self) -> Status:
        return Status(self._switcher, self._clock.seconds())

    def _find(self, id: str) -> Reservation:
        reservation = self._switcher.reservations.all.get(id)
        if reservation is None:
            raise OrderRefused(404, "There is no such reservation: it has ended, or never was")
        return reservation

    async def _reserved(
        self, needs: Mapping[str, float] | None, ttl: float, note: str
    ) -> dict[str, object]:
        try:
            reservation = self._switcher.reservations.make(needs, ttl, note)
        except ReservationRefused as refused:
            raise OrderRefused(400 if refused.wrong else 409, str(refused)) from refused
        try:
            await reservation.granted
        except ReservationEnded as ended:
            raise OrderRefused(503, f"Nothing came of it: {ended}") from ended
        return self._told().reservation(reservation)

    def _pin(self, model: str, *, pinned: bool) -> Deferred[str]:
        try:
            model = self._named(model)
        except OrderRefused as refused:
            return fail(refused)
        changed = self._switcher.pin(model, pinned)
        now = "is pinned" if pinned else "is not pinned"
        return succeed(f"{model} {now}{'' if changed else ' already' if pinned else ''}")

    def _order(self, kind: Kind, model: str) -> Deferred[str]:
        try:
            model = self._named(model)
        except OrderRefused as refused:
            return fail(refused)
        return Deferred.fromCoroutine(self._carried_out(kind, model))

    async def _carried_out(self, kind: Kind, model: str) -> str:
        try:
            return await self._switcher.order(kind, model)
        except OrderFailed as failed:
            raise OrderRefused(503 if failed.tried else 409, str(failed)) from failed

    def _named(self, name: str) -> str:
        """
        Say which model is meant.

        :param name: its name, or another one of which clients may call it.
        :raises OrderRefused: if that is no one's, or several models'; status 404.
        """
        if name in self._switcher.models:  # also one that the configuration has no longer
            return name
        models = Names(self._config()).models(name)
        if not models:
            known = ", ".join(self._switcher.models)
            raise OrderRefused(404, f"There is no model {name}; there are: {known}")
        if len(models) > 1:
            raise OrderRefused(404, f"{name} is any of {', '.join(models)}; say which of them")
        return models[0]

    def _look_at_file(self) -> object:
        """Give what changes when the file does."""
        path = self._config().path
        try:
            found = None if path is None else path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
