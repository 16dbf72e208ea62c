"""twistd's door: ``twistd -n llmux --config config.yaml``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import IService, IServiceCollection, MultiService
from twisted.internet.base import ReactorBase
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from llmux import logs
from llmux._version import __version__
from llmux.clock import make_monotonic
from llmux.config import Config
from llmux.engine.choice import REACTOR, STOCK, UnknownChoice
from llmux.errors import CannotListen, ConfigError
from llmux.garbage import keep_collector_away
from llmux.listening import open_doors
from llmux.signals import SignalService, fail_at_exit
from llmux.systemd import Notifier, initial_environment, take_sockets
from llmux.workers.spawning import Logs

if TYPE_CHECKING:
    from llmux.serving import LLMuxService


def _port(word: str) -> int:
    """Read a port; twistd would tell of a bad one with status 0."""
    try:
        port: int = usage.portCoerce(word)
    except ValueError:
        _give_up(f"--port {word}: a port is a whole number from 0 to 65535; 0 takes any")
    return port


class Options(usage.Options):
    """What can be said on the command line; it wins over the configuration."""

    synopsis = "[options]"
    longdesc = (
        "One OpenAI-compatible address in front of several inference servers that do not all fit on"
        " the GPU; scripts of yours wake them and put them to sleep when requests need it."
    )
    optParameters = [  # noqa: RUF012  # usage.Options wants it so
        ["config", "c", "config.yaml", "The configuration file: .yaml or .yml; others are JSON."],
        ["port", "p", None, "The TCP port to listen on.", _port],
        ["host", None, None, "The address to listen on."],
        ["log-format", None, "text", f"How to log: {' or '.join(logs.FORMATS)}."],
        ["log-level", None, "info", f"What to log: {', '.join(logs.LEVELS)}."],
    ]  # fmt: skip

    def __init__(self) -> None:
        choose_reactor(os.environ)
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's

    def opt_version(self) -> None:
        """Print the version of llmux and exit."""
        print(f"llmux {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """
        Read the configuration, before a daemon would leave the terminal.

        Whatever is wrong with it ends the program with status 1, without a traceback.
        """
        for option, known in (("log-format", logs.FORMATS), ("log-level", logs.LEVELS)):
            if self[option] not in known:
                _give_up(f"--{option} {self[option]}: must be one of {', '.join(known)}")
        read = partial(Config.from_file, host=self["host"], port=self["port"])
        # twistd may go to another directory before the file is read again
        self.reader = partial(read, Path(self["config"]).absolute())
        try:
            self.configuration = read(self["config"])
        except ConfigError as error:
            _give_up(str(error))


def choose_reactor(environment: Mapping[str, str]) -> None:
    """
    Install the reactor that is wanted, unless there is one: ``--reactor`` has been read before.

    It has to be there before anything is made that belongs to it, and before twistd forks.
    """
    if "twisted.internet.reactor" in sys.modules:
        return
    try:
        chosen = REACTOR.made(environment)
    except UnknownChoice as error:
        _give_up(str(error))
    if chosen != STOCK:
        from llmux.engine.reactor import install

        install()


def makeService(options: Options) -> IService:
    """
    Make the service that twistd runs.

    The port is taken here and not when the service starts: so an error reaches the terminal, with
    status 1, also where twistd is about to become a daemon.
    """
    from twisted.internet import reactor

    # not before the reactor is chosen: Klein imports it
    from llmux.server.spool import find_place
    from llmux.service import build_app
    from llmux.serving import LLMuxService

    assert isinstance(reactor, ReactorBase)
    make_monotonic(reactor)
    reactor.callWhenRunning(find_place)
    reactor.callWhenRunning(keep_collector_away)
    config = options.configuration
    server_options: Mapping[str, Any] = options.parent or {}
    notifier = Notifier.from_environment(reactor, os.environ)
    try:
        app = build_app(config, reactor, read=options.reader)
        app.lock.take()  # before any socket is
        chosen = options["host"] is not None or options["port"] is not None
        doors = open_doors(config, take_sockets(os.environ, initial_environment()), chosen=chosen)
        _hand_over((app.state_dir, app.lock.path, *doors.own_paths), server_options)
    except (ConfigError, CannotListen, UnknownChoice) as error:
        _give_up(str(error))
    except OSError as error:
        _give_up(f"the state directory cannot be given to --uid and --gid: {error}")
    observer = logs.make_server_observer(
        server_options, options["log-format"], options["log-level"], reactor.callFromThread
    )
    ours = observer is not None and logs.writes_to_stdout(server_options)
    workers_logs = Logs(options["log-format"] if ours else None, options["log-level"])
    service = LLMuxService(app, reactor, doors, notifier, workers_logs)
    signals = SignalService(reactor, service.end, partial(_cut, service), service.reload)
    return _LoggingService(observer, signals, service)


def _cut(service: LLMuxService, signal: str) -> None:
    """End at once, and tell whoever has started us that this was no good end."""
    fail_at_exit()
    service.cut()


def _hand_over(paths: Iterable[Path], server_options: Mapping[str, Any]) -> None:
    """Give what is on the disk to whom twistd will become: ``--uid``, ``--gid``."""
    uid, gid = server_options.get("uid"), server_options.get("gid")
    if uid is not None or gid is not None:
        for path in paths:
            os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)


class _LoggingService(MultiService):
    """
    Tells the application that it becomes a part of how to log.

    :param observer: takes the log, if it is not taken already.
    :param services: what does the work.
    """

    def __init__(self, observer: ILogObserver | None, *services: IService) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._observer = observer
        for service in services:
            self.addService(service)  # type: ignore[no-untyped-call]  # Twisted's

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """See :meth:`IService.setServiceParent`; twistd asks the application for its observer."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)  # type: ignore[no-untyped-call]  # Twisted's
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # Twisted's


def _give_up(message: str) -> NoReturn:
    print(f"llmux: {message}" if "\n" not in message else message, file=sys.stderr)
    raise SystemExit(1)
