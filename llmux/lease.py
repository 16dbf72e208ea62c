"""The right to send one request to an awake model."""

from __future__ import annotations

from collections.abc import Callable


class Lease:
    """
    The right to send one request to an awake model.

    It is held from before the first byte goes out until the answer's body has ended, however it
    ends.  Whoever has it must :meth:`release` it; releasing twice does nothing.

    :ivar model: the model's name.
    :ivar granted_at: when it was given, in the clock's seconds.
    :ivar queued: how long its request had waited for it, in seconds.
    :ivar switching: for how many of these seconds the switch to its model was under way.
    """

    __slots__ = ("_released", "granted_at", "model", "queued", "switching")

    def __init__(
        self,
        model: str,
        granted_at: float,
        released: Callable[[Lease], None],
        queued: float = 0.0,
        switching: float = 0.0,
    ) -> None:
        self.model = model
        self.granted_at = granted_at
        self.queued = queued
        self.switching = switching
        self._released: Callable[[Lease], None] | None = released

    def release(self) -> None:
        """Give the right back."""
        released, self._released = self._released, None
        if released is not None:
            released(self)
