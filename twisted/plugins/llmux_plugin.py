"""Makes ``twistd llmux`` known."""

from twisted.application.service import ServiceMaker

llmux = ServiceMaker(
    "llmux",
    "llmux.tap",
    "One address in front of several LLM servers that do not all fit on the GPU.",
    "llmux",
)
