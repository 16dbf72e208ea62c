"""Who gets the GPU next: the contract between the switcher and a policy, and the policies."""

from llmux.policy.contract import (
    BATCH,
    INTERACTIVE,
    ISwitchPolicy,
    ModelView,
    Phase,
    PolicyContext,
    PolicyDecision,
    WaitingView,
)
from llmux.policy.fifo import FifoPolicy

__all__ = [
    "BATCH",
    "INTERACTIVE",
    "POLICIES",
    "FifoPolicy",
    "ISwitchPolicy",
    "ModelView",
    "Phase",
    "PolicyContext",
    "PolicyDecision",
    "WaitingView",
]

POLICIES = {"fifo": FifoPolicy}
"""The policies by the name that ``policy.name`` gives them."""
