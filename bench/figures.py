"""What is measured: figures, the cases that yield them, and how much work each does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from bench.contenders import MAIN
from bench.helpers import Outcome
from bench.proxy import Proxy

MEGABYTE = 1_000_000
PACED = {"clients": 2, "gap_us": 10_000, "gap_random_us": 20_000}
"""Clients with a hundred small requests a second: no proxy is busy, and they keep no step."""


@attrs.frozen
class Scale:
    """
    How much work is done.

    :param rounds: how often each contender has its turn at most.
    :param seconds: how long a rate is measured.
    :param streams: how many there are, each with an event every 20 ms.
    :param crowd: how many there are, each with an event every 200 ms.
    :param idle: two numbers of silent streams.
    :param upload: bytes of the huge body.
    :param race: requests for each way of closing.
    :param bodies: how many clients wait with a large body each.
    :param body: bytes of each.
    :param answer: bytes of the answer that nobody takes.
    :param choices: how often somebody to evict is chosen among each number of candidates.
    :param decisions: how often each policy decides with each number of waiters.
    :param spread: how many connections are spread over workers.
    :param switches: how many are measured.
    """

    rounds: int
    seconds: int
    streams: int
    crowd: int
    idle: tuple[int, int]
    upload: int
    waiters: int
    race: int
    bodies: int
    body: int
    answer: int
    choices: int
    decisions: int
    spread: int
    switches: int


FULL = Scale(
    rounds=5,
    seconds=5,
    streams=64,
    crowd=1000,
    idle=(1000, 8000),
    upload=50 * MEGABYTE,
    waiters=1000,
    race=5000,
    bodies=100,
    body=20 * MEGABYTE,
    answer=200 * MEGABYTE,
    choices=500,
    decisions=2000,
    spread=2000,
    switches=50,
)
QUICK = Scale(
    rounds=1,
    seconds=1,
    streams=16,
    crowd=50,
    idle=(50, 100),
    upload=5 * MEGABYTE,
    waiters=50,
    race=200,
    bodies=10,
    body=2 * MEGABYTE,
    answer=50 * MEGABYTE,
    choices=5,
    decisions=20,
    spread=100,
    switches=5,
)


@attrs.frozen
class Wanted:
    """
    What llmux has to keep to.

    :param most: so much at most, in the figure's unit; or so many times as much as something else:
    :param than: what another contender has, by its name;
    :param of: another figure of llmux's own, by its key.
    """

    most: float
    than: str = ""
    of: str = ""


@attrs.frozen
class Figure:
    """
    One line of the table.

    :param key: its name in the JSON file; that of a contender that is not run as it comes ends with
        how it is run: ``small_cpu_quiet``.
    :param added_to: the key of another figure, of which this is the difference to ``straight``.
    """

    key: str
    title: str
    unit: str
    wanted: Wanted | None = None
    added_to: str | None = None


@attrs.define
class Bench:
    """
    What a case works with.

    :param directory: for the files of the helpers.
    :param notes: takes what a reader of the table must know.
    """

    directory: Path
    scale: Scale
    notes: list[str] = attrs.Factory(list)

    def note(self, text: str) -> None:
        """Keep something to be said below the table."""
        if text not in self.notes:
            self.notes.append(text)

    def note_failures(self, what: str, outcome: Outcome) -> None:
        """Say which of the clients' requests failed, if any did."""
        if outcome.failures:
            self.note(f"{what}: {outcome.failures}")

    def note_missing(self, what: str, outcome: Outcome, expected: int) -> None:
        """Say that events came too slowly, if so."""
        if (events := outcome.count("events")) < 0.95 * expected:
            self.note(f"{what}: {events} events came, and not {expected}")


Samples = dict[str, float]
Measure = Callable[[Bench, str, Proxy], Samples]


@attrs.frozen
class Case:
    """
    Some figures that are measured together.

    :param figures: gives its figures, for the scale at hand.
    :param measure: gives their values by key, for a contender by name; those that the contender has
        not are left out.
    :param rounds: how often each contender has its turn; the median counts.
    :param fresh: whether each measurement wants a proxy that has done nothing yet.
    :param makes: in which ways the contenders are run, as far as they can be.
    """

    name: str
    figures: Callable[[Scale], list[Figure]]
    measure: Measure
    rounds: int = 3
    fresh: bool = False
    makes: tuple[str, ...] = (MAIN,)
