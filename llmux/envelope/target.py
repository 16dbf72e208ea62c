"""The model that a request's target names: ``/upstream/<model>/<rest>``, or ``?model=``."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import attrs

from llmux.envelope.forms import query_models
from llmux.envelope.scanner import LONGEST_NAME
from llmux.envelope.value import Kind, ModelValue
from llmux.errors import BadEnvelope

_PREFIX = b"/upstream/"
_MOST_SLASHES = 64  # in a model's name: each has to be tried


@attrs.frozen
class UpstreamTarget:
    """
    A target that names its model in front of the path that the backend gets.

    :param model: the model; ``None`` if the path begins with none that is known.
    :param named: the name that the client may have meant.
    :param rest: what the backend is asked for.
    """

    model: str | None
    named: str
    rest: bytes


def read_upstream(target: bytes, is_model: Callable[[str], bool]) -> UpstreamTarget | None:
    """
    Take the model off a target's front, and leave all else as it is.

    Names may hold slashes, written as they are or encoded: the longest name that is known wins.

    :param target: path and query.
    :param is_model: tells whether there is a model of a name.
    :returns: ``None`` if the target is not of this form.
    """
    if not target.startswith(_PREFIX):
        return None
    path, mark, query = target.removeprefix(_PREFIX).partition(b"?")
    segments = path.split(b"/", _MOST_SLASHES + 1)[: _MOST_SLASHES + 1]
    for count in range(len(segments), 0, -1):
        name = b"/".join(segments[:count])
        if len(name) <= LONGEST_NAME and is_model(model := _decoded(name)):
            return UpstreamTarget(model, model, (path[len(name) :] or b"/") + mark + query)
    named = next(filter(None, segments), b"")
    return UpstreamTarget(None, _decoded(named), target)


def read_query(target: bytes) -> ModelValue | None:
    """
    Read the model in a target's query.

    :raises BadEnvelope: if the query names several.
    """
    path, mark, query = target.partition(b"?")
    found = query_models(query)
    if len({model for model, _ in found}) > 1:
        raise BadEnvelope("The query names several models")
    if not found:
        return None
    before = len(path) + len(mark)
    spans = tuple((before + span[0], before + span[1]) for _, span in found if span)
    return ModelValue(found[0][0].decode("utf-8", "replace"), Kind.FORM, spans, in_target=True)


def _decoded(name: bytes) -> str:
    return unquote_to_bytes(name).decode("utf-8", "replace")
