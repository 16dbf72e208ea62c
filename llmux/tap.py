"""twistd's door: ``twistd -n llmux --config config.yaml``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService, IServiceCollection, MultiService
from twisted.internet.base import ReactorBase
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from llmux import logs
from llmux._version import __version__
from llmux.clock import make_monotonic
from llmux.config import Config
from llmux.errors import ConfigError
from llmux.service import LLMuxService, bind, build_app


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
        try:
            self.configuration = Config.from_file(
                self["config"], host=self["host"], port=self["port"]
            )
        except ConfigError as error:
            _give_up(str(error))


def makeService(options: Options) -> IService:
    """
    Make the service that twistd runs.

    The port is taken here and not when the service starts: so an error reaches the terminal, with
    status 1, also where twistd is about to become a daemon.
    """
    from twisted.internet import reactor

    assert isinstance(reactor, ReactorBase)
    make_monotonic(reactor)
    config = options.configuration
    server_options: Mapping[str, Any] = options.parent or {}
    try:
        app = build_app(config, reactor)
        _hand_over(app.state_dir, server_options)
    except ConfigError as error:
        _give_up(str(error))
    except OSError as error:
        _give_up(f"the state directory cannot be given to --uid and --gid: {error}")
    try:
        listening = bind(config.host, config.port)
    except OSError as error:
        _give_up(
            f"cannot listen on {config.host}:{config.port}: {error.strerror};"
            " end what has this address, or choose another one with --host and --port"
        )
    observer = logs.make_server_observer(
        server_options, options["log-format"], options["log-level"], reactor.callFromThread
    )
    return _LoggingService(observer, LLMuxService(app, reactor, listening))


def _hand_over(state_dir: Path, server_options: Mapping[str, Any]) -> None:
    """Give the state directory to whom twistd will become: ``--uid``, ``--gid``."""
    uid, gid = server_options.get("uid"), server_options.get("gid")
    if uid is not None or gid is not None:
        os.chown(state_dir, -1 if uid is None else uid, -1 if gid is None else gid)


class _LoggingService(MultiService):
    """
    Tells the application that it becomes a part of how to log.

    :param observer: takes the log, if it is not taken already.
    :param service: what does the work.
    """

    def __init__(self, observer: ILogObserver | None, service: IService) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._observer = observer
        self.addService(service)  # type: ignore[no-untyped-call]  # Twisted's

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """See :meth:`IService.setServiceParent`; twistd asks the application for its observer."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)  # type: ignore[no-untyped-call]  # Twisted's
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # Twisted's


def _give_up(message: str) -> NoReturn:
    print(f"llmux: {message}" if "\n" not in message else message, file=sys.stderr)
    raise SystemExit(1)
