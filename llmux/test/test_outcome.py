"""What became of a request at its backend, as the switcher is told when the lease ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import TestCase

from llmux.lease import Outcome
from llmux.proxy import answer as answers
from llmux.test.loopback import (
    BackendWire,
    Leases,
    RawBackend,
    Served,
    Wire,
    http_answer,
    http_post,
    unaccepting,
    until,
)
from llmux.test.test_tunnel import ASK, SWITCH

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


class OutcomeTests(TestCase):
    def setUp(self) -> None:
        """Watch the leases of one model, whose backend the test plays."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.leases = Leases(self)

    def serve(self, **settings: Any) -> Served:
        """Serve it."""
        return Served(self, {"a": self.backend.address}, **settings)

    async def asked(
        self, served: Served | None = None, says: bytes = b"", request: bytes | None = None
    ) -> tuple[Wire, BackendWire]:
        """Ask, and let the backend say something; give both connections."""
        client = await (served or self.serve()).client()
        client.send(request or http_post())
        wire = await self.backend.wire(len(self.backend.wires))
        await wire.until(b"\r\n\r\n" if request else b"}")
        wire.send(says)
        await client.until(says[-4:])
        return client, wire

    async def test_complete(self) -> None:
        """A whole answer is complete, whatever its status and its way to end."""
        for answer in (
            http_answer(b"x"),
            http_answer(b"busy", status=b"500 Oops"),
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        ):
            await self.asked(says=answer)
            self.assertIs(await self.leases.outcome(), Outcome.COMPLETE, answer)
        _, wire = await self.asked(says=b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        wire.close()
        self.assertIs(await self.leases.outcome(), Outcome.COMPLETE)

    async def test_answered_before_all_was_sent(self) -> None:
        """So is one that came before the backend had taken all that it was to be sent."""
        client = await self.serve().client()
        client.send(http_post(body=b'{"model": "a", "x": "' + b"0" * 30_000_000 + b'"}'))
        wire = await self.backend.wire()
        await wire.until(b"HTTP/1.1")
        IPushProducer(wire.transport).pauseProducing()
        wire.send(http_answer(b"too large", status=b"413 Content Too Large"))
        self.assertIs(await self.leases.outcome(), Outcome.COMPLETE)
        IPushProducer(wire.transport).resumeProducing()
        await wire.until_lost()

    async def test_client_left(self) -> None:
        """A request whose client leaves is aborted, before the head and after it."""
        for said in (b"", HEAD + b"part"):
            client, wire = await self.asked(says=said)
            client.abort()
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED)
            await wire.until_lost()

    async def test_client_left_behind_the_end(self) -> None:
        """One that leaves when all has come from the backend changes nothing."""
        client = await self.serve().client()
        client.send(http_post())
        wire = await self.backend.asked()
        IPushProducer(client.transport).pauseProducing()
        wire.send(http_answer(b"x" * 1000))
        self.assertIs(await self.leases.outcome(), Outcome.COMPLETE)
        client.abort()
        await until(lambda: client.lost)
        self.assertEqual(self.leases.outcomes, [])

    async def test_deadlines(self) -> None:
        """A request that is given up because its backend is silent is aborted."""
        for setting, said in (
            ("first_byte_timeout_secs", b""),
            ("idle_timeout_secs", HEAD + b"part"),
        ):
            await self.asked(self.serve(**{setting: 0.1}), said)
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED, setting)

    async def test_backend_broke_off(self) -> None:
        """A request that the backend breaks off has failed, before the head and behind it."""
        for said in (b"", HEAD + b"part"):
            for end in (Wire.close, Wire.abort):
                end((await self.asked(says=said))[1])
                self.assertIs(await self.leases.outcome(), Outcome.FAILED, (said, end))

    async def test_no_http(self) -> None:
        """What is not HTTP makes us break off: the backend may be busy with the request still."""
        for said in (
            b"garbage\r\n", b"HTTP/1.1 999 x\x01y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        ):  # fmt: skip
            client = await self.serve().client()
            client.send(http_post())
            (await self.backend.asked(len(self.backend.wires))).send(said)
            self.assertIs(await self.leases.outcome(), Outcome.ABORTED, said)

    async def test_never_reached(self) -> None:
        """A request that never got to its backend has failed."""
        served = Served(self, {"a": unaccepting(self)})
        client = await served.client()
        client.send(http_post())
        await self.leases.lease()
        client.abort()
        self.assertIs(await self.leases.outcome(), Outcome.FAILED)
        served = Served(self, {"a": unaccepting(self)}, connect_timeout_secs=0.1)
        self.assertIn(b"HTTP/1.1 504", await served.exchange(http_post()))
        self.assertIs(await self.leases.outcome(), Outcome.FAILED)

    async def test_bug(self) -> None:
        """A request that fails for a fault of our own is aborted, and its connection closed."""

        def broken(*_: object) -> None:
            raise RuntimeError("planted")

        self.patch(answers, "StalledClient", broken)
        served = self.serve()
        client = await served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(HEAD)
        self.assertIs(await self.leases.outcome(), Outcome.ABORTED)
        await wire.until_lost()
        await client.until_lost()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_tunnels(self) -> None:
        """A tunnel is complete when the backend closes it, failed by a reset, else aborted."""
        for number, end, outcome in (
            (1, Wire.close, Outcome.COMPLETE),
            (1, Wire.abort, Outcome.FAILED),
            (0, Wire.close, Outcome.ABORTED),
            (0, Wire.abort, Outcome.ABORTED),
        ):
            end((await self.asked(says=SWITCH, request=ASK))[number])
            self.assertIs(await self.leases.outcome(), outcome, (number, end))
        await self.asked(self.serve(tunnel_idle_secs=0.1), SWITCH, ASK)
        self.assertIs(await self.leases.outcome(), Outcome.ABORTED)


class HeardTests(TestCase):
    """When the backend was heard last is known as long as a lease is held."""

    def setUp(self) -> None:
        """Watch the leases of one model, whose backend the test plays."""
        self.backend = RawBackend(self)
        self.backend.answer = None
        self.served = Served(self, {"a": self.backend.address})
        self.leases = Leases(self)

    async def test_answer(self) -> None:
        """Before the head nothing has been heard; each piece that comes is."""
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        lease = await self.leases.lease()
        self.assertIsNone(lease.heard_at)
        wire.send(HEAD)
        await client.until(b"\r\n\r\n")
        assert lease.heard_at is not None
        heard = lease.heard_at()
        for piece in (b"one", b"two"):
            wire.send(piece)
            await client.until(piece)
            self.assertGreater(lease.heard_at(), heard)
            heard = lease.heard_at()

    async def test_tunnel(self) -> None:
        """In a tunnel the backend is heard, and the client is not taken for it."""
        client = await self.served.client()
        client.send(ASK)
        wire = await self.backend.wire()
        await wire.until(b"\r\n\r\n")
        wire.send(SWITCH)
        await client.until(b"\r\n\r\n")
        lease = await self.leases.lease()
        assert lease.heard_at is not None
        heard = lease.heard_at()
        client.send(b"anybody there?")
        await wire.until(b"there?")
        self.assertEqual(lease.heard_at(), heard)
        wire.send(b"yes")
        await client.until(b"yes")
        self.assertGreater(lease.heard_at(), heard)
