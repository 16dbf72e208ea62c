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
    """

    __slots__ = ("_released", "granted_at", "model")

    def __init__(self, model: str, granted_at: float, released: Callable[[Lease], None]) -> None:
        self.model = model
        self.granted_at = granted_at
        self._released: Callable[[Lease], None] | None = released

    def release(self) -> None:
        """Give the right back."""
        released, self._released = self._released, None
        if released is not None:
            released(self)
