"""What a request says about itself: its model, and whether it asks for a stream."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from llmux.envelope.forms import FormScanner
from llmux.envelope.json_scan import JsonScanner
from llmux.envelope.parts import PartsScanner
from llmux.envelope.scanner import Scanner
from llmux.envelope.target import read_query, read_upstream
from llmux.errors import NoModel, UnknownModel

_BLANKS = b" \t\n\r"


@attrs.frozen
class Envelope:
    """
    What the multiplexer has to know of a request.

    :param model: the name that the client gave.
    :param stream: whether it asks for a stream of events.
    """

    model: str
    stream: bool


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
        self._scanner = _form_scanner(content_type or b"")
        self._undecided = True  # no byte but blanks has come
        self._length = 0

    @property
    def model_span(self) -> tuple[int, int] | None:
        """
        Where the model stands in a JSON body: the offset of its opening quote, and the one behind
        its closing quote.
        """
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

    def finish(self) -> Envelope:
        """
        Say what has been found, when the whole body has come.

        :raises NoModel: if the request names no model.
        :raises BadEnvelope: if it cannot be said which model it names.
        :raises UnknownModel: if its path ought to begin with a model and does not.
        """
        model = self._model()
        if not model:
            raise NoModel
        return Envelope(model, self._scanner is not None and self._scanner.stream)

    def _model(self) -> str | None:
        if self._upstream is not None:
            if self._upstream.model is None and self._upstream.named:
                raise UnknownModel(self._upstream.named)
            return self._upstream.model
        if not self._length:
            return read_query(self.target)
        return None if self._scanner is None else self._scanner.finish()


def _form_scanner(content_type: bytes) -> Scanner | None:
    """Choose the scanner of a body that is not JSON; ``None`` if there is nothing to be found."""
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    if kind == b"multipart/form-data":
        return PartsScanner(content_type)
    if kind == b"application/x-www-form-urlencoded":
        return FormScanner()
    return None
