"""A request's body on its way up to the backend."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from llmux.engine.outgoing import IWholeBody
from llmux.envelope import Patch
from llmux.server.request import RelayRequest

_CHUNK = 64 * 1024  # bytes read at once


@implementer(IWholeBody, IPushProducer)
class SpooledBody:
    """
    A body that has been received, read no faster than the backend takes it.

    :param file: where it is, from its beginning; it is closed when all of it has been handed on.
    :param length: in bytes, as it is there.
    :param patch: bytes that are sent instead of others, if so.
    :ivar length: in bytes, as it is sent.
    :ivar progressed: called for each piece that the backend takes.
    :ivar complete: whether all of it has been handed on.
    """

    _produced: Deferred[None]  # there once it is produced

    def __init__(self, file: BinaryIO, length: int, patch: Patch | None = None) -> None:
        self.length = length + (0 if patch is None else patch.growth)
        self._patch = patch
        self._position = 0
        self._left = self.length
        self.complete = False
        self._file = file
        self.progressed: Callable[[], object] = lambda: None
        self._consumer: IConsumer | None = None
        self._paused = False

    @classmethod
    def of(cls, request: RelayRequest, patch: Patch | None = None) -> SpooledBody | None:
        """Give the body of a request, with other bytes in it, or ``None`` if it has none."""
        if not request.body_length:
            return None
        assert request.content is not None  # only a request that has no length has no spool
        return cls(request.content, request.body_length, patch)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See :meth:`IBodyProducer.startProducing`."""
        self._consumer = consumer
        produced = self._produced = Deferred()
        self.resumeProducing()
        return produced

    def take_whole(self) -> bytes | None:
        """See :meth:`IWholeBody.take_whole`."""
        if self.length > _CHUNK or not isinstance(self._file, BytesIO):
            return None
        whole, patch = self._file.read(), self._patch
        self._hand_over()
        return whole if patch is None else patch.apply(whole)

    def pauseProducing(self) -> None:
        """See :meth:`IPushProducer.pauseProducing`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See :meth:`IPushProducer.resumeProducing`."""
        self._paused = False
        while self._consumer is not None and not self._paused:
            self.progressed()
            chunk = self._read()
            self._left -= len(chunk)
            if chunk:
                self._consumer.write(chunk)
            if self._consumer is not None and (not chunk or not self._left):
                self._hand_over()
                self._produced.callback(None)

    def _hand_over(self) -> None:
        """Be done: all of it has been handed on."""
        self._consumer = None
        self.complete = True
        self._file.close()  # a stream of an hour need not hold it

    def _read(self) -> bytes:
        """Read the next piece."""
        patch = self._patch
        if patch is None:
            return self._file.read(_CHUNK)
        before = patch.begin - self._position
        if before > 0:
            chunk = self._file.read(min(_CHUNK, before))
            self._position += len(chunk)
            return chunk
        self._patch = None
        self._file.seek(patch.end)
        return patch.new + self._file.read(_CHUNK)

    def stopProducing(self) -> None:
        """See :meth:`IBodyProducer.stopProducing`: the Deferred does not fire any more."""
        self._consumer = None
