"""What a request says about itself: its model, and whether it asks for a stream."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs

from llmux.envelope.forms import FormScanner
from llmux.envelope.json_scan import JsonScanner
from llmux.envelope.parts import PartsScanner
from llmux.envelope.scanner import Scanner
from llmux.envelope.target import read_query, read_upstream
from llmux.envelope.value import Kind, ModelValue
from llmux.errors import BadEnvelope, NoModel, UnknownModel

_BLANKS = b" \t\n\r"
_KINDS = {JsonScanner.kind: Kind.JSON, FormScanner.kind: Kind.FORM, PartsScanner.kind: Kind.PART}


@attrs.frozen
class Envelope:
    """
    What the multiplexer has to know of a request.

    :param model: the name that the client gave; empty if it gave none.
    :param stream: whether it asks for a stream of events.
    :param value: where that name stands; ``None`` if it stands nowhere but in front of the path.
    """

    model: str
    stream: bool
    value: ModelValue | None = attrs.field(default=None, eq=False)


class EnvelopeReader:
    """
    Reads a request's envelope while its body comes in.

    A body that begins with a brace is JSON, whatever its Content-Type: ``curl -d`` sends JSON as a
    form.  Others are forms, if their Content-Type says so.  Nothing of the body is changed or kept.

    :ivar target: what the backend is to be asked for: the bytes of the request's target, without
        ``/upstream/<model>`` if it begins so.
    :param target: path and query as they stand in the request line.
    :param content_type: the header's value, if there is one.
    :param is_model: tells whether there is a model of a name.
    """

    def __init__(
        self, target: bytes, content_type: bytes | None, is_model: Callable[[str], bool]
    ) -> None:
        self._upstream = read_upstream(target, is_model)
        self.target = target if self._upstream is None else self._upstream.rest
        self._scanner = _form_scanner(content_type or b"", lenient=self._upstream is not None)
        self._undecided = True  # no byte but blanks has come
        self._length = 0

    @property
    def model_span(self) -> tuple[int, int] | None:
        """Where the model stands in the body; see :class:`ModelValue`."""
        return None if self._scanner is None else self._scanner.model_span

    def feed(self, data: bytes) -> None:
        """Look at the next piece of the body; its size does not matter."""
        if self._undecided and (begun := data.lstrip(_BLANKS)):
            self._undecided = False
            if begun.startswith(b"{"):
                offset = self._length + len(data) - len(begun)
                self._scanner = JsonScanner(offset, lenient=self._upstream is not None)
                self._length, data = offset, begun
        self._length += len(data)
        if self._scanner is not None:
            self._scanner.feed(data)

    def finish(self, *, nameless: bool = False) -> Envelope:
        """
        Say what has been found, when the whole body has come.

        :param nameless: whether the request need not name a model.
        :raises NoModel: if it names none and has to.
        :raises BadEnvelope: if it cannot be said which model it names.
        :raises UnknownModel: if its path ought to begin with a model and does not.
        """
        envelope = self._found()
        if not (envelope.model or nameless):
            raise NoModel
        return envelope

    def _found(self) -> Envelope:
        stream = self._scanner is not None and self._scanner.stream
        if self._upstream is not None:
            if self._upstream.model is None and self._upstream.named:
                raise UnknownModel(self._upstream.named)
            if self._scanner is not None:
                with suppress(BadEnvelope):  # then it is the backend's business
                    self._scanner.finish()
            return Envelope(self._upstream.model or "", stream, self._value())
        if not self._length:
            value = read_query(self.target)
            return Envelope("" if value is None else value.said, stream, value)
        model = None if self._scanner is None else self._scanner.finish()
        return Envelope(model or "", stream, self._value())

    def _value(self) -> ModelValue | None:
        """Say where the body names its model."""
        scanner = self._scanner
        if scanner is None or scanner.refused:
            return None
        if scanner.model is None or scanner.model_span is None:
            return None
        return ModelValue(scanner.model, _KINDS[scanner.kind], (scanner.model_span,))


def _form_scanner(content_type: bytes, *, lenient: bool) -> Scanner | None:
    """
    Choose the scanner of a body that is not JSON.

    :param lenient: whether the request names its model elsewhere.
    :returns: ``None`` if there is nothing to be found.
    """
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    if kind == b"multipart/form-data":
        return PartsScanner(content_type, lenient=lenient)
    if kind == b"application/x-www-form-urlencoded":
        return FormScanner(lenient=lenient)
    return None
