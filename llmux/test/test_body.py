"""Tests of :mod:`llmux.proxy.body` and :mod:`llmux.server.spool`: bodies on their way up."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO
from unittest.mock import Mock, patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux.clock import VirtualClock
from llmux.proxy.body import AT_ONCE, SpooledBody
from llmux.server.spool import IN_MEMORY, find_place, open_spool
from llmux.test.processes import until


class Greedy:
    """
    Takes all it is given.

    :ivar taken: that, in pieces.
    """

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.taken.append(data)


class Turns(VirtualClock):
    """A reactor that takes its turns one by one: what is put off for no time comes in the next."""

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """See :meth:`IReactorTime.callLater`."""
        return super().callLater(delay + 1, callable, *args, **kwargs)

    def turn(self) -> None:
        """Do what was put off before, and nothing that is put off by that."""
        self.advance(1)


class BrokenFile(BytesIO):
    """Cannot be read any more, from some byte on."""

    def read(self, size: int | None = -1) -> bytes:
        """Read, or fail."""
        if self.tell() >= AT_ONCE:
            raise OSError(5, "Input/output error")
        return super().read(size)


class TurnTests(SynchronousTestCase):
    """A large body does not keep others waiting, however fast its backend takes it."""

    def begin(self, file: BinaryIO, length: int) -> Deferred[None]:
        """Begin to hand on a body."""
        self.clock, self.backend = Turns(), Greedy()
        self.body = SpooledBody(self.clock, file, length)
        consumer: Any = self.backend
        return self.body.startProducing(consumer)

    @property
    def handed_on(self) -> int:
        """How many bytes were."""
        return sum(map(len, self.backend.taken))

    def test_others_are_served_in_between(self) -> None:
        """It is handed on in turns, between which others have theirs."""
        length = 3 * AT_ONCE + 1
        done = self.begin(BytesIO(b"x" * length), length)
        for turn in (1, 2, 3):
            self.assertEqual((self.handed_on, self.body.complete), (turn * AT_ONCE, False))
            self.assertNoResult(done)
            self.clock.turn()
        self.successResultOf(done)
        self.assertEqual((self.handed_on, self.body.complete), (length, True))
        self.assertIsNone(self.clock.next_due())

    @given(st.lists(st.sampled_from(("pause", "resume", "turn"))))
    def test_pauses(self, events: list[str]) -> None:
        """Nothing is handed on while it is paused, and nothing twice, whenever that is."""
        content = os.urandom(2 * AT_ONCE + 17)
        self.begin(BytesIO(content), len(content))
        paused = False
        for event in events:
            before = self.handed_on
            if event == "turn":
                self.clock.turn()
                self.assertTrue(not paused or self.handed_on == before)
            elif event == "pause":
                self.body.pauseProducing()
                paused = True
            else:
                self.body.resumeProducing()
                paused = False
            self.assertLessEqual(self.handed_on - before, AT_ONCE)
        self.body.resumeProducing()
        for _ in range(3):
            self.clock.turn()
        self.assertEqual(b"".join(self.backend.taken), content)

    def test_stopped_in_between(self) -> None:
        """One that nobody wants any more leaves nothing behind."""
        done = self.begin(BytesIO(b"x" * 2 * AT_ONCE), 2 * AT_ONCE)
        self.body.stopProducing()
        self.assertIsNone(self.clock.next_due())
        self.assertNoResult(done)
        self.assertEqual(self.handed_on, AT_ONCE)

    def test_disk_that_fails(self) -> None:
        """Where it cannot be read any more the request fails, and does not hang."""
        done = self.begin(BrokenFile(b"x" * 2 * AT_ONCE), 2 * AT_ONCE)
        self.assertNoResult(done)
        self.clock.turn()
        self.failureResultOf(done, OSError)
        self.assertFalse(self.body.complete)


class SpoolTests(TestCase):
    def test_place(self) -> None:
        """The system's temporary directory is looked for; nothing fails where there is none."""
        self.patch(tempfile, "tempdir", None)
        find_place()
        self.assertIsNotNone(tempfile.tempdir)
        tempfile.tempdir = None
        with patch.object(tempfile, "_candidate_tempdir_list", list):
            find_place()
        self.assertIsNone(tempfile.tempdir)

    async def test_large_one_is_freed(self) -> None:
        """A large body leaves no descriptor behind, though another thread frees it."""
        for length in (IN_MEMORY + 1, None):
            spool = open_spool(None, length)
            spool.write(b"x" * (IN_MEMORY + 1))
            file = os.fstat(spool.fileno())
            self.assertEqual(holders(file), 1)
            spool.close()
            self.assertTrue(spool.closed)
            spool.close()  # twice does no harm
            await until(lambda file=file: holders(file) == 0)  # type: ignore[misc]  # mypy#15459

    def test_another_thread_waits(self) -> None:
        """Whoever closes a large body does not wait until it is freed; a small one is, at once."""
        begun: list[Thread] = []
        self.patch(Thread, "start", lambda thread: begun.append(thread))
        for size, threads in ((IN_MEMORY + 1, 1), (2, 0)):
            spool = open_spool(None, IN_MEMORY + 1)
            spool.write(b"x" * size)
            file = os.fstat(spool.fileno())
            spool.close()
            self.assertEqual((len(begun), holders(file)), (threads, threads))
            while begun:
                begun.pop().run()
            self.assertEqual(holders(file), 0)

    def test_freed_in_pieces(self) -> None:
        """No system call frees much of a large body: it would hold up others on the same core."""
        sizes = [5 * IN_MEMORY + 1]
        truncate, close = os.ftruncate, os.close

        def shorten(descriptor: int, size: int) -> None:
            truncate(descriptor, size)
            sizes.append(size)

        def end(descriptor: int) -> None:
            sizes.append(0)
            close(descriptor)

        spool = open_spool(None, sizes[0])
        spool.write(b"x" * sizes[0])
        file = os.fstat(spool.fileno())
        begun: list[Thread] = []
        self.patch(Thread, "start", lambda thread: begun.append(thread))
        spool.close()
        with patch.object(os, "ftruncate", shorten), patch.object(os, "close", end):
            begun.pop().run()
        self.assertEqual(holders(file), 0)
        freed = [more - less for more, less in pairwise(sizes)]
        self.assertLessEqual(max(freed), IN_MEMORY)

    def test_not_freed_in_pieces(self) -> None:
        """Where a file cannot be shortened it is freed all at once."""
        spool = open_spool(None, IN_MEMORY + 1)
        spool.write(b"x" * 3 * IN_MEMORY)
        file = os.fstat(spool.fileno())
        self.patch(Thread, "start", Thread.run)
        self.patch(os, "ftruncate", Mock(side_effect=OSError))
        spool.close()
        self.assertEqual(holders(file), 0)

    def test_small_one_needs_no_file(self) -> None:
        """A body that fits into memory is in no file; nor is one that never came."""
        for length, came in ((IN_MEMORY, IN_MEMORY), (None, IN_MEMORY), (IN_MEMORY + 1, 0)):
            spool: Any = open_spool(None, length)
            spool.write(b"x" * came)
            self.assertTrue(isinstance(spool, BytesIO) or not spool._rolled)
            spool.close()
            self.assertTrue(spool.closed)

    def test_large_one_goes_to_the_disk_at_once(self) -> None:
        """A body that is known not to fit is not moved when it does not any more."""
        spool: Any = open_spool(None, IN_MEMORY + 1)
        spool.write(b"xx")
        self.assertTrue(spool._rolled)
        spool.close()

    def test_no_descriptors(self) -> None:
        """Where there are no more descriptors it is closed all the same."""

        def fail(descriptor: int) -> int:
            raise OSError(24, "Too many open files")

        spool = open_spool(None, None)
        spool.write(b"x" * (IN_MEMORY + 1))
        self.patch(os, "dup", fail)
        spool.close()
        self.assertTrue(spool.closed)

    def test_full_disk(self) -> None:
        """One that cannot be written to its end is closed without complaint, and leaves nothing."""
        spool: Any = open_spool(None, IN_MEMORY + 1)
        spool.write(b"xx")
        spool._file.close()
        full = spool._file = Path("/dev/full").open("r+b")  # noqa: SIM115  # the spool closes it
        file = os.fstat(full.fileno())
        spool.write(b"x")  # which is in a buffer
        spool.close()
        self.assertEqual((spool.closed, holders(file)), (True, 0))

    def test_no_threads(self) -> None:
        """Where no thread can be had it is freed all the same."""

        def fail(thread: Thread) -> None:
            raise RuntimeError("can't start new thread")

        spool = open_spool(None, None)
        spool.write(b"x" * (IN_MEMORY + 1))
        file = os.fstat(spool.fileno())
        self.patch(Thread, "start", fail)
        spool.close()
        self.assertEqual(holders(file), 0)


def holders(file: os.stat_result) -> int:
    """Say how many of this process's descriptors are of a file."""
    found = 0
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            found += os.path.samestat(os.fstat(int(name)), file)
    return found
