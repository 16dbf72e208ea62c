"""
How a hook's process is made: its command, its environment, its descriptors, its gate.

A script that changes something must not begin before the journal knows its process: were llmux
killed in between, nobody would wait for it, or end it, afterwards.  So its shell waits at a gate,
which is a pipe for its stdin, and the script begins when a line has come through.  If llmux has
gone instead, the pipe has ended, and so does the shell.

It may wait for long: the shell of a hook that will probably run next is started ahead of its time,
so that nobody has to wait for that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from llmux.amounts import shown
from llmux.config import ModelConfig
from llmux.fitting import variables
from llmux.hooks.contract import HookCall
from llmux.hooks.output import OutputFile
from llmux.hooks.process import HookProcess
from llmux.hooks.session import Sessions

_SH = b"/bin/sh"
# The line is what the variable holds already, so that the script finds no trace of it.
# It stands on the script's first line, so that the shell counts lines and ends as it does with the
# script alone.  If it cannot read that line it begins with nothing of it.
_GATE = b"IFS= read -r LLMUX_HOOK || exit; exec </dev/null; "

_NOT_INHERITED = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
)  # fmt: skip  # what systemd tells llmux alone: a server that took it for itself would answer it

_REMEDIES = {
    errno.EMFILE: "llmux has too many files open: raise its limit (ulimit -n, LimitNOFILE=)",
    errno.ENFILE: "the machine has too many files open (fs.file-max)",
    errno.EAGAIN: "no more processes are allowed (ulimit -u, TasksMax=)",
    errno.ENOMEM: "the machine has no memory left for another process",
    errno.ENOSPC: "the disk of state_dir is full",
}


def spawn(
    sessions: Sessions,
    process: HookProcess,
    script: str,
    environment: Mapping[bytes, bytes],
    output: OutputFile,
    *,
    gated: bool,
) -> None:
    """
    Start a hook's process.

    :param sessions: starts it.
    :param process: watches over it, and has its gate.
    :param script: what ``sh -c`` gets.
    :param environment: all of it.
    :param output: takes what it prints.
    :param gated: whether the script waits until it is let begin.
    :raises OSError: if it cannot be started; nothing is left behind then.
    """
    with ExitStack() as done, ExitStack() as failed:
        text = _encoded(script)
        if gated:
            text = _GATE + text
            stdin, process.gate = os.pipe()  # nobody inherits them unasked
            failed.callback(process.dismiss)
        else:
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        done.callback(os.close, stdin)
        stdout = output.open()
        done.callback(os.close, stdout)
        sessions.start(process, [_SH, b"-c", text], environment, stdin, stdout)
        failed.pop_all()


def hook_environment(
    config: ModelConfig,
    call: HookCall,
    deadline: float,
    directory: Path,
    resources: Iterable[str] = (),
) -> dict[bytes, bytes]:
    """
    Give a hook's environment: llmux's own, without what is meant for llmux alone, and what a script
    could want to know.

    :param deadline: seconds that it may take.
    :param directory: the model's own.
    :param resources: the names of those that the models share.
    """
    told = {
        "LLMUX_MODEL": call.model,
        "LLMUX_HOOK": call.hook.value,
        "LLMUX_PORT": str(config.backend.port),
        "LLMUX_URL": config.backend.url,
        "LLMUX_FROM": call.source,
        "LLMUX_TO": call.target,
        "LLMUX_REASON": call.reason.value,
        "LLMUX_DEADLINE": _plain(deadline),
        "LLMUX_STATE_DIR": str(directory),
    }
    told.update(_placed(call, resources))
    environment = dict(os.environb)
    for name in _NOT_INHERITED:
        environment.pop(name.encode("ascii"), None)
    environment.update((name.encode("ascii"), _encoded(value)) for name, value in told.items())
    return environment


def _placed(call: HookCall, resources: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Say where the model is, or is to be, and how much it takes there; nothing if none knows."""
    names = variables(resources)
    amounts = call.placement or {}
    if names:
        yield "LLMUX_PLACEMENT", ",".join(name for name in names if amounts.get(name, 0.0) > 0)
    for name, variable in names.items():
        yield variable, "" if call.placement is None else shown(amounts.get(name, 0.0))


def explain(error: OSError | ValueError) -> str:
    """Say why a hook could not be started, and what to do, as far as that is known."""
    remedy = _REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    return f"{error}; {remedy}" if remedy else str(error)


def _encoded(text: str) -> bytes:
    """Write text as the configuration has it, in UTF-8, whatever this process's locale is."""
    return text.encode("utf-8", "surrogateescape")


def _plain(seconds: float) -> str:
    """Write a duration without an exponent, for shells: ``600``, ``2.5``."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
