"""Who gets the GPU next: the contract between the switcher and a policy, and the policies."""

from llmux.policy.contract import (
    ISwitchPolicy,
    ModelView,
    Phase,
    PolicyContext,
    PolicyDecision,
    WaitingView,
)
from llmux.policy.fifo import FifoPolicy
from llmux.policy.plugins import POLICIES, ISwitchPolicyPlugin
from llmux.urgency import BATCH, INTERACTIVE

__all__ = [
    "BATCH",
    "INTERACTIVE",
    "POLICIES",
    "FifoPolicy",
    "ISwitchPolicy",
    "ISwitchPolicyPlugin",
    "ModelView",
    "Phase",
    "PolicyContext",
    "PolicyDecision",
    "WaitingView",
]
