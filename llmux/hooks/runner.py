"""Runs hooks: ``sh -c``, each in a session of its own, with a deadline."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from txaio.tx import make_logger
from zope.interface import implementer

from llmux.config import ModelConfig
from llmux.hooks.contract import Hook, HookCall, HookResult, IHookRunner
from llmux.hooks.output import Follower, OutputFile
from llmux.hooks.process import HookProcess
from llmux.statedir import model_directory

_SH = b"/bin/sh"
# Where there is no setsid(1), as on macOS, Python does the same in some ten milliseconds.
_SETSID = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"


@implementer(IHookRunner)
class HookRunner:
    """
    Runs the scripts of the configured models.

    :param processes: spawns.
    :param clock: tells the time.
    :param models: the configured models by name.
    :param state_dir: holds a directory for each model, with its hooks' output.
    """

    _log = make_logger()

    def __init__(
        self,
        processes: IReactorProcess,
        clock: IReactorTime,
        models: Mapping[str, ModelConfig],
        state_dir: Path,
    ) -> None:
        self._processes = processes
        self._clock = clock
        self._models = models
        self._state_dir = state_dir
        self._followed: Counter[str] = Counter()  # by model, hooks that run

    def has(self, model: str, hook: Hook) -> bool:
        """See :meth:`IHookRunner.has`."""
        return _script(self._models[model], hook) is not None

    def run(self, call: HookCall) -> Deferred[HookResult]:
        """See :meth:`IHookRunner.run`."""
        config = self._models[call.model]
        script = _script(config, call.hook)
        if script is None:
            return succeed(HookResult(seconds=0.0, error="there is no such hook"))
        try:
            directory = model_directory(self._state_dir, call.model)
            output = OutputFile(directory)
            process = HookProcess(self._clock, call, Follower(output), _deadline(config, call.hook))
            self._spawn(process, script, self._environment(config, call, directory), output)
        except OSError as error:
            # no file descriptors, no memory, no disk: the model is not to blame, but was not woken
            return succeed(HookResult(seconds=0.0, error=str(error)))
        self._followed[call.model] += 1
        return process.begin().addCallback(self._ended, call.model)

    def cut_outputs(self) -> None:
        """
        Cut every output file that has grown too long while no hook ran.

        While one runs, whoever follows it does that, and knows where it was.
        """
        for model in self._models:
            if self._followed[model]:
                continue
            try:
                OutputFile(model_directory(self._state_dir, model)).cut()
            except OSError as error:
                self._log.warn(
                    "the output of {model}'s hooks cannot be cut: {error}", model=model, error=error
                )

    def _ended(self, result: HookResult, model: str) -> HookResult:
        self._followed[model] -= 1
        return result

    def _spawn(
        self, process: HookProcess, script: str, environment: dict[bytes, bytes], output: OutputFile
    ) -> None:
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            stdout = output.open()
            try:
                command = [*_session_command(), _SH, b"-c", _encoded(script)]
                self._processes.spawnProcess(
                    process,
                    command[0],
                    command,
                    env=environment,
                    childFDs={0: stdin, 1: stdout, 2: stdout},
                )
            finally:
                os.close(stdout)
        finally:
            os.close(stdin)

    def _environment(
        self, config: ModelConfig, call: HookCall, directory: Path
    ) -> dict[bytes, bytes]:
        told = {
            "LLMUX_MODEL": call.model,
            "LLMUX_HOOK": call.hook.value,
            "LLMUX_PORT": str(config.backend.port),
            "LLMUX_URL": config.backend.url,
            "LLMUX_FROM": call.source,
            "LLMUX_TO": call.target,
            "LLMUX_REASON": call.reason.value,
            "LLMUX_DEADLINE": _plain(_deadline(config, call.hook)),
            "LLMUX_STATE_DIR": str(directory),
        }
        return {
            **os.environb,
            **{name.encode("ascii"): _encoded(value) for name, value in told.items()},
        }


def _script(config: ModelConfig, hook: Hook) -> str | None:
    scripts = {
        Hook.WAKE: config.wake,
        Hook.SLEEP: config.sleep,
        Hook.ALIVE: config.alive,
        Hook.FREED: config.freed,
        Hook.KILL: config.kill,
    }
    return scripts[hook]


def _deadline(config: ModelConfig, hook: Hook) -> float:
    deadlines = {
        Hook.WAKE: config.wake_timeout_secs,
        Hook.SLEEP: config.sleep_timeout_secs,
        Hook.ALIVE: config.alive_timeout_secs,
        Hook.FREED: config.sleep_timeout_secs,
        Hook.KILL: config.sleep_timeout_secs,
    }
    return deadlines[hook]


def _encoded(text: str) -> bytes:
    """Write text as the configuration has it, in UTF-8, whatever this process's locale is."""
    return text.encode("utf-8", "surrogateescape")


def _plain(seconds: float) -> str:
    """Write a duration without an exponent, for shells: ``600``, ``2.5``."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _session_command() -> list[bytes]:
    """
    Give the command that starts another one in a session of its own.

    A session is a process group too, so that a hook can be ended with all that it started; and the
    terminal's Ctrl-C, meant for llmux, does not reach the servers that hooks leave running.
    """
    setsid = shutil.which("setsid")
    if setsid is not None:
        return [os.fsencode(setsid)]
    return [os.fsencode(sys.executable), b"-I", b"-S", b"-c", os.fsencode(_SETSID)]
