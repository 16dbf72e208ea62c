"""The program of a worker; its parent alone starts it, and tells it what it needs."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from llmux.engine.choice import REACTOR, STOCK


def main() -> None:
    """Serve clients until the parent has gone, or says that it is enough."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the parent, also from a terminal
    if REACTOR.made(os.environ) != STOCK:
        from llmux.engine.reactor import install

        install()
    _serve(sys.argv[1:])


def _serve(words: list[str]) -> None:
    """Serve clients as the command line says; the reactor has been chosen."""
    from twisted.internet import reactor
    from twisted.internet.base import ReactorBase
    from twisted.internet.error import ReactorNotRunning
    from twisted.internet.protocol import Factory
    from twisted.logger import globalLogBeginner

    from llmux.clock import make_monotonic
    from llmux.garbage import keep_collector_away
    from llmux.holder import IHolderLink
    from llmux.server.spool import find_place
    from llmux.workers.board import Board
    from llmux.workers.links import IWorkerLine
    from llmux.workers.spawning import BOARD, LINE, Start
    from llmux.workers.wire import Line
    from llmux.workers.worker import Hall, Worker

    assert isinstance(reactor, ReactorBase)
    make_monotonic(reactor)
    reactor.callWhenRunning(find_place)
    reactor.callWhenRunning(keep_collector_away)
    start = Start.from_words(words)
    globalLogBeginner.beginLoggingTo([start.logs.observer()], redirectStandardIO=False)

    def ended() -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    line = Line(lambda: worker.lost())
    doors = [socket.socket(fileno=number) for number in start.doors]
    board = Board(BOARD, start.count)
    os.close(BOARD)
    worker = Worker(reactor, line, Hall(doors, board, start.number), ended)
    line.hear(IWorkerLine, worker)
    line.hear(IHolderLink, worker)
    adopting: Any = reactor
    adopting.adoptStreamConnection(LINE, socket.AF_UNIX, Factory.forProtocol(lambda: line))
    os.close(LINE)
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()
