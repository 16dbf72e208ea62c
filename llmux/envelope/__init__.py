"""What a request says about itself: its model, and whether it asks for a stream."""

from llmux.envelope.reader import Envelope, EnvelopeReader

__all__ = ["Envelope", "EnvelopeReader"]
