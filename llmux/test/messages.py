"""Reading HTTP messages strictly, as a test wants it: whatever is odd is a failure."""

from __future__ import annotations

import attrs

Fields = dict[str, tuple[bytes, ...]]


@attrs.frozen
class Message:
    """
    A request or an answer.

    :param start: its first line.
    :param headers: their values, in order, by lower-case name.
    :param body: without its framing.
    :param whole: whether it has come to its end, as far as its framing tells.
    """

    start: bytes
    headers: Fields
    body: bytes
    whole: bool

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.start.split(b" ", 2)[1])

    def one(self, name: str) -> bytes:
        """Give the value of a header that there is once."""
        (value,) = self.headers[name]
        return value


def read_message(
    received: bytes, *, ended: bool, clean: bool = True, bodiless: bool = False
) -> tuple[Message, bytes] | None:
    """
    Read the first message.

    :param received: what has come.
    :param ended: whether nothing more will.
    :param clean: whether that was in order.
    :param bodiless: whether it is the answer to a HEAD.
    :returns: the message and what follows it; ``None`` if its head is not whole, or if there is
        more to come of its body.
    """
    head, end, rest = received.partition(b"\r\n\r\n")
    if not end:
        return None
    start, *lines = head.split(b"\r\n")
    headers: Fields = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon, line
        assert name == name.strip(), line
        key = name.decode("ascii").lower()
        headers[key] = (*headers.get(key, ()), value.strip(b" \t"))
    body, whole, after = _read_body(start, headers, rest, ended and clean, bodiless)
    return (Message(start, headers, body, whole), after) if whole or ended else None


def _read_body(
    start: bytes, headers: Fields, rest: bytes, ended: bool, bodiless: bool
) -> tuple[bytes, bool, bytes]:
    answer = start.startswith(b"HTTP/")
    status = start.split(b" ")[1] if answer else b""
    if status == b"101":
        return rest, ended, b""
    if bodiless or status[:1] == b"1" or status in (b"204", b"304"):
        return b"", True, rest
    if "transfer-encoding" in headers:
        assert headers["transfer-encoding"] == (b"chunked",), headers
        assert "content-length" not in headers, headers
        return _read_chunks(rest)
    if "content-length" in headers:
        (text,) = headers["content-length"]
        length = int(text)
        return rest[:length], len(rest) >= length, rest[length:]
    return (rest, ended, b"") if answer else (b"", True, rest)


def _read_chunks(rest: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while True:
        size, end, after = rest.partition(b"\r\n")
        if not end:
            return body, False, b""
        length = int(size, 16)
        if not length:
            if len(after) < 2:
                return body, False, b""
            assert after.startswith(b"\r\n"), after
            return body, True, after[2:]
        body += after[:length]
        if len(after) < length + 2:
            return body, False, b""
        assert after[length : length + 2] == b"\r\n", after
        rest = after[length + 2 :]
