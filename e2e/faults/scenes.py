"""The phases in which llmux can be found, each made to last for as long as a test needs it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from e2e.faults.client import Client
from e2e.faults.house import House
from e2e.program import wait_until


@attrs.define
class Scene:
    """
    A phase.

    :ivar go_on: lets it come to its end.
    :ivar streaming: a client that reads an answer of ``a``, whose end comes with ``go_on``.
    :ivar waiting: a client that waits for ``model``.
    :ivar model: whom it waits for.
    """

    go_on: Callable[[], None]
    streaming: Client | None = None
    waiting: Client | None = None
    model: str = "b"

    def ends_well(self) -> None:
        """See all of its clients served as if nothing had been."""
        self.go_on()
        if self.streaming is not None:
            self.streaming.comes_to_its_end()
        if self.waiting is not None:
            self.waiting.is_served(self.model)


def idle(house: House) -> Scene:
    """``a`` is awake, and nobody asks for anything."""
    house.serves("a")
    return Scene(lambda: None)


def streaming(house: House) -> Scene:
    """``a`` is in the midst of an answer."""
    return Scene(house.go_on.open, streaming=house.stream("a"))


def waiting(house: House) -> Scene:
    """A request waits for the only place at ``a``."""
    stream = house.stream("a")
    client = house.send("a")
    house.waits("a")
    return Scene(house.go_on.open, stream, client, "a")


def draining(house: House) -> Scene:
    """``a`` is in the midst of an answer, and has to leave for ``b``."""
    stream = house.stream("a")
    client = house.send("b")
    house.is_("a", "draining")
    return Scene(house.go_on.open, stream, client)


def sleeping(house: House) -> Scene:
    """The sleep hook of ``a`` runs, for ``b``."""
    house.serves("a")
    gate = house.gate("a", "sleep")
    client = house.send("b")
    house.runs("sleep a request")
    return Scene(gate.open, waiting=client)


def waking(house: House) -> Scene:
    """The wake hook of ``b`` runs, and ``a`` is asleep."""
    house.serves("a")
    gate = house.gate("b", "wake")
    client = house.send("b")
    house.runs("wake b request")
    return Scene(gate.open, waiting=client)


def unanswered(house: House) -> Scene:
    """``a`` has a request and has not begun to answer it."""
    house.serves("a")
    asked = len(house.asked())
    client = house.send("a", silent=True)
    wait_until(lambda: len(house.asked()) > asked)
    return Scene(house.go_on.open, waiting=client, model="a")


SCENES = (idle, waiting, draining, sleeping, waking, unanswered, streaming)


def name_of(scene: Callable[[House], Scene]) -> str:
    """Give the name of a phase, for the names of tests."""
    return scene.__name__
