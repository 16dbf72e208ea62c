"""The ``llmux`` command, with the flags of llmux 2.4.0, and what asks one that runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from llmux import ctl
from llmux._version import __version__
from llmux.config import Config
from llmux.document import Scalar
from llmux.errors import ConfigError
from llmux.readers import Complaint, address
from llmux.settings import Address

_ASKING = {
    "status": "tell what a running llmux is doing",
    "wake": "have a model awake",
    "sleep": "have a model asleep",
    "reload": "read the configuration again",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the multiplexer in the foreground, or the subcommand that is named.

    :param arguments: the command line without the program's name; this process's by default.
    :returns: the exit status.
    """
    parsed = _parser().parse_args(arguments)
    if parsed.command == "check":
        return check(parsed.config)
    if parsed.command in _ASKING:
        command = ctl.Command(parsed.command, getattr(parsed, "model", ""), parsed.json)
        return ask(command, parsed.admin, parsed.config, parsed.port)
    return run(parsed.config, parsed.port, parsed.verbose)


def run(config: str, port: int | None, verbose: bool) -> int:
    """Run the multiplexer as ``twistd -n llmux`` would, without a pid file."""
    from twisted.scripts import twistd

    command = ["--nodaemon", "--pidfile=", "llmux", "--config", config]
    if port is not None:
        command += ["--port", str(port)]
    if verbose:
        command += ["--log-level", "debug"]
    options = twistd.ServerOptions()  # type: ignore[attr-defined,no-untyped-call]  # twistd's own
    options.parseOptions(command)
    twistd.runApp(options)
    return 0


def check(path: str) -> int:
    """Say all that is wrong with a configuration, or that nothing is."""
    try:
        config = Config.from_file(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: good; {len(config.models)} models, listening on {config.host}:{config.port}")
    return 0


def ask(command: ctl.Command, admin: Address | None, config: str, port: int | None) -> int:
    """
    Ask a running llmux.

    :param command: what.
    :param admin: where; ``None``: where the configuration says.
    :param config: the configuration that it was started with.
    :param port: the port that it was started with, if any.
    """
    try:
        where = admin or ctl.find_address(config, port)
    except ConfigError as error:
        print(
            f"{error}\nllmux: where it is to be asked is not known; --admin says", file=sys.stderr
        )
        return ctl.FAILED
    except ctl.NoFace as error:
        print(f"llmux: {error}", file=sys.stderr)
        return ctl.FAILED
    return ctl.run(command, where, sys.stdout, sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmux",
        description="One OpenAI-compatible address in front of several inference servers"
        " that do not all fit on the GPU.",
    )
    _add_config(parser, "config.yaml")
    parser.add_argument("-p", "--port", type=_port, metavar="N", help="the TCP port to listen on")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("-V", "--version", action="version", version=f"llmux {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    checking = commands.add_parser("check", help="only say what is wrong with the configuration")
    _add_config(checking, argparse.SUPPRESS)  # or it would undo the one before the command
    for name, told in _ASKING.items():
        asking = commands.add_parser(name, help=told)
        if name in ("wake", "sleep"):
            asking.add_argument("model", metavar="MODEL", help="its name in the configuration")
        _add_config(asking, argparse.SUPPRESS)
        asking.add_argument("--admin", type=_admin, metavar="ADDRESS",
                            help="where llmux is asked, as admin.listen has it; default: where"
                            " the configuration says")  # fmt: skip
        asking.add_argument("--json", action="store_true", help="print the answer as it comes")
    return parser


def _add_config(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "-c", "--config", default=default, metavar="PATH", help="default: config.yaml"
    )


def _port(word: str) -> int:
    port = int(word)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a whole number from 1 to 65535")
    return port


def _admin(word: str) -> Address:
    try:
        parts = address(Scalar(word, plain=True, line=1))
    except Complaint as complaint:
        raise argparse.ArgumentTypeError(str(complaint)) from None
    if parts is None:
        raise argparse.ArgumentTypeError("nobody can be asked there")
    return Address(*parts)
