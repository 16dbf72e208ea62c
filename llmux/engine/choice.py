"""Which reactor and which HTTP stack a process has: what is asked for, or the fast one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import attrs

STOCK = "default"
"""What Twisted has itself."""


class UnknownChoice(ValueError):
    """What is asked for is not known, or not installed; the message says what to do."""


@attrs.frozen
class Choice:
    """
    Something that there is in two makes: Twisted's own, and one that needs another package.

    :param variable: the environment variable that asks for one.
    :param name: what the other one is called.
    :param package: what has to be installed for it.
    """

    variable: str
    name: str
    package: str

    def made(self, environment: Mapping[str, str]) -> str:
        """
        Say which one it is.

        :returns: :data:`STOCK` or :attr:`name`; where nothing is asked for, the latter if its
            package is there.
        :raises UnknownChoice: if something else is asked for, or its package is not there.
        """
        asked = environment.get(self.variable, "")
        if asked not in ("", STOCK, self.name):
            raise UnknownChoice(f"{self.variable}={asked}: must be {STOCK} or {self.name}")
        installed = find_spec(self.package) is not None
        if asked == self.name and not installed:
            raise UnknownChoice(
                f"{self.variable}={asked}: the package {self.package} is not installed;"
                f" install it, or say {self.variable}={STOCK}"
            )
        return self.name if installed and asked != STOCK else STOCK


REACTOR = Choice("LLMUX_REACTOR", "uvloop", "uvloop")
"""What waits for sockets and timers: Twisted's reactor, or one over uvloop's transports."""

HTTP = Choice("LLMUX_HTTP", "llhttp", "httptools")
"""What reads HTTP, of clients and of backends: twisted.web's parsers, or llhttp."""
