"""``python -m llmux.demo``: run a backend."""

import math
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from llmux.demo.engine import Pace
from llmux.demo.memory import read_amounts
from llmux.demo.server import Options, serve


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise ArgumentTypeError(f"{text} is not between 0 and 65535")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text} is not a number of seconds")
    return number


def _slowdown(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text} is not 0 or more")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is not at least 1")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"{text} is not more than 0")
    return number


def _amounts(text: str) -> dict[str, float]:
    try:
        return read_amounts(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m llmux.demo", description="A backend without a model.")
    add = parser.add_argument
    add("--model", metavar="NAME", required=True, help="what the pretended model is called")
    add("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    add("--port", type=_port, default=8101, help="where to listen (%(default)s); 0 finds a port")
    add("--load-secs", type=_seconds, default=2.0, help="how long loading takes (%(default)s)")
    add("--tokens-per-sec", type=_rate, default=30.0, help="how fast it speaks (%(default)s)")
    add("--prompt-tokens-per-sec", type=_rate, default=math.inf, help="how fast it reads (at once)")
    add("--slowdown", type=_slowdown, default=0.0, help="N answers at once: 1 / (1 + it * (N - 1))")
    add("--most", type=_count, default=sys.maxsize, help="how many answers at once (all that come)")
    add("--pid-file", type=Path, help="write the process's number here")
    add("--memory", type=Path, metavar="DIR", help="the memory of a pretended machine")
    add("--needs", type=_amounts, default={}, help="how much of it to hold: gpu0=20,ram=2")
    add("--asleep-needs", type=_amounts, default={}, help="how much while asleep (level 1)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """
    Run the backend that the command line asks for.

    :returns: the exit status.
    """
    given = _parse(arguments)
    return serve(
        Options(
            model=given.model,
            host=given.host,
            port=given.port,
            load_secs=given.load_secs,
            pace=Pace(
                tokens_per_sec=given.tokens_per_sec,
                prompt_tokens_per_sec=given.prompt_tokens_per_sec,
                slowdown=given.slowdown,
                most=given.most,
            ),
            pid_file=given.pid_file,
            memory=given.memory,
            needs=given.needs,
            asleep_needs=given.asleep_needs,
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
