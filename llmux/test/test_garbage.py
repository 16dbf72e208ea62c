"""Tests of :mod:`llmux.garbage` and of what is left to it, with the collector of this process."""

from __future__ import annotations

import gc
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux.engine.choice import HTTP
from llmux.garbage import keep_collector_away
from llmux.test.loopback import RawBackend, Served, Wire, http_post, until
from llmux.test.stacks import NO_LLHTTP

_ENDPOINTS = {"_Connector", "_ConnectionFactory"}
"""What a cycle of Twisted's client endpoints holds, a few small objects for each connection."""


class GarbageTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Put everything back as it was."""
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())

    def test_all_there_is(self) -> None:
        """What is there is left out, and what comes later is not."""
        keep_collector_away()
        self.assertGreater(gc.get_freeze_count(), 1000)
        self.assertLess(len(gc.get_objects()), 1000)
        later: list[object] = []
        later.append(later)
        self.assertTrue(any(each is later for each in gc.get_objects()))

    def test_seldom(self) -> None:
        """What comes with some thousands of streams is not gone through yet; later it is."""
        keep_collector_away()
        full: list[object] = []

        def count(phase: str, info: dict[str, int]) -> None:
            if phase == "start" and info["generation"] == 2:
                full.append(info)

        gc.callbacks.append(count)
        self.addCleanup(gc.callbacks.remove, count)
        kept: list[object] = []
        while len(kept) < 300_000:
            kept.append([])
        self.assertEqual(full, [])
        while len(kept) < 4_000_000 and not full:
            kept.append([])
        self.assertNotEqual(full, [])


class LeftTests(TestCase):
    """What requests leave to the collector when they have ended."""

    http = HTTP.name
    skip = NO_LLHTTP

    def setUp(self) -> None:
        """Serve one model whose backend the test answers for."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})

    async def _left_by(self, end: Callable[[Wire, Wire], object]) -> set[str]:
        """
        Begin a stream, end it, and say of what classes of llmux something was left.

        :param end: ends it, given the client's connection and the backend's.
        """
        await self._stream(end)  # whatever is made once is there
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        await self._stream(end)
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, gc.get_debug())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return {
            type(each).__name__
            for each in gc.garbage
            if type(each).__module__.startswith("llmux.")
            and not type(each).__module__.startswith("llmux.test.")
        } - _ENDPOINTS

    async def _stream(self, end: Callable[[Wire, Wire], object]) -> None:
        client = await self.served.client()
        client.send(http_post())
        backend = await self.backend.asked(len(self.backend.wires))
        backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await client.until(b"one")
        end(client, backend)
        await client.until_lost()
        await backend.until_lost()
        await until(lambda: not self.served.app.switcher.in_flight("a"))

    async def test_whole_answer(self) -> None:
        """A stream that ends in order leaves nothing."""

        def end(client: Wire, backend: Wire) -> None:
            backend.send(b"0\r\n\r\n")
            backend.close()

        self.assertEqual(await self._left_by(end), set())

    async def test_client_left(self) -> None:
        """A stream whose client leaves leaves nothing."""
        self.assertEqual(await self._left_by(lambda client, backend: client.abort()), set())

    async def test_backend_broke(self) -> None:
        """A stream that its backend breaks off leaves nothing."""
        self.assertEqual(await self._left_by(lambda client, backend: backend.abort()), set())
