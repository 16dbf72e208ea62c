"""The model as a request says it: where that stands, and how another name is written there."""

from __future__ import annotations

import enum
import json
from urllib.parse import quote

import attrs


class Kind(enum.Enum):
    """How the model is written."""

    JSON = "json"
    """As a JSON string, in quotes."""
    FORM = "form"
    """As a field of a form, or of a query."""
    PART = "part"
    """As the content of a part of a multipart body."""


@attrs.frozen
class Patch:
    """
    Bytes of a body that are sent instead of others.

    :param begin: the offset of the first byte that is left out.
    :param end: the offset of the first one behind these.
    :param new: what is sent in their place.
    """

    begin: int
    end: int
    new: bytes

    @property
    def growth(self) -> int:
        """By how many bytes the body gets longer; less than 0: shorter."""
        return len(self.new) - (self.end - self.begin)

    def apply(self, whole: bytes) -> bytes:
        """Give a text with the other bytes in it."""
        return whole[: self.begin] + self.new + whole[self.end :]


@attrs.frozen
class ModelValue:
    """
    Where a request says its model.

    :param said: the name.
    :param kind: how it is written.
    :param spans: the offsets where it begins and ends; more than once in a query alone.
    :param in_target: whether that is in the request's target, and not in its body.
    """

    said: str
    kind: Kind
    spans: tuple[tuple[int, int], ...]
    in_target: bool = False

    def replaced(self, name: str) -> tuple[Patch, ...]:
        """Say which bytes have to be sent instead so that the model is called by another name."""
        if self.kind is Kind.JSON:
            new = json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass")
        elif self.kind is Kind.FORM:
            new = quote(name, safe="/:@,").encode("ascii")
        else:
            new = name.encode("utf-8", "surrogatepass")
        return tuple(Patch(begin, end, new) for begin, end in self.spans)
