"""The relay between a client and a backend."""

from llmux.proxy.client import RelayClient
from llmux.proxy.relay import Relay

__all__ = ["Relay", "RelayClient"]
