"""What a trace says of a request: for which model it was, and how much was asked and answered."""

from __future__ import annotations

from twisted.web.http_headers import Headers

from llmux.server.request import RelayRequest
from llmux.tokens import Tally, estimate, media_type
from llmux.urgency import Urgency
from llmux.web.house import House

_SWITCHED = 101
_TUNNELLED = b"application/octet-stream"  # who knows what


def measure(house: House, status: int, headers: Headers) -> Tally | None:
    """
    Begin to count the tokens of an answer.

    :param status: its status, and
    :param headers: its headers.
    :returns: ``None`` if there is nothing to count: nothing is recorded, or it is an error.
    """
    return Tally(headers) if house.recorder.on and status < 400 else None


def record(
    house: House,
    request: RelayRequest,
    model: str,
    tally: Tally | None,
    urgency: Urgency | None,
) -> None:
    """
    Have a request recorded that has ended.

    One for which there is no model puts no load on any, and is left out.

    :param model: what the name that it gave stands for, or the model that it got.
    :param tally: has counted the answer, if there was one.
    :param urgency: how much of a hurry it says that it is in; ``None``: nothing.
    """
    if not house.recorder.on or not house.names.models(model):
        return
    if request.code == _SWITCHED:
        prompt = estimate(request.body_length, _TUNNELLED)
        output = estimate(request.bytes_sent, _TUNNELLED)
    else:
        said = None if tally is None else tally.prompt()
        typed = media_type(request.requestHeaders)
        prompt = estimate(request.body_length, typed) if said is None else said
        output = 0 if tally is None else tally.output()
    kind = "" if urgency is None else str(urgency)
    house.recorder.note(request.arrived, model, prompt, output, kind)
