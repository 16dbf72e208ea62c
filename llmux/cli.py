"""The ``llmux`` command, with the flags of llmux 2.4.0, and what asks one that runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction

from llmux import beside, ctl
from llmux._version import __version__
from llmux.amounts import add
from llmux.config import Config
from llmux.document import Scalar
from llmux.errors import ConfigError
from llmux.readers import Complaint, address
from llmux.settings import Address

_OF_A_MODEL = ("wake", "sleep", "pin", "unpin")
_ASKING = {
    "status": "tell what a running llmux is doing",
    "wake": "have a model awake",
    "sleep": "have a model asleep",
    "pin": "have a model stay once it is awake, whoever waits",
    "unpin": "let a model go again for others",
    "reservations": "tell who holds room beside the models",
    "release": "end a reservation",
    "record": "record how much is asked and answered, or tell what was recorded",
    "reload": "read the configuration again",
}


_CONFIG = "config.yaml"  # where nothing else is said
_NO_SENSE = 2  # argparse's exit status for a command line that makes no sense


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the multiplexer in the foreground, or the subcommand that is named.

    :param arguments: the command line without the program's name; this process's by default.
    :returns: the exit status.
    """
    parsed = _parser().parse_args(arguments)
    if parsed.command == "simulate":
        return simulate(parsed)
    if parsed.config is None:
        parsed.config = _CONFIG
    if parsed.command == "check":
        return check(parsed.config)
    if parsed.command in _ASKING:
        command = ctl.Command(parsed.command, getattr(parsed, "model", ""), parsed.json)
        if parsed.command == "record" and not command.model:
            command = ctl.Command(
                "stop_recording" if parsed.stop else "recording", as_json=parsed.json
            )
        return ask(command, parsed.admin, parsed.config, parsed.port)
    if parsed.command == "run":
        return run_beside(parsed)
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


def run_beside(parsed: argparse.Namespace) -> int:
    """Run a command in room that is reserved for it."""
    where = _find(parsed.admin, parsed.config, parsed.port)
    if where is None:
        return ctl.FAILED
    command = parsed.argv[1:] if parsed.argv[:1] == ["--"] else parsed.argv
    if not command:
        print("llmux: run what? llmux run --needs gpu0=20 -- COMMAND ...", file=sys.stderr)
        return _NO_SENSE
    needs = dict(add(*parsed.needs))
    job = beside.Job(command, needs, parsed.ttl, parsed.note, parsed.quiet)
    return beside.run(job, where, sys.stderr)


def simulate(parsed: argparse.Namespace) -> int:
    """Tell what policies would do with a trace of requests."""
    from llmux.simulate import command

    return command.run(
        command.Command(
            trace=parsed.trace,
            config=parsed.config,
            policies=tuple(parsed.policy),
            cost=parsed.cost,
            costs=parsed.costs,
            engines=tuple(parsed.engine),
            keep=parsed.keep,
            seed=parsed.seed,
            json=parsed.json,
            report=parsed.report,
        ),
        sys.stdout,
        sys.stderr,
    )


def ask(command: ctl.Command, admin: Address | None, config: str, port: int | None) -> int:
    """
    Ask a running llmux.

    :param command: what.
    :param admin: where; ``None``: where the configuration says.
    :param config: the configuration that it was started with.
    :param port: the port that it was started with, if any.
    """
    where = _find(admin, config, port)
    return ctl.FAILED if where is None else ctl.run(command, where, sys.stdout, sys.stderr)


def _find(admin: Address | None, config: str, port: int | None) -> Address | None:
    """Find where llmux is asked, or say why that is not known."""
    try:
        return admin or ctl.find_address(config, port)
    except ConfigError as error:
        print(
            f"{error}\nllmux: where it is to be asked is not known; --admin says", file=sys.stderr
        )
    except ctl.NoFace as error:
        print(f"llmux: {error}", file=sys.stderr)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmux",
        description="One OpenAI-compatible address in front of several inference servers"
        " that do not all fit on the GPU.",
    )
    _add_config(parser, None)
    parser.add_argument("-p", "--port", type=_port, metavar="N", help="the TCP port to listen on")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("-V", "--version", action="version", version=f"llmux {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    checking = commands.add_parser("check", help="only say what is wrong with the configuration")
    _add_config(checking, argparse.SUPPRESS)  # or it would undo the one before the command
    for name, told in _ASKING.items():
        asking = commands.add_parser(name, help=told)
        if name in _OF_A_MODEL:
            asking.add_argument("model", metavar="MODEL", help="its name in the configuration")
        elif name == "release":
            asking.add_argument("model", metavar="ID", help="the reservation's")
        elif name == "record":
            _add_record(asking.add_mutually_exclusive_group())
        _add_where(asking)
        asking.add_argument("--json", action="store_true", help="print the answer as it comes")
    _add_run(commands.add_parser("run", help="run a command in room that is reserved for it"))
    _add_simulate(commands.add_parser("simulate", help="tell what policies would do with a trace"))
    return parser


def _add_record(recording: argparse._MutuallyExclusiveGroup) -> None:
    recording.add_argument(
        "model", metavar="NAME", nargs="?", default="",
        help="of a file in the folder traces of the state directory, or the path that the"
        " configuration says; without it, what was recorded is told",
    )  # fmt: skip
    recording.add_argument("--stop", action="store_true", help="record no more")


def _add_simulate(simulating: argparse.ArgumentParser) -> None:
    _add_config(simulating, argparse.SUPPRESS, "the models of the trace, one awake at a time")
    simulating.add_argument(
        "--trace", required=True, metavar="PATH",
        help="the requests: a CSV file, compressed if its name ends with .gz",
    )  # fmt: skip
    simulating.add_argument(
        "--policy", type=_words, action="extend", default=[], metavar="NAME[,...]",
        help="which policies; default: llmux's own, and fifo-2.4.0",
    )  # fmt: skip
    simulating.add_argument(
        "--cost", type=_switch_secs, metavar="SECS",
        help="what a switch takes where nothing was measured; default: 10",
    )  # fmt: skip
    simulating.add_argument("--costs", metavar="PATH", help="what was measured of switches: JSON")
    simulating.add_argument(
        "--engine", action="append", default=[], metavar="[MODEL=]P,T,S,N",
        help="how fast the engines are, or one is: tokens of a prompt per second, seconds per token"
        " of an answer, slowdown per further request, how many run at once; default:"
        " 6000,0.02,0.02,32",
    )  # fmt: skip
    simulating.add_argument(
        "--keep", type=_probability, default=1.0, metavar="PROB",
        help="the probability with which each request, or session, counts, like 1/12; default: 1",
    )  # fmt: skip
    simulating.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all chance; default: 0"
    )
    simulating.add_argument("--json", action="store_true", help="print all figures, as JSON")
    simulating.add_argument(
        "--report", metavar="PATH", help="write a page of HTML with pictures; needs plotly"
    )


def _add_run(running: argparse.ArgumentParser) -> None:
    running.add_argument(
        "--needs", type=_needs, action="append", default=[], metavar="R=N[,...]",
        help="how much of which resource; default: all that can be had",
    )  # fmt: skip
    running.add_argument(
        "--ttl", type=float, default=60.0, metavar="SECS",
        help="how long the room is held without a sign of life; default: 60",
    )  # fmt: skip
    running.add_argument(
        "--note", default="", help="what operators see; default: the command's name"
    )
    running.add_argument("--quiet", action="store_true", help="say nothing but errors")
    _add_where(running)
    running.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")


def _add_where(parser: argparse.ArgumentParser) -> None:
    _add_config(parser, argparse.SUPPRESS)
    parser.add_argument("--admin", type=_admin, metavar="ADDRESS",
                        help="where llmux is asked, as admin.listen has it; default: where"
                        " the configuration says")  # fmt: skip


def _add_config(
    parser: argparse.ArgumentParser, default: str | None, otherwise: str = _CONFIG
) -> None:
    parser.add_argument(
        "-c", "--config", default=default, metavar="PATH", help=f"default: {otherwise}"
    )


def _port(word: str) -> int:
    port = int(word)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a whole number from 1 to 65535")
    return port


def _words(word: str) -> list[str]:
    return [each.strip() for each in word.split(",") if each.strip()]


def _switch_secs(word: str) -> float:
    seconds = float(word)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no time that a switch takes, in seconds")
    return seconds


def _probability(word: str) -> float:
    try:
        probability = float(Fraction(word))
    except (ValueError, ZeroDivisionError):
        probability = -1.0
    if not 0 < probability <= 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no probability, like 0.5 or 1/12")
    return probability


def _needs(word: str) -> dict[str, float]:
    needs = {}
    for each in word.split(","):
        resource, equals, amount = each.partition("=")
        try:
            needs[resource.strip()] = float(amount)
        except ValueError:
            equals = ""
        if not (resource.strip() and equals and 0 <= needs[resource.strip()] < float("inf")):
            raise argparse.ArgumentTypeError(f"{each!r} is not like gpu0=20")
    return needs


def _admin(word: str) -> Address:
    try:
        parts = address(Scalar(word, plain=True, line=1))
    except Complaint as complaint:
        raise argparse.ArgumentTypeError(str(complaint)) from None
    if parts is None:
        raise argparse.ArgumentTypeError("nobody can be asked there")
    return Address(*parts)
