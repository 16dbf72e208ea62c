"""
``llmux run``: a command beside the models, in room that is reserved for it while it runs.

The room is asked for, waited for, held by a heartbeat and given back.  Whatever becomes of llmux
meanwhile, the command is left in peace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, TextIO

import attrs

from llmux import ctl
from llmux.amounts import shown
from llmux.settings import Address

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit statuses of shells for a command that is not there, and for one that cannot be run."""

_BEATS = 3  # renewals in the time for which a reservation holds
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)  # which sends them to the command, too
_GONE = 404


@attrs.frozen
class Job:
    """
    What is to be run, and what it takes.

    :param command: the command and its arguments.
    :param needs: by resource, how much; nothing: all that can be had.
    :param ttl: seconds for which the room is held if no heartbeat comes.
    :param note: what operators see; empty: the name of the command, without what may be secret.
    :param quiet: whether nothing is said but errors.
    """

    command: Sequence[str]
    needs: Mapping[str, float]
    ttl: float = 60.0
    note: str = ""
    quiet: bool = False


def run(job: Job, address: Address, err: TextIO) -> int:
    """
    Reserve the room, run the command, and give the room back.

    :param job: what.
    :param address: where the operator's face is.
    :param err: gets what there is to be said.
    :returns: the command's exit status, 128 and the number of the signal that ended it, or why it
        was not run: one of those of :mod:`llmux.ctl`, :data:`NOT_FOUND`, :data:`NOT_EXECUTABLE`.
    """
    missing = _missing(job.command[0], err)
    if missing is not None:
        return missing
    holder, signals = _Holder(job, address, err), _Signals()
    try:
        holder.reserve()
        signals.take()
    except ctl.NoAnswer as error:
        ctl.say(str(error), err)
        return ctl.NOBODY
    except ctl.Refused as refused:
        ctl.say(f"llmux: {refused}", err)
        return ctl.FAILED
    except KeyboardInterrupt:  # the connection is closed, and with it nobody waits any more
        if holder.id:
            holder.give_back()
        return ctl.INTERRUPTED
    try:
        return _execute(job.command, holder.id, signals, err)
    finally:
        holder.give_back()
        signals.leave()


class _Holder:
    """
    Holds a reservation for as long as it is needed.

    :param job: what for.
    :param address: where the operator's face is.
    :param err: gets what there is to be said.
    :ivar id: the reservation's, once there is one.
    """

    def __init__(self, job: Job, address: Address, err: TextIO) -> None:
        self._job = job
        self._address = address
        self._err = err
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self.id = ""

    def reserve(self) -> None:
        """
        Wait for the room, and begin to hold it.

        :raises NoAnswer: if nobody answers there.
        :raises Refused: if llmux refuses.
        """
        if not self._job.quiet:
            amounts = [f"{shown(some)} {name}" for name, some in self._job.needs.items()]
            wanted = ", ".join(amounts) or "all that can be had"
            ctl.say(f"llmux: waiting for {wanted}", self._err)
        self._ask_for_room()
        # Signals have to reach the thread that waits for the command, or it would not wake up.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._heart.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def give_back(self) -> None:
        """Let others have the room."""
        self._over.set()
        if self._heart.is_alive():
            self._heart.join(timeout=1.0)  # it may be waiting for llmux; it ends with this process
        try:
            ctl.ask("DELETE", f"/llmux/reservations/{self.id}", self._address)
        except (ctl.NoAnswer, ctl.Refused) as error:
            if not (isinstance(error, ctl.Refused) and error.status == _GONE):
                ctl.say(f"llmux: the room is given back in {self._job.ttl:g} s: {error}", self._err)

    def _ask_for_room(self) -> None:
        note = self._job.note or os.path.basename(self._job.command[0])  # others see it
        printable = "".join(c if c.isprintable() else "?" for c in note)[:200]
        wish: dict[str, object] = {"ttl_secs": self._job.ttl, "note": printable}
        if self._job.needs:
            wish["needs"] = dict(self._job.needs)
        told = ctl.ask("POST", "/llmux/reservations", self._address, wish, patient=True)
        self.id = told["id"]

    def _beat(self) -> None:
        """Renew, over and over; whatever goes wrong is no reason to disturb the command."""
        while not self._over.wait(self._job.ttl / _BEATS):
            try:
                ctl.ask("POST", f"/llmux/reservations/{self.id}", self._address, {})
            except ctl.NoAnswer:
                continue  # llmux is being started anew, perhaps
            except ctl.Refused as refused:
                if refused.status == _GONE:
                    self._lost()

    def _lost(self) -> None:
        """Ask for the room again: the machine has slept, or llmux has lost its journal."""
        ctl.say("llmux: the room was not held any more; it is asked for again", self._err)
        try:
            self._ask_for_room()
        except (ctl.NoAnswer, ctl.Refused) as error:
            ctl.say(f"llmux: the room could not be had again: {error}", self._err)


def _missing(program: str, err: TextIO) -> int | None:
    """Tell whether a program cannot be run, before anybody has to go for it."""
    if shutil.which(program) is not None:
        return None
    if os.sep in program and os.path.exists(program):
        ctl.say(f"llmux: {program} cannot be executed", err)
        return NOT_EXECUTABLE
    ctl.say(f"llmux: there is no command {program}", err)
    return NOT_FOUND


def _execute(command: Sequence[str], reservation: str, signals: _Signals, err: TextIO) -> int:
    """Run a command in the foreground, with all files that are open for it."""
    environment = {**os.environ, "LLMUX_RESERVATION": reservation}
    signals.begin()
    try:
        process = subprocess.Popen(list(command), env=environment, close_fds=False)  # noqa: S603  # the user's own
    except OSError as error:
        ctl.say(f"llmux: {command[0]} cannot be run: {error.strerror}", err)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    signals.pass_on(process)
    status = process.wait()
    return 128 - status if status < 0 else status


class _Signals:
    """
    Takes signals that are meant for the command, from before it is there until all is given back.

    ``Ctrl-C`` the command gets from the terminal; who waits for it only has to live through that.
    What was ignored from the start (``nohup``, jobs in the background) is left so, or the command
    would not ignore it, either.
    """

    def __init__(self) -> None:
        self._early: list[int] = []
        self._begun = False
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def take(self) -> None:
        """Take them from now on."""
        for number in (*_PASSED_ON, *_OF_THE_TERMINAL):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)

    def leave(self) -> None:
        """Let them do what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def begin(self) -> None:
        """Take in that from now on the command may be there, and has what the terminal sends."""
        self._begun = True

    def pass_on(self, process: subprocess.Popen[bytes]) -> None:
        """Let a process have what has come, and what will."""
        self._process = process
        early, self._early = self._early, []
        for number in early:
            process.send_signal(number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._begun and number not in _PASSED_ON:
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)
