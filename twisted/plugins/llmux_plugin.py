"""Makes ``twistd llmux`` known, and the reactor over uvloop for any program."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

llmux = ServiceMaker(
    "llmux",
    "llmux.tap",
    "One address in front of several LLM servers that do not all fit on the GPU.",
    "llmux",
)

uvloop = Reactor(
    "uvloop",
    "llmux.engine.reactor",
    "Twisted's asyncio reactor over uvloop, with uvloop's own TCP and UNIX transports.",
)
