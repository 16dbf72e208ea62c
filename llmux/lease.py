"""The right to send one request to an awake model."""

from __future__ import annotations

import enum
from collections.abc import Callable

from llmux.urgency import ORDINARY, Urgency


class Outcome(enum.Enum):
    """What became of a request at its backend."""

    COMPLETE = "complete"
    """It was answered, whatever the answer was: the model serves."""
    ABORTED = "aborted"
    """It was broken off by us: the engine may still be busy with that."""
    FAILED = "failed"
    """It was broken off by the backend."""
    REFUSED = "refused"
    """Nothing of it reached the backend, for nobody listens there: is the model still alive?"""


class Revocation(enum.Enum):
    """Why a lease is wanted back at once."""

    DRAIN_TIMEOUT = "drain_timeout"
    """Its model has to go, and has waited for it as long as ``drain_timeout_secs`` says."""
    BACKEND_DOWN = "backend_down"
    """Its model does not serve any more."""
    KILLED = "killed"
    """An operator wants its model to be ended."""
    SHUTDOWN = "shutdown"
    """llmux ends, and ``shutdown.grace_secs`` have passed."""


class Lease:
    """
    The right to send one request to an awake model.

    It is held from before the first byte goes out until the answer's body has ended, however it
    ends, and the connection to the backend, if it was broken off, is closed.  Whoever has it must
    :meth:`release` it; releasing twice does nothing.

    :ivar model: the model's name.
    :ivar number: the place of its request among all arrivals for all models.
    :ivar arrived: when its request came, in the clock's seconds.
    :ivar granted_at: when it was given, in the clock's seconds.
    :ivar queued: how long its request had waited for it, in seconds.
    :ivar switching: for how many of these seconds the switch to its model was under way.
    :ivar shared: the name that its request gave, if any of several models would have done.
    :ivar urgency: how much of a hurry its request is in.
    :ivar heard_at: tells when the backend last sent something of the answer, in the clock's
        seconds; set by whoever has the lease, so that a model that is answering is not taken for
        dead.
    :ivar revoked: why it is wanted back at once, if it is.
    :ivar lasted: for how many seconds it was held, if somebody else has given and taken it back;
        ``None``: until it is released.
    """

    __slots__ = (
        "_on_revoked",
        "_released",
        "arrived",
        "granted_at",
        "heard_at",
        "lasted",
        "model",
        "number",
        "queued",
        "revoked",
        "shared",
        "switching",
        "urgency",
    )

    def __init__(
        self,
        model: str,
        number: int,
        arrived: float,
        granted_at: float,
        released: Callable[[Lease, Outcome], None],
        switching: float = 0.0,
        shared: str | None = None,
        urgency: Urgency = ORDINARY,
    ) -> None:
        self.model = model
        self.number = number
        self.arrived = arrived
        self.granted_at = granted_at
        self.queued = granted_at - arrived
        self.switching = switching
        self.shared = shared
        self.urgency = urgency
        self.heard_at: Callable[[], float] | None = None
        self.revoked: Revocation | None = None
        self.lasted: float | None = None
        self._released: Callable[[Lease, Outcome], None] | None = released
        self._on_revoked: Callable[[Revocation], None] | None = None

    @property
    def held(self) -> bool:
        """Whether it has not been released yet."""
        return self._released is not None

    def release(self, outcome: Outcome = Outcome.COMPLETE) -> None:
        """
        Give the right back.

        :param outcome: what became of the request.
        """
        released, self._released = self._released, None
        self._on_revoked = None
        if released is not None:
            released(self, outcome)

    def on_revoked(self, told: Callable[[Revocation], None]) -> None:
        """
        Be told when the lease is wanted back at once; at once, if it is already.

        :param told: has to see to it that the request ends soon, visibly for its client, and that
            the lease is released then.
        """
        self._on_revoked = told
        if self.revoked is not None:
            told(self.revoked)

    def revoke(self, why: Revocation) -> None:
        """Want it back; only the first reason counts."""
        if self.revoked is None and self.held:
            self.revoked = why
            if self._on_revoked is not None:
                self._on_revoked(why)
