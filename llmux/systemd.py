"""
What systemd and llmux tell each other: sockets, that it is ready, that it lives, that it ends.

The protocol of sd_notify(3) is a datagram of ``NAME=value`` lines to a socket that the environment
names.  It is written out here: it is a dozen lines, stable by promise, and the packages that speak
it are bindings to a C library or no longer kept.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import MappingProxyType

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from txaio.tx import make_logger

from llmux.errors import CannotListen
from llmux.listening import is_listening

_NOTHING: Mapping[str, str] = MappingProxyType({})
_LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_FIRST = 3  # the number of the first file that is handed over (SD_LISTEN_FDS_START)
_EXTEND_INTERVAL = 5.0  # seconds between two requests for more time
_EXTENSION = 30.0  # seconds that each of them asks for


def take_sockets(
    environ: MutableMapping[str, str], initial: Mapping[str, str] = _NOTHING
) -> list[tuple[str, socket.socket]]:
    """
    Take the sockets that whoever has started us hands over (sd_listen_fds(3)).

    Must be called before the process becomes a daemon: they are meant for the pid that it has now.
    Twisted's ``ListenFDs`` is not enough: it takes none where no names are given, and forgets those
    whose name comes twice, as from a unit with two ``ListenStream=``.

    :param environ: tells of them; not any more, afterwards.
    :param initial: what the environment was when the process began: Twisted's module for endpoints
        takes these variables away as soon as it is imported, by whomever.
    :returns: each with its name, in order; none if there are none for this process.
    :raises CannotListen: if one of them is nothing that connections can be accepted on.
    """
    told = {name: environ.pop(name, initial.get(name, "")) for name in _LISTEN}
    count = told["LISTEN_FDS"]
    if told["LISTEN_PID"] != str(os.getpid()) or not count.isdecimal():
        return []
    names = told["LISTEN_FDNAMES"].split(":") + [""] * int(count)
    return [(names[index], _adopt(_FIRST + index)) for index in range(int(count))]


def initial_environment() -> dict[str, str]:
    """Give the environment that this process began with; nothing where there is no proc(5)."""
    try:
        lines = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    parts = (os.fsdecode(line).partition("=") for line in lines if line)
    return {name: value for name, _, value in parts}


def _adopt(number: int) -> socket.socket:
    try:
        adopted = socket.socket(fileno=number)
    except OSError as error:
        raise CannotListen(f"file {number} from systemd", error, _ADVICE) from error
    adopted.set_inheritable(False)  # hooks have nothing to do with it
    adopted.setblocking(False)
    if not is_listening(adopted):
        raise CannotListen(f"file {number} from systemd", "it is no listening socket", _ADVICE)
    return adopted


_ADVICE = "give it streams that listen: ListenStream=, Accept=no"


class Notifier:
    """
    Tells systemd how llmux is.  Without a socket to tell it to, nothing happens.

    :param clock: tells when to say that llmux lives.
    :param address: the socket: a path, or ``@`` and an abstract name; ``None``: there is none.
    :param watchdog_secs: after how many seconds of silence llmux is taken for dead, if ever.
    :param watchdog_pid: the process that this is about, if it is said.
    """

    _log = make_logger()

    def __init__(
        self,
        clock: IReactorTime,
        address: str | None = None,
        watchdog_secs: float | None = None,
        watchdog_pid: int | None = None,
    ) -> None:
        self._address = address
        self._watchdog_secs = watchdog_secs
        self._watchdog_pid = watchdog_pid
        self._complained = False
        self._alive = LoopingCall(self._send, "WATCHDOG=1")
        self._more_time = LoopingCall(self.extend, _EXTENSION)
        for call in (self._alive, self._more_time):
            call.clock = clock

    @classmethod
    def from_environment(cls, clock: IReactorTime, environ: MutableMapping[str, str]) -> Notifier:
        """
        Make one as the environment says.

        :param environ: says so; not any more, afterwards: hooks are not to speak for llmux.
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        period = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        return cls(
            clock,
            address or None,
            int(period) / 1e6 if period.isdecimal() and int(period) else None,
            int(pid) if pid.isdecimal() else None,
        )

    def ready(self) -> None:
        """Say that llmux can be asked, and from now on now and then that it lives."""
        self._send("READY=1")
        secs = self._watchdog_secs
        # a daemon is another process by now than the one that systemd watches
        meant = self._watchdog_pid in (None, os.getpid())
        if self._address and secs and meant and not self._alive.running:
            self._begin(self._alive, secs / 2)

    def reloading(self) -> None:
        """Say that the configuration is being read again; :meth:`ready` says that it has been."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that llmux ends, and from now on now and then that this may take longer."""
        self._send("STOPPING=1")
        if self._address:
            self._begin(self._more_time, _EXTEND_INTERVAL)

    def extend(self, seconds: float) -> None:
        """Ask for more time for what llmux is doing, counted from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stop(self) -> None:
        """Say nothing more by itself."""
        for call in (self._alive, self._more_time):
            if call.running:
                call.stop()

    def _begin(self, call: LoopingCall, interval: float) -> None:
        call.start(interval).addErrback(
            lambda failure: self._log.failure("systemd is told nothing more", failure=failure)
        )

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "systemd cannot be told ({address}): {error}; this is said only once",
                    address=self._address,
                    error=error,
                )
