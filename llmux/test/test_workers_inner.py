"""What a worker's clients ask and its parent answers, over real sockets."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from llmux.engine.choice import HTTP
from llmux.listening import open_inner_door, serve
from llmux.test.loopback import RawBackend, Served, http_post, split, until
from llmux.test.test_web import get
from llmux.web.guard import Reach
from llmux.workers.inner import ParentFace


class ParentFaceTests(TestCase):
    def setUp(self) -> None:
        """Have a parent with an inner door, and a worker."""
        self.backend = RawBackend(self)
        models = {"a": self.backend.address}
        self.parent, self.worker = Served(self, models), Served(self, models)
        directory = Path(tempfile.mkdtemp(prefix="llmux"))
        self.addCleanup(directory.rmdir)
        inner, self.path = open_inner_door(directory)
        self.addCleanup(self.path.unlink)
        (self.port,) = serve(reactor, [inner], self.parent.app.site)
        self.addCleanup(lambda: maybeDeferred(self.port.stopListening))
        self.parent.app.resource.admin = self.parent.app.make_face(Reach.LOOPBACK)
        self.flushed: list[int] = []
        face = ParentFace(reactor, self.path, lambda: self.flushed.append(1), HTTP.made(os.environ))
        self.addCleanup(face.close)
        self.worker.app.resource.admin = self.worker.app.resource.elsewhere = face

    async def answer(self, request: bytes) -> tuple[bytes, dict[bytes, list[bytes]], Any]:
        """Give what a client of the worker gets."""
        return split(await self.worker.exchange(request))

    async def test_metrics(self) -> None:
        """The metrics are the parent's, who is told first what the worker has yet to tell."""
        await self.parent.exchange(http_post("a"))
        status, headers, body = await self.answer(get(b"/metrics"))
        self.assertEqual((status, self.flushed), (b"HTTP/1.1 200 OK", [1]))
        self.assertIn(b'llmux_requests_total{model="a",status="200"} 1.0', body)
        self.assertEqual(headers[b"content-type"], [b"text/plain; version=0.0.4; charset=utf-8"])
        self.assertEqual(len(headers[b"date"]), 1)

    async def test_head(self) -> None:
        """HEAD has the length that GET would have."""
        _, headers, body = await self.answer(get(b"/metrics", b"HEAD"))
        self.assertEqual(body, b"")
        self.assertGreater(int(headers[b"content-length"][0]), 100)

    async def test_status(self) -> None:
        """The operator's paths are the parent's, too, and the request keeps its name."""
        request = get(b"/llmux/status").replace(b"Host: h", b"Host: localhost\r\nX-Request-Id: me")
        status, headers, body = await self.answer(request)
        self.assertEqual(status, b"HTTP/1.1 200 OK")
        self.assertEqual(json.loads(body)["models"][0]["name"], "a")
        self.assertEqual(headers[b"x-request-id"], [b"me"])

    async def test_order(self) -> None:
        """An order is carried out by the parent."""
        order = (
            b"POST /llmux/models/a/pin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        _, _, body = await self.answer(order)
        self.assertEqual(json.loads(body), {"done": "a is pinned"})
        self.assertTrue(self.parent.app.switcher.models["a"].pinned)
        self.assertFalse(self.worker.app.switcher.models["a"].pinned)

    async def test_guard(self) -> None:
        """The parent sees the Host that the client has said, and keeps other sites' pages out."""
        status, _, _ = await self.answer(get(b"/llmux/status"))
        self.assertEqual(status, b"HTTP/1.1 403 Forbidden")

    async def test_refused(self) -> None:
        """What is no proper request goes no further."""
        request = get(b"/llmux/status").replace(b"Host: h", b"Host: h\r\nHost: i")
        status, _, _ = await self.answer(request)
        self.assertEqual(status, b"HTTP/1.1 400 Bad Request")
        self.assertEqual(self.flushed, [])

    async def test_own(self) -> None:
        """What a worker knows itself it answers itself."""
        status, _, _ = await self.answer(get(b"/health"))
        self.assertEqual((status, self.flushed), (b"HTTP/1.1 200 OK", []))

    async def test_gone(self) -> None:
        """If the parent does not answer that is an error of ours, and in the log."""
        await maybeDeferred(self.port.stopListening)
        status, _, _ = await self.answer(get(b"/metrics"))
        self.assertEqual(status, b"HTTP/1.1 500 Internal Server Error")
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    async def test_client_leaves(self) -> None:
        """A client that leaves while it waits has left the parent, too."""
        lease = await self.parent.app.switcher.acquire("a")
        wire = await self.worker.client()
        wire.send(
            b"POST /llmux/reservations HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        reservations = self.parent.app.switcher.reservations
        await until(lambda: bool(reservations.all))
        wire.abort()
        await until(lambda: not reservations.all)
        lease.release()
