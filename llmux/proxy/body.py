"""A request's body on its way up to the backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from llmux.server.request import RelayRequest

_CHUNK = 64 * 1024  # bytes read at once


@implementer(IBodyProducer, IPushProducer)
class SpooledBody:
    """
    A body that has been received, read no faster than the backend takes it.

    :param file: where it is, from its beginning; it is closed when all of it has been handed on.
    :param length: in bytes.
    :ivar progressed: called for each piece that the backend takes.
    :ivar complete: whether all of it has been handed on.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.length = length
        self.complete = False
        self._file = file
        self.progressed: Callable[[], object] = lambda: None
        self._consumer: IConsumer | None = None
        self._paused = False
        self._produced: Deferred[None] = Deferred()

    @classmethod
    def of(cls, request: RelayRequest) -> SpooledBody | None:
        """Give the body of a request, or ``None`` if it has none."""
        if not request.body_length:
            return None
        assert request.content is not None  # only a request that has no length has no spool
        return cls(request.content, request.body_length)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See :meth:`IBodyProducer.startProducing`."""
        self._consumer = consumer
        self.resumeProducing()
        return self._produced

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""
        self._paused = False
        while self._consumer is not None and not self._paused:
            self.progressed()
            chunk = self._file.read(_CHUNK)
            if not chunk:
                self._consumer = None
                self.complete = True
                self._file.close()  # a stream of an hour need not hold it
                self._produced.callback(None)
                return
            self._consumer.write(chunk)

    def stopProducing(self) -> None:
        """See :meth:`IBodyProducer.stopProducing`: the Deferred does not fire any more."""
        self._consumer = None
