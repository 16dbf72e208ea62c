"""
llmux: one OpenAI-compatible address in front of several LLM servers that share a GPU.

The names below are for programs that embed it; the README shows how.
"""

from llmux._version import __version__
from llmux.clock import make_monotonic
from llmux.config import Backend, Config, ModelConfig, PolicyConfig
from llmux.costs import SwitchCosts
from llmux.errors import ConfigError, LLMuxError, RequestError, SwitchError
from llmux.hooks.contract import IHookRunner
from llmux.hooks.runner import HookRunner
from llmux.lease import Lease
from llmux.policy import FifoPolicy, ISwitchPolicy, Phase, PolicyContext, PolicyDecision
from llmux.proxy import Relay
from llmux.service import App, LLMuxService, build_app
from llmux.states import State
from llmux.switcher import Switcher

__all__ = [
    "App",
    "Backend",
    "Config",
    "ConfigError",
    "FifoPolicy",
    "HookRunner",
    "IHookRunner",
    "ISwitchPolicy",
    "LLMuxError",
    "LLMuxService",
    "Lease",
    "ModelConfig",
    "Phase",
    "PolicyConfig",
    "PolicyContext",
    "PolicyDecision",
    "Relay",
    "RequestError",
    "State",
    "SwitchCosts",
    "SwitchError",
    "Switcher",
    "__version__",
    "build_app",
    "make_monotonic",
]
