"""Does what operators want: behind the operator's face, and for programs that embed llmux."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from llmux._version import __version__
from llmux.config import Config
from llmux.errors import ConfigError
from llmux.hooks.contract import Hook
from llmux.hooks.runner import HookRunner
from llmux.operator import IOperator, OrderRefused
from llmux.orders import Kind, OrderFailed
from llmux.reload import Reloaded
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
    """

    def __init__(
        self,
        switcher: Switcher,
        hooks: HookRunner,
        config: Callable[[], Config],
        reload: Callable[[], Deferred[Reloaded]],
        clock: IReactorTime,
    ) -> None:
        self._switcher = switcher
        self._hooks = hooks
        self._config = config
        self._reload = reload
        self._clock = clock
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
            "resources": told.resources(),
            "switch": told.switch(),
            "switches": told.switches(),
            "reservations": told.reservations(),
            "orders": told.orders(),
            "costs": {"pairs": told.pairs()},
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

    def reload(self) -> Deferred[dict[str, object]]:
        """See :meth:`IOperator.reload`."""
        return Deferred.fromCoroutine(self._reloaded())

    def output(self, model: str, hook: str) -> str:
        """See :meth:`IOperator.output`."""
        self._check(model)
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

    def _order(self, kind: Kind, model: str) -> Deferred[str]:
        try:
            self._check(model)
        except OrderRefused as refused:
            return fail(refused)
        return Deferred.fromCoroutine(self._carried_out(kind, model))

    async def _carried_out(self, kind: Kind, model: str) -> str:
        try:
            return await self._switcher.order(kind, model)
        except OrderFailed as failed:
            raise OrderRefused(503 if failed.tried else 409, str(failed)) from failed

    def _check(self, model: str) -> None:
        if model not in self._switcher.models:
            known = ", ".join(self._switcher.models)
            raise OrderRefused(404, f"There is no model {model}; there are: {known}")

    def _look_at_file(self) -> object:
        """Give what changes when the file does."""
        path = self._config().path
        try:
            found = None if path is None else path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
