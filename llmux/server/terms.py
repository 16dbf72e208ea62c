"""On what terms clients are served: one value that every connection is given."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from llmux.config import Limits
from llmux.envelope import EnvelopeReader


@attrs.define
class Terms:
    """
    What a connection has to know; all of them look at the same one.

    :param clock: tells the time.
    :param limits: of bodies; another configuration may bring others.
    :param is_model: tells whether a name is a model's.
    """

    clock: IReactorTime
    limits: Limits
    is_model: Callable[[str], bool]

    def read_envelope(self, target: bytes, content_type: bytes | None) -> EnvelopeReader:
        """Make what finds the model of a request."""
        return EnvelopeReader(target, content_type, self.is_model)
