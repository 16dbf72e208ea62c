"""What browsers are told about pages from other origins."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http_headers import Headers

from llmux.test.loopback import RawBackend, Served, http_answer, http_post, split
from llmux.web.cors import Cors

PAGE = b"https://chat.example"


def asked(**headers: bytes) -> Headers:
    """Make a request's headers."""
    return Headers({name.replace("_", "-").encode(): [value] for name, value in headers.items()})


class CorsTests(SynchronousTestCase):
    def allowed(
        self, cors: Cors, received: Headers, **sent: list[bytes]
    ) -> dict[bytes, list[bytes]]:
        """Give what an answer says, after the backend said something."""
        headers = Headers({name.replace("_", "-").encode(): v for name, v in sent.items()})
        cors.allow(received, headers)
        return {name.lower(): list(values) for name, values in headers.getAllRawHeaders()}

    def test_off(self) -> None:
        """Without origins nothing is added and nothing taken away."""
        found = self.allowed(Cors(()), asked(origin=PAGE), access_control_allow_origin=[b"x"])
        self.assertEqual(found, {b"access-control-allow-origin": [b"x"]})

    def test_configured_origin(self) -> None:
        """A page from a configured origin may read the answer and its headers."""
        found = self.allowed(Cors(("https://chat.example",)), asked(origin=PAGE))
        self.assertEqual(found[b"access-control-allow-origin"], [PAGE])
        self.assertEqual(found[b"access-control-expose-headers"], [b"*"])
        self.assertEqual(found[b"vary"], [b"Origin"])

    def test_any_origin(self) -> None:
        """With a star every page may."""
        found = self.allowed(Cors(("*",)), asked(origin=b"null"))
        self.assertEqual(found[b"access-control-allow-origin"], [b"*"])
        self.assertNotIn(b"vary", found)

    def test_other_origin(self) -> None:
        """A page from elsewhere may not, whatever the backend says."""
        cors = Cors(("https://chat.example",))
        for received in (asked(origin=b"https://evil.example"), asked()):
            found = self.allowed(cors, received, access_control_allow_origin=[b"*"])
            self.assertEqual(found, {b"vary": [b"Origin"]})

    def test_never_twice(self) -> None:
        """What the backend says is replaced, not repeated."""
        found = self.allowed(
            Cors(("https://chat.example",)),
            asked(origin=PAGE),
            access_control_allow_origin=[b"*"],
            access_control_allow_credentials=[b"true"],
            vary=[b"Accept, ORIGIN"],
        )
        self.assertEqual(found[b"access-control-allow-origin"], [PAGE])
        self.assertNotIn(b"access-control-allow-credentials", found)
        self.assertEqual(found[b"vary"], [b"Accept, ORIGIN"])


class PreflightTests(TestCase):
    async def test_preflight(self) -> None:
        """A preflight is answered at once, without a model and without a backend."""
        backend = RawBackend(self)
        served = Served(self, {"a": backend.address}, {"cors_origins": ("https://chat.example",)})
        status, headers, body = split(
            await served.exchange(
                b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
                b"Origin: https://chat.example\r\nAccess-Control-Request-Method: POST\r\n"
                b"Access-Control-Request-Headers: authorization, content-type\r\n"
                b"Access-Control-Request-Private-Network: true\r\n\r\n"
            )
        )
        self.assertEqual((status, body), (b"HTTP/1.1 204 No Content", b""))
        self.assertIn(b"POST", headers[b"access-control-allow-methods"][0])
        self.assertEqual(headers[b"access-control-allow-headers"], [b"authorization, content-type"])
        self.assertEqual(headers[b"access-control-allow-private-network"], [b"true"])
        self.assertEqual(headers[b"access-control-allow-origin"], [PAGE])
        self.assertEqual(backend.wires, [])

    async def test_answers_and_errors(self) -> None:
        """Relayed answers, own answers and errors all carry the permission, once."""
        backend = RawBackend(self)
        backend.answer = http_answer(b"x", b"Access-Control-Allow-Origin: *\r\n")
        served = Served(self, {"a": backend.address}, {"cors_origins": ("https://chat.example",)})
        head = b"Connection: close\r\nOrigin: https://chat.example\r\n"
        for request in (
            http_post("a", head=head),
            http_post("nobody", head=head),
            http_post(method=b"GET", target=b"/health", head=head),
            b"BREW / HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n",
        ):
            _, headers, _ = split(await served.exchange(request))
            self.assertEqual(headers.get(b"access-control-allow-origin"), [PAGE])
