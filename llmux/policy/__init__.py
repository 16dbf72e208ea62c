"""Who gets the GPU next: the contract between the switcher and a policy, and the policies."""

from collections.abc import Callable

from llmux.policy.balanced import BalancedPolicy
from llmux.policy.contract import (
    ISwitchPolicy,
    ModelView,
    Phase,
    PolicyContext,
    PolicyDecision,
    WaitingView,
)
from llmux.policy.fifo import FifoPolicy
from llmux.policy.quantum import QuantumPolicy
from llmux.urgency import BATCH, INTERACTIVE

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

POLICIES: dict[str, Callable[[], ISwitchPolicy]] = {
    "fifo": FifoPolicy,
    "quantum": QuantumPolicy,
    "balanced": BalancedPolicy,
}
"""The policies by the name that ``policy.name`` gives them."""
