"""Tests of :mod:`llmux.garbage` and of what is left to it, with the collector of this process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable
from functools import partial

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from llmux.engine.choice import HTTP, STOCK
from llmux.garbage import keep_collector_away
from llmux.test.loopback import RawBackend, Served, Wire, http_post, until
from llmux.test.stacks import NO_LLHTTP
from llmux.test.test_tunnel import ASK, SWITCH

_ENDPOINTS = {"_Connector", "_ConnectionFactory"}
"""What a cycle of Twisted's client endpoints holds, a few small objects for each connection."""

_Kind = Callable[[Callable[[Wire, Wire], object]], Awaitable[None]]
"""Begins something, and has it ended by what is given the client's connection and the backend's."""


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
        if sys.version_info[:2] == (3, 14):
            raise SkipTest("its collector may be incremental, which never goes through everything")
        while len(kept) < 4_000_000 and not full:
            kept.append([])
        self.assertNotEqual(full, [])


class LeftTests(TestCase):
    """What requests leave to the collector when they have ended, on Twisted's stack."""

    http = STOCK

    def setUp(self) -> None:
        """Serve one model whose backend the test answers for."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})

    def _kinds(self) -> list[_Kind]:
        """Give what there is to end; Twisted's parser of a chunked answer is a cycle of its own."""
        return [self._tunnel, self._unanswered]

    async def _left_by(self, served: Callable[[], Awaitable[object]]) -> set[str]:
        """
        Have a request served, and say of what classes of llmux something was left.

        :param served: has one served, to its end.
        """
        await served()  # whatever is made once is there
        gc.collect()
        self.addCleanup(gc.enable)
        self.addCleanup(gc.set_debug, gc.get_debug())
        gc.disable()
        await served()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        left = {
            type(each).__name__
            for each in gc.garbage
            if type(each).__module__.startswith("llmux.")
            and not type(each).__module__.startswith("llmux.test.")
        }
        gc.garbage.clear()
        return left - _ENDPOINTS

    async def _stream(self, end: Callable[[Wire, Wire], object]) -> None:
        """
        Begin a stream, and end it.

        :param end: ends it, given the client's connection and the backend's.
        """
        client, backend = await self._ask(http_post())
        backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await client.until(b"one")
        end(client, backend)
        await self._over(client, backend)

    async def _tunnel(self, end: Callable[[Wire, Wire], object]) -> None:
        """Open a tunnel, and close it likewise."""
        client, backend = await self._ask(ASK)
        backend.send(SWITCH + b"one")
        await client.until(b"one")
        end(client, backend)
        await self._over(client, backend)

    async def _unanswered(self, end: Callable[[Wire, Wire], object]) -> None:
        """End a request likewise before anything of an answer has come."""
        client, backend = await self._ask(http_post())
        end(client, backend)
        await self._over(client, backend)

    async def _refused(self, request: bytes) -> None:
        """Send what llmux itself answers."""
        await self.served.exchange(request)
        await until(lambda: not self.served.app.site.connections)

    async def _ask(self, request: bytes) -> tuple[Wire, Wire]:
        client = await self.served.client()
        client.send(request)
        backend = await self.backend.wire(len(self.backend.wires))
        await backend.until(request.rpartition(b"\r\n\r\n")[2] or b"\r\n\r\n")
        return client, backend

    async def _over(self, client: Wire, backend: Wire) -> None:
        await client.until_lost()
        await backend.until_lost()
        await until(lambda: not self.served.app.switcher.in_flight("a"))

    async def test_client_left(self) -> None:
        """A client that leaves leaves nothing, wherever it leaves."""
        for kind in self._kinds():
            left = await self._left_by(partial(kind, lambda client, backend: client.abort()))
            self.assertEqual(left, set(), kind)

    async def test_backend_broke(self) -> None:
        """Nor does a backend that breaks off."""
        for kind in self._kinds():
            left = await self._left_by(partial(kind, lambda client, backend: backend.abort()))
            self.assertEqual(left, set(), kind)

    async def test_client_left_in_its_body(self) -> None:
        """A request of which only a part comes leaves nothing."""

        async def leave() -> None:
            client = await self.served.client()
            client.send(http_post(head=b"Expect: 100-continue\r\n")[:-1])
            await client.until(b"100 Continue")
            client.abort()
            await until(lambda: not self.served.app.site.connections)

        self.assertEqual(await self._left_by(leave), set())

    async def test_no_backend(self) -> None:
        """A request that cannot be served leaves nothing."""
        await self.backend.go_down()
        self.assertEqual(await self._left_by(partial(self._refused, http_post())), set())

    async def test_refused(self) -> None:
        """Nor does what is no request."""
        self.assertEqual(await self._left_by(partial(self._refused, b"GET\r\n\r\n")), set())


class LLHTTPLeftTests(LeftTests):
    """The same on llhttp, where streams leave nothing either."""

    http = HTTP.name
    skip = NO_LLHTTP

    def _kinds(self) -> list[_Kind]:
        return [self._stream, *super()._kinds()]

    async def test_whole_answer(self) -> None:
        """A stream that ends in order leaves nothing."""

        def end(client: Wire, backend: Wire) -> None:
            backend.send(b"0\r\n\r\n")
            backend.close()

        self.assertEqual(await self._left_by(partial(self._stream, end)), set())
