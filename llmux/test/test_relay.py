"""The relay over real sockets: what goes in comes out, and what breaks looks broken."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from llmux.test.loopback import RawBackend, Served, http_answer, http_post, relayed, split
from llmux.test.stacks import on_each_stack


@on_each_stack
class RequestTests(TestCase):
    """What the backend sees."""

    def setUp(self) -> None:
        """Serve one model."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address})

    async def seen(self, request: bytes) -> bytes:
        """Send a request; give what the backend got."""
        await self.served.exchange(request)
        return self.backend.requests[-1]

    async def test_body_is_the_same(self) -> None:
        """The body arrives byte for byte, whatever white space and order it has."""
        body = b' {"stream":false ,\n\t"model" : "\\u0061",  "x": [1, 2.50, "\xc3\xa9\\/"]}\r\n'
        self.assertTrue((await self.seen(http_post(body=body))).endswith(b"\r\n\r\n" + body))

    async def test_large_body(self) -> None:
        """A body of some megabytes arrives whole."""
        body = b'{"model": "a", "x": "' + b"0123456789" * 500_000 + b'"}'
        self.assertTrue((await self.seen(http_post(body=body))).endswith(b"\r\n\r\n" + body))

    async def test_chunked_body(self) -> None:
        """A chunked body arrives with its length."""
        request = (
            b"POST /v1/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
            b'8\r\n{"model"\r\n6\r\n: "a"}\r\n0\r\n\r\n'
        )
        _, headers, body = split(await self.seen(request))
        self.assertEqual(body, b'{"model": "a"}')
        self.assertEqual(headers[b"content-length"], [b"14"])
        self.assertNotIn(b"transfer-encoding", headers)

    async def test_target_is_the_same(self) -> None:
        """Path and query arrive as the client wrote them, with all their oddities."""
        for target in (
            b"/",
            b"/v1/chat/completions",
            b"/a//b/../c/./d",
            b"/v1/x?",
            b"/v1/x?a=1&&b=%zz&c",
            b"/%2e%2e/%2F%3F%0A%00/%ff",
            b'/x?q=a|b"c[d]{e}^`',
            b"/;p?;q=%20+%2B",
            b"/v1/models",
            b"/health",
        ):
            line = (await self.seen(http_post(target=target))).partition(b"\r\n")[0]
            self.assertEqual(line, b"POST %s HTTP/1.1" % target)

    async def test_absolute_target_is_reduced(self) -> None:
        """A target with a scheme and a host arrives as its path, as RFC 9112 wants it."""
        for target, path in (
            (b"http://other.example/v1/x?y", b"/v1/x?y"),
            (b"http://other.example", b"/"),
        ):
            line = (await self.seen(http_post(target=target))).partition(b"\r\n")[0]
            self.assertEqual(line, b"POST %s HTTP/1.1" % path)

    async def test_methods(self) -> None:
        """Every method of HTTP that is about a resource goes through."""
        for method in (b"PUT", b"DELETE", b"PATCH", b"OPTIONS"):
            line = (await self.seen(http_post(method=method))).partition(b"\r\n")[0]
            self.assertEqual(line, method + b" /v1/chat/completions HTTP/1.1")

    async def test_headers_go_through(self) -> None:
        """Headers go through, Authorization and repeated ones too; Host becomes the backend's."""
        head = (
            b"Connection: close\r\nAuthorization: Bearer secret\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
            b"Accept-Encoding: br\r\nCookie: a=b\r\nContent-Type: text/weird\r\n"
        )
        _, headers, _ = split(await self.seen(http_post(head=head)))
        self.assertEqual(headers[b"authorization"], [b"Bearer secret"])
        self.assertEqual(headers[b"x-twice"], [b"1", b"2"])
        self.assertEqual(headers[b"accept-encoding"], [b"br"])
        self.assertEqual(headers[b"cookie"], [b"a=b"])
        self.assertEqual(headers[b"content-type"], [b"text/weird"])
        self.assertEqual(headers[b"host"], [self.backend.address.authority.encode()])

    async def test_hop_by_hop_headers_stop_here(self) -> None:
        """Headers that speak of the client's connection do not reach the backend."""
        head = (
            b"Connection: close\r\nConnection: x, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n"
            b"TE: trailers\r\n"
            b"Upgrade: h2c\r\nProxy-Authorization: x\r\nProxy-Connection: close\r\n"
        )
        _, headers, _ = split(await self.seen(http_post(head=head)))
        self.assertEqual(set(headers), {b"host", b"content-length", b"x-request-id"})

    async def test_expect_is_answered_here(self) -> None:
        """A client that waits for 100 Continue gets it, and the backend is not asked again."""
        client = await self.served.client()
        whole = http_post(head=b"Connection: close\r\nExpect: 100-continue\r\n")
        head, _, body = whole.partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        await client.until(b"100 Continue\r\n\r\n")
        client.send(body)
        await client.until_lost()
        self.assertNotIn(b"expect", split(self.backend.requests[0])[1])


@on_each_stack
class AnswerTests(TestCase):
    """What the client sees."""

    def setUp(self) -> None:
        """Serve one model."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address})

    async def got(self, answer: bytes, request: bytes | None = None) -> bytes:
        """Let the backend answer; give what the client got."""
        self.backend.answer = answer
        return await self.served.exchange(request or http_post())

    async def test_status_headers_and_body(self) -> None:
        """Status, reason, headers and body come back as the backend sent them."""
        head = b"Content-Type: x/y\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-A: 1\r\n"
        answer = await self.got(http_answer(b"\x00\xffbody", head, b"418 Short and stout"))
        status, headers, body = relayed(answer)
        self.assertEqual(status, b"HTTP/1.1 418 Short and stout")
        self.assertEqual(headers[b"set-cookie"], [b"a=1", b"b=2"])
        self.assertEqual(
            set(headers),
            {b"content-type", b"set-cookie", b"x-a", b"content-length"},
        )
        self.assertEqual(body, b"\x00\xffbody")

    async def test_nothing_is_invented(self) -> None:
        """An answer without a content type, a date or a server's name gets none."""
        _, headers, _ = relayed(await self.got(http_answer(b"x")))
        self.assertEqual(set(headers), {b"content-length"})

    async def test_encoded_body_is_not_decoded(self) -> None:
        """A compressed answer comes back as compressed as it was."""
        answer = await self.got(http_answer(b"not really gzip", b"Content-Encoding: gzip\r\n"))
        _, headers, body = relayed(answer)
        self.assertEqual((headers[b"content-encoding"], body), ([b"gzip"], b"not really gzip"))

    async def test_redirects_are_not_followed(self) -> None:
        """A redirect is the client's business."""
        answer = await self.got(http_answer(b"", b"Location: /elsewhere\r\n", b"302 Found"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 302 Found"))
        self.assertEqual(len(self.backend.requests), 1)

    async def test_cookies_are_not_kept(self) -> None:
        """A cookie that one client was given is not sent with another client's request."""
        await self.got(http_answer(b"", b"Set-Cookie: session=first\r\n"))
        await self.got(http_answer(b""))
        self.assertNotIn(b"ookie", self.backend.requests[1])

    async def test_head(self) -> None:
        """An answer to HEAD has the length that the body would have, and no body."""
        request = http_post(method=b"HEAD")
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        _, headers, body = relayed(await self.got(answer, request))
        self.assertEqual((headers[b"content-length"], body), ([b"1234"], b""))

    async def test_no_content(self) -> None:
        """A 204 stays without a body and without a length."""
        answer = await self.got(b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n")
        status, headers, body = relayed(answer)
        self.assertEqual((status, body), (b"HTTP/1.1 204 No Content", b""))
        self.assertEqual(set(headers), {b"x-a"})

    async def test_not_modified(self) -> None:
        """A 304 keeps the length of the body that it leaves out."""
        answer = await self.got(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
        _, headers, body = relayed(answer)
        self.assertEqual((headers, body), ({b"content-length": [b"99"]}, b""))

    async def test_hop_by_hop_headers_stop_here(self) -> None:
        """Headers that speak of the backend's connection do not reach the client."""
        head = b"Connection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nX-Other: 2\r\n"
        _, headers, _ = relayed(await self.got(http_answer(b"x", head)))
        self.assertEqual(set(headers), {b"x-other", b"content-length"})

    async def test_informational_answers_are_dropped(self) -> None:
        """A 103 before the answer does not reach the client, and changes nothing of the answer."""
        head = b"Connection: X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\n"
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        status, headers, body = relayed(await self.got(early + http_answer(b"x", head)))
        self.assertEqual((status, body), (b"HTTP/1.1 200 OK", b"x"))
        self.assertEqual(set(headers), {b"x-other", b"content-length"})

    async def test_answer_until_the_connection_ends(self) -> None:
        """An answer whose end is the connection's end comes back whole."""
        self.backend.answer = None
        client = await self.served.client()
        client.send(http_post())
        wire = await self.backend.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the ")
        await client.until(b"until the ")
        wire.send(b"end")
        wire.close()
        self.assertIn(b"0\r\n\r\n", await client.until_lost())

    async def test_backends_own_errors(self) -> None:
        """An error of the backend's comes back as it is."""
        answer = await self.got(http_answer(b'{"error": 1}', status=b"500 Oops"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 Oops"))
        self.assertTrue(answer.endswith(b'{"error": 1}'))
