"""What is known of a model's health."""

from __future__ import annotations

import sys

import attrs


@attrs.define
class Health:
    """
    What is known of a model's health.

    :ivar agreed: the text of the ``alive`` hook that has agreed at least once.  Another text, or
        one that never has, may be a mistake, and is not believed when it says that the model is
        dead.
    :ivar doubted: the text of the ``alive`` hook that has not agreed after a wake.
    :ivar failures: how often ``alive`` has failed in a row while the model was awake.
    :ivar heard_at: when bytes of an answer that has ended last came from it, in the clock's
        seconds.
    :ivar wakes: how often it was woken.
    :ivar falls: how often in a row it was down before it had shown that it is healthy.
    :ivar served: whether it has answered a request since it was woken.
    :ivar suspect: whether a request found that nobody listens, and it is being looked at.
    :ivar down: whether it is known not to serve; it is cleaned up after next.
    """

    agreed: str | None = None
    doubted: str | None = None
    failures: int = 0
    heard_at: float = -sys.float_info.max
    wakes: int = 0
    falls: int = 0
    served: bool = False
    suspect: bool = False
    down: bool = False

    def begin(self) -> None:
        """Forget what was so before the model was woken."""
        self.wakes += 1
        self.failures = 0
        self.served = self.suspect = self.down = False
