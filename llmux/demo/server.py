"""Runs one demo backend as a program."""

import os
import sys
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore, IReactorTCP, IReactorTime
from twisted.web.server import Site

from llmux.demo.backend import Backend, BackendResource
from llmux.demo.bed import Bed
from llmux.demo.engine import Pace
from llmux.demo.memory import Amounts, Memory, NoRoom


@frozen
class Options:
    """
    How to run a backend.

    :ivar port: where to listen; 0 takes a free one and names it in the first line of the log.
    :ivar load_secs: how long the backend is to load, in seconds.
    :ivar pace: how fast it is to be then.
    :ivar pid_file: where to write the process's number, and to remove it at the end.
    :ivar memory: the directory of a pretended machine, if it has one.
    :ivar needs: what to hold of its memory.
    :ivar asleep_needs: what to hold of it while it is asleep.
    """

    model: str
    host: str
    port: int
    load_secs: float
    pace: Pace
    pid_file: Path | None
    memory: Path | None = None
    needs: Amounts = field(factory=dict)
    asleep_needs: Amounts = field(factory=dict)


def serve(options: Options) -> int:
    """
    Serve until the process is told to end.

    :returns: the exit status: 1 when the port, the pid file or the memory cannot be had.
    """
    from twisted.internet import reactor

    core, clock = IReactorCore(reactor), IReactorTime(reactor)
    bed = None
    if options.memory is not None:
        bed = Bed(Memory(options.memory, options.model), options.needs, options.asleep_needs)
    backend = Backend(options.model, clock, options.load_secs, options.pace, bed)
    # Twisted's types do not know that a site is a factory.
    site: Any = Site(BackendResource(backend, _say), reactor=reactor)
    try:
        if bed is not None:
            bed.wake()
            core.addSystemEventTrigger("after", "shutdown", bed.memory.let_go)
        port = IReactorTCP(reactor).listenTCP(options.port, site, interface=options.host)
        if options.pid_file is not None:
            options.pid_file.write_text(f"{os.getpid()}\n")
            core.addSystemEventTrigger("after", "shutdown", options.pid_file.unlink, True)
    except (CannotListenError, NoRoom, OSError) as error:
        print(f"llmux.demo: {error}", file=sys.stderr)
        return 1
    address = port.getHost()
    assert isinstance(address, IPv4Address | IPv6Address)
    # Said when signals are already handled: whoever has read it may end this program.
    core.callWhenRunning(_say, f"{options.model} listens on http://{address.host}:{address.port}")
    core.run()
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
