"""What a request says about itself: its model, and whether it asks for a stream."""

from llmux.envelope.reader import Envelope, EnvelopeReader
from llmux.envelope.value import Kind, ModelValue, Patch

__all__ = ["Envelope", "EnvelopeReader", "Kind", "ModelValue", "Patch"]
