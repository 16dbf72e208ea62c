"""Small messages that go out together."""

from __future__ import annotations

from typing import Any


def write_soon(transport: Any, data: bytes) -> None:
    """
    Write at the end of the reactor's turn, along with what others write in it.

    Each write wakes whoever waits for it, if that sleeps by then, and on a virtual machine nothing
    about a small message costs as much.  Under load there is much to be written in a turn, and who
    was woken for the first of it is awake for the rest.  It is for what makes a whole, such as a
    request; pieces of a stream do not come in crowds.

    :param transport: does it as ever if it is none of :mod:`llmux.engine.reactor`'s.
    """
    # Of its class: what stands before a transport, as TLS does, passes for having all that it has,
    # and what is written to it must not go past it.
    soon = getattr(type(transport), "write_soon", None)
    if soon is None:
        transport.write(data)
    else:
        soon(transport, data)
