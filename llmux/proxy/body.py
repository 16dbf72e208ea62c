"""A request's body on its way up to the backend."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from llmux.engine.outgoing import IWholeBody
from llmux.envelope import Patch
from llmux.server.request import RelayRequest

_CHUNK = 64 * 1024  # bytes read at once

AT_ONCE = 4 * _CHUNK
"""
Bytes that are handed on before others are served: a backend nearby can take them as fast as they
are read, and would have a large body all in one go.
"""


@implementer(IWholeBody, IPushProducer)
class SpooledBody:
    """
    A body that has been received, read no faster than the backend takes it.

    :param clock: lets others be served in between.
    :param file: where it is, from its beginning; it is closed when all of it has been handed on.
    :param length: in bytes, as it is there.
    :param patch: bytes that are sent instead of others, if so.
    :ivar length: in bytes, as it is sent.
    :ivar progressed: called for each piece that the backend takes.
    :ivar complete: whether all of it has been handed on.
    """

    _produced: Deferred[None]  # there once it is produced

    def __init__(
        self, clock: IReactorTime, file: BinaryIO, length: int, patch: Patch | None = None
    ) -> None:
        self._clock = clock
        self.length = length + (0 if patch is None else patch.growth)
        self._patch = patch
        self._position = 0
        self._left = self.length
        self.complete = False
        self._file = file
        self.progressed: Callable[[], object] = lambda: None
        self._consumer: IConsumer | None = None
        self._paused = False
        self._next_turn: IDelayedCall | None = None

    @classmethod
    def of(
        cls, request: RelayRequest, clock: IReactorTime, patch: Patch | None = None
    ) -> SpooledBody | None:
        """Give the body of a request, with other bytes in it, or ``None`` if it has none."""
        if not request.body_length:
            return None
        assert request.content is not None  # only a request that has no length has no spool
        return cls(clock, request.content, request.body_length, patch)

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
        if self._next_turn is None:
            self._produce()

    def _produce(self) -> None:
        """Hand on as much as is taken, and no more than :data:`AT_ONCE`; the rest comes later."""
        self._next_turn = None
        handed_on = 0
        while self._consumer is not None and not self._paused:
            if handed_on >= AT_ONCE:
                self._next_turn = self._clock.callLater(0, self._produce)
                return
            self.progressed()
            try:
                chunk = self._read()
            except OSError:  # the disk
                self._consumer = None
                self._produced.errback()
                return
            handed_on += len(chunk)
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
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
