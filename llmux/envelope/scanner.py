"""What all scanners of a body have in common: it comes in pieces, and is looked at, not kept."""

from __future__ import annotations

from llmux.errors import BadEnvelope

LONGEST_NAME = 4096  # bytes of a model's name as it is written in a request, escapes and all
_SLICE = 64 * 1024  # bytes that are looked at together: what a regular expression must remember


class Malformed(Exception):
    """
    The body is not what it should be.

    :param what: goes on after "is malformed at byte 17: ", or after "ends at byte 17 ".
    :param offset: where, counted from 0; ``None`` for a body that must not end where it does.
    """

    def __init__(self, what: str, offset: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.offset = offset


class Scanner:
    """
    Looks for the model in a body that comes in pieces.

    Where the body is cut into pieces makes no difference to what is found or to what is said of it.
    A malformed body is refused only if it is so before its model has been found: whatever follows
    is the backend's business, and ends the search.

    :cvar kind: what such a body is called in messages.
    :ivar model: the name, once it has been found.
    :ivar stream: whether the body asks for a stream of events.
    :ivar model_span: where the model stands in the body, as it is written: the offset of its first
        byte (in JSON of its opening quote), and the one behind its last.
    :param offset: how many bytes of the body came before the first that it is fed.
    :param lenient: whether any model will do, for a request that names its model elsewhere: of two
        the last one counts.
    """

    kind = "body"

    def __init__(self, offset: int = 0, *, lenient: bool = False) -> None:
        self._lenient = lenient
        self.model: str | None = None
        self.stream = False
        self.model_span: tuple[int, int] | None = None
        self._held = b""  # the last bytes that came, if more is needed to understand them; a few
        self._fed = offset
        self._begin = offset  # the offset of what is being looked at
        self._named: int | None = None  # the offset of the field that holds the model
        self._over = False
        self._refusal: BadEnvelope | None = None

    def feed(self, piece: bytes) -> None:
        """Look at the next bytes of the body."""
        for begin in range(0, len(piece), _SLICE):
            if self._over:
                return
            part = piece[begin : begin + _SLICE]
            data = self._held + part
            self._begin = self._fed - len(self._held)
            self._fed += len(part)
            try:
                self._held = self._scan(data)
            except (Malformed, BadEnvelope) as complaint:
                self._refuse(complaint)

    def finish(self) -> str | None:
        """
        End the body.

        :returns: the model, or ``None`` if the body names none.
        :raises BadEnvelope: if it cannot be said which model it names.
        """
        if not self._over:
            try:
                self._end()
            except (Malformed, BadEnvelope) as complaint:
                self._refuse(complaint)
        if self._refusal is not None:
            raise self._refusal
        return self.model

    @property
    def refused(self) -> bool:
        """Whether it cannot be said which model the body names."""
        return self._refusal is not None

    def _scan(self, data: bytes) -> bytes:
        """
        Look at what was held and what has come behind it.

        :returns: what is to be held until more has come.
        :raises Malformed: if the body cannot go on like this.
        """
        raise NotImplementedError

    def _end(self) -> None:
        """
        Make up the mind about what is held.

        :raises Malformed: if the body may not end here.
        """
        raise NotImplementedError

    def _refuse(self, complaint: Malformed | BadEnvelope) -> None:
        self._over = True
        if isinstance(complaint, BadEnvelope):
            self._refusal = complaint
        elif self.model is None:
            what = f"is malformed at byte {complaint.offset}: {complaint.what}"
            if complaint.offset is None:
                what = f"ends at byte {self._fed} {complaint.what}"
            self._refusal = BadEnvelope(f"The {self.kind} {what}")

    def _name_at(self, offset: int) -> None:
        """
        Note where the body names its model.

        :raises BadEnvelope: if it has done so before: parsers differ in which one they believe.
        """
        if self._lenient:
            self.model = self.model_span = None  # of one before
        elif self._named is not None:
            raise BadEnvelope(
                f"The {self.kind} names two models, at byte {self._named} and at byte {offset}"
            )
        self._named = offset

    def _too_long(self) -> BadEnvelope:
        return BadEnvelope(
            f"The model that the {self.kind} names at byte {self._named} is longer than"
            f" {LONGEST_NAME} bytes"
        )

    def _text(self, name: bytes) -> str:
        """
        Decode the model's name.

        :raises BadEnvelope: if it is not UTF-8.
        """
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadEnvelope(
                f"The model that the {self.kind} names at byte {self._named} is not UTF-8"
            ) from error
