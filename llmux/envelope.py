"""What a request says about itself: its model, and whether it asks for a stream."""

from __future__ import annotations

import json

import attrs

from llmux.errors import NoModel


@attrs.frozen
class Envelope:
    """
    What the multiplexer has to know of a request's body.

    :param model: the name that the client gave.
    :param stream: whether it asks for a stream of events.
    """

    model: str
    stream: bool


def read_envelope(body: bytes) -> Envelope:
    """
    Read the two fields that matter out of a JSON body.

    The Content-Type is not looked at: ``curl -d`` sends JSON as a form.

    :param body: the whole body as the client sent it.
    :raises NoModel: if it is not a JSON object with a string ``model``.
    """
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise NoModel from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        raise NoModel
    return Envelope(model=document["model"], stream=document.get("stream") is True)
