"""
The table of refusals: what of HTTP is not taken, and with which status it is answered.

Every HTTP stack that llmux is served by obeys this one table (RFC 9112 for the grammar, RFC 9110
for the statuses).  What is refused never reaches a backend, in no shape.
"""

from __future__ import annotations

import enum

from llmux.errors import RequestError


class Refusal(enum.Enum):
    """Why a request is not taken: its HTTP status, and one line for the client."""

    REQUEST_LINE = (
        400,
        "The request line is not METHOD TARGET HTTP/1.1, one space between each",
    )
    METHOD = 501, "This method is not known here"
    TARGET = 400, "The request target must be a path, or the URL of one, in visible ASCII without #"
    VERSION = 400, "The request must be HTTP/1.1 or HTTP/1.0"
    LINE_END = 400, "A line of the request's head holds a CR or LF that is not its end"
    FOLDED = 400, "A header is folded over several lines; write it into one"
    HEADER_NAME = 400, "A header's name must be a token, with its colon right behind it"
    HEADER_VALUE = 400, "A header's value holds a control character"
    HOST = 400, "A request needs one Host header, and no more"
    HEAD_SIZE = 431, "The request's head is too large"
    HEADER_COUNT = 431, "The request has too many headers"
    HEAD_SLOW = 408, "The request's head did not come in time"
    LENGTH = 400, "Content-Length must be one number"
    LENGTHS = 400, "The request says twice how long its body is"
    CODING = 501, "The only transfer coding that is known here is chunked"
    CHUNK = 400, "The chunked body is malformed"
    BODY_SIZE = 413, "The request's body is too large"
    BODY_SLOW = 408, "The request's body did not come in time"
    EXPECTATION = 417, "The only expectation that can be met is 100-continue"
    SPOOL = 507, "There is no room left for the request's body"

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message


class Refused(RequestError):
    """
    A request that is not taken.

    :param refusal: why.
    :param detail: what more there is to say, such as a limit.
    """

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal.message} ({detail})" if detail else refusal.message)
        self.refusal = refusal
        self.status = refusal.status
