"""Runs hooks: ``sh -c``, each in a session of its own, with a deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from txaio.tx import make_logger
from zope.interface import implementer

from llmux.config import ModelConfig
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner, Leftover, ProcessId
from llmux.hooks.leftover import LeftoverProcess
from llmux.hooks.output import Follower, OutputFile
from llmux.hooks.process import HookProcess
from llmux.hooks.session import Sessions
from llmux.hooks.spawning import explain, hook_environment, spawn
from llmux.statedir import model_directory

Started = Callable[[HookCall, ProcessId, float], None]
"""
Takes in, before a hook's script begins, its process, and how old that may become, in seconds.
"""

Ended = Callable[[HookCall], None]
"""Takes in that a hook has ended, before anybody else hears of it."""

_RECORDED = (Hook.WAKE, Hook.SLEEP, Hook.KILL, Hook.STOP, Hook.PREPARE)  # the others only look


@implementer(IHookRunner)
class HookRunner:
    """
    Runs the scripts of the configured models.

    :param processes: spawns, where the system needs help with that: see :class:`Sessions`.
    :param clock: tells the time.
    :param models: the configured models by name, at first: see :meth:`configure`.
    :param state_dir: holds a directory for each model, with its hooks' output.
    :param started: is told of each hook that changes something (not of ``alive`` and ``freed``),
        with its process, when that is there and the script has not begun yet.  Where processes
        cannot be identified (:mod:`llmux.hooks.identity`) it is not told.
    :param ended: is told when such a hook has ended.
    :param resources: the names of those that the models share, at first; see
        :meth:`configure_resources`.
    :param sessions: starts their processes; by default such as the system's own call makes.
    """

    _log = make_logger()

    def __init__(
        self,
        processes: IReactorProcess,
        clock: IReactorTime,
        models: Mapping[str, ModelConfig],
        state_dir: Path,
        started: Started = lambda call, process, deadline: None,
        ended: Ended = lambda call: None,
        resources: Iterable[str] = (),
        sessions: Sessions | None = None,
    ) -> None:
        self._resources = tuple(resources)
        self._sessions = sessions or Sessions(processes)
        self._clock = clock
        self._models = dict(models)
        self._state_dir = state_dir
        self._started = started
        self._ended = ended
        self._running: set[HookProcess] = set()
        self._waiting: dict[tuple[str, Hook], HookProcess] = {}  # expected, their scripts not begun
        self._leftovers: set[LeftoverProcess] = set()
        self._last: dict[tuple[str, Hook], Follower] = {}  # the output of each hook's last run

    def configure(self, config: ModelConfig) -> None:
        """
        Take a model's scripts and deadlines from here from now on; hooks that run keep theirs.

        :param config: a model, known or new.
        """
        self.forgo(config.name)
        self._models[config.name] = config

    def configure_resources(self, resources: Iterable[str]) -> None:
        """
        Tell scripts of other resources from now on; hooks that run know of those before.

        :param resources: the names of those that the models share.
        """
        named = tuple(resources)
        if named == self._resources:  # what stands ready has been told of them
            return
        for model in self._models:
            self.forgo(model)
        self._resources = named

    def forget(self, model: str) -> None:
        """Let a model have no hooks any more; those that run are run to their end."""
        self.forgo(model)
        self._models.pop(model, None)
        for key in [key for key in self._last if key[0] == model]:
            del self._last[key]

    def has(self, model: str, hook: Hook) -> bool:
        """See :meth:`IHookRunner.has`."""
        return model in self._models and _script(self._models[model], hook) is not None

    def run(self, call: HookCall) -> Deferred[HookResult]:
        """See :meth:`IHookRunner.run`."""
        if not self.has(call.model, call.hook):
            return succeed(HookResult(seconds=0.0, error="there is no such hook"))
        try:
            process = self._expected(call)
            if process is None:
                process = self._start(call)
                self._record(process, waited=0.0)
            else:
                process.follower.skip()  # what others have printed meanwhile
                self._record(process, waited=process.age)
        except (OSError, ValueError) as error:
            # no file descriptors, no memory, no disk: the model is not to blame, but was not woken
            return succeed(HookResult(seconds=0.0, error=explain(error)))
        self._running.add(process)
        self._last[call.model, call.hook] = process.follower
        return process.begin().addCallback(self._forget_process, process)

    def expect(self, call: HookCall) -> None:
        """See :meth:`IHookRunner.expect`: its shell is started, and waits."""
        if call.hook not in _RECORDED or not self.has(call.model, call.hook):
            return
        process = self._expected(call)
        with suppress(OSError, ValueError):  # run will meet the same, and tell of it
            self._waiting[call.model, call.hook] = process or self._start(call)

    def forgo(self, model: str) -> None:
        """See :meth:`IHookRunner.forgo`."""
        for key in [key for key in self._waiting if key[0] == model]:
            self._waiting.pop(key).dismiss()

    def stop(self, model: str) -> None:
        """See :meth:`IHookRunner.stop`; what another llmux has left of the model is ended, too."""
        for process in [each for each in self._running if each.call.model == model]:
            process.stop()
        for leftover in [each for each in self._leftovers if each.model == model]:
            leftover.stop()

    def finish(self, leftover: Leftover) -> Deferred[None]:
        """See :meth:`IHookRunner.finish`."""
        process = LeftoverProcess(self._clock, leftover)
        self._leftovers.add(process)
        return process.begin().addCallback(lambda _: self._leftovers.discard(process))

    def output(self, model: str, hook: Hook) -> str:
        """
        Give the end of what a hook has printed in its last run, which may be running still.

        For operators alone.

        :returns: the last 64 KiB; empty if it has not run since llmux started.
        """
        follower = self._last.get((model, hook))
        return "" if follower is None else follower.text()

    def cut_outputs(self) -> None:
        """
        Cut every output file that has grown too long while no hook ran.

        While one runs, whoever follows it does that, and knows where it was.
        """
        followed = {process.call.model for process in self._running}
        for model in self._models:
            if model in followed:
                continue
            try:
                OutputFile(model_directory(self._state_dir, model)).cut()
            except OSError as error:
                self._log.warn(
                    "the output of {model}'s hooks cannot be cut: {error}", model=model, error=error
                )

    def _expected(self, call: HookCall) -> HookProcess | None:
        """Take the process that waits for a call, if there is one; one for another call goes."""
        process = self._waiting.pop((call.model, call.hook), None)
        if process is not None and (process.call != call or not process.waits):
            process.dismiss()
            return None
        return process

    def _start(self, call: HookCall) -> HookProcess:
        """
        Start a hook's process.

        :raises OSError: if that cannot be done.
        :raises ValueError: if its script is none that a system takes.
        """
        config = self._models[call.model]
        deadline = _deadline(config, call.hook)
        if call.limit is not None:
            deadline = max(0.0, min(deadline, call.limit))
        directory = model_directory(self._state_dir, call.model)
        output = OutputFile(directory)
        process = HookProcess(self._clock, call, Follower(output), deadline)
        environment = hook_environment(config, call, deadline, directory, self._resources)
        script = _script(config, call.hook) or ""
        gated = call.hook in _RECORDED
        spawn(self._sessions, process, script, environment, output, gated=gated)
        return process

    def _record(self, process: HookProcess, waited: float) -> None:
        """
        Have it recorded that a hook's script begins, if that is to be.

        :param waited: seconds that its process is there already: whoever reads the record counts
            from when it started.
        """
        if process.call.hook not in _RECORDED:
            return
        try:
            leader = process.identify()
            if leader is not None:
                self._started(process.call, leader, waited + process.deadline)
        except OSError as error:  # better a hook that a restart does not know of than none
            self._log.warn("a hook could not be recorded: {error}", error=error)

    def _forget_process(self, result: HookResult, process: HookProcess) -> HookResult:
        self._running.discard(process)
        if process.call.hook in _RECORDED:
            try:
                self._ended(process.call)
            except OSError as error:
                self._log.warn("a hook's end could not be recorded: {error}", error=error)
        return result


def _script(config: ModelConfig, hook: Hook) -> str | None:
    scripts = {
        Hook.WAKE: config.wake,
        Hook.SLEEP: config.sleep,
        Hook.ALIVE: config.alive,
        Hook.FREED: config.freed,
        Hook.KILL: config.kill,
        Hook.STOP: config.stop,
        Hook.PREPARE: config.prepare,
    }
    return scripts[hook]


def _deadline(config: ModelConfig, hook: Hook) -> float:
    deadlines = {
        Hook.WAKE: config.wake_timeout_secs,
        Hook.SLEEP: config.sleep_timeout_secs,
        Hook.ALIVE: config.alive_timeout_secs,
        Hook.FREED: config.sleep_timeout_secs,
        Hook.KILL: config.sleep_timeout_secs,
        Hook.STOP: config.sleep_timeout_secs,
        Hook.PREPARE: config.prepare_timeout_secs,
    }
    return deadlines[hook]
