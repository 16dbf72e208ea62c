"""Backends that are gone when a request comes: it is sent again when its model has been woken."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import TestCase

from llmux.config import Backend
from llmux.lease import Outcome, Revocation
from llmux.test.loopback import (
    Leases,
    RawBackend,
    Served,
    http_answer,
    http_post,
    unaccepting,
    until,
)
from llmux.test.stacks import on_each_stack
from llmux.test.test_tunnel import ASK, SWITCH

STREAM = b'{"model": "a", "stream": true}'
EVENTS = b"Content-Type: text/event-stream\r\n"


@on_each_stack
class AgainTests(TestCase):
    def setUp(self) -> None:
        """Serve a model whose wake hook, but for the first time, ends when the test says so."""
        self.backend = RawBackend(self)
        self.gate = Path(self.mktemp()).absolute()
        self.gate.touch()
        self.addCleanup(self.gate.touch)
        self.wakes = Path(self.mktemp()).absolute()

    def serve(self, address: Backend | None = None, **settings: Any) -> Served:
        """Serve it."""
        wake = f"echo >> {self.wakes}; until test -e {self.gate}; do sleep 0.02; done"
        return Served(self, {"a": address or self.backend.address}, wake=wake, **settings)

    def woken(self) -> int:
        """Say how often the wake hook has been started."""
        return len(self.wakes.read_text()) if self.wakes.exists() else 0

    async def gone(self, **settings: Any) -> Served:
        """Serve the model awake, and its backend gone."""
        served = self.serve(**settings)
        await served.exchange(http_post())
        await self.backend.go_down()
        await until(lambda: all(wire.lost for wire in self.backend.wires))
        self.backend.wires.clear()
        self.gate.unlink()
        return served

    async def come_back(self) -> None:
        """Let the backend be there again, when the model is being woken once more."""
        await until(lambda: self.woken() == 2, "a second wake")
        self.backend.come_up()
        self.gate.touch()

    async def test_served(self) -> None:
        """A request that finds nobody there is served, whole, when its model has been woken."""
        for body in (b'{"model": "a"}', b'{"model": "a", "x": "' + b"0123" * 700_000 + b'"}'):
            self.wakes.unlink(missing_ok=True)
            self.gate.touch()
            served = await self.gone()
            client = await served.client()
            client.send(http_post(body=body))
            await self.come_back()
            answer = await client.until_lost()
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
            self.assertTrue(self.backend.requests[-1].endswith(b"\r\n\r\n" + body))
            self.assertEqual(served.app.switcher.in_flight("a"), 0)
            failed = served.sample(
                "llmux_backend_failures_total", model="a", reason="backend_refused"
            )
            self.assertEqual(failed, 0)

    async def test_once(self) -> None:
        """If nobody is there the second time either it is a 502; the model is woken only once."""
        leases = Leases(self)
        served = await self.gone()
        self.gate.touch()
        answer = await served.exchange(http_post())
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
        self.assertIn(b'"code": "backend_refused"', answer)
        self.assertEqual(self.woken(), 2)
        self.assertIs(await leases.outcome(), Outcome.REFUSED)
        failed = served.sample("llmux_backend_failures_total", model="a", reason="backend_refused")
        self.assertEqual(failed, 1)

    async def test_something_was_sent(self) -> None:
        """A request that the backend may have begun with is never sent again."""
        served = self.serve()
        self.backend.answer = None
        client = await served.client()
        client.send(http_post())
        (await self.backend.asked()).abort()
        self.assertIn(b'"code": "backend_closed"', await client.until_lost())
        self.assertEqual((self.woken(), len(self.backend.wires)), (1, 1))

    async def test_slow_to_accept(self) -> None:
        """Nor is one that the backend does not accept in time."""
        served = self.serve(unaccepting(self), connect_timeout_secs=0.1)
        self.assertTrue((await served.exchange(http_post())).startswith(b"HTTP/1.1 504 "))
        self.assertEqual(self.woken(), 1)

    async def test_tunnel(self) -> None:
        """A WebSocket that finds nobody there is opened when its model has been woken."""
        served = await self.gone()
        self.backend.answer = None
        client = await served.client()
        client.send(ASK)
        await self.come_back()
        wire = await self.backend.wire()
        await wire.until(b"\r\n\r\n")
        wire.send(SWITCH)
        await client.until(b"101 Switching")

    async def test_sign_of_life(self) -> None:
        """The second wait shows signs of life, too, with the client's place in the queue."""
        served = await self.gone(keepalive_secs=0.05)
        self.backend.answer = http_answer(b"data: 1\n\n", EVENTS)
        client = await served.client()
        client.send(http_post(body=STREAM))
        await client.until(b": waiting for a, 0 before you\n\n")
        await self.come_back()
        answer = await client.until_lost()
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 1)
        self.assertTrue(answer.endswith(b"data: 1\n\n\r\n0\r\n\r\n"), answer)
        self.assertIn(b"Accept-Encoding: identity\r\n", self.backend.requests[-1])

    async def test_sign_of_life_in_both_waits(self) -> None:
        """A stream whose head is out already goes on; the log has the time of both waits."""
        events: list[dict[str, Any]] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        await self.backend.go_down()
        self.gate.unlink()
        served = self.serve(keepalive_secs=0.1)
        self.backend.answer = http_answer(b"data: 1\n\n", EVENTS)
        client = await served.client()
        client.send(http_post(body=STREAM))
        await until(lambda: client.received.count(b": waiting") == 5)
        self.gate.touch()
        await until(lambda: self.woken() == 2, "a second wake")
        self.backend.come_up()
        answer = await client.until_lost()
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 1)
        self.assertEqual(answer.count(b"data:"), 1)
        await until(lambda: any(event.get("event") == "request_ended" for event in events))
        (ended,) = (event for event in events if event.get("event") == "request_ended")
        self.assertGreaterEqual(ended["queue_secs"], 0.5)  # five times the interval, at least

    async def test_client_that_leaves_meanwhile(self) -> None:
        """A client that leaves during the second wait is out of the queue, and counted as 499."""
        served = await self.gone()
        client = await served.client()
        client.send(http_post())
        await until(lambda: self.woken() == 2, "a second wake")
        client.abort()
        await until(lambda: served.sample("llmux_requests_total", model="a", status="499"))
        self.assertEqual(served.sample("llmux_request_queue_depth", model="a"), 0)
        self.gate.touch()

    async def test_down_while_connecting(self) -> None:
        """A model that goes down before anything was sent is like one that refuses."""
        leases = Leases(self)
        address = unaccepting(self)
        served = self.serve(address)
        client = await served.client()
        client.send(http_post())
        lease = await leases.lease()
        self.gate.unlink()
        lease.revoke(Revocation.BACKEND_DOWN)
        await until(lambda: self.woken() == 2, "a second wake")
        self.gate.touch()
        (await leases.lease(1)).revoke(Revocation.BACKEND_DOWN)
        answer = await client.until_lost()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertIn(b'"code": "backend_down"', answer)
        self.assertEqual(self.woken(), 2)
