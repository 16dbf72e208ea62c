"""
What a worker and its parent say to each other: calls of a few methods, over AMP on a socket pair.

Values travel as pickles, of which only plain things and classes of llmux's own are taken.  A worker
speaks with the whole network, and is not to be believed more than need be: of what it says only the
few classes are taken that it has a reason to say.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Collection
from enum import Enum
from pathlib import PosixPath, PurePosixPath
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import Interface

_PIECE = 60_000  # bytes; a value of AMP's takes 65,535
# under the names that this Python has for them: in 3.13 they are of pathlib._local
_OTHERS = frozenset((each.__module__, each.__name__) for each in (PosixPath, PurePosixPath))


class Refused(Exception):
    """Something was said that is not understood here."""


class _Writer(pickle.Pickler):
    """Writes values, the same on every Python."""

    def reducer_override(self, value: Any) -> Any:
        """Have a member of an enumeration made by its class; some versions of 3.11 say getattr."""
        return (type(value), (value.value,)) if isinstance(value, Enum) else NotImplemented


class _Reader(pickle.Unpickler):
    """
    Reads values, and makes nothing but values of them.

    :param data: the values.
    :param believed: the classes that are taken; ``None``: all of llmux's own.
    """

    def __init__(self, data: bytes, believed: Collection[type] | None) -> None:
        super().__init__(io.BytesIO(data))
        self._believed = believed

    def find_class(self, module: str, name: str) -> Any:
        """Give a class of llmux's."""
        if self._believed is not None:
            for each in self._believed:
                if (each.__module__, each.__qualname__) == (module, name):
                    return each
            raise Refused(f"a value of {module}.{name}")
        ours = module.startswith("llmux.") and "." not in name
        if not ours and (module, name) not in _OTHERS:
            raise Refused(f"a value of {module}.{name}")
        found = super().find_class(module, name)
        if not isinstance(found, type) or found.__module__ != module:
            raise Refused(f"{module}.{name}, which is no class of its own")
        return found


class Values(amp.Argument):
    """Values of any size; they are sent in pieces, under names of their own."""

    def toBox(  # noqa: N802  # AMP's name
        self, name: bytes, strings: Any, objects: dict[str, Any], proto: amp.AMP
    ) -> None:
        """See :meth:`amp.IArgumentType.toBox`."""
        value = self.retrieve(objects, name.decode("ascii"), proto)  # type: ignore[no-untyped-call]  # Twisted's
        written = io.BytesIO()
        _Writer(written, 5).dump(value)
        data = written.getvalue()
        pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
        strings[name] = b"%d" % len(pieces)
        for number, piece in enumerate(pieces):
            strings[b"%b.%d" % (name, number)] = piece

    def fromBox(  # noqa: N802  # AMP's name
        self, name: bytes, strings: Any, objects: dict[str, Any], proto: Any
    ) -> None:
        """See :meth:`amp.IArgumentType.fromBox`."""
        count = int(strings.pop(name))
        data = b"".join(strings.pop(b"%b.%d" % (name, number)) for number in range(count))
        objects[name.decode("ascii")] = _Reader(data, proto.believed).load()


_CALL: list[tuple[bytes, amp.Argument]] = [
    (b"method", amp.String()),
    (b"values", Values()),  # type: ignore[no-untyped-call]  # Twisted's
]


class Say(amp.Command):
    """Call a method of whoever is at the other end."""

    arguments = _CALL
    requiresAnswer = False  # noqa: N815  # AMP's name


class Ask(amp.Command):
    """Call a method, and wait until it has been carried out."""

    arguments = _CALL


class Line(amp.BinaryBoxProtocol, amp.BoxDispatcher, amp.CommandLocator):
    """
    One end; what AMP's own class adds to these is a log of connections.

    :param lost: called when the other end has gone; nothing comes from it then.
    :param believed: the classes that are taken from the other end; ``None``: all of llmux's own.
    """

    def __init__(
        self, lost: Callable[[], object], believed: Collection[type] | None = None
    ) -> None:
        self.believed = believed
        amp.BoxDispatcher.__init__(self, self)
        amp.BinaryBoxProtocol.__init__(self, self)
        self._ears: dict[str, object] = {}
        self._lost = lost

    def hear(self, interface: type[Interface], ear: object) -> None:
        """Let the other end call the methods of an interface, of an object that has it."""
        self._ears.update(dict.fromkeys(interface.names(), ear))

    def say(self, method: str, *values: object) -> None:
        """Call a method there; what is said to nobody is lost."""
        self.callRemote(Say, method=method.encode("ascii"), values=values)  # type: ignore[no-untyped-call]  # Twisted's

    def ask(self, method: str, *values: object) -> Deferred[object]:
        """Call a method there; fires when it has been carried out, and fails if it was not."""
        answered: Deferred[object] = self.callRemote(  # type: ignore[no-untyped-call]  # Twisted's
            Ask, method=method.encode("ascii"), values=values
        )
        return answered

    @Say.responder
    def heard(self, method: bytes, values: tuple[object, ...]) -> dict[str, object]:
        """Carry a call out."""
        name = method.decode("ascii")
        if name not in self._ears:
            raise Refused(f"a call of {name}")
        getattr(self._ears[name], name)(*values)
        return {}

    @Ask.responder
    def asked(self, method: bytes, values: tuple[object, ...]) -> dict[str, object]:
        """Carry a call out, and say so."""
        return self.heard(method, values)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell that the other end has gone."""
        self._lost()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # Twisted's
