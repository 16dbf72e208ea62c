"""
llmux: one OpenAI-compatible address in front of several LLM servers that share a GPU.

The names below are for programs that embed it; the README shows how.  Each is imported when it is
first used: some of what is imported then would choose Twisted's reactor, which is not for a library
to do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llmux._version import __version__

if TYPE_CHECKING:
    from llmux.clock import make_monotonic
    from llmux.config import Backend, Config, Limits, ModelConfig, PolicyConfig
    from llmux.costs import SwitchCosts
    from llmux.errors import ConfigError, LLMuxError, RequestError, SwitchError
    from llmux.hooks.contract import IHookRunner
    from llmux.hooks.runner import HookRunner
    from llmux.lease import Lease
    from llmux.policy import FifoPolicy, ISwitchPolicy, Phase, PolicyContext, PolicyDecision
    from llmux.proxy import Relay
    from llmux.service import App, build_app
    from llmux.serving import LLMuxService
    from llmux.states import State
    from llmux.switcher import Switcher

_ROOMS = {
    "llmux.clock": ("make_monotonic",),
    "llmux.config": ("Backend", "Config", "Limits", "ModelConfig", "PolicyConfig"),
    "llmux.costs": ("SwitchCosts",),
    "llmux.errors": ("ConfigError", "LLMuxError", "RequestError", "SwitchError"),
    "llmux.hooks.contract": ("IHookRunner",),
    "llmux.hooks.runner": ("HookRunner",),
    "llmux.lease": ("Lease",),
    "llmux.policy": ("FifoPolicy", "ISwitchPolicy", "Phase", "PolicyContext", "PolicyDecision"),
    "llmux.proxy": ("Relay",),
    "llmux.service": ("App", "build_app"),
    "llmux.serving": ("LLMuxService",),
    "llmux.states": ("State",),
    "llmux.switcher": ("Switcher",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(room), name)


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
    "Limits",
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
