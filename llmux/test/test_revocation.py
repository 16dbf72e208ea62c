"""Leases that are wanted back: their requests end at once, visibly, and say why."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.error import ConnectionLost
from twisted.internet.tcp import Server
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux.errors import LeaseRevoked
from llmux.lease import Outcome, Revocation
from llmux.proxy.relay import Ending
from llmux.test.loopback import (
    Leases,
    RawBackend,
    Served,
    http_answer,
    http_post,
    split,
    unaccepting,
    until,
)
from llmux.test.test_tunnel import ASK, SWITCH

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
STREAM = b'{"model": "a", "stream": true}'


class ReasonTests(SynchronousTestCase):
    def test_every_reason(self) -> None:
        """For each reason there is an ending, a code and a message of its own."""
        errors = [LeaseRevoked("llama", why.value) for why in Revocation]
        self.assertEqual([error.code for error in errors], [why.value for why in Revocation])
        self.assertEqual(len({error.message for error in errors}), len(Revocation))
        for error in errors:
            self.assertIn("llama", error.message)
            Ending(error.code)


class RevokedTests(TestCase):
    def setUp(self) -> None:
        """Serve one model, whose backend the test plays, and listen to the log."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})
        self.leases = Leases(self)
        self.events: list[dict[str, Any]] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    async def ended(self) -> dict[str, Any]:
        """Give the event of the last request, once it has ended."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event.get("event") == "request_ended"]

        await until(found, "the access log event")
        event = found()[-1]
        self.events.clear()
        return event

    async def test_before_the_head(self) -> None:
        """Before its answer began the client gets a 503 that says why, and when to try again."""
        for number, why in enumerate(Revocation):
            client = await self.served.client()
            client.send(http_post())
            wire = await self.backend.asked(number)
            (await self.leases.lease(number)).revoke(why)
            status, headers, body = split(await client.until_lost())
            self.assertEqual(status, b"HTTP/1.1 503 Service Unavailable")
            self.assertGreaterEqual(int(headers[b"retry-after"][0]), 1)
            self.assertEqual(json.loads(body)["error"]["code"], why.value)
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED)
            await wire.until_lost()
            event = await self.ended()
            self.assertEqual((event["status"], event["how"]), (503, why.value))

    async def test_in_the_midst_of_an_answer(self) -> None:
        """Behind the head what has come stays, and the answer looks cut short; the log says why."""
        for number, why in enumerate(Revocation):
            client = await self.served.client()
            client.send(http_post())
            wire = await self.backend.asked(number)
            wire.send(CHUNKED)
            await client.until(b"part")
            (await self.leases.lease(number)).revoke(why)
            answer = await client.until_lost()
            self.assertTrue(answer.endswith(b"part\r\n"), answer)
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED)
            await wire.until_lost()
            event = await self.ended()
            self.assertEqual((event["status"], event["how"]), (200, why.value))
            cut = self.served.sample("llmux_requests_cut_total", model="a", reason=why.value)
            self.assertEqual(cut, 1)

    async def test_tunnel(self) -> None:
        """A tunnel is closed at both ends."""
        for number, why in enumerate(Revocation):
            client = await self.served.client()
            client.send(ASK)
            wire = await self.backend.wire(number)
            await wire.until(b"\r\n\r\n")
            wire.send(SWITCH)
            await client.until(b"\r\n\r\n")
            (await self.leases.lease(number)).revoke(why)
            await client.until_lost()
            await wire.until_lost()
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED)
            self.assertEqual((await self.ended())["how"], why.value)

    async def test_while_connecting(self) -> None:
        """A request that is still being connected ends the same way."""
        for number, why in enumerate((Revocation.DRAIN_TIMEOUT, Revocation.SHUTDOWN)):
            served = Served(self, {"a": unaccepting(self)})
            client = await served.client()
            client.send(http_post())
            (await self.leases.lease(number)).revoke(why)
            answer = await client.until_lost()
            self.assertIn(b'"code": "%s"' % why.value.encode(), answer)
            self.assertIs(await self.leases.outcome(), Outcome.FAILED)

    async def test_behind_a_sign_of_life(self) -> None:
        """Where the client waits for a stream of events it gets one that says why."""
        for number, said in enumerate((b"", b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\nhalf")):
            gate = Path(self.mktemp()).absolute()
            wake = f"until test -e {gate}; do sleep 0.02; done"
            models = {"a": self.backend.address}
            served = Served(self, models, wake=wake, keepalive_secs=0.05)
            client = await served.client()
            client.send(http_post(body=STREAM))
            await client.until(b": waiting")
            gate.touch()
            wire = await self.backend.asked(number)
            wire.send(said)
            lease = await self.leases.lease(number)
            await until(lambda: lease.heard_at or not said)  # noqa: B023  # awaited here
            lease.revoke(Revocation.DRAIN_TIMEOUT)
            answer = await client.until_lost()
            self.assertTrue(answer.endswith(b"0\r\n\r\n"), answer)
            self.assertIn(b'"code": "drain_timeout"', answer)
            event = await self.ended()
            self.assertEqual((event["status"], event["how"]), (503, "drain_timeout"))
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED)

    async def test_client_leaves_at_the_same_moment(self) -> None:
        """A client that has gone is told nothing; before the head it counts as one that left."""
        for number, (said, first) in enumerate(product((b"", CHUNKED), ("client", "lease"))):
            client = await self.served.client()
            client.send(http_post())
            (await self.backend.asked(number)).send(said)
            await client.until(said[-6:])
            lease = await self.leases.lease(number)
            if first == "lease":
                lease.revoke(Revocation.KILLED)
            self.lose_client()
            lease.revoke(Revocation.KILLED)
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED)
            event = await self.ended()
            how = "killed" if said and first == "lease" else "client"
            self.assertEqual((event["status"], event["how"]), (200 if said else 499, how))

    def lose_client(self) -> None:
        """Let llmux notice, now, that its client has gone."""
        readers: list[Any] = reactor.getReaders()
        (server,) = (
            one
            for one in readers
            if isinstance(one, Server) and one.getHost().port == self.served.port
        )
        server.connectionLost(Failure(ConnectionLost()))

    async def test_too_late(self) -> None:
        """A lease that has been given back cannot be wanted back."""
        self.backend.answer = http_answer(b"x")
        self.assertTrue((await self.served.exchange(http_post())).endswith(b"x"))
        lease = await self.leases.lease()
        lease.revoke(Revocation.KILLED)
        self.assertIsNone(lease.revoked)
        self.assertIs(await self.leases.outcome(), Outcome.COMPLETE)

    async def test_before_anything_was_sent(self) -> None:
        """A request whose lease is wanted back before it is sent does not reach the backend."""
        self.backend.answer = http_answer(b"x")
        await self.served.exchange(http_post())
        self.patch(type(self.served.app.switcher), "acquire", revoked(self.served.app.switcher))
        answer = await self.served.exchange(http_post())
        self.assertIn(b'"code": "killed"', answer)
        self.assertIs(await self.leases.outcome(), Outcome.FAILED)
        self.assertEqual((len(self.backend.wires), len(self.backend.requests)), (1, 1))


def revoked(switcher: Any) -> Any:
    """Make an ``acquire`` whose leases are wanted back at once."""
    acquire = switcher.acquire

    def acquire_and_revoke(_: object, name: str, urgency: object) -> Any:
        def revoke(lease: Any) -> Any:
            lease.revoke(Revocation.KILLED)
            return lease

        return acquire(name, urgency).addCallback(revoke)

    return acquire_and_revoke
