"""A request on its way to a server: its head, and its body as it is produced."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IClientRequest
from zope.interface import implementer

from llmux.engine.names import raw_of

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(rb"[\x21-\x7e]+").fullmatch
_FRAMING = (b"Content-Length", b"Transfer-Encoding")
_USUAL = frozenset({b"GET", b"POST"})
_ANTICIPATE_A_BODY = (b"POST", b"PUT", b"PATCH")
_SMALL = 64 * 1024  # bytes that are rather copied than written apart


class IWholeBody(IBodyProducer):
    """The body of a request that may be small, and here already."""

    def take_whole() -> bytes | None:
        """
        Give all of it, which is :attr:`length` bytes; nobody else gets it then.

        :returns: ``None`` if it is to be had by :meth:`startProducing` alone.
        """


class WrongLength(Exception):
    """A body has not as many bytes as it said."""


@implementer(IClientRequest)
@attrs.frozen
class ClientRequest:
    """
    A request that is to be sent.

    :param method: as it goes into the request line.
    :param target: as it goes into the request line.
    :param headers: all of them but those of the body's framing; one ``Host`` among them.
    :param body: produces the body, if there is one.
    :param absoluteURI: the URI that was asked for, if it is known.
    :raises ValueError: if it is none that can be sent.
    """

    method: bytes
    target: bytes
    headers: Headers
    body: IBodyProducer | None = None
    absoluteURI: bytes | None = None

    def __attrs_post_init__(self) -> None:
        if self.method not in _USUAL and not _METHOD(self.method):
            raise ValueError(f"Invalid method {self.method!r}")
        if not _TARGET(self.target):
            raise ValueError(f"Invalid URI {self.target!r}")
        if len(raw_of(self.headers).get(b"Host", ())) != 1:
            raise ValueError("Exactly one Host header required")

    def take_whole(self) -> bytes | None:
        """
        Write all of it, if it is here.

        :returns: ``None`` if its body has to be produced; see :class:`Upload`.
        """
        if self.body is None:
            return self.head()
        take = getattr(self.body, "take_whole", None)  # an interface's answer would take longer
        body: bytes | None = None if take is None else take()
        return None if body is None else self.head() + body

    def head(self) -> bytes:
        """Write its head (RFC 9112, 2.1), for a body as it is."""
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target)]
        if self.body is None:
            if self.method in _ANTICIPATE_A_BODY:  # RFC 9110, 8.6
                lines.append(b"Content-Length: 0")
        elif self.body.length == UNKNOWN_LENGTH:
            lines.append(b"Transfer-Encoding: chunked")
        else:
            lines.append(b"Content-Length: %d" % self.body.length)
        for name, values in self.headers.getAllRawHeaders():
            if name not in _FRAMING:
                for value in values:
                    lines.append(name + b": " + value)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)


@implementer(IConsumer)
class Upload:
    """
    A request that is being sent, head and body, no faster than the transport takes it.

    :param transport: to the server.
    :param request: which has a body.
    :param done: called when all of it has been handed to the transport, or with what went wrong.
    """

    def __init__(
        self, transport: Any, request: ClientRequest, done: Callable[[Failure | None], None]
    ) -> None:
        assert request.body is not None
        self._transport = transport
        self._head = request.head()
        self._body = request.body
        self._left = None if request.body.length == UNKNOWN_LENGTH else request.body.length
        self._done = done
        self._registered = False
        self._over = False

    def begin(self) -> None:
        """Send, from now on."""
        try:
            produced = self._body.startProducing(self)
        except Exception:
            self._end(Failure())
            return
        if self._head and not self._over:
            self._register()
            self._send(b"")
        produced.addCallbacks(self._produced, self._end)

    def write(self, data: bytes) -> None:
        """See :meth:`IConsumer.write`: send a piece of the body."""
        if self._over or not data:
            return
        if self._left is None:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        else:
            self._left -= len(data)
            if self._left < 0:
                self._body.stopProducing()
                self._end(Failure(WrongLength("too many bytes written")))
                return
        if self._left != 0:  # one that is written in one go need not be held back
            self._register()
        self._send(data)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """See :meth:`IConsumer.registerProducer`: who produces is known already."""

    def unregisterProducer(self) -> None:
        """See :meth:`IConsumer.unregisterProducer`."""

    def stop(self) -> None:
        """Send no more of it; nobody is told."""
        if not self._over:
            self._close()
            self._body.stopProducing()

    def _register(self) -> None:
        if not self._registered:
            self._registered = True
            self._transport.registerProducer(self._body, True)

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if not head:
            self._transport.write(data)
        elif len(data) < _SMALL:
            self._transport.write(head + data)
        else:
            self._transport.writeSequence((head, data))

    def _produced(self, _: object) -> None:
        if self._left:
            self._end(Failure(WrongLength("too few bytes written")))
            return
        if self._left is None and not self._over:
            self._send(b"0\r\n\r\n")
        self._end(None)

    def _end(self, failure: Failure | None) -> None:
        if not self._over:
            self._close()
            self._done(failure)

    def _close(self) -> None:
        self._over = True
        if self._registered:
            self._transport.unregisterProducer()
